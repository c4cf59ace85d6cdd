"""Fixtures of the tests of tools that wait."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkit.store import Store

STORES: dict[str, Callable[[], Store[Any]]] = {
    "memory": MemoryStore,
    "plain": PlainStore,
    "valid memory": lambda: ValidatingStore(MemoryStore()),
    "valid plain": lambda: ValidatingStore(PlainStore()),
}
"""Where the plan is kept: under its own key, or in the metadata of the thread."""


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
