"""Fixtures of the tests of `ClientToolServer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.logs import log
from tests.helpers.server import STORES

__all__ = ["log"]

if TYPE_CHECKING:
    from chatkit.store import Store


LONG = {"valid plain", "valid memory"}
"""What a check of each write changes is seen over the other two."""

MEASURED = {"plain", "memory"}
"""The others repeat what these run, and coverage doubles the time."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.long] * (name in LONG) + [pytest.mark.no_cover] * (name not in MEASURED)


@pytest.fixture(params=[pytest.param(make, id=name, marks=marks(name)) for name, make in STORES.items()])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made
