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

OF_A_THREAD = {"load_thread", "load_thread_items", "load_item"}
"""What only reads, but in some stores makes the thread that it is asked for."""

UNKNOWN = {
    "thread": "load_thread",
    "item": "load_item",
    "items": "load_thread_items",
    "cursor": "load_thread_items with an unknown cursor",
    "attachment": "load_attachment",
}
"""What can be asked for and not be there, and by which method."""


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
        elif name in OF_A_THREAD:
            trace = _Trace("thread", "", kwargs.get("thread_id", *args[:1]))
            context = kwargs.get("context", *args[-1:])
            self._written[trace, id(context)] = context

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

    async def outcome(self, answer: Awaitable[object]) -> object:
        """Return what comes of an operation: what it gives, or the error that it raises."""
        try:
            return await answer
        except Exception as error:  # noqa: BLE001  whatever a store raises is looked at by the check
            return error

    async def unknown(self, kind: str) -> object:
        """Return what comes of asking for something that was never there."""
        store, context = self.store, self.context
        if kind == "thread":
            return await self.outcome(store.load_thread((await self.new_thread()).id, context))
        if kind == "attachment":
            return await self.outcome(store.load_attachment(self.new_id("atc"), context))
        if kind == "item":
            return await self.outcome(self.loaded(await self.thread(), self.new_id()))
        thread, after = (await self.thread(), self.new_id()) if kind == "cursor" else (await self.new_thread(), None)
        return await self.outcome(store.load_thread_items(thread.id, after, PLENTY, "asc", context))

    async def is_absence(self, kind: str, outcome: object) -> bool:
        """Whether this says that something is not there, as this store says it: how it should has a rule of its own."""
        if outcome is None or isinstance(outcome, NotFoundError):
            return True
        return isinstance(outcome, Exception) and type(outcome) is type(await self.unknown(kind))

    async def not_found(self, kind: str, what: str, answer: Awaitable[object]) -> None:
        """Hold the rule that what was asked for is not there."""
        outcome = await self.outcome(answer)
        if await self.is_absence(kind, outcome):
            return
        if isinstance(outcome, Exception):
            raise BrokenRuleError(f"{what} raised {said(outcome)}") from outcome
        raise BrokenRuleError(f"{what} gave {_short(outcome)}, and there should be nothing")

    async def page_or_nothing(
        self, kind: str, thread: ThreadMetadata, after: str | None = None, **options: Any
    ) -> list[ThreadItem]:
        """Load a page that may be empty, or not be there; return its items."""
        arguments: Any = {"limit": PLENTY, "order": "asc", "context": self.context, **options}
        answer = self.store.load_thread_items(thread.id, after=after, **arguments)
        outcome = await self.outcome(answer)
        if await self.is_absence(kind, outcome):
            return []
        if isinstance(outcome, Exception):
            raise outcome
        return cast("Page[ThreadItem]", outcome).data

    # what is removed

    async def clean(self) -> None:
        """Remove what was written since the last time; note what could not be removed."""
        # the items first, although a thread takes its items with it: perhaps this store's does not
        written = sorted(self._written.items(), key=lambda entry: entry[0][0].kind == "thread")
        self._written = {}
        for (trace, _), context in written:
            await self._remove(trace, context)
        for (trace, _), context in written:
            if await self._is_there(trace, context):  # perhaps again: in some stores reading an item makes its thread
                error = await self._remove(trace, context) or "deleting it has done nothing"
                if await self._is_there(trace, context):
                    self.notes.append(f"{trace} was not removed: {error}")

    async def _remove(self, trace: _Trace, context: Any) -> str | None:
        """Delete it; return what the store raised, in words: whatever it is, the rest is removed too."""
        if trace.kind == "item":
            answer = self.raw.delete_thread_item(trace.thread_id, trace.id, context)
        elif trace.kind == "thread":
            answer = self.raw.delete_thread(trace.id, context)
        else:
            answer = self.raw.delete_attachment(trace.id, context)
        outcome = await self.outcome(answer)
        return said(outcome) if isinstance(outcome, Exception) else None

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
