"""The log of a test, for the conftests of those that watch it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[pytest.LogCaptureFixture]:
    """What the server logs; a traceback fails the test, unless it is of a body that was made to fail."""
    caplog.set_level(logging.INFO)
    yield caplog
    if request.node.get_closest_marker("fails") is None:
        assert [] == [record for record in caplog.get_records("call") if record.exc_info]
