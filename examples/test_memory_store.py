"""The examples' store does what ChatKit asks of one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import HiddenContextItem, ThreadMetadata

from .memory_store import MemoryStore

THREAD = ThreadMetadata(id="thr_1", created_at=datetime(2026, 1, 1))  # noqa: DTZ001  naive, as ChatKit writes it


def item(item_id: str, content: str = "") -> HiddenContextItem:
    return HiddenContextItem(id=item_id, thread_id=THREAD.id, created_at=THREAD.created_at, content=content)


@pytest.fixture
async def store() -> MemoryStore[Any]:
    store = MemoryStore[Any]()
    await store.save_thread(THREAD, None)
    for item_id in "abc":
        await store.add_thread_item(THREAD.id, item(item_id), None)
    return store


async def ids(store: MemoryStore[Any], after: str | None, limit: int, order: str) -> tuple[list[str], str | None]:
    page = await store.load_thread_items(THREAD.id, after, limit, order, None)
    return [each.id for each in page.data], page.after if page.has_more else None


async def test_the_order_is_that_of_insertion(store: MemoryStore[Any]) -> None:
    """Items with the same time keep their order, both ways, page by page."""
    assert (["a", "b", "c"], None) == await ids(store, None, 3, "asc")
    assert (["c", "b"], "b") == await ids(store, None, 2, "desc")
    assert (["a"], None) == await ids(store, "b", 2, "desc")


async def test_what_is_stored_is_a_copy(store: MemoryStore[Any]) -> None:
    """Changing what was loaded changes nothing in the store."""
    loaded = await store.load_item(THREAD.id, "a", None)
    assert isinstance(loaded, HiddenContextItem)
    loaded.content = "changed"

    assert item("a") == await store.load_item(THREAD.id, "a", None)


async def test_saving_replaces_in_place(store: MemoryStore[Any]) -> None:
    """An item saved again is the same item in the same place."""
    await store.save_item(THREAD.id, item("b", "new"), None)

    assert (["a", "b", "c"], None) == await ids(store, None, 9, "asc")
    assert item("b", "new") == await store.load_item(THREAD.id, "b", None)


async def test_what_is_not_there_is_not_found(store: MemoryStore[Any]) -> None:
    """A thread, an item, an attachment and a cursor that do not exist raise NotFoundError."""
    await store.delete_thread_item(THREAD.id, "a", None)
    for missing in (
        store.load_thread("thr_2", None),
        store.load_item(THREAD.id, "a", None),
        store.load_thread_items("thr_2", None, 1, "asc", None),
        store.load_thread_items(THREAD.id, "a", 1, "asc", None),
        store.load_attachment("atc_1", None),
    ):
        with pytest.raises(NotFoundError):
            await missing


async def test_a_deleted_thread_takes_its_items_with_it(store: MemoryStore[Any]) -> None:
    """Nothing of a deleted thread is left."""
    await store.delete_thread(THREAD.id, None)

    assert [] == (await store.load_threads(9, None, "asc", None)).data
    with pytest.raises(NotFoundError):
        await store.load_item(THREAD.id, "a", None)
