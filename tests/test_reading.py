"""What is read of a store, whatever its manners: the newest items page by page, and what is not there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import EndOfTurnItem, Page, ThreadMetadata

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.store import find_item, find_thread, newest_items
from tests.helpers.conversation import at
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkit.types import ThreadItem

THREAD = ThreadMetadata(id="thr_1", created_at=at(0))
CONTEXT = {"user": "ada"}


class NoSuchRowError(Exception):
    """What a database of somebody's says of what it does not have."""


class NoSuchThreadError(Exception):
    """Another class, since each is named once only."""


class Watched(PlainStore):
    """A store that remembers what it was asked for, and raises what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, ...]] = []
        self.raises: dict[str, Exception] = {}

    def _note(self, method: str, *args: Any) -> None:
        self.asked.append((method, *args))
        if method in self.raises:
            raise self.raises[method]

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Any
    ) -> Page[ThreadItem]:
        self._note("load_thread_items", thread_id, after, limit, order, context)
        return await super().load_thread_items(thread_id, after, limit, order, context)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:
        self._note("load_item", thread_id, item_id, context)
        return await super().load_item(thread_id, item_id, context)

    async def load_thread(self, thread_id: str, context: Any) -> ThreadMetadata:
        self._note("load_thread", thread_id, context)
        return await super().load_thread(thread_id, context)


async def stored(count: int) -> Watched:
    """A thread with so many items: 0, 1, 2 and so on."""
    store = Watched()
    await store.save_thread(THREAD, CONTEXT)
    for n in range(count):
        await store.add_thread_item("thr_1", EndOfTurnItem(id=str(n), thread_id="thr_1", created_at=at(n)), CONTEXT)
    return store


async def read(store: Watched, enough: int) -> list[str]:
    """Read until there are so many items, two at first, and then three at once."""

    def is_enough(items: Mapping[str, ThreadItem]) -> bool:
        return len(items) >= enough

    return [item.id for item in await newest_items(store, "thr_1", CONTEXT, first=2, then=3, is_enough=is_enough)]


class TestNewestItems:
    async def test_page_by_page(self) -> None:
        """Pages are read as long as there are more, the first one with its own size."""
        store = await stored(7)

        assert ["6", "5", "4", "3", "2", "1", "0"] == await read(store, enough=100)
        assert [
            ("load_thread_items", "thr_1", None, 2, "desc", CONTEXT),
            ("load_thread_items", "thr_1", "5", 3, "desc", CONTEXT),
            ("load_thread_items", "thr_1", "2", 3, "desc", CONTEXT),
        ] == store.asked

    @pytest.mark.parametrize(("enough", "pages"), [(1, 1), (2, 1), (3, 2), (5, 2), (6, 3)])
    async def test_until_it_is_enough(self, enough: int, pages: int) -> None:
        """No page is read once those before are enough."""
        store = await stored(20)

        await read(store, enough)

        assert pages == len(store.asked)

    async def test_a_cursor_that_starts_over(self) -> None:
        """A store that gives its first page again and again, and says that there is more, is not followed for ever."""

        class StartsOver(Watched):
            async def load_thread_items(
                self, thread_id: str, after: str | None, limit: int, order: str, context: Any
            ) -> Page[ThreadItem]:
                page = await super().load_thread_items(thread_id, None, 2, order, context)
                return Page(data=page.data, has_more=True, after=page.after)

        store = StartsOver()
        store.items, store.threads = (await stored(4)).items, {}

        assert (["3", "2"], 2) == (await read(store, enough=100), len(store.asked))


class TestAnItem:
    async def test_one_that_is_there(self) -> None:
        """An item that is there is returned, by one operation."""
        store = await stored(1)

        item = await find_item(store, "thr_1", "0", CONTEXT)

        assert ("0", [("load_item", "thr_1", "0", CONTEXT)]) == (item and item.id, store.asked)

    async def test_not_found(self) -> None:
        """ChatKit's own error says that there is none, by one operation."""
        store = await stored(1)

        assert await find_item(store, "thr_1", "x", CONTEXT) is None
        assert 1 == len(store.asked)

    async def test_an_error_of_its_own(self, caplog: pytest.LogCaptureFixture) -> None:
        """An error of the store's own, which the log names, means no item if the newest items do not show it."""
        caplog.set_level(logging.WARNING)
        store = await stored(1)
        store.raises["load_item"] = NoSuchRowError()

        found = await find_item(ValidatingStore(store), "thr_1", "x", CONTEXT)
        again = await find_item(ValidatingStore(store), "thr_1", "x", CONTEXT)

        assert (None, None) == (found, again)
        assert ("load_thread_items", "thr_1", None, 20, "desc", CONTEXT) == store.asked[1]
        [line] = [record.getMessage() for record in caplog.records]
        assert (
            f"Watched.load_item raised {__name__}.NoSuchRowError for what it does not have. It is taken for absent; "
            "ChatKit itself expects chatkit.store.NotFoundError: raise that, or derive the class from it."
        ) == line

    async def test_an_error_about_one_that_is_there(self) -> None:
        """An error about an item that the newest items show is one."""
        store = await stored(1)
        store.raises["load_item"] = NoSuchRowError()

        with pytest.raises(NoSuchRowError):
            await find_item(store, "thr_1", "0", CONTEXT)


class TestAThread:
    async def test_one_that_is_there(self) -> None:
        """A thread that is there is returned, by one operation."""
        store = await stored(0)

        thread = await find_thread(store, "thr_1", CONTEXT)

        assert ("thr_1", [("load_thread", "thr_1", CONTEXT)]) == (thread and thread.id, store.asked)

    async def test_not_found(self) -> None:
        """ChatKit's own error means that there is no such thread."""
        assert await find_thread(await stored(0), "thr_2", CONTEXT) is None

    async def test_an_error_of_its_own(self, caplog: pytest.LogCaptureFixture) -> None:
        """An error of the store's own, which the log names, means no thread if the thread has no items either."""
        caplog.set_level(logging.WARNING)
        store = await stored(0)
        store.raises["load_thread"] = NoSuchThreadError()

        assert await find_thread(store, "thr_1", CONTEXT) is None
        assert ("load_thread_items", "thr_1", None, 1, "desc", CONTEXT) == store.asked[1]
        [line] = [record.getMessage() for record in caplog.records]
        assert f"Watched.load_thread raised {__name__}.NoSuchThreadError" in line

    async def test_an_error_about_one_that_has_items(self) -> None:
        """An error of the store's own is raised if the thread has items."""
        store = await stored(1)
        store.raises["load_thread"] = NoSuchThreadError()

        with pytest.raises(NoSuchThreadError):
            await find_thread(store, "thr_1", CONTEXT)

    @pytest.mark.parametrize("other", [NoSuchThreadError(), NotFoundError()], ids=["the same", "ChatKit's own"])
    async def test_an_error_about_its_items_too(self, other: Exception) -> None:
        """A thread does not exist if reading its items fails as loading it did, or with ChatKit's own error."""
        store = await stored(0)
        store.raises |= {"load_thread": NoSuchThreadError(), "load_thread_items": other}

        assert await find_thread(store, "thr_1", CONTEXT) is None

    async def test_another_error_about_its_items(self) -> None:
        """Reading the items fails in another way: the store is in trouble, and nothing is taken for absent."""
        store = await stored(0)
        store.raises |= {"load_thread": NoSuchThreadError(), "load_thread_items": RuntimeError("it is away")}

        with pytest.raises(RuntimeError):
            await find_thread(store, "thr_1", CONTEXT)
