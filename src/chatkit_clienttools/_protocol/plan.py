"""The plan of a thread: the calls that are not finished, in order, the tools that wait, and which body is at work.

A plan is stored as text. Its first line is a JSON object, and each further line is one call. A step looks at the first
calls only, so the others stay text: reading a plan of sixty calls costs about as much as reading one of three.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chatkit_clienttools.errors import DamagedPlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

VERSION: Literal[2] = 2
"""The format of the document. A document with another version is refused, never guessed at."""

BODY_SECONDS = 120.0
"""How long a body may be at work before others take it for dead."""

CLOCK_SKEW_SECONDS = 5.0
"""How far the clocks of two workers may be apart. A body that claims more time than it has has a wrong clock."""

REMOVED_KEPT = 8
"""How many items that have to go a plan remembers."""


# json.dumps() would make one of these each time
_quoted = json.JSONEncoder(ensure_ascii=False).encode
_compact = json.JSONEncoder(separators=(",", ":")).encode


class _Frozen(BaseModel):
    # a field that this version does not know would be lost with the next write: refuse the document instead
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedCall(_Frozen):
    """One call, with the ids it will have when it is released."""

    id: str
    """The call's own id: random, chosen by us, the same for every attempt. It is what a receipt carries."""
    name: str
    arguments: dict[str, Any]
    base_item_id: str
    call_id: str
    wanted: bool
    """Whether the model gets the answer."""
    required: bool = False
    """Whether it stays when the rest of the plan is cancelled."""
    turn: str | None = None
    """The user message under which it was asked for. A retry of that message starts over without the call."""
    at: float
    """When it was asked for, in seconds since the epoch."""
    attempt: int = 1
    expires_at: float | None = None
    """When its time is over, in seconds since the epoch; None if it has none, or was never released."""
    awaited_by: str | None = None
    """The id of the tool that waits for its answer."""

    @property
    def item_id(self) -> str:
        """The id of its item: another one for each attempt, so that the page takes it for a new call."""
        return self.base_item_id if self.attempt == 1 else f"{self.base_item_id}-{self.attempt}"

    def new_attempt(self) -> PlannedCall:
        """Return the call as it goes out once more; it has no more time for that."""
        return self.model_copy(update={"attempt": self.attempt + 1})

    def released(self, now: float, expires_after: timedelta | None) -> PlannedCall:
        """Return the call as it is released: that is when its time begins, unless it has begun and is not over yet."""
        if expires_after is None or (self.expires_at is not None and now < self.expires_at):
            return self
        return self.model_copy(update={"expires_at": now + expires_after.total_seconds()})

    def is_overdue(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class Calls(Sequence[PlannedCall]):
    """The calls of a plan. Each is a line of text until it is looked at."""

    def __init__(self, entries: Iterable[str | PlannedCall] = (), thread_id: str = "") -> None:
        self._entries = list(entries)
        self._thread_id = thread_id
        self._places: dict[str, int | None] = {}
        self._seen = {n: entry for n, entry in enumerate(self._entries) if not isinstance(entry, str)}
        """The calls that are no text any more, by their places."""

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> PlannedCall: ...
    @overload
    def __getitem__(self, index: slice) -> Calls: ...
    def __getitem__(self, index: int | slice) -> PlannedCall | Calls:
        if isinstance(index, slice):
            return Calls(self._entries[index], self._thread_id)
        entry = self._entries[index]
        if isinstance(entry, str):
            entry = _parsed(PlannedCall, entry, self._thread_id)
            self._entries[index] = self._seen[range(len(self))[index]] = entry
        return entry

    def __iter__(self) -> Iterator[PlannedCall]:
        return (self[n] for n in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calls) and (self._entries == other._entries or self.lines() == other.lines())

    __hash__ = None  # type: ignore[assignment]  # it holds what was parsed so far

    def lines(self) -> list[str]:
        """Return each call as a line of text."""
        return [e if isinstance(e, str) else e.model_dump_json(exclude_defaults=True) for e in self._entries]

    @cached_property
    def size(self) -> int:
        """How large they are, in bytes."""
        return sum(len(line.encode()) for line in self.lines())

    @cached_property
    def _text(self) -> str:
        """What has not been looked at, in one piece."""
        return "\n".join(entry for entry in self._entries if isinstance(entry, str))

    def position(self, item_id: str) -> int | None:
        """Return the place of the call that has, or will have, the item `item_id`."""
        if item_id not in self._places:
            self._places[item_id] = self._position(item_id)
        return self._places[item_id]

    def _position(self, item_id: str) -> int | None:
        for n, call in self._seen.items():
            if call.item_id == item_id:
                return n
        # the number of an attempt is not in the text
        known = [_quoted(each) for each in (item_id, item_id.rpartition("-")[0]) if each]
        # most items are in no line; without its quotes, which are everywhere, an id is found to be absent much faster
        if not any(each[1:-1] in self._text for each in known):
            return None
        for n, entry in enumerate(self._entries):
            may_be = isinstance(entry, str) and any(each in entry for each in known)
            if may_be and self[n].item_id == item_id:
                return n
        return None

    def find(self, call_id: str) -> int | None:
        """Return the place of the call with the id `call_id`."""
        for n, entry in enumerate(self._entries):
            may_be = isinstance(entry, PlannedCall) or call_id in entry
            if may_be and self[n].id == call_id:
                return n
        return None

    def keeping(self, keep: Callable[[PlannedCall], bool]) -> Calls:
        """Return the calls for which `keep` is true."""
        return Calls([call for call in self if keep(call)])

    def replacing(self, position: int, call: PlannedCall, *, at: int) -> Calls:
        """Return the calls without the one at a place, and with another one, which then is at the place `at`."""
        rest = [*self._entries[:position], *self._entries[position + 1 :]]
        return Calls([*rest[:at], call, *rest[at:]], self._thread_id)

    def with_inserted(self, position: int, calls: Iterable[PlannedCall]) -> Calls:
        """Return the calls with more of them before a place."""
        return Calls([*self._entries[:position], *calls, *self._entries[position:]], self._thread_id)

    def adding(self, calls: Iterable[PlannedCall]) -> Calls:
        """Return the calls with more of them at the end."""
        return Calls([*self._entries, *calls], self._thread_id)


class Entry(_Frozen):
    """One line of a tool's journal: it has asked the browser for something, or taken a step."""

    kind: Literal["ask", "step"]
    name: str
    """The client tool, or the function of the step."""
    key: str = ""
    """A digest of the call's arguments: a tool that asks for something else on replay has changed."""
    call: str | None = None
    """The id of the call."""
    item_id: str | None = None
    """The item that holds the answer, once there is one."""
    is_cancelled: bool = False
    """Whether the call was cancelled before it was answered."""
    result: str | None = None
    """What a step has returned, as JSON."""
    error: tuple[str, str] | None = None
    """The kind and the text of what a step has raised."""

    @property
    def is_open(self) -> bool:
        """Whether it is a call whose answer is still to come."""
        return self.kind == "ask" and self.item_id is None and not self.is_cancelled


class WaitingTool(_Frozen):
    """A tool whose body waits for the browser. It runs again from the top with what its journal holds."""

    id: str
    """Chosen by us. It is the id of the item that holds the tool's output in the end."""
    call_id: str
    """The model's id of its call of this tool."""
    name: str
    arguments: str
    """What the model called it with, as JSON."""
    at: float
    """When the model called it, in seconds since the epoch."""
    turn: str | None = None
    """The user message under which it was called. A retry of that message starts over without it."""
    journal: tuple[Entry, ...] = ()
    is_cancelled: bool = False
    """Whether the user has written meanwhile: whatever it asks for then is cancelled, unless it is required."""
    output: str | None = None
    """What it has returned, as JSON: it is in the plan until it is an item."""
    before: str | None = None
    """The user message that the model has to read after that."""

    @property
    def is_ready(self) -> bool:
        """Whether it can go on: everything that it has asked for is answered or cancelled."""
        return not any(entry.is_open for entry in self.journal)

    @property
    def answers(self) -> list[str]:
        """The items that hold the answers it has had."""
        return [entry.item_id for entry in self.journal if entry.item_id is not None]

    def but(self, **changes: Any) -> WaitingTool:
        """Return this tool with changes."""
        return self.model_copy(update=changes)


class Body(_Frozen):
    """The body that is at work: the application's `respond`, for a message or after the last answer, or a tool's."""

    by: str
    """The run whose body it is."""
    until: float
    """When others may take it for dead, in seconds since the epoch."""
    sees: int
    """How many of the thread's wanted answers it shows to the model."""
    holds: tuple[str, ...] = ()
    """The calls that are not released before it has ended."""
    tool: str | None = None
    """The waiting tool whose body it is."""

    def is_alive(self, now: float) -> bool:
        """Whether it may still be at work; one that claims too much time was written by a clock that is ahead."""
        return now < self.until <= now + BODY_SECONDS + CLOCK_SKEW_SECONDS


class Trace(_Frozen):
    """Which requests the spans of a plan belong to, each as a W3C traceparent; kept only if somebody traces."""

    began: float
    """When its first call, or tool, was asked for, in seconds since the epoch."""
    asked: str | None = None
    """The request in which that was."""
    item: str | None = None
    """The item that was released last."""
    released: str | None = None
    """The request that released it."""


class Plan(_Frozen):
    """What a thread still has to do."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    version: Literal[2] = VERSION
    calls: Calls = Field(default_factory=Calls, exclude=True)
    finished: int = 0
    """How many calls have left the plan since it was last empty."""
    answers: int = 0
    """How many wanted answers the calls that have left brought, ever."""
    told: int = 0
    """How many of the wanted answers the model has been told, ever."""
    last: str | None = None
    """The id of the call that was answered last: what a repeated answer to it is known by."""
    turn: str | None = None
    """The user message under which that call was asked for."""
    mark: str | None = None
    """An item that is no newer than any item of these calls: reading further back is of no use."""
    removed: tuple[str, ...] = ()
    """The latest items that had to go. One of them that is pending is deleted, whenever it appears."""
    tools: tuple[WaitingTool, ...] = ()
    """The tools that wait, in the order in which the model called them."""
    state: str | None = None
    """The Agents SDK's state of the run in which they were called, if the application wants it kept."""
    trace: Trace | None = None
    body: Body | None = None
    lease: str | None = None
    """The worker whose step is writing items at this moment."""
    writer: str = ""
    """The worker that wrote this revision."""

    def but(self, **changes: Any) -> Plan:
        """Return this plan with changes."""
        return self.model_copy(update=changes)

    def removing(self, *item_ids: str) -> Plan:
        """Return this plan with more items that have to go; one that goes again counts as new."""
        others = [each for each in self.removed if each not in item_ids]
        mark = None if self.mark in item_ids else self.mark
        return self.but(removed=(*others, *item_ids)[-REMOVED_KEPT:], mark=mark)

    def tool(self, tool_id: str | None) -> WaitingTool | None:
        """Return a tool that waits, by its id."""
        return next((tool for tool in self.tools if tool.id == tool_id), None)

    def is_same_as(self, other: Plan) -> bool:
        """Whether writing this plan over `other` would change nothing but its writer."""
        return {**vars(self), "writer": None} == {**vars(other), "writer": None}

    def to_text(self) -> str:
        """Return the document to be stored."""
        head = {"version": self.version, **self.model_dump(exclude_defaults=True)}
        return "\n".join([_compact(head), *self.calls.lines()])

    @classmethod
    def from_text(cls, document: object, thread_id: str) -> Plan:
        """Read a stored document, or raise `DamagedPlanError` and name the thread."""
        if not isinstance(document, str):
            raise DamagedPlanError(thread_id, f"it is a {type(document).__name__}, not text")
        head, *lines = document.split("\n")
        try:
            plan: Plan = _parsed(cls, head, thread_id)
        except DamagedPlanError:
            _check_version(head, thread_id)  # whatever is wrong with another version, nobody wants to know
            raise
        if "version" not in plan.model_fields_set:
            _check_version(head, thread_id)
        return plan.but(calls=Calls(lines, thread_id))


def _check_version(head: str, thread_id: str) -> None:
    try:
        fields = json.loads(head)
    except (ValueError, RecursionError):
        raise DamagedPlanError(thread_id, "it is not JSON") from None
    if not isinstance(fields, dict):
        raise DamagedPlanError(thread_id, f"it is a {type(fields).__name__}, not a JSON object")
    version = fields.get("version")
    if version != VERSION:
        found = version if isinstance(version, int) else f"a {type(version).__name__}"
        raise DamagedPlanError(thread_id, f"its format version is {found}, and this code knows {VERSION}")


def _parsed(model: type[Any], line: str, thread_id: str) -> Any:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        # name the first damaged field without its value: a plan holds what users did
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedPlanError(thread_id, f"{where}: {first['msg']}" if where else first["msg"]) from None
