"""A store that forgets everything when the process ends: enough for an example. Its order is that of insertion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chatkit.store import NotFoundError, Store
from chatkit.types import Page
from pydantic import BaseModel

if TYPE_CHECKING:
    from chatkit.types import Attachment, ThreadItem, ThreadMetadata

TContext = TypeVar("TContext")
TModel = TypeVar("TModel", bound=BaseModel)


class MemoryStore(Store[TContext], Generic[TContext]):
    """What goes in and what comes out is a copy: ChatKit changes the items it has loaded."""

    def __init__(self) -> None:
        self._threads: dict[str, ThreadMetadata] = {}
        self._items: dict[str, dict[str, ThreadItem]] = {}
        self._attachments: dict[str, Attachment] = {}

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return _found(self._threads, thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        self._threads[thread.id] = thread.model_copy(deep=True)
        self._items.setdefault(thread.id, {})

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        return _page(self._threads, limit, after, order)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        self._threads.pop(thread_id, None)
        self._items.pop(thread_id, None)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        return _page(self._of(thread_id), limit, after, order)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        self._of(thread_id)[item.id] = item.model_copy(deep=True)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        # an item that is there keeps its place
        self._of(thread_id)[item.id] = item.model_copy(deep=True)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        return _found(self._of(thread_id), item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        self._of(thread_id).pop(item_id, None)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        self._attachments[attachment.id] = attachment.model_copy(deep=True)

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        return _found(self._attachments, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        self._attachments.pop(attachment_id, None)

    def _of(self, thread_id: str) -> dict[str, ThreadItem]:
        if thread_id not in self._items:
            raise NotFoundError(f"thread {thread_id}")
        return self._items[thread_id]


def _found(there: dict[str, TModel], key: str) -> TModel:
    if key not in there:
        raise NotFoundError(key)
    return there[key].model_copy(deep=True)


def _page(there: dict[str, Any], limit: int, after: str | None, order: str) -> Page[Any]:
    keys = list(there) if order == "asc" else list(reversed(there))
    if after is not None and after not in there:
        raise NotFoundError(after)
    start = 0 if after is None else keys.index(after) + 1
    shown = keys[start : start + limit]
    has_more = start + limit < len(keys)
    return Page(
        data=[there[key].model_copy(deep=True) for key in shown],
        has_more=has_more,
        after=shown[-1] if shown and has_more else None,
    )
