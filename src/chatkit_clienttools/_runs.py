"""The run that is open right now, and what it has asked for so far.

Which run a tool belongs to is known by the context it runs in (`contextvars`), not by the thread object: a store that
hands out live references gives two requests the same object. Tools run in tasks and threads that the body's run starts,
and those inherit the context.
"""

from __future__ import annotations

import json
import threading
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent
from pydantic_core import to_json

from ._requests import setting
from .errors import InvalidArgumentsError, NotSequencedError, QueueFullError
from .observe import logger, loud

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from contextlib import AbstractContextManager

    from chatkit.types import ThreadMetadata, ThreadStreamEvent

    from ._plan import PlannedCall

LEASE_SECONDS = 120.0
"""How long a run may rest at a `yield` before others take its claim for abandoned."""

_current: ContextVar[Run | None] = ContextVar("chatkit_clienttools_run", default=None)


@dataclass(frozen=True)
class Asked:
    """A call that a run has asked for."""

    call: ClientToolCall
    size: int
    at: float
    invocation: str | None = None
    """The `tool_call_id` of the server tool that asked."""
    item: ClientToolCallItem | None = None
    """The item that ChatKit, or the body itself, has already made for it."""


class Run:
    """One `respond()` or `action()`, from its first event to its last."""

    def __init__(
        self, owner: object, thread: ThreadMetadata, *, max_queued: int, max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self.owner = owner
        self.thread = thread
        self.asked: list[Asked] = []
        self.ended = False
        self.ended_early = False
        """Whether it was cut off, or has failed: what its body has started may go on for a while."""
        self.stands_in = False
        """Whether its sequencer is only there because the server was given none."""
        self.already_open = 0
        self.already_bytes = 0
        self.stream: Callable[[], RunStream | None] = lambda: None
        self._lock = threading.Lock()
        self._max_queued = max_queued
        self._max_bytes = max_bytes
        self._clock = clock
        self._contexts: list[AgentContext[Any]] = []
        self._in_slots: list[ClientToolCall] = []
        self._streamed: list[ClientToolCall] = []

    def open(self) -> AbstractContextManager[None]:
        """Let what runs inside find this run."""
        return setting(_current, self)

    def ask(self, context: AgentContext[Any], calls: Iterable[ClientToolCall], invocation: str | None = None) -> None:
        """Queue `calls`, after one that was put into the slot directly, and leave the first of all in the slot."""
        with self._lock:  # synchronous tools run in threads, several at a time
            self._accept([*self._put_into_slot(context), *calls], invocation)
            if self.asked:
                self._fill_slot(context, self.asked[0].call)

    def discard(self, context: AgentContext[Any]) -> None:
        """Forget what was asked for."""
        with self._lock:
            self.asked = []
            AgentContext.__setattr__(context, "client_tool_call", None)

    def holds_back(self, event: ThreadStreamEvent) -> bool:
        """Whether the event releases a call: the last thing a run does, so it is kept until the body has ended."""
        match event:
            case ThreadItemDoneEvent(item=ClientToolCallItem(status="pending") as item):
                call = ClientToolCall(name=item.name, arguments=item.arguments)
                if call not in self._in_slots:  # otherwise it is in the queue already
                    self._streamed.append(call)
                    self._accept([call], item=item)
                return True
        return False

    def collect(self) -> list[Asked]:
        """Return all that was asked for, in order; a call that was put into a slot since the last `ask` goes last."""
        for context in self._contexts:
            self._accept(self._put_into_slot(context))
        return self.asked

    def _accept(
        self, calls: list[ClientToolCall], invocation: str | None = None, item: ClientToolCallItem | None = None
    ) -> None:
        """Take all of `calls`, or none."""
        now = self._clock()
        asked = [*self.asked, *(_measured(call, now, invocation, item) for call in calls)]
        if self.already_open + len(asked) > self._max_queued:
            raise loud(
                QueueFullError(
                    f"Thread {self.thread.id} would have {self.already_open + len(asked)} client tool calls waiting; "
                    f"at most {self._max_queued} are allowed (ClientToolSequencer(max_queued=...))"
                )
            )
        size = self.already_bytes + sum(each.size for each in asked)
        if size > self._max_bytes:
            raise loud(
                QueueFullError(
                    f"The client tool calls of thread {self.thread.id} would take {size:,} bytes; at most "
                    f"{self._max_bytes:,} are allowed (ClientToolSequencer(max_bytes=...)). "
                    "Send an id, and let the frontend fetch what is large."
                )
            )
        self.asked = asked

    def _put_into_slot(self, context: AgentContext[Any]) -> list[ClientToolCall]:
        """Return the call that somebody else has put into the slot of `context`, if there is one that is new."""
        inside = context.client_tool_call
        if inside is None or any(inside is ours for ours in self._in_slots) or inside in self._streamed:
            return []
        self._in_slots.append(inside)
        return [inside]

    def _fill_slot(self, context: AgentContext[Any], call: ClientToolCall) -> None:
        AgentContext.__setattr__(context, "client_tool_call", call)
        self._in_slots.append(call)
        if not any(context is known for known in self._contexts):
            self._contexts.append(context)


def run_for(thread_id: str) -> Run | None:
    """Return the run that is open here for this thread."""
    run = _current.get()
    return run if run is not None and run.thread.id == thread_id and not run.ended else None


def run_of(owner: object, context: AgentContext[Any]) -> Run:
    """Return the run that `context` belongs to, or say which line is missing."""
    run = run_for(context.thread.id)
    if run is not None and (owner is None or run.owner is owner):
        return run
    elsewhere = _current.get()
    if run is not None and not run.stands_in:
        problem = (
            "The run belongs to another ClientToolSequencer: share one between tools and server, and put its "
            "`@sequencer.sequenced` above the server's `respond` and `action`."
        )
    elif elsewhere is None or run is not None:
        problem = (
            "No sequenced run is open here. Put `@sequencer.sequenced` above the server's `respond` and `action`; and "
            "start threads with the context, as asyncio.to_thread does."
        )
    elif elsewhere.ended_early:
        early = NotSequencedError(
            f"Thread {context.thread.id}: a client tool call is not queued. Its run was cut off before, by Stop or a "
            "lost connection, or has failed."
        )
        logger.info("%s", early.for_the_log)  # nobody's mistake: the SDK lets a tool go on
        raise early
    elif elsewhere.ended:
        problem = "The run has ended: a tool asks for client tools before it returns, not from a task that outlives it."
    else:
        problem = (
            f"The run that is open here is for thread {elsewhere.thread.id}: give the AgentContext the `thread` "
            "that `respond` was called with."
        )
    raise loud(NotSequencedError(f"Thread {context.thread.id}: a client tool call cannot be queued. {problem}"))


class RunStream:
    """The events of a run, as ChatKit iterates over them.

    What the run has claimed in this process is held by this object: when ChatKit lets go of it, the claim is gone at
    once, whatever becomes of the generator inside.
    """

    def __init__(self, run: Run, events: AsyncGenerator[ThreadStreamEvent, None], clock: Callable[[], float]) -> None:
        self._run = run
        self._events = events
        self._clock = clock
        self._busy_until = inf
        run.stream = weakref.ref(self)

    def __aiter__(self) -> RunStream:
        return self

    async def __anext__(self) -> ThreadStreamEvent:
        self._busy_until = inf
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            self._end(early=False)
            raise
        except BaseException:
            self._end(early=True)
            raise
        # at a `yield` it may stay for ever: nobody tells a generator that its client has gone
        self._busy_until = self._clock() + LEASE_SECONDS
        return event

    async def aclose(self) -> None:
        """End the run early."""
        self._end(early=True)
        await self._events.aclose()

    def _end(self, *, early: bool) -> None:
        self._busy_until = -inf
        if not self._run.ended:
            self._run.ended, self._run.ended_early = True, early

    def is_at_work(self, now: float) -> bool:
        """Whether it is doing something, or rests only since a moment ago."""
        return now < self._busy_until


class Claims:
    """What the runs of this process are doing right now, by thread, purpose, and the call that it is about.

    Not by store: an application may make one for each request. What two stores have under the same ids was asked for at
    different times.
    """

    def __init__(self) -> None:
        self._holders: weakref.WeakValueDictionary[tuple[str, str, str, float], RunStream] = (
            weakref.WeakValueDictionary()
        )

    def take(self, thread_id: str, what: str, call: PlannedCall, run: Run) -> None:
        """Claim it for `run`."""
        stream = run.stream()
        if stream is not None:
            self._holders[thread_id, what, call.item_id, call.at] = stream

    def end(self, thread_id: str, what: str, item_id: str) -> None:
        """Note that it is done."""
        for key in [key for key in list(self._holders) if key[:3] == (thread_id, what, item_id)]:
            self._holders.pop(key, None)

    def are_held(self, thread_id: str, what: str, call: PlannedCall, now: float, *, besides: Run) -> bool:
        """Whether some run is at it, besides the one that asks."""
        holder = self._holders.get((thread_id, what, call.item_id, call.at))
        return holder is not None and holder is not besides.stream() and holder.is_at_work(now)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is none")


def _measured(call: ClientToolCall, now: float, invocation: str | None, item: ClientToolCallItem | None) -> Asked:
    """Take the call as it is now, or refuse it: later it has to be JSON, for ChatKit too."""
    try:
        # whatever ChatKit itself could store, but NaN and infinity, which are not JSON
        arguments = json.loads(to_json(call.arguments), parse_constant=_refused)
        taken = ClientToolCall(name=call.name, arguments=arguments)
        size = len(taken.model_dump_json().encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise loud(InvalidArgumentsError(call.name, [f"arguments are not JSON: {error}"])) from None
    return Asked(taken, size, now, invocation, item)
