"""Stores with one defect each, as real ones have them. The docstring says where it comes from."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Union

from chatkit.store import NotFoundError
from chatkit.types import (
    ActiveStatus,
    AssistantMessageItem,
    ClientToolCallItem,
    HiddenContextItem,
    Page,
    ThreadMetadata,
    UserMessageItem,
)
from pydantic import Field, TypeAdapter

from chatkit_clienttools.testing.stores._samples import attachment_types, sample
from tests.contract.good import USERS, Data, JsonStore, OwnedStore, WholeStore
from tests.helpers.stores import PlainStore, without_items

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# --- threads -------------------------------------------------------------------------------------------------------


class ForgetsTitles(WholeStore):
    """No column for the title."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread.model_copy(update={"title": None}), context)


class InsertsThreads(WholeStore):
    """INSERT INTO threads, without ON CONFLICT."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        if thread.id in self.threads:
            raise RuntimeError("UNIQUE constraint failed: threads.id")
        await super().save_thread(thread, context)


class SavesThreadsOnce(WholeStore):
    """ON CONFLICT DO NOTHING."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        if thread.id not in self.threads:
            await super().save_thread(thread, context)


class ForgetsMetadata(WholeStore):
    """No column for the metadata."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread.model_copy(update={"metadata": {}}), context)


class MergesMetadata(WholeStore):
    """Merges what is saved into what is there, so that nothing can be removed."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        known = self.threads[thread.id].metadata if thread.id in self.threads else {}
        await super().save_thread(thread.model_copy(update={"metadata": {**known, **thread.metadata}}), context)


class ForgetsStatus(WholeStore):
    """No column for the status."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread.model_copy(update={"status": ActiveStatus()}), context)


class TitlesAlone(WholeStore):
    """UPDATE threads SET title = ?, metadata = '{}' when a thread is renamed."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        known = self.threads.get(thread.id)
        gone: dict[str, Any] = {"metadata": {}} if known and known.title != thread.title else {}
        await super().save_thread(thread.model_copy(update=gone), context)


class StatusesAlone(WholeStore):
    """UPDATE threads SET status = ?, title = NULL when a thread is locked or closed."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        known = self.threads.get(thread.id)
        gone = {"title": None} if known and known.status != thread.status else {}
        await super().save_thread(thread.model_copy(update=gone), context)


class StampsThreads(WholeStore):
    """created_at TIMESTAMP DEFAULT now()."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        known = self.threads.get(thread.id)
        at = known.created_at if known else datetime.now()  # noqa: DTZ005
        await super().save_thread(thread.model_copy(update={"created_at": at}), context)


class KeyErrorForThreads(WholeStore):
    """self.threads[thread_id]."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        return self._out(self.threads[thread_id])


class MakesThreads(WholeStore):
    """Makes a thread of whatever id it is asked for."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        made = ThreadMetadata(id=thread_id, created_at=datetime.now())  # noqa: DTZ005
        return self._out(self.threads.get(thread_id, made))


class LiveThreads(WholeStore):
    """Hands out the thread it holds."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        return self._found(self.threads, thread_id)


class LiveListedThreads(WholeStore):
    """Hands out the threads it holds, in lists."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        page = await super().load_threads(limit, after, order, context)
        return page.model_copy(update={"data": [self.threads[thread.id] for thread in page.data]})


class KeepsThreads(WholeStore):
    """Holds the thread it was handed."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread, context)
        self.threads[thread.id] = without_items(thread)


class KeepsItemsInThreads(WholeStore):
    """Keeps the thread that it is given, items and all, as ChatKit's own sample stores do."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread, context)
        self.threads[thread.id] = thread.model_copy(deep=True)


class MakesThreadsByReading(WholeStore):
    """self.state.setdefault(thread_id, State(thread=ThreadMetadata(...), items=[])), in every method."""

    def _made(self, thread_id: str) -> None:
        self.threads.setdefault(thread_id, ThreadMetadata(id=thread_id, created_at=datetime.now()))  # noqa: DTZ005

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        self._made(thread_id)
        return await super().load_thread_items(thread_id, after, limit, order, context)


class MakesThreadsByItem(MakesThreadsByReading):
    """As before, but only when one item is read."""

    load_thread_items = WholeStore.load_thread_items

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        self._made(thread_id)
        return await super().load_item(thread_id, item_id, context)


class AscendingThreads(WholeStore):
    """Ignores the order of threads."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return await super().load_threads(limit, after, "asc", context)


class DescendingThreads(WholeStore):
    """ORDER BY created_at DESC, whatever was asked for."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return await super().load_threads(limit, after, "desc", context)


class ThreadsByClock(WholeStore):
    """Orders threads by created_at alone."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        threads = sorted(self.threads.values(), key=lambda t: t.created_at.timestamp(), reverse=order == "desc")
        return self._page(threads if order == "asc" else threads[::-1], limit, after, order)


class AllThreads(WholeStore):
    """Ignores the limit of threads."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return await super().load_threads(1_000, after, order, context)


class NoMoreThreads(WholeStore):
    """has_more of threads is always False."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return (await super().load_threads(limit, after, order, context)).model_copy(update={"has_more": False})


class FirstPageOfThreads(WholeStore):
    """Ignores the cursor of threads."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return await super().load_threads(limit, None, order, context)


class SixThreads(WholeStore):
    """Keeps the newest 6 threads."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        await super().save_thread(thread, context)
        for old in list(self.threads)[:-6]:
            await self.delete_thread(old, context)


class ForgetsOldThreads(WholeStore):
    """A cache of the newest 20 threads in front of a table that nobody fills."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        return self._out(self._found(dict(list(self.threads.items())[-20:]), thread_id))


class OnePageOfThreads(WholeStore):
    """SELECT * FROM threads ORDER BY number DESC LIMIT 20, and the pages are cut from that."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return self._page(list(self.threads.values())[-20:], limit, after, order)


class ThreadsByActivity(WholeStore):
    """ORDER BY updated_at."""

    async def save_thread(self, thread: Any, context: Any) -> None:
        self.threads.pop(thread.id, None)
        await super().save_thread(thread, context)


class HalfDeletes(WholeStore):
    """Deletes what is in a thread, and forgets the thread."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        self.items[thread_id] = {}
        self.plans.pop(thread_id, None)


class ListsDeletedThreads(WholeStore):
    """Marks a thread as deleted, and looks at the mark in one place only."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        self.deleted.add(thread_id)
        self.items[thread_id] = {}
        self.plans.pop(thread_id, None)

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        if thread_id in self.deleted:
            raise NotFoundError(thread_id)
        return await super().load_thread(thread_id, context)


class Orphans(WholeStore):
    """No ON DELETE CASCADE."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        items = self.items.get(thread_id, {})
        await super().delete_thread(thread_id, context)
        self.items[thread_id] = items


class OrphansAlone(Orphans):
    """The items of a deleted thread are no longer listed, but are still there."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if thread_id not in self.threads:
            raise NotFoundError(thread_id)
        return await super().load_thread_items(thread_id, after, limit, order, context)


class DeletesTooMuch(WholeStore):
    """DELETE FROM items, without WHERE."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await super().delete_thread(thread_id, context)
        for items in self.items.values():
            items.clear()


class DeletesAllThreads(WholeStore):
    """Deletes another thread as well."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await super().delete_thread(thread_id, context)
        if self.threads:
            self.threads.popitem()


class OneId(WholeStore):
    """The id of a thread is that of its user."""

    def generate_thread_id(self, context: Any) -> str:
        return "thread_of_alice"


class IdsByLength(WholeStore):
    """Numbers the items of a thread."""

    def generate_item_id(self, item_type: Any, thread: Any, context: Any) -> str:
        return f"{item_type}_{len(self.items.get(thread.id, {}))}"


# --- items ---------------------------------------------------------------------------------------------------------


class AddsNothing(WholeStore):
    """add_thread_item is left to the caller."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        pass


class NotAPage(WholeStore):
    """Returns a list."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return (await super().load_thread_items(thread_id, after, limit, order, context)).data


class Dicts(WholeStore):
    """Hands out the JSON it has kept, and not what it was made of."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        return (await super().load_item(thread_id, item_id, context)).model_dump(mode="json")


class NarrowUnion(JsonStore):
    """A union of its own, typed out before ChatKit had the others."""

    items_are = TypeAdapter(
        Annotated[
            Union[UserMessageItem, AssistantMessageItem, ClientToolCallItem, HiddenContextItem],  # noqa: UP007
            Field(discriminator="type"),
        ]
    )


class DropsQuotes(WholeStore):
    """A column for each field, but not for the newer ones."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        dropped = {"quoted_text": None} if item.type == "user_message" else {}
        await super().add_thread_item(thread_id, item.model_copy(update=dropped), context)


class ShortTexts(WholeStore):
    """VARCHAR(4000)."""

    def _in(self, value: Any) -> Any:
        value = super()._in(value)
        if isinstance(value, AssistantMessageItem):
            value.content[0].text = value.content[0].text[:4_000]
        return value


class AwareTimes(WholeStore):
    """TIMESTAMP WITH TIME ZONE."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        aware = item.created_at.astimezone(timezone.utc)
        await super().add_thread_item(thread_id, item.model_copy(update={"created_at": aware}), context)


class NoneForItems(WholeStore):
    """SELECT ... LIMIT 1, and whatever comes of it."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        item = self.items.get(thread_id, {}).get(item_id)
        return self._out(item) if item else None


class KeyErrorForItems(WholeStore):
    """self.items[thread_id][item_id]."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        return self._out(self.items[thread_id][item_id])


class KeyErrorForLists(WholeStore):
    """self.items[thread_id], and deleting a thread leaves an empty list."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return self._page(list(self.items[thread_id].values()), limit, after, order)

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await super().delete_thread(thread_id, context)
        self.items[thread_id] = {}


class AnyItems(WholeStore):
    """Begins every conversation with a greeting."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if thread_id in self.threads or thread_id in self.gone:
            return await super().load_thread_items(thread_id, after, limit, order, context)
        at = datetime.now()  # noqa: DTZ005
        greeting = HiddenContextItem(id="greeting", thread_id=thread_id, created_at=at, content="Be polite.")
        return Page(data=[greeting], has_more=False, after=None)

    def __init__(self) -> None:
        super().__init__()
        self.gone: set[str] = set()

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await super().delete_thread(thread_id, context)
        self.gone.add(thread_id)


class MakesItems(WholeStore):
    """Shows something in the place of an item that it has never seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        self.seen.add(item.id)
        await super().add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        if thread_id in self.threads and item_id not in self.seen:
            at = datetime.now()  # noqa: DTZ005
            return HiddenContextItem(id=item_id, thread_id=thread_id, created_at=at, content="Something was here.")
        return await super().load_item(thread_id, item_id, context)


class GlobalIds(WholeStore):
    """id TEXT PRIMARY KEY: an item with the same id moves to the thread it was added to last."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        for other in self.items.keys() - {thread_id}:
            self.items[other].pop(item.id, None)
        await super().add_thread_item(thread_id, item, context)


class LooksEverywhere(WholeStore):
    """SELECT ... WHERE id = ?."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        everything = {i: item for thread, items in self.items.items() for i, item in items.items()}
        return self._out(self._found({**everything, **self.items.get(thread_id, {})}, item_id))


class DeletesEverywhere(WholeStore):
    """DELETE FROM items WHERE id = ?."""

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        for items in self.items.values():
            items.pop(item_id, None)


class LiveItems(WholeStore):
    """Hands out the item it holds."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        return self._found(self.items.get(thread_id, {}), item_id)


class ShallowPages(WholeStore):
    """Hands out shallow copies in pages."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        return page.model_copy(update={"data": [self.items[thread_id][item.id].model_copy() for item in page.data]})


class KeepsItems(WholeStore):
    """Holds the item it was handed."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        await super().add_thread_item(thread_id, item, context)
        self.items[thread_id][item.id] = item


class CachesPages(WholeStore):
    """Keeps a page until something is written, and hands it out."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[Any, Any] = {}

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        state = tuple(map(id, self.items.get(thread_id, {}).values()))
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        return self.cache.setdefault((thread_id, after, limit, order, state), page)


class SavesNothing(WholeStore):
    """save_item is `pass`: the item that was loaded is the one that is held, is it not."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        pass


class InsertsItems(WholeStore):
    """save_item is INSERT."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        if item.id in self.items.get(thread_id, {}):
            raise RuntimeError("UNIQUE constraint failed: items.id")
        await super().add_thread_item(thread_id, item, context)


class SavesBehindTheList(WholeStore):
    """save_item writes where load_item looks, and not where load_thread_items does."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[tuple[str, str], Any] = {}

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        if item.id in self.items.get(thread_id, {}):
            self.saved[thread_id, item.id] = self._in(item)
        else:
            await super().save_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        item = await super().load_item(thread_id, item_id, context)
        return self._out(self.saved.get((thread_id, item_id), item))


class DuplicatesItems(WholeStore):
    """No unique key: save_item makes a second row, and load_item finds the newer one."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        items = self.items.setdefault(thread_id, {})
        items[f"{item.id} again" if item.id in items else item.id] = self._in(item)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        items = self.items.get(thread_id, {})
        return self._out(self._found(items, f"{item_id} again" if f"{item_id} again" in items else item_id))

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        self.items.get(thread_id, {}).pop(f"{item_id} again", None)
        await super().delete_thread_item(thread_id, item_id, context)


class AppendsItems(WholeStore):
    """save_item deletes and inserts."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        self.items.get(thread_id, {}).pop(item.id, None)
        await super().save_item(thread_id, item, context)


class UpdatesItems(WholeStore):
    """save_item is UPDATE."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        if item.id in self.items.get(thread_id, {}):
            await super().save_item(thread_id, item, context)


class PutsSavedItemsFirst(WholeStore):
    """save_item of a new item puts it at the beginning."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        before, kept = self.items.get(thread_id, {}), self._in(item)
        self.items[thread_id] = {**before, item.id: kept} if item.id in before else {item.id: kept, **before}


class CompletesAtOnce(WholeStore):
    """Stores a call as completed, as a work-around did."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        named = item.type == "client_tool_call" and item.name == "a_check"
        await super().add_thread_item(
            thread_id, item.model_copy(update={"status": "completed"} if named else {}), context
        )


class ForgetsFalse(WholeStore):
    """`if item.output: ...`."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        gone = {"output": None} if item.type == "client_tool_call" and not item.output else {}
        await super().save_item(thread_id, item.model_copy(update=gone), context)


class DeletesNothing(WholeStore):
    """delete_thread_item is not written yet."""

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        pass


class DeletesFromTheList(WholeStore):
    """delete_thread_item hides an item, and load_item does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: dict[tuple[str, str], Any] = {}

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        item = self.items.get(thread_id, {}).pop(item_id, None)
        if item:
            self.hidden[thread_id, item_id] = item

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        if (thread_id, item_id) in self.hidden and thread_id in self.threads:
            return self._out(self.hidden[thread_id, item_id])
        return await super().load_item(thread_id, item_id, context)


class MissesDeletes(WholeStore):
    """Deleting what is not there is an error."""

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        self._found(self.items.get(thread_id, {}), item_id)
        await super().delete_thread_item(thread_id, item_id, context)


class OneSession(WholeStore):
    """One database session for all requests."""

    busy = False

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        if self.busy:
            raise RuntimeError("concurrent operations are not permitted")
        self.busy = True
        await asyncio.sleep(0)
        await super().add_thread_item(thread_id, item, context)
        self.busy = False


class LosesUpdates(WholeStore):
    """Reads a thread's items, adds one, and writes them all."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        items = dict(self.items.get(thread_id, {}))
        await asyncio.sleep(0)
        self.items[thread_id] = {**items, item.id: self._in(item)}


# --- order and pages -----------------------------------------------------------------------------------------------


class SortedStore(WholeStore):
    """Sorts items, by whatever a subclass says, when they are loaded."""

    def key(self, item: Any) -> Any:
        raise NotImplementedError

    def newest_first(self, items: list[Any]) -> list[Any]:
        return sorted(items, key=self.key)[::-1]

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        items = list(self.items.get(thread_id, {}).values())
        values = sorted(items, key=self.key) if order == "asc" else self.newest_first(items)[::-1]
        return self._page(values, limit, after, order)


class ByClock(SortedStore):
    """ORDER BY created_at: of two in the same tick the older one is the newest."""

    def key(self, item: Any) -> Any:
        return item.created_at.timestamp()

    def newest_first(self, items: list[Any]) -> list[Any]:
        return sorted(items, key=self.key, reverse=True)


class ByClockAndId(SortedStore):
    """ORDER BY created_at, id."""

    def key(self, item: Any) -> Any:
        return item.created_at.timestamp(), item.id


class ByMixedClock(SortedStore):
    """sorted(items, key=lambda item: item.created_at)."""

    def key(self, item: Any) -> Any:
        return item.created_at


class ByWallClock(SortedStore):
    """TIMESTAMP WITHOUT TIME ZONE."""

    def key(self, item: Any) -> Any:
        return item.created_at.replace(tzinfo=None)


class ByClockAndNumber(SortedStore):
    """ORDER BY created_at, number."""

    def key(self, item: Any) -> Any:
        return item.created_at.timestamp()


class AscendingItems(WholeStore):
    """Ignores the order."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return await super().load_thread_items(thread_id, after, limit, "asc", context)


class AllItems(WholeStore):
    """Ignores the limit."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return await super().load_thread_items(thread_id, after, 1_000, order, context)


class LastItems(WholeStore):
    """Cuts a page off at the wrong end."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        if after is None and page.has_more:
            last = await super().load_thread_items(
                thread_id, None, limit, "asc" if order == "desc" else "desc", context
            )
            return page.model_copy(update={"data": last.data[::-1]})
        return page


class FullPageHasMore(WholeStore):
    """has_more=len(page) == limit."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        return page.model_copy(update={"has_more": len(page.data) == limit})


class EmptyPageHasMore(WholeStore):
    """has_more is True when there is nothing at all."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        return page if page.data else page.model_copy(update={"has_more": True})


class FirstPage(WholeStore):
    """Ignores the cursor."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return await super().load_thread_items(thread_id, None, limit, order, context)


class NoCursor(WholeStore):
    """Says that there is more, and not where."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        return page.model_copy(update={"after": None})


class CursorOfTheNext(WholeStore):
    """`after` is the first item of the next page, which is then left out."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        page = await super().load_thread_items(thread_id, after, limit, order, context)
        if page.has_more:
            next_page = await super().load_thread_items(thread_id, page.after, 1, order, context)
            return page.model_copy(update={"after": next_page.data[0].id})
        return page


class SixItems(WholeStore):
    """Keeps the newest 6 items of a thread."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        await super().add_thread_item(thread_id, item, context)
        self.items[thread_id] = dict(list(self.items[thread_id].items())[-6:])


class ForgetsOldItems(WholeStore):
    """A cache of the newest 20 items in front of a table that nobody fills."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        return self._out(self._found(dict(list(self.items.get(thread_id, {}).items())[-20:]), item_id))


class CursorByClock(WholeStore):
    """WHERE created_at > (that of the cursor)."""

    def _page(self, values: list[Any], limit: int, after: str | None, order: str) -> Any:
        if after and hasattr(values[0] if values else None, "thread_id"):
            (at,) = (value.created_at.timestamp() for value in values if value.id == self._known(values, after))
            later = order == "asc"
            values = [v for v in values if v.created_at.timestamp() != at and (v.created_at.timestamp() > at) is later]
            after = None
        return super()._page(values, limit, after, order)


class Offsets(WholeStore):
    """OFFSET: the cursor is a number."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if after and not after.isdigit():
            raise NotFoundError(after)
        start = int(after or 0)
        items = (await super().load_thread_items(thread_id, None, 1_000, order, context)).data
        end = start + limit
        return Page(data=items[start:end], has_more=end < len(items), after=str(end))


class OffsetsBackwards(WholeStore):
    """Counts from the end for "desc": what was added meanwhile shifts the pages."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if order == "asc" or (after and not after.isdigit()):
            return await super().load_thread_items(thread_id, after, limit, order, context)
        start = int(after or 0)
        items = (await super().load_thread_items(thread_id, None, 1_000, order, context)).data
        end = start + limit
        return Page(data=items[start:end], has_more=end < len(items), after=str(end))


class StartsOver(WholeStore):
    """next((n + 1 for n, item in enumerate(items) if item.id == after), 0)."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        known = after if after in self.items.get(thread_id, {}) else None
        return await super().load_thread_items(thread_id, known, limit, order, context)


class KeyErrorForCursors(WholeStore):
    """[item.id for item in items].index(after)."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if after and after not in self.items.get(thread_id, {}):
            raise ValueError(f"{after!r} is not in list")
        return await super().load_thread_items(thread_id, after, limit, order, context)


class EmptyAfterDeletion(WholeStore):
    """WHERE number > (SELECT number FROM items WHERE id = ?), which is NULL."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        if after and after not in self.items.get(thread_id, {}):
            return Page(data=[], has_more=False, after=None)
        return await super().load_thread_items(thread_id, after, limit, order, context)


# --- what goes further ---------------------------------------------------------------------------------------------


class OtherNames(WholeStore):
    """ctx instead of context."""

    async def load_item(self, thread_id: str, item_id: str, ctx: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return await super().load_item(thread_id, item_id, ctx)


class ForgetsTypes(WholeStore):
    """No column for the MIME type."""

    async def save_attachment(self, attachment: Any, context: Any) -> None:
        await super().save_attachment(attachment.model_copy(update={"mime_type": ""}), context)


class OneTypeOfFile(WholeStore):
    """Makes a file of an image."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        loaded: Any = await super().load_attachment(attachment_id, context)
        return loaded.model_copy() if loaded.type == "file" else ActiveStatus()


class InsertsAttachments(WholeStore):
    """INSERT INTO attachments ON CONFLICT DO NOTHING."""

    async def save_attachment(self, attachment: Any, context: Any) -> None:
        if attachment.id not in self.attachments:
            await super().save_attachment(attachment, context)


class KeepsAttachments(WholeStore):
    """Holds the attachment it was handed."""

    async def save_attachment(self, attachment: Any, context: Any) -> None:
        self.attachments[attachment.id] = attachment


class LiveAttachments(WholeStore):
    """Hands out the attachment it holds."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        return self._found(self.attachments, attachment_id)


class KeyErrorForAttachments(WholeStore):
    """self.attachments[attachment_id]."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        return self._out(self.attachments[attachment_id])


class KeyErrorForAll(KeyErrorForThreads, KeyErrorForLists, KeyErrorForAttachments):
    """A store made of dicts."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        return self._out(self.items[thread_id][item_id])

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await WholeStore.delete_thread(self, thread_id, context)


class OwnNotFound(WholeStore):
    """A class of its own, which has the name of ChatKit's."""

    class NotFoundError(Exception):
        pass

    @staticmethod
    def _found(mapping: dict[str, Any], key: str) -> Any:
        try:
            return mapping[key]
        except KeyError:
            raise OwnNotFound.NotFoundError(key) from None


class MakesAttachments(WholeStore):
    """Shows another picture in the place of one that it does not have."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        if attachment_id in self.attachments:
            return await super().load_attachment(attachment_id, context)
        return sample(attachment_types()[0], id="no such picture")


class ForgetsPlans(WholeStore):
    """Saves a plan, and says nothing."""

    async def save_plan(self, thread_id: str, plan: Any, expected: int, context: Any) -> Any:
        await super().save_plan(thread_id, plan, expected, context)


class LosesPlans(WholeStore):
    """Says that it has saved a plan."""

    async def load_plan(self, thread_id: str, context: Any) -> Any:
        return None


class SavesAnyPlan(WholeStore):
    """Does not compare."""

    async def save_plan(self, thread_id: str, plan: Any, expected: int, context: Any) -> bool:
        self.plans[thread_id] = plan
        return True


class SavesRefusedPlans(WholeStore):
    """Compares after it has saved."""

    async def save_plan(self, thread_id: str, plan: Any, expected: int, context: Any) -> bool:
        saved = await super().save_plan(thread_id, plan, expected, context)
        self.plans[thread_id] = plan
        return saved


class RacesPlans(WholeStore):
    """Compares, and saves a little later."""

    async def save_plan(self, thread_id: str, plan: Any, expected: int, context: Any) -> bool:
        stored = self.plans.get(thread_id)
        await asyncio.sleep(0)
        if (stored.revision if stored else 0) != expected:
            return False
        self.plans[thread_id] = plan
        return True


class KeepsPlansOfTheDead(WholeStore):
    """Deletes a thread, and leaves its plan."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        plan = self.plans.get(thread_id)
        await super().delete_thread(thread_id, context)
        if plan:
            self.plans[thread_id] = plan


class OnePlan(WholeStore):
    """The plan of whoever has one."""

    async def load_plan(self, thread_id: str, context: Any) -> Any:
        return self.plans.get(thread_id) or next(iter(self.plans.values()), None)


class NoLock(WholeStore):
    """A lock that is none."""

    def thread_lock(self, thread_id: str) -> Any:
        return nullcontext()


class KeepsLocks(WholeStore):
    """A lock without try and finally."""

    @asynccontextmanager
    async def thread_lock(self, thread_id: str) -> AsyncIterator[None]:
        lock = self.locks.setdefault(thread_id, asyncio.Lock())
        await lock.acquire()
        yield
        lock.release()


class AnybodysThreads(OwnedStore):
    """SELECT ... FROM threads WHERE id = ?, whoever asks."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        everything = {i: thread for inner in self.inners.values() for i, thread in inner.threads.items()}
        own = self.inners[context].threads if context in self.inners else {}
        return WholeStore()._found({**everything, **own}, thread_id).model_copy(deep=True)


class MakesThreadsForAnybody(OwnedStore):
    """Makes an empty thread of whatever id it is asked for, also of another user's."""

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        try:
            return await super().load_thread(thread_id, context)
        except NotFoundError:
            return ThreadMetadata(id=thread_id, created_at=datetime.now())  # noqa: DTZ005


class AnybodysList(OwnedStore):
    """Lists everybody's threads."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        return await self.inners[USERS[0]].load_threads(limit, after, order, context)


class AnybodysItems(OwnedStore):
    """SELECT ... FROM items WHERE thread_id = ?, whoever asks."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        return await self.inners[USERS[0]].load_thread_items(thread_id, after, limit, order, context)


class AnybodyDeletes(OwnedStore):
    """DELETE FROM threads WHERE id = ?, whoever asks."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        for inner in self.inners.values():
            await inner.delete_thread(thread_id, context)


class AnybodySaves(OwnedStore):
    """INSERT INTO items ... ON CONFLICT (thread_id, id) DO UPDATE, whoever asks."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        for inner in self.inners.values():
            if thread_id in inner.threads:
                await inner.save_item(thread_id, item, context)


class AnybodysFiles(OwnedStore):
    """SELECT ... FROM attachments WHERE id = ?, whoever asks."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        return await self.inners[USERS[0]].load_attachment(attachment_id, context)


class AnybodyDeletesFiles(OwnedStore):
    """DELETE FROM attachments WHERE id = ?, whoever asks."""

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        for inner in self.inners.values():
            await inner.delete_attachment(attachment_id, context)


class BufferedStore(WholeStore):
    """Commits when the response has ended."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data.one
        self.threads = dict(self.data.threads)
        self.items = {thread_id: dict(items) for thread_id, items in self.data.items.items()}

    def commit(self) -> None:
        self.data.threads, self.data.items = self.threads, self.items


def buffered() -> Callable[[], Any]:
    data = Data()

    @asynccontextmanager
    async def make() -> AsyncIterator[BufferedStore]:
        store = BufferedStore(data)
        yield store
        store.commit()

    return make


class Hanging(PlainStore):
    """Waits for an answer that never comes."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        await asyncio.Event().wait()


class Sample(
    KeepsItemsInThreads,
    MakesThreadsByReading,
    ByClock,
    AppendsItems,
    ForgetsFalse,
    GlobalIds,
    InsertsAttachments,
    OwnNotFound,
    ThreadsByActivity,
):
    """Several defects together, as in sample stores that people copy."""


BROKEN: dict[str, tuple[Any, ...]] = {
    "thread_is_kept": (ForgetsTitles,),
    "thread_can_be_saved_again": (InsertsThreads, SavesThreadsOnce),
    "metadata_is_kept": (ForgetsMetadata, MergesMetadata),
    "status_is_kept": (ForgetsStatus,),
    "changing_a_part_keeps_the_others": (TitlesAlone, StatusesAlone),
    "time_of_a_thread_is_kept": (StampsThreads,),
    "items_are_not_kept_in_their_thread": (KeepsItemsInThreads,),
    "unknown_thread_is_not_found": (MakesThreads, MakesThreadsForAnybody),
    "reading_makes_no_thread": (MakesThreadsByReading, MakesThreadsByItem),
    "loaded_thread_is_a_copy": (LiveThreads, LiveListedThreads),
    "saved_thread_is_a_copy": (KeepsThreads,),
    "threads_are_in_order": (AscendingThreads, DescendingThreads),
    "threads_of_one_tick_are_in_order": (ThreadsByClock,),
    "limit_of_threads_is_honoured": (AllThreads, NoMoreThreads),
    "pages_of_threads_follow": (FirstPageOfThreads,),
    "many_threads_are_kept": (SixThreads, ForgetsOldThreads, OnePageOfThreads),
    "saved_thread_keeps_its_place": (ThreadsByActivity,),
    "deleted_thread_is_not_found": (HalfDeletes, ListsDeletedThreads),
    "deleted_thread_takes_its_items": (Orphans, OrphansAlone),
    "deleted_thread_leaves_the_others": (DeletesTooMuch, DeletesAllThreads),
    "generated_ids_are_new": (OneId, IdsByLength),
    "item_is_kept": (AddsNothing, NotAPage, Dicts),
    "every_type_of_item_is_kept": (NarrowUnion, DropsQuotes),
    "long_text_is_kept": (ShortTexts,),
    "time_of_an_item_is_kept": (AwareTimes,),
    "unknown_item_is_not_found": (MakesItems,),
    "unknown_thread_has_no_items": (AnyItems,),
    "ids_are_per_thread": (GlobalIds,),
    "items_are_reached_through_their_thread": (LooksEverywhere, DeletesEverywhere),
    "loaded_item_is_a_copy": (LiveItems, ShallowPages),
    "saved_item_is_a_copy": (KeepsItems,),
    "page_is_a_copy": (CachesPages,),
    "save_item_replaces": (SavesNothing, InsertsItems, SavesBehindTheList),
    "save_item_makes_no_second_item": (DuplicatesItems,),
    "save_item_keeps_the_place": (AppendsItems,),
    "save_item_inserts": (UpdatesItems, PutsSavedItemsFirst),
    "answer_is_kept": (CompletesAtOnce, ForgetsFalse),
    "deleted_item_is_gone": (DeletesNothing, DeletesFromTheList),
    "unknown_item_can_be_deleted": (MissesDeletes,),
    "requests_can_overlap": (OneSession, LosesUpdates),
    "order_is_honoured": (AscendingItems,),
    "limit_is_honoured": (AllItems, LastItems),
    "has_more_is_right": (FullPageHasMore, EmptyPageHasMore),
    "next_page_follows": (FirstPage, NoCursor, CursorOfTheNext),
    "long_thread_is_kept": (SixItems, ForgetsOldItems),
    "newest_of_one_tick_is_the_last_added": (ByClock,),
    "ties_are_not_broken_by_id": (ByClockAndId,),
    "naive_and_aware_times_mix": (ByMixedClock, ByWallClock),
    "order_is_not_the_clocks": (ByClockAndNumber,),
    "pages_skip_no_ties": (CursorByClock,),
    "pages_hold_still": (Offsets, OffsetsBackwards),
    "unknown_cursor_is_not_page_one": (StartsOver,),
    "deleted_cursor_loses_nothing": (EmptyAfterDeletion,),
    "arguments_have_chatkits_names": (OtherNames,),
    "absence_is_chatkits_error": (
        KeyErrorForThreads,
        KeyErrorForItems,
        KeyErrorForLists,
        KeyErrorForCursors,
        KeyErrorForAttachments,
        KeyErrorForAll,
        NoneForItems,
        OwnNotFound,
    ),
    "attachment_is_kept": (ForgetsTypes, OneTypeOfFile),
    "attachment_can_be_saved_again": (InsertsAttachments,),
    "attachment_is_a_copy": (KeepsAttachments, LiveAttachments),
    "unknown_attachment_is_not_found": (MakesAttachments,),
    "plan_is_kept": (ForgetsPlans, LosesPlans),
    "plan_is_compared": (SavesAnyPlan, SavesRefusedPlans, RacesPlans),
    "plan_belongs_to_its_thread": (KeepsPlansOfTheDead, OnePlan),
    "lock_excludes": (NoLock,),
    "lock_is_given_back": (KeepsLocks,),
    "other_users_see_nothing": (AnybodysThreads, AnybodysList, AnybodysItems),
    "other_users_change_nothing": (AnybodyDeletes, AnybodySaves),
    "other_users_see_no_attachments": (AnybodysFiles, AnybodyDeletesFiles),
    "writes_are_seen_at_once": (buffered,),
}
"""The one rule each of them breaks. `buffered` makes a factory; the others are one."""
