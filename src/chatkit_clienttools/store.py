"""`StoreWrapper`, which only delegates, and `ValidatingStore`, which guards the lifecycle and then delegates."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Literal, cast
from weakref import WeakValueDictionary

from chatkit.store import NotFoundError, Store
from chatkit.types import ClientToolCallItem
from typing_extensions import TypeVar

from ._calls import check_change, check_new, says_the_same, second_pending
from ._journal import PAGE
from ._plans import METADATA_KEY, plans_of, put_plan, revision_in
from .errors import LifecycleViolationError, UsageError
from .observe import logger

if TYPE_CHECKING:
    from collections.abc import Collection

    from chatkit.store import StoreItemType
    from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata

TContext = TypeVar("TContext", default=Any)


METHODS = Store.__abstractmethods__
"""What every store has to have."""


class StoreWrapper(Store[TContext], Generic[TContext]):
    """A `Store` around a `Store`: passes everything on, the id generators and what the inner one has of its own too.

    To be subclassed: guard in a method, then call `super()`.
    """

    def __init__(self, inner: Store[TContext]) -> None:
        if isinstance(inner, type):
            raise UsageError(
                f"{type(self).__name__} wraps a store, and {inner.__name__} is a class: {inner.__name__}(...)"
            )
        if missing := missing_methods(inner):
            raise UsageError(
                f"{type(self).__name__} wraps a store, and {type(inner).__name__} has no {', '.join(missing)}"
            )
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
    unchanged, or adding the same pending call again, is allowed and writes nothing. A plan in the thread's metadata
    survives a save of an older copy of the thread.

    Whatever comes in or goes out is copied: what the caller does with it afterwards does not change the store.

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
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return (await super().load_thread(thread_id, context)).model_copy(deep=True)

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        return (await super().load_threads(limit, after, order, context)).model_copy(deep=True)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        return (await super().load_thread_items(thread_id, after, limit, order, context)).model_copy(deep=True)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        return (await super().load_item(thread_id, item_id, context)).model_copy(deep=True)

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        return (await super().load_attachment(attachment_id, context)).model_copy(deep=True)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        await super().save_attachment(attachment.model_copy(deep=True), context)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        copy = thread.model_copy(deep=True)
        async with self._lock(thread.id):
            if plans_of(self) is None:
                await self._keep_newer_plan(copy, context)
            await super().save_thread(copy, context)

    async def write_plan_into_thread(self, thread_id: str, document: object, context: TContext) -> None:
        """Put the document of a plan into a thread's metadata, in one step: what others save meanwhile is not lost."""
        async with self._lock(thread_id):
            thread = (await super().load_thread(thread_id, context)).model_copy(deep=True)
            put_plan(thread, document)
            await super().save_thread(thread, context)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        copy = item.model_copy(deep=True)
        async with self._lock(thread_id):
            if await self._may_write(thread_id, copy, context):
                await super().add_thread_item(thread_id, copy, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        copy = item.model_copy(deep=True)
        async with self._lock(thread_id):
            if await self._may_write(thread_id, copy, context):
                await super().save_item(thread_id, copy, context)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        async with self._lock(thread_id):
            await super().delete_thread(thread_id, context)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        async with self._lock(thread_id):
            await super().delete_thread_item(thread_id, item_id, context)

    def _lock(self, thread_id: str) -> asyncio.Lock:
        return self._locks.setdefault(thread_id, asyncio.Lock())

    async def _keep_newer_plan(self, thread: ThreadMetadata, context: TContext) -> None:
        try:
            stored = await super().load_thread(thread.id, context)
        except NotFoundError:
            return
        if stored is None:  # some stores return that, whatever their signature says
            return
        if METADATA_KEY not in stored.metadata:
            return
        if METADATA_KEY not in thread.metadata or revision_in(thread) < revision_in(stored):
            logger.debug("thread %s: an older copy of it is saved; its plan is kept", thread.id)
            put_plan(thread, stored.metadata[METADATA_KEY])

    async def _may_write(self, thread_id: str, item: ThreadItem, context: TContext) -> bool:
        """Whether there is something to write; raises (or logs, in observe mode) if it must not be written."""
        known = await self._known(thread_id, item.id, context)
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

    async def _known(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem | None:
        try:
            return await super().load_item(thread_id, item_id, context)
        except NotFoundError:
            return None

    async def _check_new(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        call = cast("ClientToolCallItem", item)  # nothing else is checked under an id that is new
        check_new(thread_id, call)
        newest = await super().load_thread_items(thread_id, None, PAGE, "desc", context)
        for other in newest.data:
            if isinstance(other, ClientToolCallItem) and other.status == "pending":
                raise second_pending(thread_id, call, other)


def missing_methods(thing: object, methods: Collection[str] = METHODS) -> list[str]:
    """Return the names of the methods that something lacks."""
    return sorted(name for name in methods if not callable(getattr(thing, name, None)))
