"""Fixtures of the tests of tools that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.logs import log
from tests.helpers.stores import PlainStore

__all__ = ["log"]

if TYPE_CHECKING:
    from collections.abc import Callable

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
