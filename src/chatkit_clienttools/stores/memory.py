"""`MemoryStore`: a right store without a database, for development and tests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

from chatkit.store import Store
from chatkit.types import ClientToolCallItem, Page
from typing_extensions import TypeVar, override

from chatkit_clienttools._protocol.guards import check_new, has_to_be_written, second_pending

from ._documents import (
    ATTACHMENTS,
    ITEMS,
    THREADS,
    check_thread,
    checked_limit,
    checked_order,
    given,
    new_id,
    not_found,
    owner_key,
    page_of,
    thread_of,
    wanted,
)
from ._locks import LocalLocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chatkit.store import StoreItemType
    from chatkit.types import Attachment, ThreadItem, ThreadMetadata

    from chatkit_clienttools._step.plans import StoredPlan

TContext = TypeVar("TContext", default=Any)


@dataclass
class _Thread:
    document: str
    items: dict[str, str] = field(default_factory=dict)
    """The documents of its items, by their ids."""
    pending: str | None = None
    """The item that is a pending call."""
    plan: StoredPlan | None = None
    contents: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, document: str, *, is_pending: bool) -> None:
        """Keep an item."""
        self.items[key] = document
        if is_pending:
            self.pending = key
        elif self.pending == key:
            self.pending = None

    def drop(self, key: str) -> None:
        """Forget an item."""
        self.items.pop(key, None)
        if self.pending == key:
            self.pending = None


class _Attachment(NamedTuple):
    document: str
    thread_id: str | None


@dataclass
class _Owned:
    """What one owner has. Dictionaries keep the order of insertion, and a key that is set again keeps its place."""

    threads: dict[str, _Thread] = field(default_factory=dict)
    attachments: dict[str, _Attachment] = field(default_factory=dict)

    def thread(self, thread_id: str) -> _Thread:
        try:
            return self.threads[thread_id]
        except KeyError:
            raise not_found(thread_id, "Thread") from None


class MemoryStore(Store[TContext], Generic[TContext]):
    """A store in the memory of one process, with the rules of `SQLStore`: what works here works there.

    Threads and items have the order in which they were added; saving one again keeps its place. What is handed in and
    out is copied. Each method is one step that no other request can come between, in whichever thread and event loop
    it runs; only a `thread_lock` belongs to one event loop. It keeps plans of its own
    (`SupportsPlans`), and like `SQLStore` it holds at most one pending client tool call per thread and lets a completed
    one never change.

    Args:
        owner: Tells whose rows a request may touch, `lambda context: context.user_id`. What belongs to another owner
            does not exist. Without it everything belongs to everybody.
        time_limit: How many seconds to wait for a `thread_lock`.
    """

    _holds_lifecycle = True
    """A `ValidatingStore` around it has nothing to look up: it would only look for what is looked for here."""

    def __init__(self, *, owner: Callable[[TContext], object] | None = None, time_limit: float = 10.0) -> None:
        self._owner = owner
        self._owned: dict[str, _Owned] = {}
        self._locks = LocalLocks("memory", time_limit)
        self._step = threading.Lock()

    @override
    def generate_thread_id(self, context: TContext) -> str:
        return new_id("thread")

    @override
    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: TContext) -> str:
        return new_id(item_type)

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return THREADS.read(self._of(context).thread(thread_id).document, thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        threads = self._of(context).threads
        document = THREADS.write(thread, given(thread.id, "Thread"))
        with self._step:
            stored = threads.setdefault(thread.id, _Thread(document))
            check_thread(stored.document, document, thread.id)
            stored.document = document

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        threads = self._of(context).threads
        with self._step:
            page = [(key, threads[key].document) for key in _after(threads, limit, after, order, "Thread")]
        return page_of([(key, THREADS.read(document, key)) for key, document in page], checked_limit(limit))

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        owned = self._of(context)
        with self._step:
            if owned.threads.pop(thread_id, None):
                owned.attachments = {k: a for k, a in owned.attachments.items() if a.thread_id != thread_id}

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        items = self._of(context).thread(thread_id).items
        with self._step:
            page = [(key, items[key]) for key in _after(items, limit, after, order, "Item")]
        return page_of([(key, ITEMS.read(document, key)) for key, document in page], checked_limit(limit))

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        owned = self._of(context)
        document = ITEMS.write(item, given(item.id, "Item"))
        item = ITEMS.read(document, item.id)
        is_pending = isinstance(item, ClientToolCallItem) and item.status == "pending"
        with self._step:
            thread = owned.thread(thread_id)
            if _is_to_be_written(thread_id, item, thread):
                thread.put(item.id, document, is_pending=is_pending)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        found = self._of(context).thread(thread_id).items.get(item_id)
        if found is None:
            raise not_found(item_id, "Item")
        return ITEMS.read(found, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        with self._step:
            thread = self._of(context).threads.get(thread_id)
            if thread:
                thread.drop(item_id)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        document = ATTACHMENTS.write(attachment, given(attachment.id, "Attachment"))
        with self._step:
            self._of(context).attachments[attachment.id] = _Attachment(document, thread_of(attachment))

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        found = self._of(context).attachments.get(attachment_id)
        if found is None:
            raise not_found(attachment_id, "Attachment")
        return ATTACHMENTS.read(found.document, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        with self._step:
            self._of(context).attachments.pop(attachment_id, None)

    async def load_plan(self, thread_id: str, context: TContext) -> StoredPlan | None:
        """Load the plan of a thread and its revision; None if there was never one."""
        thread = self._of(context).threads.get(thread_id)
        return thread.plan if thread else None

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: TContext) -> bool:
        """Save `plan` if the stored revision is `expected` (0: there is none yet), in one step; say whether it was."""
        with self._step:
            thread = self._of(context).thread(thread_id)
            if (thread.plan.revision if thread.plan else 0) != expected:
                return False
            thread.plan = plan
            return True

    async def save_content(self, thread_id: str, content_id: str, data: bytes, context: TContext) -> None:
        """Keep the content of an image or a file, for a `MediaStore`."""
        self._of(context).thread(thread_id).contents[content_id] = data

    async def load_content(self, thread_id: str, content_id: str, context: TContext) -> bytes | None:
        """Return the content; None if the thread has none under that id."""
        thread = self._of(context).threads.get(thread_id)
        return thread.contents.get(content_id) if thread else None

    async def delete_content(self, thread_id: str, content_id: str, context: TContext) -> None:
        """Delete the content, if it is there."""
        thread = self._of(context).threads.get(thread_id)
        if thread:
            thread.contents.pop(content_id, None)

    async def delete_contents(self, thread_id: str, context: TContext) -> None:
        """Delete all contents of a thread."""
        thread = self._of(context).threads.get(thread_id)
        if thread:
            thread.contents.clear()

    def thread_lock(self, thread_id: str) -> AbstractAsyncContextManager[None]:
        """Keep others out who ask for the lock of this thread: `ClientToolSequencer(lock=store.thread_lock)`."""
        return self._locks.held(thread_id)

    def _of(self, context: TContext) -> _Owned:
        key = owner_key(self._owner, context)
        return self._owned.get(key) or self._owned.setdefault(key, _Owned())


def _is_to_be_written(thread_id: str, item: ThreadItem, thread: _Thread) -> bool:
    """Whether writing `item` to this thread changes something; raises if it must not be written."""
    if item.id in thread.items:
        return has_to_be_written(thread_id, ITEMS.read(thread.items[item.id], item.id), item)
    if not isinstance(item, ClientToolCallItem):
        return True
    check_new(thread_id, item)
    if thread.pending is not None:
        other = ITEMS.read(thread.items[thread.pending], thread.pending)
        raise second_pending(thread_id, item, cast("ClientToolCallItem", other))
    return True


def _after(keys: dict[str, Any], limit: int, after: str | None, order: str, name: str) -> list[str]:
    """Return the keys of a page, and one more if there is one."""
    in_order = iter(keys) if checked_order(order) == "asc" else reversed(keys)
    if after:
        if wanted(after, name) not in keys:
            raise not_found(after, name)
        while next(in_order) != after:
            pass
    return list(islice(in_order, checked_limit(limit) + 1))
