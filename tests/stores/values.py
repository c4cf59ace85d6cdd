"""Threads, items and attachments for the tests of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit.types import ClientToolCallItem, FileAttachment, HiddenContextItem, ThreadMetadata

from tests.helpers.conversation import at

if TYPE_CHECKING:
    from chatkit.types import ThreadItem


KNOWS_ATTACHED = "thread_id" in FileAttachment.model_fields
"""Older ChatKits do not say which thread an attachment belongs to."""


class User(NamedTuple):
    """A request's context."""

    user_id: Any


ADA, BOB = User("ada"), User("bob")


def by_user(context: User) -> Any:
    return context.user_id


def thread(thread_id: str = "thr", title: str | None = None, **metadata: Any) -> ThreadMetadata:
    return ThreadMetadata(id=thread_id, title=title, created_at=at(0), metadata=metadata)


def note(item_id: str, content: str = "", thread_id: str = "thr") -> HiddenContextItem:
    """An ordinary item; all of them have the same time."""
    return HiddenContextItem(id=item_id, thread_id=thread_id, created_at=at(0), content=content)


def call(item_id: str = "tc", thread_id: str = "thr", **fields: Any) -> ClientToolCallItem:
    values = {"call_id": f"call_{item_id}", "name": "select", "arguments": {"n": 1}, **fields}
    return ClientToolCallItem(id=item_id, thread_id=thread_id, created_at=at(0), **values)


def answered(item: ClientToolCallItem, output: Any = "done") -> ClientToolCallItem:
    return item.model_copy(update={"status": "completed", "output": output}, deep=True)


def attachment(attachment_id: str = "atc", thread_id: str | None = None, name: str = "a.txt") -> FileAttachment:
    return FileAttachment(
        id=attachment_id, thread_id=thread_id, name=name, mime_type="text/plain", metadata={"path": "s3://a"}
    )


async def item_ids(store: Any, context: Any = ADA, thread_id: str = "thr", order: str = "asc") -> list[str]:
    page = await store.load_thread_items(thread_id, None, 1000, order, context)
    return [item.id for item in page.data]


async def thread_ids(store: Any, context: Any = ADA, order: str = "asc") -> list[str]:
    return [each.id for each in (await store.load_threads(1000, None, order, context)).data]


async def filled(store: Any, *items: ThreadItem, context: Any = ADA) -> Any:
    await store.save_thread(thread(), context)
    for item in items:
        await store.add_thread_item("thr", item, context)
    return store
