"""Stores that keep every rule, each in another way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from chatkit.store import Store
from chatkit.types import Attachment, Page, ThreadItem
from pydantic import TypeAdapter

from chatkit_clienttools import StoreWrapper, ValidatingStore
from tests.helpers.stores import InsertStore, PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

USERS = ("alice", "bob")


class WholeStore(PlansStore):
    """Offers everything a store may offer, but does not keep users apart."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def thread_lock(self, thread_id: str) -> AsyncIterator[None]:
        async with self.locks.setdefault(thread_id, asyncio.Lock()):
            yield


class JsonStore(WholeStore):
    """Keeps JSON, as a database would, and leaves out what is None."""

    items_are: TypeAdapter[Any] = TypeAdapter(ThreadItem)
    attachments_are: TypeAdapter[Any] = TypeAdapter(Attachment)

    def _in(self, value: Any) -> Any:
        document = value.model_dump_json(exclude_none=True)
        if hasattr(value, "created_at") and hasattr(value, "thread_id"):
            return self.items_are.validate_json(document)
        if hasattr(value, "mime_type"):
            return self.attachments_are.validate_json(document)
        return type(value).model_validate_json(document)


class ChoosyStore(PlainStore):
    """Where a rule leaves a choice it takes the other one.

    NotFoundError for the items and the plan of a thread that is not there, an empty page for an unknown cursor, a
    cursor that outlives its item.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deleted: dict[str, str] = {}
        self.plans: dict[str, Any] = {}

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        self._found(self.threads, thread_id)
        after = self.deleted.get(after or "", after)
        if after and after not in self.items[thread_id]:
            return Page(data=[], has_more=False, after=None)
        return await super().load_thread_items(thread_id, after, limit, order, context)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        ids = list(self.items.get(thread_id, {}))
        if item_id in ids[1:]:
            self.deleted[item_id] = ids[ids.index(item_id) - 1]
        await super().delete_thread_item(thread_id, item_id, context)

    async def load_plan(self, thread_id: str, context: Any) -> Any:
        self._found(self.threads, thread_id)
        return self.plans.get(thread_id)

    async def save_plan(self, thread_id: str, plan: Any, expected: int, context: Any) -> bool:
        stored = self.plans.get(thread_id)
        if (stored.revision if stored else 0) != expected:
            return False
        self.plans[thread_id] = plan
        return True

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        self._found(self.attachments, attachment_id)
        await super().delete_attachment(attachment_id, context)


class WithoutFilesStore(PlainStore):
    """Does not offer attachments."""

    async def save_attachment(self, attachment: Any, context: Any) -> None:
        raise NotImplementedError

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        raise NotImplementedError

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        raise NotImplementedError


def per_user(name: str) -> Callable[..., Any]:
    async def method(self: OwnedStore, *args: Any, **kwargs: Any) -> Any:
        context = kwargs.get("context", args[-1] if args else None)
        return await getattr(self.inners.setdefault(context, self.kind()), name)(*args, **kwargs)

    return method


class OwnedStore(StoreWrapper[Any]):
    """Keeps users apart: each has a store."""

    kind: type[Any] = WholeStore

    def __init__(self) -> None:
        super().__init__(WholeStore())
        self.inners: dict[Any, WholeStore] = {}


for _name in sorted(Store.__abstractmethods__ | {"load_plan", "save_plan"}):
    setattr(OwnedStore, _name, per_user(_name))


class ChoosyOwnedStore(OwnedStore):
    """Keeps users apart, and takes the other choice where a rule leaves one."""

    kind = ChoosyStore


class Data:
    """What several stores share."""

    def __init__(self) -> None:
        self.one = WholeStore()


class SharingStore(WholeStore):
    """One of several stores on the same data."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        vars(self).update(vars(data.one))


def sharing() -> Callable[[], SharingStore]:
    data = Data()
    return lambda: SharingStore(data)


def sharing_async() -> Callable[[], Any]:
    data = Data()

    async def make() -> Any:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SharingStore]:
            yield SharingStore(data)

        return opened()

    return make


def only_one() -> Callable[[], Any]:
    store = WholeStore()
    return lambda: store


GOOD: dict[str, tuple[Callable[[], Callable[[], Any]], tuple[Any, ...]]] = {
    "PlainStore": (lambda: PlainStore, (None,)),
    "PlansStore": (lambda: PlansStore, (None,)),
    "InsertStore": (lambda: InsertStore, (None,)),
    "WholeStore": (lambda: WholeStore, (None,)),
    "JsonStore": (lambda: JsonStore, (None,)),
    "ChoosyStore": (lambda: ChoosyStore, (None,)),
    "WithoutFilesStore": (lambda: WithoutFilesStore, (None,)),
    "OwnedStore": (lambda: OwnedStore, USERS),
    "ChoosyOwnedStore": (lambda: ChoosyOwnedStore, USERS),
    "several on the same data": (sharing, (None,)),
    "an async factory of context managers": (sharing_async, (None,)),
    "the same object each time": (only_one, (None,)),
    "ValidatingStore(PlainStore)": (lambda: lambda: ValidatingStore(PlainStore()), (None,)),
    "ValidatingStore(PlansStore)": (lambda: lambda: ValidatingStore(PlansStore()), (None,)),
    "ValidatingStore(OwnedStore)": (lambda: lambda: ValidatingStore(OwnedStore()), USERS),
}
"""How each is made: a maker of a factory, so that each test has data of its own; and the contexts it is called with."""
