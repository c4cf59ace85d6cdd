"""Where a check works: in threads of its own, whose traces are removed when it is over, however it ended."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import uuid4

from chatkit.store import NotFoundError
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ClientToolCallItem, Page, ThreadMetadata

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing._factory import AWAITED, said

from ._rules import BrokenRuleError, NotOfferedError, expect
from ._samples import attachment_types, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from chatkit.store import Store
    from chatkit.types import Attachment, ThreadItem
    from pydantic import BaseModel

    Build = Callable[[], AbstractAsyncContextManager[Store[Any]]]

PLENTY = 100
"""A page that holds whatever a check has written, unless it is about pages."""

PAGE = 20
"""How many ChatKit asks for at once."""

MANY = 25
"""More than it gets at once: a conversation as it is after a while, without making a slow store slower than need be."""

KINDS = {
    "thread": ("load_thread", "delete_thread"),
    "item": ("load_item", "delete_thread_item"),
    "attachment": ("load_attachment", "delete_attachment"),
}
"""What a check may leave behind, and how that is looked for and removed."""

LEAVES = {
    # in some stores a thread is made of what is read, too
    **dict.fromkeys(("save_thread", "load_thread", "load_thread_items", "load_item"), "thread"),
    **dict.fromkeys(("add_thread_item", "save_item"), "item"),
    "save_attachment": "attachment",
}
"""What an operation may leave behind, under the ids that it is given first."""


class Bench:
    """A store to be checked, and what a check needs to do it.

    What is done through `store`, `other` and `another` is noted before; `clean` removes what was noted, nothing else.
    """

    def __init__(self, store: Store[Any], build: Build, contexts: Sequence[Any] = (None,)) -> None:
        self.context, *self._others = contexts
        if self.context in self._others:
            raise UsageError("contexts have to be of different users, who are to be kept apart; two of them are equal")
        self.doing = "the check"
        """The operation that was begun last: if it fails or hangs, this is what the report names."""
        self.notes: list[str] = []
        """What could not be removed, in words."""
        self._store = store
        self.store: Any = _User(store, self.context, self._note)
        """The store, called without a context: that of the first user is added."""
        self._build = build
        self._written: list[_Trace] = []
        self._given: set[tuple[str, str]] = set()
        # naive local time, as ChatKit writes it; items a day ago, threads now: those are listed with everybody's
        self._now = datetime.now()  # noqa: DTZ005
        self._ticks = 0

    def _note(self, operation: str, arguments: Sequence[Any], context: Any) -> None:
        self.doing = operation
        if kind := LEAVES.get(operation):
            given = arguments[: 2 if kind == "item" else 1]
            trace = _Trace(kind, tuple(getattr(each, "id", each) for each in given), context)
            if trace not in self._written:
                self._written.append(trace)

    @property
    def other(self) -> Any:
        """The store as another user calls it."""
        if not self._others:
            raise NotOfferedError("no second context was given, so it was not looked whether users are kept apart")
        return _User(self._store, self._others[0], self._note)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[_User]:
        """Build one more store with the same factory, for the first user."""
        self.doing = "the factory"
        async with self._build() as store:
            yield _User(store, self.context, self._note)

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
        thread_id = await self._free("thread", self.store.generate_thread_id())
        made_at = self._now + timedelta(seconds=len(self._given))
        return ThreadMetadata(**{"id": thread_id, "created_at": made_at, "title": "A check", **fields})

    async def _free(self, kind: str, made: str) -> str:
        """Return the id a store has made, or one of ours if there is something under it: that is not ours to change."""
        taken = (kind, made) in self._given or await self.has(kind, made)
        self._given.add((kind, made))
        return self.new_id(kind) if taken else made

    async def thread(self, **fields: Any) -> ThreadMetadata:
        """Save a new thread."""
        thread = await self.new_thread(**fields)
        await self.store.save_thread(thread)
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
            await self.store.add_thread_item(thread.id, item)
        return [item.id for item in items]

    async def conversation(self, count: int, **fields: Any) -> tuple[ThreadMetadata, list[str]]:
        """Save a new thread with `count` messages; return it and their ids, oldest first."""
        thread = await self.thread()
        return thread, await self.add(thread, *(self.message(thread, **fields) for _ in range(count)))

    async def new_attachment(self, kind: type[BaseModel] | None = None, **fields: Any) -> Attachment:
        """Return an attachment that is not saved, under an id the store has made if it makes them."""
        generate = getattr(self.store, "generate_attachment_id", lambda *_: self.new_id("atc"))
        known = {"id": await self._free("attachment", generate("text/plain")), "thread_id": None}
        return cast("Attachment", sample(kind or attachment_types()[0], **{**known, **fields}))

    async def attachment(self, kind: type[BaseModel] | None = None, **fields: Any) -> Attachment:
        """Save a new attachment."""
        attachment = await self.new_attachment(kind, **fields)
        try:
            await self.store.save_attachment(attachment)
        except NotImplementedError:
            raise NotOfferedError("save_attachment raises NotImplementedError") from None
        return attachment

    # what is read

    async def page(
        self, thread: ThreadMetadata, after: str | None = None, limit: int = PLENTY, order: str = "asc"
    ) -> Page[ThreadItem]:
        """Load a page of the thread's items."""
        page = await self.store.load_thread_items(thread.id, after, limit, order)
        expect(isinstance(page, Page), f"load_thread_items gave a {type(page).__name__}, not a Page")
        return cast("Page[ThreadItem]", page)

    async def ids(
        self, thread: ThreadMetadata, after: str | None = None, limit: int = PLENTY, order: str = "asc"
    ) -> list[str]:
        """Load a page of the thread's items; return their ids."""
        return [item.id for item in (await self.page(thread, after, limit, order)).data]

    async def has(self, kind: str, *ids: str) -> bool:
        """Say whether something can be loaded; how the store says that it cannot is not looked at."""
        return await self._is_there(_Trace(kind, ids, self.context))

    async def unknown(self, kind: str) -> object:
        """Return what comes of asking for something that was never there."""
        thread = await (self.thread() if kind in {"item", "cursor"} else self.new_thread())
        asked: dict[str, tuple[Any, ...]] = {
            "thread": (self.store.load_thread, thread.id),
            "item": (self.store.load_item, thread.id, self.new_id()),
            "items": (self.store.load_thread_items, thread.id, None, PLENTY, "asc"),
            "cursor": (self.store.load_thread_items, thread.id, self.new_id(), PLENTY, "asc"),
            "attachment": (self.store.load_attachment, self.new_id("atc")),
        }
        return await outcome(*asked[kind])

    async def is_absence(self, kind: str, came: object) -> bool:
        """Whether this says that something is not there, as this store says it: how it should has a rule of its own."""
        if came is None or isinstance(came, NotFoundError):
            return True
        return isinstance(came, Exception) and type(came) is type(await self.unknown(kind))

    async def not_found(self, kind: str, what: str, method: Callable[..., Awaitable[object]], *args: str) -> None:
        """Hold the rule that what is asked for is not there."""
        came = await outcome(method, *args)
        if await self.is_absence(kind, came):
            return
        if isinstance(came, Exception):
            raise BrokenRuleError(f"{what} raised {said(came)}") from came
        raise BrokenRuleError(f"{what} gave {_short(came)}, and there should be nothing")

    async def page_or_nothing(
        self, thread: ThreadMetadata, after: str | None = None, limit: int = PLENTY
    ) -> list[ThreadItem]:
        """Load a page that may be empty, or not be there; return its items."""
        came = await outcome(self.store.load_thread_items, thread.id, after, limit, "asc")
        if await self.is_absence("cursor" if after else "items", came):
            return []
        if isinstance(came, Exception):
            raise came
        return cast("Page[ThreadItem]", came).data

    # what is removed

    async def clean(self) -> None:
        """Remove what was written since the last time; note what could not be removed."""
        # the items first, although a thread takes its items with it: perhaps this store's does not
        written = sorted(self._written, key=lambda trace: trace.kind == "thread")
        self._written = []
        for trace in written:
            await self._remove(trace)
        for trace in written:
            if await self._is_there(trace):  # perhaps again: in some stores reading an item makes its thread
                came = await self._remove(trace)
                if await self._is_there(trace):
                    error = said(came) if isinstance(came, Exception) else "deleting it has done nothing"
                    self.notes.append(f"{trace} was not removed: {error}")

    async def _remove(self, trace: _Trace) -> object:
        return await outcome(getattr(self._store, KINDS[trace.kind][1]), *trace.ids, trace.context)

    async def _is_there(self, trace: _Trace) -> bool:
        found = await outcome(getattr(self._store, KINDS[trace.kind][0]), *trace.ids, trace.context)
        return getattr(found, "id", None) == trace.ids[-1]


class _Trace(NamedTuple):
    """Something that was written: its kind, the ids that it is loaded and deleted by, and the context."""

    kind: str
    ids: tuple[str, ...]
    context: Any

    def __str__(self) -> str:
        return f"{self.kind} {' of thread '.join(self.ids[::-1])}"


class _User:
    """A store as one of its users calls it: with their context; the bench is told of each operation before."""

    def __init__(self, store: Store[Any], context: Any, note: Callable[[str, Sequence[Any], Any], None]) -> None:
        self.store = store
        self._context = context
        self._note = note

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name.startswith("generate_"):
            return lambda *args: method(*args, self._context)
        if name not in AWAITED:
            return method

        async def watched(*args: Any, **named: Any) -> Any:
            self._note(name, (*args, *named.values()), self._context)
            context = {"context": self._context}
            return await (method(*args, **named, **context) if named else method(*args, *context.values()))

        return watched


async def outcome(method: Callable[..., Awaitable[object]], *args: Any) -> object:
    """Return what comes of an operation: what it gives, or the error that it raises."""
    try:
        return await method(*args)
    except Exception as error:  # noqa: BLE001  whatever a store raises is looked at by the check
        return error


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
