"""What the body of one request asks for: the calls, in order, and what stands in ChatKit's slot meanwhile."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent
from pydantic_core import from_json, to_json

from chatkit_clienttools.errors import QueueFullError, not_json
from chatkit_clienttools.observe import log_and_return, logger, place_of

from .requests import setting
from .suspension import is_suspension

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chatkit.types import ThreadStreamEvent

    from chatkit_clienttools._protocol.plan import Plan

    from .rules import Rules

AWAITED_NONE = {"object NoneType can't be used in 'await' expression", "'NoneType' object can't be awaited"}
"""What Python says of `await sequencer.enqueue(...)`."""


class Invocation:
    """One call of a server tool that takes back what it has asked for if it raises."""

    def __init__(self, within: Invocation | None) -> None:
        self.within = within

    def covers(self, other: Invocation | None) -> bool:
        """Whether `other` is this one, or was started inside it."""
        while other is not None and other is not self:
            other = other.within
        return other is self


class QueuedCall(NamedTuple):
    """A call that a run has asked for."""

    call: ClientToolCall
    size: int
    at: float
    tool_call_id: str | None = None
    """The model's call of the server tool that asked."""
    item: ClientToolCallItem | None = None
    """The item that ChatKit, or the body itself, has already made for it."""
    invocation: Invocation | None = None
    own_id: str | None = None
    """The id of a call whose answer a tool awaits."""
    awaited_by: str | None = None
    """The id of that tool."""


current_invocation: ContextVar[Invocation | None] = ContextVar("chatkit_clienttools_invocation", default=None)


class Queue:
    """The calls that a body has asked for so far, within the limits of its sequencer."""

    def __init__(self, rules: Rules, plan: Plan, thread: str) -> None:
        self.calls: list[QueuedCall] = []
        self.thread = thread
        """The id of the thread, as errors show it."""
        self._rules = rules
        self._open = plan.calls
        """The calls that wait in the thread already: they count for the limits."""
        kept = [*(tool.model_dump_json() for tool in plan.tools), plan.state or ""] if plan.tools else []
        self._journals = sum(len(text.encode()) for text in kept)
        """How large the journals of waiting tools are, in bytes, with the state of their run: they count, too."""
        self._lock = threading.Lock()
        self._contexts: dict[int, AgentContext[Any]] = {}
        self._in_slots: list[ClientToolCall] = []
        self._streamed: list[ClientToolCall] = []

    def enqueue(
        self, context: AgentContext[Any], calls: Iterable[ClientToolCall], tool_call_id: str | None = None
    ) -> None:
        """Queue `calls`, after one that was put into the slot directly, and leave the first of all in the slot."""
        with self._lock:  # synchronous tools run in threads, several at a time
            self._accept([*self._put_into_slot(context), *calls], tool_call_id)
            self._fill_slot(context)

    def measured(self, call: ClientToolCall) -> ClientToolCall:
        """Return a call as it is now, or refuse it."""
        return _measured(call)[0]

    def await_answer(self, context: AgentContext[Any], call: ClientToolCall, own_id: str, tool_id: str) -> None:
        """Queue a call whose answer a tool awaits; the tool waits, and does not take it back."""
        with self._lock:
            self._accept(self._put_into_slot(context))
            awaited = QueuedCall(*_measured(call), self._rules.clock(), own_id=own_id, awaited_by=tool_id)
            self._take([*self.calls, awaited])

    def forget(self, own_id: str | None) -> None:
        """Forget a call whose answer nobody awaits any more."""
        with self._lock:
            self.calls = [each for each in self.calls if each.own_id != own_id]

    def make_room(self, size: int) -> None:
        """Count one more line of a journal, or refuse it."""
        with self._lock:
            self._check_size(self.calls, self._journals + size)
            self._journals += size

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more are within the limit."""
        return self._size(self.calls, self._journals + size) <= self._rules.max_bytes

    def discard(self, context: AgentContext[Any]) -> None:
        """Forget what was asked for."""
        with self._lock:
            self.calls = []
            self._fill_slot(context)

    def take_back(self, invocation: Invocation) -> int:
        """Forget what one tool has asked for; return how many calls that were."""
        with self._lock:
            before = len(self.calls)
            self.calls = [each for each in self.calls if not invocation.covers(each.invocation)]
            for context in self._contexts.values():
                if any(context.client_tool_call is ours for ours in self._in_slots):
                    self._fill_slot(context)
            return before - len(self.calls)

    def holds_back(self, event: ThreadStreamEvent) -> bool:
        """Whether the event releases a call: the step that ends the run stores and streams it."""
        match event:
            case ThreadItemDoneEvent(item=ClientToolCallItem(status="pending") as item):
                call = ClientToolCall(name=item.name, arguments=item.arguments)
                if call not in self._in_slots:  # otherwise it is in the queue already
                    self._streamed.append(call)
                    self._accept([call], item=item)
                return True
        return False

    def collect(self) -> None:
        """Take the calls that were put into slots since the last `enqueue`."""
        for context in self._contexts.values():
            self._accept(self._put_into_slot(context))

    def _accept(
        self, calls: list[ClientToolCall], tool_call_id: str | None = None, item: ClientToolCallItem | None = None
    ) -> None:
        """Take all of `calls`, or none."""
        now, invocation = self._rules.clock(), current_invocation.get()
        new = [QueuedCall(*_measured(call), now, tool_call_id, item, invocation) for call in calls]
        if new:  # the journals alone may be too large by now, and that is refused where more is asked for
            self._take([*self.calls, *new])

    def _take(self, asked: list[QueuedCall]) -> None:
        count = len(self._open) + len(asked)
        if count > self._rules.max_queued:
            raise log_and_return(
                QueueFullError(
                    f"Thread {self.thread} would have {count} client tool calls waiting; at most "
                    f"{self._rules.max_queued} are allowed (ClientToolSequencer(max_queued=...))"
                )
            )
        self._check_size(asked, self._journals)
        self.calls = asked

    def _size(self, asked: list[QueuedCall], journals: int) -> int:
        return self._open.size + sum(each.size for each in asked) + journals

    def _check_size(self, asked: list[QueuedCall], journals: int) -> None:
        size = self._size(asked, journals)
        if size > self._rules.max_bytes:
            what = "client tool calls" if not journals else "client tool calls, and the steps of waiting tools,"
            raise log_and_return(
                QueueFullError(
                    f"The {what} of thread {self.thread} would take {size:,} bytes; at most "
                    f"{self._rules.max_bytes:,} are allowed (ClientToolSequencer(max_bytes=...)). "
                    "Send an id, and let the frontend fetch what is large; let a step return an id, too."
                )
            )

    def _put_into_slot(self, context: AgentContext[Any]) -> list[ClientToolCall]:
        """Return the call that somebody else has put into the slot of `context`, if there is one that is new."""
        inside = context.client_tool_call
        if inside is None or any(inside is ours for ours in self._in_slots) or inside in self._streamed:
            return []
        self._in_slots.append(inside)
        return [inside]

    def _fill_slot(self, context: AgentContext[Any]) -> None:
        """Leave the first call of the queue in ChatKit's slot, or nothing."""
        first = self.calls[0].call if self.calls else None
        AgentContext.__setattr__(context, "client_tool_call", first)
        if first is not None:
            self._in_slots.append(first)
        self._contexts[id(context)] = context


@contextmanager
def transaction(tool: str, queue: Queue | None) -> Iterator[None]:
    """Take back what the code inside has asked for if it raises.

    The log says so, since the Agents SDK tells the model at most: the kind of the error, and not its text, which may
    quote what the user said. A tool that waits is no error.
    """
    invocation = Invocation(current_invocation.get())
    with setting(current_invocation, invocation):
        try:
            yield
        except BaseException as error:
            taken_back = queue.take_back(invocation) if queue else 0
            if isinstance(error, Exception) or (taken_back and not is_suspension(error)):
                dropped = f"; what it has enqueued is dropped ({taken_back})" if taken_back else ""
                hint = "; leave out `await` before `enqueue` and `discard`" if str(error) in AWAITED_NONE else ""
                thread, kind = f"thread {queue.thread}: " if queue else "", type(error).__name__
                level = logging.ERROR if hint else logging.WARNING
                logger.log(level, "%sthe tool %s raised %s%s%s%s", thread, tool, kind, hint, dropped, place_of(error))
                logger.debug("where that was", exc_info=error)
            raise


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# json.loads() would make one of these each time
_strictly = json.JSONDecoder(parse_constant=_refuse).decode


def _measured(call: ClientToolCall) -> tuple[ClientToolCall, int]:
    """Take the call as it is now, and its size, or refuse it: later it has to be JSON, for ChatKit too."""
    try:
        arguments = _read_back(call.arguments)
    except (TypeError, ValueError, RecursionError) as error:
        problems = _json_problems(call.arguments) or {"arguments": str(error)}
        raise log_and_return(not_json(call.name, problems)) from None
    taken = ClientToolCall(name=call.name, arguments=arguments)
    return taken, len(taken.model_dump_json().encode())


def _read_back(value: Any) -> Any:
    """Return a value as JSON gives it back, or raise: whatever ChatKit could store goes, but NaN and infinity."""
    written = to_json(value)
    from_json(b"[[[" + written + b"]]]")  # pydantic reads no deep nesting, and this is in a call, in a page
    return _strictly(written.decode())


def _json_problems(arguments: Mapping[str, object]) -> dict[str, str]:
    """Why arguments cannot be sent, by their names."""
    problems = {}
    for name, value in arguments.items():
        try:
            _read_back([value])
        except (TypeError, ValueError, RecursionError) as error:
            problems[name] = str(error)
    return problems
