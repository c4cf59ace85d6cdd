"""`StoreWrapper`, which only delegates, and `ValidatingStore`, which guards the lifecycle and then delegates."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Literal, cast
from weakref import WeakSet

from chatkit.store import NotFoundError, Store
from chatkit.types import ClientToolCallItem
from pydantic import BaseModel
from typing_extensions import TypeVar

from ._locks import ThreadLocks
from ._protocol.guards import check_change, check_new, says_the_same, second_pending
from .errors import LifecycleViolationError, StoreUnavailableError, UsageError, printable
from .observe import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from chatkit.store import StoreItemType
    from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata

TContext = TypeVar("TContext", default=Any)
TValue = TypeVar("TValue", bound=BaseModel)


METHODS = Store.__abstractmethods__
"""What every store has to have."""

PAGE = 20
"""How many items are looked through for another pending call: as many as ChatKit itself looks through."""

AWAY = (OSError, TimeoutError, asyncio.TimeoutError, StoreUnavailableError)
"""What a store raises that cannot be asked just now: that says nothing about what it has."""

_named: WeakSet[type[Exception]] = WeakSet()


class StoreWrapper(Store[TContext], Generic[TContext]):
    """A `Store` around a `Store`: passes everything on, the id generators and what the inner one has of its own too.

    To be subclassed: guard in a method, then call `super()`.
    """

    def __init__(self, inner: Store[TContext]) -> None:
        refuse_what_is_no_store(inner, f"{type(self).__name__} wraps")
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        """Pass on what `Store` does not have: an application's own methods, the plans of a store that keeps them."""
        # not built yet, as while it is unpickled; or how the inner store is copied, which is not how this one is
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def generate_thread_id(self, context: TContext) -> str:
        return self.inner.generate_thread_id(context)

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: TContext) -> str:
        return self.inner.generate_item_id(item_type, thread, context)

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return await self.inner.load_thread(thread_id, context=context)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        await self.inner.save_thread(thread, context=context)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        return await self.inner.load_thread_items(thread_id, after, limit, order, context)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        await self.inner.save_attachment(attachment, context=context)

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        return await self.inner.load_attachment(attachment_id, context=context)

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        await self.inner.delete_attachment(attachment_id, context=context)

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        return await self.inner.load_threads(limit, after, order, context)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        await self.inner.add_thread_item(thread_id, item, context=context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        await self.inner.save_item(thread_id, item, context=context)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        return await self.inner.load_item(thread_id, item_id, context=context)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        await self.inner.delete_thread(thread_id, context=context)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        await self.inner.delete_thread_item(thread_id, item_id, context=context)


class ValidatingStore(StoreWrapper[TContext], Generic[TContext]):
    """A `Store` around any `Store` that keeps the pending/completed lifecycle of client tool calls.

    A call enters a thread as `pending`, under an id that is new to it, while no other call is pending. It changes only
    from `pending` to `completed`, once, and only in `status` and `output`; after that it never changes. Saving it
    unchanged, or adding the same pending call again, is allowed and writes nothing.

    Whatever comes in or goes out is copied: what the caller does with it afterwards does not change the store. Around a
    `MemoryStore` or a `SQLStore`, which keep the same lifecycle themselves, a strict one does nothing else.

    Args:
        inner: The store that keeps everything.
        mode: "strict" raises `LifecycleViolationError` and writes nothing; "observe" logs the violation as a warning
            and lets the inner store do what it does.
    """

    def __init__(self, inner: Store[TContext], *, mode: Literal["strict", "observe"] = "strict") -> None:
        if mode not in {"strict", "observe"}:
            raise UsageError(f"mode must be 'strict' or 'observe', not {mode!r}")
        super().__init__(inner)
        self.mode = mode
        self._locks = ThreadLocks()

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return _copied(await super().load_thread(thread_id, context))

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        return (await super().load_threads(limit, after, order, context)).model_copy(deep=True)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        return (await super().load_thread_items(thread_id, after, limit, order, context)).model_copy(deep=True)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        return _copied(await super().load_item(thread_id, item_id, context))

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        return (await super().load_attachment(attachment_id, context)).model_copy(deep=True)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        await super().save_attachment(attachment.model_copy(deep=True), context)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        await super().save_thread(thread.model_copy(deep=True), context)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        copy = item.model_copy(deep=True)
        async with self._locks.held(thread_id):
            if await self._may_write(thread_id, copy, context):
                await super().add_thread_item(thread_id, copy, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        copy = item.model_copy(deep=True)
        async with self._locks.held(thread_id):
            if await self._may_write(thread_id, copy, context):
                await super().save_item(thread_id, copy, context)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        async with self._locks.held(thread_id):
            await super().delete_thread(thread_id, context)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        async with self._locks.held(thread_id):
            await super().delete_thread_item(thread_id, item_id, context)

    async def _may_write(self, thread_id: str, item: ThreadItem, context: TContext) -> bool:
        """Whether there is something to write; raises (or logs, in observe mode) if it must not be written."""
        # said by the class itself: one that is derived from it may do anything
        if self.mode == "strict" and vars(type(self.inner)).get("_holds_lifecycle", False):
            return True
        known = await find_item(self.inner, thread_id, item.id, context)
        if not isinstance(item, ClientToolCallItem) and not isinstance(known, ClientToolCallItem):
            return True
        if says_the_same(known, item):
            return False
        try:
            if known is None:
                await self._check_new(thread_id, item, context)
            else:
                check_change(thread_id, known, item)
        except LifecycleViolationError as error:
            if self.mode == "strict":
                raise
            logger.warning("%s", error)
        return True

    async def _check_new(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        call = cast("ClientToolCallItem", item)  # nothing else is checked under an id that is new
        check_new(thread_id, call)
        newest = await super().load_thread_items(thread_id, None, PAGE, "desc", context)
        for other in newest.data:
            if isinstance(other, ClientToolCallItem) and other.status == "pending":
                raise second_pending(thread_id, call, other)


def _copied(value: TValue) -> TValue:
    """Return a copy of what a store has loaded; some stores return None for what they do not have."""
    return value and value.model_copy(deep=True)


def refuse_what_is_no_store(store: object, who_wants: str) -> None:
    """Raise `UsageError` for a class where a store is needed, and for what lacks a method of a store."""
    if problem := problem_with(store):
        cure = f": {store.__name__}(...)" if isinstance(store, type) else ""
        raise UsageError(f"{who_wants} a store, and {problem}{cure}")


def problem_with(thing: object, methods: Collection[str] = METHODS) -> str | None:
    """Why something does not have the methods of a store, or others; None if it has."""
    if isinstance(thing, type):
        return f"{thing.__name__} is a class"
    missing = missing_methods(thing, methods)
    return f"{type(thing).__name__} has no {', '.join(missing)}" if missing else None


def missing_methods(thing: object, methods: Collection[str] = METHODS) -> list[str]:
    """Return the names of the methods that something lacks."""
    return sorted(name for name in methods if not callable(getattr(thing, name, None)))


async def newest_items(
    store: Store[Any],
    thread_id: str,
    context: object,
    *,
    first: int,
    then: int,
    is_enough: Callable[[Mapping[str, ThreadItem]], bool],
) -> list[ThreadItem]:
    """Read a thread's items, newest first, until there are no more, or those read so far are enough.

    The first page has `first` items, and each further one `then`. `is_enough` gets the items by their ids.
    """
    items: dict[str, ThreadItem] = {}
    after, limit = None, first
    while True:
        page = await store.load_thread_items(thread_id, after, limit, "desc", context)
        older = {item.id: item for item in page.data if item.id not in items}
        items.update(older)
        # a store whose cursor starts over brings nothing new: do not follow it for ever
        if not page.has_more or not older or is_enough(items):
            return list(items.values())
        after, limit = page.after, then


async def find_item(store: Store[Any], thread_id: str, item_id: str, context: object) -> ThreadItem | None:
    """Load an item, or return None if there is none, however the store reports that.

    Real stores raise ChatKit's `NotFoundError`, `ValueError` or a class of their own, or return None. An error counts
    as absence only if the newest items can be read, and the item is not among them.
    """
    try:
        return await store.load_item(thread_id, item_id, context=context)
    except NotFoundError:
        return None
    except AWAY:
        raise
    except Exception as error:
        page = await store.load_thread_items(thread_id, None, PAGE, "desc", context)
        if any(item.id == item_id for item in page.data):
            raise
        _name_once(store, "load_item", error)
        return None


async def find_thread(store: Store[Any], thread_id: str, context: object) -> ThreadMetadata | None:
    """Load a thread, or return None if there is none, however the store reports that.

    An error counts as absence only if the thread's items can be read, and there are none, or if reading them fails with
    the same kind of error. A database that is away is no absence.
    """
    try:
        return await store.load_thread(thread_id, context=context)
    except NotFoundError:
        return None
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001  real stores have classes of their own for what they do not have
        try:
            page = await store.load_thread_items(thread_id, None, 1, "desc", context)
        except Exception as other:
            if not isinstance(other, (NotFoundError, type(error))):
                raise
        else:
            if page.data:
                raise
        _name_once(store, "load_thread", error)
        return None


def _name_once(store: Store[Any], method: str, error: Exception) -> None:
    kind = type(error)
    if kind in _named:
        return
    _named.add(kind)
    while isinstance(store, StoreWrapper):
        store = store.inner
    logger.warning(
        "%s.%s raised %s.%s for what it does not have. It is taken for absent; ChatKit itself expects "
        "chatkit.store.NotFoundError: raise that, or derive the class from it.",
        type(store).__name__,
        method,
        kind.__module__,
        printable(kind.__qualname__),
    )
