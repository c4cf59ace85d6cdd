"""A place for a test's tables, and stores there, on each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.helpers.databases import Place, place_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit_clienttools.stores.sql import SQLStore


# in memory it is the same SQL as in a file; what is its own, the pool, is tried by TestEngines and TestEventLoops
@pytest.fixture(params=["sqlite file", pytest.param("sqlite memory", marks=pytest.mark.long), "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_named(request.param, request)


@pytest_asyncio.fixture
async def store(place: Place) -> AsyncIterator[SQLStore[Any]]:
    made = place.store()
    await made.create_schema()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def hasty(place: Place) -> AsyncIterator[SQLStore[Any]]:
    """A store with a short time limit."""
    made = place.store(time_limit=0.2)
    yield made
    await made.close()
