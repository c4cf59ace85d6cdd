"""A place for a test's tables, and stores there, on each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.helpers.databases import Place, a_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit_clienttools.stores.sql import SQLStore


# in memory it is the same SQL as in a file, through another pool, which TestEngines tries with a file, too
@pytest.fixture(params=["sqlite file", pytest.param("sqlite memory", marks=pytest.mark.long), "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "postgres":
        found: Place = request.getfixturevalue("postgres")
        return found
    in_memory = "sqlite+aiosqlite:///:memory:"
    return a_place(in_memory if request.param == "sqlite memory" else request.getfixturevalue("sqlite_file"))


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
