"""The stores that are explored: how each is made, what it holds, and how it is copied."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit_clienttools.stores import MemoryStore
from tests.helpers.stores import ClockStore, InsertStore, LiveStore, PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store

THREAD = "thr"


class Durable(NamedTuple):
    """All that a store holds of the thread, as JSON: what survives a crash."""

    thread: str
    items: tuple[str, ...]
    plan: str | None


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


STORES: dict[str, Callable[[], Store[Any]]] = {
    "memory": MemoryStore,
    "memory, plan in metadata": MetadataMemory,
    "dicts": PlainStore,
    "dicts, plans": PlansStore,
    "add raises": InsertStore,
    "add ignores": IgnoringStore,
    "live references": LiveStore,
    "tied timestamps": CoarseStore,
}


def durable(store: Store[Any]) -> Durable:
    """Return what the store holds of the thread, without asking it."""
    if isinstance(store, MemoryStore):
        (owned,) = store._owned.values()
        thread = owned.threads[THREAD]
        return Durable(thread.document, tuple(i.document for i in thread.items.values()), _plan(thread.plan))
    assert isinstance(store, PlainStore)
    items = tuple(item.model_dump_json() for item in store.items[THREAD].values())
    plan = _plan(store.plans.get(THREAD)) if isinstance(store, PlansStore) else None
    return Durable(store.threads[THREAD].model_dump_json(), items, plan)


def copied(store: Store[Any]) -> Store[Any]:
    """Return a store that holds the same, and shares nothing with this one."""
    return copy.deepcopy(store)


@lru_cache(maxsize=4096)
def read(document: str) -> Any:
    """Parse a document; the same one is seen over and over."""
    return json.loads(document)


def _plan(stored: Any) -> str | None:
    return None if stored is None else f"{stored.revision} {stored.document}"
