"""The stores that are explored: how each is made, what it holds, and how it is copied."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit_clienttools import ClientToolSequencer, StoreWrapper, ValidatingStore
from chatkit_clienttools.content import MediaStore
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.stores import ClockStore, InsertStore, LiveStore, PlainStore, PlansStore

from .scenario import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store

    from chatkit_clienttools._step.plans import StoredPlan

THREAD = "thr"


class Durable(NamedTuple):
    """All that a store holds of the thread, as JSON: what survives a crash."""

    thread: str
    items: tuple[str, ...]
    plan: str | None
    contents: tuple[tuple[str, bytes], ...] = ()
    """What a `MediaStore` keeps beside the items."""


class MetadataMemory(MemoryStore[Any]):
    """MemoryStore without plans of its own: the plan is in the thread's metadata."""

    load_plan = None  # type: ignore[assignment]
    save_plan = None  # type: ignore[assignment]


class IgnoringStore(PlainStore):
    """An id that is there already is ignored by `add_thread_item`, as with INSERT ... ON CONFLICT DO NOTHING."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        if item.id not in self.items.get(thread_id, {}):
            await super().add_thread_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        await PlainStore.add_thread_item(self, thread_id, item, context)


class CoarseStore(ClockStore):
    """Orders by a clock that ticks once a second, and takes the OLDER of two items of one tick for the newest."""

    def _in(self, value: Any) -> Any:
        return super()._in(value).model_copy(update={"created_at": value.created_at.replace(microsecond=0)})


class DuplicatingStore(PlainStore):
    """An id that is there already is added once more, as in a table without a key."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        items = self.items.setdefault(thread_id, {})
        items[item.id + "+" * sum(other.id == item.id for other in items.values())] = self._in(item)

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        items = self.items[thread_id]
        for key in [key for key, other in items.items() if other.id == item.id] or [item.id]:
            items[key] = self._in(item)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        items = self.items[thread_id]
        for key in [key for key, other in items.items() if other.id == item_id]:
            del items[key]


class CarelessStore(PlansStore):
    """It takes whatever plan it is given: there is no comparison."""

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: Any) -> bool:
        self.plans[thread_id] = plan
        return True


class LateStore(StoreWrapper[Any]):
    """It writes a plan when the next item has been added, as ChatKit saves a thread after the next event."""

    late: tuple[Any, ...] | None = None

    async def save_plan(self, *plan: Any) -> bool:
        self.late = plan
        return True

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        await super().add_thread_item(thread_id, item, context)
        if self.late is not None:
            late, self.late = self.late, None
            await self.inner.save_plan(*late)  # type: ignore[attr-defined]


STORES: dict[str, Callable[[], Store[Any]]] = {
    "memory": MemoryStore,
    "memory, plan in metadata": MetadataMemory,
    "dicts": PlainStore,
    "dicts, plans": PlansStore,
    "add raises": InsertStore,
    "add ignores": IgnoringStore,
    "add duplicates": DuplicatingStore,
    "live references": LiveStore,
    "tied timestamps": CoarseStore,
    "plans, no comparison": CarelessStore,
}

AROUND: dict[str, Callable[[Store[Any]], Store[Any]]] = {
    "nothing": lambda store: store,
    "validating": ValidatingStore,
    "late": LateStore,
    "media": lambda store: MediaStore(store, ClientToolSequencer(TOOLS.values()), min_bytes=1),
}


def durable(store: Store[Any]) -> Durable:
    """Return what the store holds of the thread, without asking it."""
    if isinstance(store, MemoryStore):
        (owned,) = store._owned.values()
        thread = owned.threads[THREAD]
        contents = tuple(sorted(thread.contents.items()))
        return Durable(thread.document, tuple(thread.items.values()), _plan(thread.plan), contents)
    assert isinstance(store, PlainStore)
    items = tuple(item.model_dump_json() for item in store.items[THREAD].values())
    plan = _plan(store.plans.get(THREAD)) if isinstance(store, PlansStore) else None
    return Durable(store.threads[THREAD].model_dump_json(), items, plan)


def copied(store: Store[Any]) -> Store[Any]:
    """Return a store that holds the same, and shares nothing with this one."""
    if not isinstance(store, MemoryStore):
        return copy.deepcopy(store)
    other = type(store)()
    other._owned = copy.deepcopy(store._owned)
    return other


@lru_cache(maxsize=4096)
def read(document: str) -> Any:
    """Parse a document; the same one is seen over and over."""
    return json.loads(document)


def _plan(stored: Any) -> str | None:
    return None if stored is None else f"{stored.revision} {stored.document}"
