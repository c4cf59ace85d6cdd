"""Fixtures of the tests of `ClientToolServer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.logs import log
from tests.helpers.server import STORES

__all__ = ["log"]

if TYPE_CHECKING:
    from chatkit.store import Store


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made
