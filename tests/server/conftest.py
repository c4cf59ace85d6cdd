"""Fixtures of the tests of `ClientToolServer`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.server import STORES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkit.store import Store


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[pytest.LogCaptureFixture]:
    """What the server logs; a traceback fails the test, unless it is of a body that was made to fail."""
    caplog.set_level(logging.INFO)
    yield caplog
    if request.node.get_closest_marker("fails") is None:
        assert [] == [record for record in caplog.get_records("call") if record.exc_info]
