"""A body while it runs: the application's `respond` or `action`, or the function of a tool that waited.

It is a transaction: what it asks for becomes the event that ends it, and counts only if it has ended well.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from chatkit.types import (
    DurationSummary,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    WorkflowItem,
)

from chatkit_clienttools._protocol.decide import Ended, WentOn
from chatkit_clienttools._protocol.outputs import Output, item_of
from chatkit_clienttools.errors import ReplayMismatchError
from chatkit_clienttools.observe import log_and_return, logger

from .queued import Queue
from .replay import CODE_HAS_CHANGED, Replay
from .requests import close

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable

    from chatkit.agents import AgentContext
    from chatkit.types import SDKHiddenContextItem, ThreadStreamEvent

    from chatkit_clienttools._protocol.plan import PlannedCall, WaitingTool

    from .rules import Rules
    from .run import Run
    from .step import Outcome

    Events = Callable[[], AsyncIterator[ThreadStreamEvent]]


class RunningBody:
    """The application's `respond` or `action`."""

    def __init__(self, run: Run, turn: str | None, make: Events, *, is_action: bool = False) -> None:
        self.run = run
        self.is_action = is_action
        """Whether it is the application's `action`, which may do without the model."""
        self.rules = run.rules
        self.turn = turn
        """The user message under which it asks for calls."""
        self.queue = Queue(run.rules, run.plan, run.shown)
        self.tools: dict[str, Replay] = {}
        """The tools that may wait and that the model has called in this run, by the model's ids of these calls."""
        self.returned: dict[str, Any] = {}
        """What tools have returned whose run is taken up again, by the model's ids of their calls."""
        self.keeps_state = False
        """Whether the run of an agent can be taken up again as it was."""
        self.state: str | None = None
        """The state of that run, as it has ended with tools that wait."""
        self.has_read_outputs = False
        """Whether the model has been shown what tools have returned that waited."""
        self.is_silent = True
        """Whether the user has seen nothing of it but work in progress."""
        self.is_open = True
        """Whether it runs, and may ask for calls."""
        self.has_ended_well = False
        self.has_ended_early = False
        """Whether it was cut off, or has failed: what it has started may go on for a while."""
        self._make = make

    @property
    def tells(self) -> bool:
        """Whether the model has to be told next what it does not know: this request has ended a call."""
        return self.is_action and cast("Outcome", self.run.begun).has_completed

    def serves(self, rules: Rules | None, thread_id: str) -> bool:
        """Whether it runs, for this thread and with this sequencer."""
        return self.is_open and self.run.thread_id == thread_id and (rules is None or rules is self.rules)

    @property
    def waiting(self) -> tuple[WaitingTool, ...]:
        """The tools that wait and that the model has called in this run."""
        return tuple(tool.as_it_waits for tool in self.tools.values() if tool.is_waiting)

    async def stream(self) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Yield what it streams, but for the calls that it releases: those wait for its end."""
        events = self._make()
        try:
            async for event in events:
                await self.run.stay_at_work()
                if not self.queue.holds_back(event):
                    self.is_silent = self.is_silent and _is_about_work(event)
                    yield event
            self.queue.collect()
            for workflow in self._left_open():
                yield ThreadItemDoneEvent(item=workflow)
            for output in self._outputs():
                yield ThreadItemDoneEvent(item=output)
            self.has_ended_well = True
        finally:
            self.is_open = False
            self.has_ended_early = not self.has_ended_well
            if self.has_ended_early:
                self._tell_what_is_dropped()
            await close(events)

    def end(self, calls: tuple[PlannedCall, ...]) -> Ended | WentOn:
        """Say how it has ended."""
        sees = 0 if self.is_action else self.run.latest.answers
        return Ended(self.run.id, sees=sees, calls=calls, tools=self.waiting, state=self.state, tells=self.tells)

    async def record(self, tool: Replay) -> bool:  # noqa: ARG002  a woken body needs it
        """Write the step that a tool has taken; False if the tool must not go on.

        There is nothing to write: this run is lost as a whole, or ends with the tool waiting.
        """
        return True

    def keep_state(self, state: str) -> None:
        """Keep the state of a run with the tools that wait, if it leaves half of the room for their steps."""
        size, shown = len(state.encode()), self.run.shown
        if self.queue.has_room(2 * size):
            self.queue.make_room(size)
            self.state = state
        else:
            logger.warning("thread %s: the state of the run is not kept: the model goes on from the items", shown)

    def problem_with(self, context: AgentContext[Any]) -> str | None:
        """Why a tool could not be run again with a context like this one; None if it could."""
        made, given = _class_of(self.run.make_context()), _class_of(context)
        if issubclass(made, given):
            return None
        return (
            f"runs with a {given.__name__}, and would be woken with {made.__name__}: override "
            "`agent_context(self, thread, context)` in the server, to return what `respond` makes"
        )

    def _tell_what_is_dropped(self) -> None:
        """Log how many calls a run had asked for that was cut off, or has failed."""
        if self.queue.calls:
            number, shown = len(self.queue.calls), self.run.shown
            logger.info("thread %s: a run has not come to its end: what it enqueued is dropped (%d)", shown, number)

    def _left_open(self) -> list[WorkflowItem]:
        """The workflows that a run has left open which ends because a tool waits; ChatKit would never close them."""
        return _closed_workflows(self.tools.values()) if self.waiting else []

    def _outputs(self) -> list[SDKHiddenContextItem]:
        """What other tools have returned in a run that ends because one waits: ChatKit would forget that."""
        if not self.waiting:
            return []
        return [
            item_of(
                tool.waiting.id,
                Output(tool.waiting.call_id, tool.waiting.name, tool.waiting.arguments, json.loads(tool.output)),
                self.run.thread.id,
                datetime.now(),  # noqa: DTZ005  naive local time, as ChatKit itself writes it
            )
            for tool in self.tools.values()
            if tool.output is not None
        ]


class WokenBody(RunningBody):
    """The function of a tool that waited: it runs again, with the answers that it has by now."""

    def __init__(self, run: Run, waiting: WaitingTool) -> None:
        super().__init__(run, waiting.turn, self._events)
        self._waiting = waiting
        self._replay: Replay | None = None

    async def _events(self) -> AsyncGenerator[ThreadStreamEvent, None]:
        tool, waiting = self.rules.gated.get(self._waiting.name), self._waiting
        if tool is None:
            last = waiting.journal[-1]
            expected = f"{last.kind} {last.name}"
            log_and_return(
                ReplayMismatchError(
                    waiting.name,
                    len(waiting.journal) - 1,
                    expected,
                    "no tool of that name, which has to be defined at import",
                )
            )
            return
        self._replay = Replay(tool, self, waiting, await self.run.answers_of(waiting))
        context = self.run.make_context()
        async for event in _streamed(self._replay, tool.wake(self._replay, context), context):
            yield event

    def end(self, calls: tuple[PlannedCall, ...]) -> Ended | WentOn:
        """Say how far the tool has come."""
        tool = self._replay.as_it_waits if self._replay else self._waiting
        output = self._replay.output if self._replay else json.dumps(CODE_HAS_CHANGED)
        return WentOn(self.run.id, tool, calls, output, self.run.respond_is_due)

    async def record(self, tool: Replay) -> bool:
        """Write the step, so that it is not taken again; False if another request has taken the tool over."""
        return await self.run.record(tool.as_it_waits)

    def _tell_what_is_dropped(self) -> None:
        """Nothing is: the function runs again, and asks for the same."""

    def _left_open(self) -> list[WorkflowItem]:
        return _closed_workflows([self._replay] if self._replay else [])


async def _streamed(
    replay: Replay, function: Coroutine[Any, Any, None], context: AgentContext[Any]
) -> AsyncGenerator[ThreadStreamEvent, None]:
    """Run the function of a tool, and yield what it streams with its context."""
    events, end = context._events, object()  # noqa: SLF001  where ChatKit's own context puts what is streamed
    task = asyncio.create_task(function)
    task.add_done_callback(lambda _: events.put_nowait(cast("Any", end)))
    try:
        while (event := await events.get()) is not end:
            yield cast("ThreadStreamEvent", event)
        if task.cancelled():
            raise RuntimeError("a tool that was woken has been cancelled from inside")
        await task
    finally:
        replay.cut_off()
        task.cancel()
        await asyncio.wait([task])


def _is_about_work(event: ThreadStreamEvent) -> bool:
    """Whether an event only shows that the model thinks or works."""
    match event:
        case ThreadItemAddedEvent(item=item) | ThreadItemDoneEvent(item=item):
            return isinstance(item, WorkflowItem)
    return isinstance(event, ThreadItemUpdatedEvent)


def _class_of(context: AgentContext[Any]) -> type[AgentContext[Any]]:
    """The class of a context, without the type that it may be parametrized with."""
    cls = type(context)
    return cast("type[AgentContext[Any]]", cls.__pydantic_generic_metadata__["origin"] or cls)


def _closed_workflows(tools: Iterable[Replay]) -> list[WorkflowItem]:
    return [item for tool in tools if tool.context and (item := _closed_workflow_of(tool.context))]


def _closed_workflow_of(context: AgentContext[Any]) -> WorkflowItem | None:
    """Close the workflow that is open in a context, as ChatKit does; one without tasks was never shown."""
    item, context.workflow_item = context.workflow_item, None
    # ChatKit puts one back that was begun and ended at once; that has a summary
    if item is None or item.workflow.summary or not (item.workflow.tasks or item.workflow.type == "reasoning"):
        return None
    seconds = (datetime.now() - item.created_at).total_seconds()  # noqa: DTZ005  as ChatKit writes it
    item.workflow.summary = DurationSummary(duration=int(seconds))
    return item
