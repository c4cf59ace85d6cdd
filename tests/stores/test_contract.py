"""Our own stores, held to the contract that is shipped: each alone, and with a ValidatingStore around it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import StoreContract
from tests.helpers.databases import Place, a_place, dropped
from tests.stores.values import ADA, BOB, by_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage


class OurContract(StoreContract):
    """Two users, and whatever is around the store."""

    __test__ = False
    contexts = (ADA, BOB)
    around: Any = staticmethod(lambda store: store)


class OfSQLStore(OurContract):
    """The store of one place for all the checks of a class."""

    place: Place

    @asynccontextmanager
    async def make_store(self) -> AsyncIterator[Any]:
        store = self.place.store()
        await store.create_schema()
        try:
            yield self.around(store)
        finally:
            await store.close()


class TestMemoryStore(OurContract):
    __test__ = True
    held = MemoryStore[Any](owner=by_user)

    def make_store(self) -> Any:
        return self.around(self.held)


class TestMemoryStoreValidated(TestMemoryStore):
    around = ValidatingStore


@pytest.mark.long
class TestSQLiteInMemory(OfSQLStore):
    __test__ = True
    place = a_place("sqlite+aiosqlite:///:memory:")


class TestSQLiteInMemoryValidated(TestSQLiteInMemory):
    around = ValidatingStore


@pytest.mark.long  # the rules of test_sql.py hold for it, and those of this contract with PostgreSQL
class TestSQLiteFile(OfSQLStore):
    __test__ = True

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _place(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.place = a_place(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('contract')}/chat.db")


class TestSQLiteFileValidated(TestSQLiteFile):
    around = ValidatingStore


class TestPostgreSQL(OfSQLStore):
    __test__ = True

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _place(cls, postgres_url: str) -> Iterator[None]:
        cls.place = a_place(postgres_url)
        yield
        asyncio.run(dropped(cls.place))


@pytest.mark.long
class TestPostgreSQLValidated(TestPostgreSQL):
    around = ValidatingStore
