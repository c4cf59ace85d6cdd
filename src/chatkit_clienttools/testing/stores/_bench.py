"""Where a check works: in threads of its own, whose traces are removed when it is over, however it ended."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import uuid4

from chatkit.store import NotFoundError
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ClientToolCallItem, Page, ThreadMetadata

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.store import METHODS
from chatkit_clienttools.testing._factory import opened, said

from ._rules import BrokenRuleError, expect
from ._samples import attachment_types, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from chatkit.store import Store
    from chatkit.types import Attachment, ThreadItem
    from pydantic import BaseModel

    from chatkit_clienttools.testing._factory import Factory

PLENTY = 100
"""A page that holds whatever a check has written, unless it is about pages."""

PAGE = 20
"""How many ChatKit asks for at once."""

MANY = 25
"""More than it gets at once: a conversation as it is after a while, without making a slow store slower than need be."""

WATCHED = METHODS | {"load_plan", "save_plan"}
WRITES = {
    "save_thread": ("thread", ("thread", "context")),
    "add_thread_item": ("item", ("thread_id", "item", "context")),
    "save_item": ("item", ("thread_id", "item", "context")),
    "save_attachment": ("attachment", ("attachment", "context")),
}
"""The writes that leave something behind: which argument that is, and how ChatKit names them all."""


class Bench:
    """A store to be checked, and what a check needs to do it.

    Every write through `store` is noted before it is made, and `clean` removes what was noted and nothing else.
    """

    def __init__(self, store: Store[Any], factory: Factory, contexts: Sequence[Any] = (None,)) -> None:
        self.context, *self.others = contexts
        if self.context in self.others:
            raise UsageError("contexts have to be of different users, who are to be kept apart; two of them are equal")
        self.doing = "the check"
        """The operation that was begun last: if it fails or hangs, this is what the report names."""
        self.notes: list[str] = []
        """What could not be removed, in words."""
        self.raw = store
        self.store = self._watched(store)
        self._factory = factory
        self._written: dict[tuple[_Trace, int], Any] = {}
        self._given: set[_Trace] = set()
        # naive local time, as ChatKit writes it; items a day ago, threads now: those are listed with everybody's
        self._now = datetime.now()  # noqa: DTZ005
        self._ticks = 0

    def _watched(self, store: Store[Any]) -> Store[Any]:
        return cast("Store[Any]", _Watched(store, self._note))

    def _note(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.doing = name
        if name in WRITES:
            kind, names = WRITES[name]
            given = dict(zip(names, args, strict=False)) | kwargs
            trace = _Trace(kind, given.get("thread_id", ""), given[kind].id)
            self._written[trace, id(given["context"])] = given["context"]

    @asynccontextmanager
    async def another(self) -> AsyncIterator[Store[Any]]:
        """Build one more store with the same factory; its writes are noted too."""
        self.doing = "the factory"
        async with opened(self._factory, time_limit=None) as store:  # the check has one
            yield self._watched(store)

    # what is written

    def tick(self) -> datetime:
        """Return a time one second after the last one."""
        self._ticks += 1
        return self._now - timedelta(days=1) + timedelta(seconds=self._ticks)

    def new_id(self, prefix: str = "msg") -> str:
        """Return a random id that comes after those given before in any order of letters."""
        self._ticks += 1
        return f"{prefix}_{self._ticks:05d}{uuid4().hex}"

    async def new_thread(self, **fields: Any) -> ThreadMetadata:
        """Return a thread that is not saved, under an id the store itself has made."""
        thread_id = await self._free(_Trace("thread", "", self.store.generate_thread_id(self.context)))
        made_at = self._now + timedelta(seconds=len(self._given))
        return ThreadMetadata(**{"id": thread_id, "created_at": made_at, "title": "A check", **fields})

    async def _free(self, made: _Trace) -> str:
        """Return the id a store has made, or one of ours if there is something under it: that is not ours to change."""
        taken = made in self._given or await self._is_there(made, self.context)
        self._given.add(made)
        return self.new_id(made.kind) if taken else made.id

    async def thread(self, **fields: Any) -> ThreadMetadata:
        """Save a new thread."""
        thread = await self.new_thread(**fields)
        await self.store.save_thread(thread, self.context)
        return thread

    def message(self, thread: ThreadMetadata, text: str = "hello", **fields: Any) -> AssistantMessageItem:
        """Return a message that is not yet in the thread, later than those before."""
        content = [AssistantMessageContent(text=text)]
        known = {"id": self.new_id(), "thread_id": thread.id, "created_at": self.tick(), "content": content}
        return AssistantMessageItem(**{**known, **fields})

    def call(self, thread: ThreadMetadata) -> ClientToolCallItem:
        """Return a pending client tool call that is not yet in the thread."""
        return ClientToolCallItem(
            id=self.new_id("tc"),
            thread_id=thread.id,
            created_at=self.tick(),
            call_id=self.new_id("call"),
            name="a_check",
            arguments={"list": []},
        )

    async def add(self, thread: ThreadMetadata, *items: ThreadItem) -> list[str]:
        """Add items to the thread; return their ids."""
        for item in items:
            await self.store.add_thread_item(thread.id, item, self.context)
        return [item.id for item in items]

    async def conversation(self, count: int, **fields: Any) -> tuple[ThreadMetadata, list[str]]:
        """Save a new thread with `count` messages; return it and their ids, oldest first."""
        thread = await self.thread()
        return thread, await self.add(thread, *(self.message(thread, **fields) for _ in range(count)))

    async def attachment(self, kind: Any = None, **fields: Any) -> Attachment:
        """Return an attachment that is not yet saved, under an id the store has made if it makes them."""
        generate = getattr(self.store, "generate_attachment_id", lambda *_: self.new_id("atc"))
        free = await self._free(_Trace("attachment", "", generate("text/plain", self.context)))
        known = {"id": free, "thread_id": None}
        return cast("Attachment", sample(kind or attachment_types()[0], **{**known, **fields}))

    # what is read

    async def page(
        self, thread: ThreadMetadata, after: str | None = None, limit: int = PLENTY, order: str = "asc"
    ) -> Page[ThreadItem]:
        """Load a page of the thread's items."""
        page = await self.store.load_thread_items(thread.id, after, limit, order, self.context)
        if not isinstance(page, Page):
            raise BrokenRuleError(f"load_thread_items gave a {type(page).__name__}, not a Page")
        return page

    async def ids(
        self, thread: ThreadMetadata, after: str | None = None, limit: int = PLENTY, order: str = "asc"
    ) -> list[str]:
        """Load a page of the thread's items; return their ids."""
        return [item.id for item in (await self.page(thread, after, limit, order)).data]

    async def loaded(self, thread: ThreadMetadata, item_id: str) -> ThreadItem:
        """Load one item."""
        return await self.store.load_item(thread.id, item_id, self.context)

    async def holds(self, thread: ThreadMetadata, item_id: str) -> bool:
        """Say whether an item can be loaded; how the store says that it cannot is not looked at."""
        return await self._is_there(_Trace("item", thread.id, item_id), self.context)

    async def has(self, thread_id: str) -> bool:
        """Say whether a thread can be loaded; how the store says that it cannot is not looked at."""
        return await self._is_there(_Trace("thread", "", thread_id), self.context)

    async def not_found(self, what: str, answer: Awaitable[object]) -> None:
        """Hold the rule that `answer` is a `NotFoundError`."""
        try:
            value = await answer
        except NotFoundError:
            return
        except Exception as error:
            raise BrokenRuleError(f"{what} raised {said(error)}, not NotFoundError") from error
        raise BrokenRuleError(f"{what} gave {_short(value)}, not NotFoundError")

    # what is removed

    async def clean(self) -> None:
        """Remove what was written since the last time; note what could not be removed."""
        written, self._written = self._written, {}
        # the items first, although a thread takes its items with it: perhaps this store's does not
        errors: dict[_Trace, str] = {}
        for (trace, _), context in sorted(written.items(), key=lambda entry: entry[0][0].kind == "thread"):
            try:
                await self._remove(trace, context)
            except Exception as error:  # noqa: BLE001  # whatever it is, the rest is removed too
                errors[trace] = said(error)
        for (trace, _), context in written.items():
            if await self._is_there(trace, context):
                self.notes.append(f"{trace} was not removed: {errors.get(trace, 'deleting it has done nothing')}")

    async def _remove(self, trace: _Trace, context: Any) -> None:
        if trace.kind == "item":
            await self.raw.delete_thread_item(trace.thread_id, trace.id, context)
        elif trace.kind == "thread":
            await self.raw.delete_thread(trace.id, context)
        else:
            await self.raw.delete_attachment(trace.id, context)

    async def _is_there(self, trace: _Trace, context: Any) -> bool:
        try:
            if trace.kind == "item":
                return (await self.raw.load_item(trace.thread_id, trace.id, context)).id == trace.id
            if trace.kind == "thread":
                return (await self.raw.load_thread(trace.id, context)).id == trace.id
            return (await self.raw.load_attachment(trace.id, context)).id == trace.id
        except Exception:  # noqa: BLE001  # not all stores say by a NotFoundError that it is not there
            return False


class _Trace(NamedTuple):
    """Something that was written."""

    kind: str
    thread_id: str
    id: str

    def __str__(self) -> str:
        return f"item {self.id} of thread {self.thread_id}" if self.thread_id else f"{self.kind} {self.id}"


class _Watched:
    """A store that says which operation is begun, before it is."""

    def __init__(self, store: Store[Any], note: Callable[[str, tuple[Any, ...], dict[str, Any]], None]) -> None:
        self._store = store
        self._note = note

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WATCHED:
            return method

        async def watched(*args: Any, **kwargs: Any) -> Any:
            self._note(name, args, kwargs)
            return await method(*args, **kwargs)

        return watched


def text_of(item: ThreadItem) -> str:
    """Return the text of a message a bench has made."""
    return cast("AssistantMessageItem", item).content[0].text


def same(saved: BaseModel, loaded: object, how: str) -> None:
    """Hold the rule that what was loaded is what was saved; its time has a rule of its own."""
    expect(isinstance(loaded, type(saved)), f"{how} gave a {type(loaded).__name__}, not a {type(saved).__name__}")
    wanted, found = (one.model_dump(mode="json", exclude={"created_at"}) for one in (saved, cast("BaseModel", loaded)))
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    expect(not names, f"{how} gave a {type(saved).__name__} with another {', '.join(names)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < PLENTY else f"{text[:PLENTY]}..."
