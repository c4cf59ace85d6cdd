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

STORES: dict[str, tuple[Callable[[], Store[Any]], list[pytest.MarkDecorator]]] = {
    "memory": (MemoryStore, []),
    "plain": (PlainStore, [pytest.mark.long]),
    "valid memory": (lambda: ValidatingStore(MemoryStore()), [pytest.mark.long]),
    "valid plain": (lambda: ValidatingStore(PlainStore()), [pytest.mark.no_cover]),
}
"""Where the plan is kept: under its own key, or in the metadata of the thread.

The two that are not long have both places, and are with and without a check of each write. One of them is measured.
"""


@pytest.fixture(params=[pytest.param(make, id=name, marks=marks) for name, (make, marks) in STORES.items()])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made
