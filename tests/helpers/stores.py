"""Stores for the tests: a dull right one, and what real ones do wrong."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from chatkit.store import NotFoundError, Store
from chatkit.types import Page, Thread, ThreadMetadata
from pydantic import BaseModel

from chatkit_clienttools import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkit.types import Attachment, ThreadItem

    from chatkit_clienttools._step.plans import StoredPlan


T = TypeVar("T", bound=BaseModel)


def without_items(thread: ThreadMetadata) -> ThreadMetadata:
    """A thread as ChatKit loads it: it also saves them as a `Thread`, with their items."""
    return ThreadMetadata(**thread.model_dump()) if isinstance(thread, Thread) else thread


class PlainStore(Store[Any]):
    """A store with plain reads and writes, right in all of them: order by insertion, upsert, nothing shared."""

    def __init__(self) -> None:
        self.threads: dict[str, ThreadMetadata] = {}
        self.items: dict[str, dict[str, ThreadItem]] = {}
        self.attachments: dict[str, Attachment] = {}

    async def load_thread(self, thread_id: str, context: Any) -> ThreadMetadata:
        return self._out(self._found(self.threads, thread_id))

    async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:
        self.threads[thread.id] = self._in(without_items(thread))
        self.items.setdefault(thread.id, {})

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Page[ThreadMetadata]:
        return self._page(list(self.threads.values()), limit, after, order)

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        self.threads.pop(thread_id, None)
        self.items.pop(thread_id, None)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Any
    ) -> Page[ThreadItem]:
        return self._page(list(self.items.get(thread_id, {}).values()), limit, after, order)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        self.items.setdefault(thread_id, {})[item.id] = self._in(item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:
        return self._out(self._found(self.items.get(thread_id, {}), item_id))

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        self.items.get(thread_id, {}).pop(item_id, None)

    async def save_attachment(self, attachment: Attachment, context: Any) -> None:
        self.attachments[attachment.id] = self._in(attachment)

    async def load_attachment(self, attachment_id: str, context: Any) -> Attachment:
        return self._out(self._found(self.attachments, attachment_id))

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        self.attachments.pop(attachment_id, None)

    def _in(self, value: T) -> T:
        return value.model_copy(deep=True)

    def _out(self, value: T) -> T:
        return value.model_copy(deep=True)

    def _page(self, values: list[Any], limit: int, after: str | None, order: str) -> Page[Any]:
        ordered = iter(values) if order == "asc" else reversed(values)
        if after:
            self._known(values, after)
            next(value for value in ordered if value.id == after)
        shown = list(islice(ordered, limit + 1))
        has_more = len(shown) > limit
        shown = shown[:limit]
        return Page(data=[self._out(v) for v in shown], has_more=has_more, after=shown[-1].id if has_more else None)

    @staticmethod
    def _known(values: list[Any], after: str) -> str:
        if not any(value.id == after for value in values):
            raise NotFoundError(after)
        return after

    @staticmethod
    def _found(mapping: dict[str, T], key: str) -> T:
        try:
            return mapping[key]
        except KeyError:
            raise NotFoundError(key) from None


class PlansStore(PlainStore):
    """A store that keeps plans under their own key, with compare-and-set."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: dict[str, StoredPlan] = {}

    async def load_plan(self, thread_id: str, context: Any) -> StoredPlan | None:
        return self.plans.get(thread_id)

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        await super().delete_thread(thread_id, context)
        self.plans.pop(thread_id, None)

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: Any) -> bool:
        stored = self.plans.get(thread_id)
        if (stored.revision if stored else 0) != expected:
            return False
        self.plans[thread_id] = plan
        return True


class LiveStore(PlainStore):
    """Hands out the objects it holds, so that ChatKit's changes are in the store before they are saved."""

    def _in(self, value: T) -> T:
        return value

    def _out(self, value: T) -> T:
        return value


class ClockStore(PlainStore):
    """Orders items by `created_at` alone, as the sample stores do: on a tie it takes the OLDER one for the newest."""

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Any
    ) -> Page[ThreadItem]:
        values = sorted(self.items.get(thread_id, {}).values(), key=lambda i: i.created_at, reverse=order == "desc")
        return self._page(values if order == "asc" else values[::-1], limit, after, order)


class InsertStore(PlainStore):
    """Inserts: an id that is there already is an error, as with a primary key."""

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        if item.id in self.items.get(thread_id, {}):
            raise RuntimeError(f"UNIQUE constraint failed: {item.id}")
        await super().add_thread_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        await PlainStore.add_thread_item(self, thread_id, item, context)


class ForgetfulStore(PlainStore):
    """Its cursor starts over at page one, whatever it is given."""

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Any
    ) -> Page[ThreadItem]:
        return await super().load_thread_items(thread_id, None, limit, order, context)


class TextStore(PlainStore):
    """Keeps each item as JSON text, and is as particular about it as a `jsonb` column of PostgreSQL."""

    def _in(self, value: T) -> T:
        text = value.model_dump_json()
        if "\\u0000" in text:
            raise ValueError("unsupported Unicode escape sequence")
        json.dumps(value.model_dump(mode="json"), allow_nan=False).encode()
        return type(value).model_validate_json(text)


OPERATIONS = (
    "load_thread",
    "save_thread",
    "load_threads",
    "delete_thread",
    "load_thread_items",
    "add_thread_item",
    "save_item",
    "load_item",
    "delete_thread_item",
    "load_plan",
    "save_plan",
    "save_content",
    "load_content",
    "delete_content",
    "delete_contents",
)


class WatchedStore(StoreWrapper[Any]):
    """Counts every operation, and lets a test act before or after one: that is how an order is made to happen."""

    def __init__(self, inner: Store[Any]) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()
        self.contexts: set[Any] = set()
        self.threads: set[str] = set()
        """The threads that it was asked about."""
        self.orders: set[str] = set()
        """In which orders it was asked for items."""
        self.before: Callable[[str, tuple[Any, ...]], Awaitable[None]] | None = None
        self.after: Callable[[str, tuple[Any, ...]], Awaitable[None]] | None = None
        for name in OPERATIONS:
            if hasattr(inner, name):
                setattr(self, name, self._watched(name, getattr(inner, name)))

    def _watched(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*args: Any, **kwargs: Any) -> Any:
            self.counts[name] += 1
            self.contexts.add(kwargs["context"] if "context" in kwargs else args[-1])
            self.threads.add(getattr(args[0], "id", args[0]))
            if name == "load_thread_items":
                self.orders.add(kwargs["order"] if "order" in kwargs else args[3])
            if self.before:
                await self.before(name, args)
            result = await method(*args, **kwargs)
            if self.after:
                await self.after(name, args)
            return result

        return watched

    def take_turns(self) -> None:
        """Let other tasks go on before every operation, so that requests posted together go in lockstep."""

        async def pause(name: str, args: tuple[Any, ...]) -> None:
            await asyncio.sleep(0)

        self.before = pause

    def gate(self, operation: str, nth: int = 1) -> Gate:
        """Stop the nth call of an operation, before it happens, until the test lets it go on."""
        gate = Gate()
        seen = Counter[str]()

        async def stop(name: str, args: tuple[Any, ...]) -> None:
            seen[name] += 1
            if name == operation and seen[name] == nth:
                gate.reached.set()
                await gate.open.wait()

        self.before = stop
        return gate


class Gate:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
