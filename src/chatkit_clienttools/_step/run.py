"""One streaming request: the step for what was posted, the bodies that it runs, and the step that ends each.

A tool finds its run by the context it runs in (`contextvars`), not by the thread object: a store that hands out live
references gives two requests the same object. Tools run in tasks and threads that the body starts, and those inherit
the context.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from chatkit.agents import AgentContext
from chatkit.types import ClientToolCallItem, DurationSummary, ThreadItemDoneEvent, UserMessageItem

from chatkit_clienttools._protocol.decide import Acted, Ended, FilledIn, Noted, Stopped, Went, Wrote
from chatkit_clienttools._protocol.outputs import Output, item_of, output_in
from chatkit_clienttools._protocol.plan import CLOCK_SKEW_SECONDS, PlannedCall
from chatkit_clienttools.errors import NotSequencedError, QueueFullError, ReplayMismatchError, printable
from chatkit_clienttools.observe import ToolEvent, announce_tool, log_and_return, logger
from chatkit_clienttools.receipts import new_call_id
from chatkit_clienttools.store import find_item

from .asked import Asked, Queue
from .exclusion import in_background
from .replay import CODE_HAS_CHANGED, Replay, Surroundings
from .requests import Posted, close, setting
from .step import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
    from contextlib import AbstractContextManager

    from chatkit.store import Store
    from chatkit.types import SDKHiddenContextItem, ThreadMetadata, ThreadStreamEvent, WorkflowItem

    from chatkit_clienttools._protocol.decide import Event
    from chatkit_clienttools._protocol.plan import Plan, WaitingTool
    from chatkit_clienttools.observe import ToolState

    from .rules import Rules
    from .step import Outcome

    Events = Callable[[], AsyncIterator[ThreadStreamEvent]]

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""

ANSWERS_READ = 100
"""How many items are read at once where the answers to a waiting tool are looked for further back."""

OUTPUTS_READ = 50
"""Among how many items what tools have returned is looked for."""

PRINTABLE_ID = re.compile(r"[!-~]{1,200}")
"""Which ids of others may be those of a call: they are in the log, too."""


_current: ContextVar[Run | None] = ContextVar("chatkit_clienttools_run", default=None)


def current_run() -> Run | None:
    """Return the request that is being served here."""
    return _current.get()


def current_queue() -> Queue | None:
    """Return the calls that this request has asked for so far."""
    run = _current.get()
    return run.queue if run else None


class Run:
    """One streaming request: its step, the body that it may run, and the step that ends it."""

    def __init__(self, rules: Rules, posted: Posted) -> None:
        self.rules = rules
        self.posted = posted
        self.id = uuid4().hex
        self.message: str | None = None
        """The user's message, once it is stored."""
        self.thread_id: str | None = None
        self.is_open = False
        """Whether its body runs, and may ask for calls."""
        self.has_ended_well = False
        self.has_ended_early = False
        """Whether it was cut off, or has failed: what its body has started may go on for a while."""
        self.begun: Outcome | None = None
        self.queue = Queue(rules)
        self.tools: dict[str, Replay] = {}
        """The tools that may wait and that the model has called in this run, by the model's ids of these calls."""
        self.returned: dict[str, Any] = {}
        """What tools have returned whose run is taken up again, by the model's ids of their calls."""
        self.turn: str | None = None
        """The user message under which its body asks for calls."""
        self.keeps_state = False
        """Whether the run of an agent can be taken up again as it was."""
        self.state: str | None = None
        """The state of that run, as it has ended with tools that wait."""
        self._make_context: Callable[[], AgentContext[Any]]
        self._waking: WaitingTool | None = None
        self._woken: Replay | None = None
        self._has_run_application = False
        self._latest: Outcome
        self._steps: Steps | None = None
        self._store: Store[Any]
        self._thread: ThreadMetadata
        self._context: object = None
        self._may_hold_body = False
        self._own_turn: str | None = None

    def serves(self, rules: Rules | None, thread_id: str) -> bool:
        """Whether its body runs, for this thread and with this sequencer."""
        return self.is_open and self.thread_id == thread_id and (rules is None or rules is self.rules)

    @property
    def waits(self) -> bool:
        """Whether a tool waits that the model has called in this run."""
        return any(tool.is_waiting for tool in self.tools.values())

    def serving(self) -> AbstractContextManager[None]:
        """Let what runs inside find this request."""
        return setting(_current, self)

    def note(self, event: ThreadStreamEvent) -> None:
        """See which message the user has written: ChatKit stores and streams it before it calls `respond`."""
        match event:
            case ThreadItemDoneEvent(item=UserMessageItem(id=message)):
                self.message = message
            case ThreadItemDoneEvent(item=item) if self._steps is not None:
                self._steps.newest = item

    def event(self) -> Event:
        """What the request is, where nothing more has to be known of it."""
        match self.posted:
            case Posted.MESSAGE:
                return Wrote(self.message, by=self.id)
            case Posted.FORM:
                return FilledIn(by=self.id)
        return Acted()

    async def begin(
        self, store: Store[Any], thread_id: str, context: object, event: Event, *, with_thread: bool = False
    ) -> Outcome:
        """Take the step for what was posted."""
        self.thread_id, self._store, self._context = thread_id, store, context
        self._steps = Steps(self.rules, store, thread_id, context)
        self._may_hold_body = True
        try:
            self.begun = begun = await self._steps.take(event, with_thread=with_thread)
        except Exception:
            self._may_hold_body = self._steps.has_written
            raise
        plan = self._now_at(begun)
        # of a run that goes on after an answer it is the message of the calls, whatever the user has written since
        goes_on = self.posted in {Posted.ANSWER, Posted.RESUME}
        self._own_turn = self.message or (plan.turn if goes_on else None) or begun.after.message
        if self._own_turn is None and self.runs_body:
            before = plan.calls[-1].turn if plan.calls else plan.turn
            self._own_turn = await self._steps.newest_message() or before
        return begun

    def _now_at(self, outcome: Outcome) -> Plan:
        """Take note of where the thread stands."""
        self._latest, plan = outcome, outcome.after.at_rest
        self._may_hold_body = plan.body is not None and plan.body.by == self.id
        self.queue = Queue(self.rules)
        self.queue.open, self.queue.thread = plan.calls, self._shown
        journals = sum(len(tool.model_dump_json().encode()) for tool in plan.tools)
        self.queue.journals = journals + len((plan.state or "").encode())
        return plan

    @property
    def runs_body(self) -> bool:
        """Whether a body has to run: that of a tool that can go on, or the application's `respond` or `action`."""
        is_called_for = self.posted in {Posted.MESSAGE, Posted.FORM, Posted.OTHER} and not self._has_run_application
        return self._may_hold_body or is_called_for

    def next_body(
        self, thread: ThreadMetadata, make_context: Callable[[], AgentContext[Any]], *, first: Events, again: Events
    ) -> Events:
        """Return the body that has to run now.

        `first` is the application's body for what was posted, and `again` the one that tells the model an answer.
        """
        self._thread, self._make_context, self._woken, self.tools = thread, make_context, None, {}
        self.has_ended_well = False
        plan = self._latest.after.at_rest
        self._waking = waiting = plan.waiting(plan.body.tool) if plan.body and self._may_hold_body else None
        self.turn = waiting.turn if waiting else self._own_turn
        if waiting is not None:
            return lambda: self._body(lambda: self._woken_body(waiting))
        make = again if self._has_run_application else first
        self._has_run_application = True
        return lambda: self._body(make)

    async def _body(self, make: Events) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Yield what a body streams, but for the calls that it releases: those wait for its end."""
        self.is_open = True
        events = make()
        try:
            async for event in events:
                if not self.queue.holds_back(event):
                    yield event
            self.queue.collect()
            for each in self._left_open():
                yield ThreadItemDoneEvent(item=each)
            for item in self._outputs():
                yield ThreadItemDoneEvent(item=item)
            self.has_ended_well = True
        finally:
            self.is_open = False
            self.has_ended_early = not self.has_ended_well
            await close(events)

    def keep_state(self, state: str) -> None:
        """Keep the state of a run with the tools that wait, if it is small enough."""
        try:
            self.queue.make_room(len(state.encode()))
        except QueueFullError:
            logger.warning("thread %s: the state of the run is not kept: the model goes on from the items", self._shown)
        else:
            self.state = state

    async def state_to_go_on_from(self) -> tuple[str, dict[str, Any]] | None:
        """Return the state of the run that the last answer belongs to, and what its tools have returned meanwhile."""
        state = cast("Outcome", self.begun).before.plan.state
        if state is None or self.posted not in {Posted.ANSWER, Posted.RESUME}:
            return None
        page = await self._store.load_thread_items(self._thread.id, None, OUTPUTS_READ, "desc", self._context)
        outputs = [output for item in reversed(page.data) if (output := output_in(item))]  # the newest one counts
        return state, {output.call_id: output.output for output in outputs}

    def knows_as_waiting(self, call_id: str) -> bool:
        """Whether a tool has waited since before this body began: the model called it in an earlier run."""
        return any(tool.call_id == call_id for tool in self._latest.after.at_rest.tools)

    @property
    def surroundings(self) -> Surroundings:
        """What the body of a tool needs of this request."""
        return Surroundings(self.rules, self.queue, self._record, self._problem_with)

    async def _woken_body(self, waiting: WaitingTool) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Run the body of a tool that waited, and yield what it streams."""
        self._announce(waiting, "woken")
        body = self.rules.waiting.get(waiting.name)
        if body is None:
            waits_for = waiting.journal[-1]
            log_and_return(
                ReplayMismatchError(
                    waiting.name, len(waiting.journal) - 1, f"{waits_for.kind} {waits_for.name}", "no tool of that name"
                )
            )
            return
        answers = await self._answers_of(waiting)
        self._woken = Replay(body, self.surroundings, waiting, answers)
        context = self._make_context()
        async for event in self._played(body.wake(self._woken, context), context):
            yield event
        self.queue.ask(context, ())  # takes the call that the body has put into the slot

    async def _played(
        self, body: Coroutine[Any, Any, None], context: AgentContext[Any]
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Run the body of a tool, and yield what it streams with its context."""
        events, end = context._events, object()  # noqa: SLF001  where ChatKit's own context puts what is streamed
        task = asyncio.create_task(body)
        task.add_done_callback(lambda _: events.put_nowait(cast("Any", end)))
        try:
            while (event := await events.get()) is not end:
                yield cast("ThreadStreamEvent", event)
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _answers_of(self, waiting: WaitingTool) -> dict[str, ClientToolCallItem]:
        """Return the items with the answers that a tool has had, by their ids."""
        answers = {item.id: item for item in self._latest.after.items}
        wanted, after = set(waiting.answers), None
        while not wanted <= answers.keys():
            page = await self._store.load_thread_items(self._thread.id, after, ANSWERS_READ, "desc", self._context)
            answers.update({item.id: item for item in page.data if isinstance(item, ClientToolCallItem)})
            is_older = any(item.created_at.timestamp() < waiting.at - CLOCK_SKEW_SECONDS for item in page.data)
            if not page.has_more or page.after == after or is_older:
                break  # an answer that is not there any more: its call counts as cancelled
            after = page.after
        return answers

    def _left_open(self) -> list[WorkflowItem]:
        """The workflows that a run has left open which ends because a tool waits; ChatKit would never close them."""
        if self._waking is None and not self.waits:
            return []  # ChatKit's own way
        tools = [*self.tools.values(), *([self._woken] if self._woken else [])]
        return [item for tool in tools if tool.context and (item := _closed_workflow_of(tool.context))]

    def _outputs(self) -> list[SDKHiddenContextItem]:
        """What other tools have returned in a run that ends because one waits: ChatKit would forget that."""
        returned = [tool for tool in self.tools.values() if self.waits and tool.output is not None]
        return [
            item_of(
                tool.waiting.id,
                Output(tool.waiting.call_id, tool.waiting.name, tool.waiting.arguments, json.loads(tool.output or "")),
                self._thread.id,
                datetime.now(),  # noqa: DTZ005  naive local time, as ChatKit itself writes it
            )
            for tool in returned
        ]

    async def _record(self, tool: Replay) -> bool:
        """Write the step that a tool has taken, so that it is not taken again; say whether the tool may go on.

        In the run in which the model has called the tool there is nothing to write: it is lost as a whole, or waits.
        """
        if self._woken is not tool:
            return True
        steps = cast("Steps", self._steps)
        outcome = await steps.take(Noted(self.id, tool.as_it_waits), goes_on=True)
        body = outcome.after.plan.body
        return body is not None and body.by == self.id

    def _problem_with(self, context: AgentContext[Any]) -> str | None:
        """Why the body of a tool could not be run again with a context like this one; None if it could."""
        made, given = _class_of(self._make_context()), _class_of(context)
        if issubclass(made, given):
            return None
        return (
            f"runs with a {given.__name__}, and would be woken with {made.__name__}: override "
            "`agent_context(self, thread, context)` in the server, to return what `respond` makes"
        )

    async def end(self) -> Outcome | None:
        """Take the step that ends a body, if there is anything to do in it."""
        steps = cast("Steps", self._steps)
        waiting = tuple(tool.as_it_waits for tool in self.tools.values() if tool.is_waiting)
        latest = self._latest.after
        is_needed = self.queue.asked or self._may_hold_body or waiting or latest.next or latest.ready
        if not is_needed:
            return None
        calls = tuple([await self._planned(each) for each in self.queue.asked])
        self._may_hold_body = True  # this step may claim the next one
        if self._waking is not None:
            went = self._went(self._waking, calls)
            outcome = await steps.take(went, goes_on=True)
            self._announce(went.tool, "waiting" if went.output is None else "returned")
        else:
            # an action may do without the model
            sees = 0 if self.posted is Posted.OTHER else latest.answers
            state = self.state if waiting else None
            outcome = await steps.take(Ended(self.id, sees=sees, calls=calls, tools=waiting, state=state))
            for tool in waiting:
                self._announce(tool, "waiting")
        self._now_at(outcome)
        return outcome

    def _went(self, waking: WaitingTool, calls: tuple[PlannedCall, ...]) -> Went:
        """Say how far the body of a tool has come."""
        woken = self._woken
        tool = woken.as_it_waits if woken else waking
        output = woken.output if woken else json.dumps(CODE_HAS_CHANGED)
        event = self.event()
        then = event if isinstance(event, (Wrote, FilledIn)) and not self._has_run_application else None
        return Went(self.id, tool, calls, output, then)

    def _announce(self, tool: WaitingTool, state: ToolState) -> None:
        announce_tool(
            ToolEvent(
                thread_id=str(self.thread_id),
                call_id=tool.call_id,
                tool=tool.name,
                state=state,
                waits_for=next((entry.name for entry in reversed(tool.journal) if entry.kind == "ask"), ""),
                waited_ms=max(0, round(1000 * (self.rules.clock() - tool.at))),
            ),
            self.rules.tool_observers,
        )

    def removed(self) -> list[str]:
        """The items that are gone, of which the browser has not heard; each is named once."""
        if self._steps is None:
            return []
        removed, self._steps.removed = self._steps.removed, []
        return removed

    async def give_back(self) -> None:
        """Say that the body is not at work any more, if others were told that it is."""
        if self._may_hold_body and self._steps is not None:
            self._may_hold_body = False
            try:
                await self._steps.take(Stopped(self.id))
            except Exception as error:  # noqa: BLE001  others may take the body for dead after a while
                why = type(error).__name__
                logger.warning("thread %s: a failed run still counts as running (%s)", self._shown, why)

    def leave(self) -> None:
        """Do the same without waiting: the request was cut off."""
        if self._may_hold_body:
            in_background(self.give_back())

    async def _planned(self, asked: Asked) -> PlannedCall:
        """Give a call the ids that it will have; the step replaces those that the thread already has."""
        tool, is_awaited = self.rules.tool(asked.call.name), asked.awaited_by is not None
        if not is_awaited:
            self.rules.warn_about_unknown(asked.call.name)
        own_id = asked.own_id or new_call_id()
        proposed = asked.item.call_id if asked.item else asked.tool_call_id if tool.answer_wanted else None
        return PlannedCall(
            id=own_id,
            name=asked.call.name,
            arguments=asked.call.arguments,
            base_item_id=own_id if is_awaited else await self._item_id(asked.item) or own_id,
            call_id=proposed if proposed and _is_usable(proposed) else own_id,
            wanted=tool.answer_wanted and not is_awaited,
            required=tool.required,
            turn=self.turn,
            at=asked.at,
            awaited_by=asked.awaited_by,
        )

    async def _item_id(self, item: ClientToolCallItem | None) -> str | None:
        if item is not None and _is_usable(item.id):
            known = await find_item(self._store, self._thread.id, item.id, self._context)
            if known is None:
                return item.id
        generated: str = self._store.generate_item_id("tool_call", self._thread, self._context)
        return generated

    @property
    def _shown(self) -> str:
        return printable(str(self.thread_id))


def _class_of(context: AgentContext[Any]) -> type[AgentContext[Any]]:
    """The class of a context, without the type that it may be parametrized with."""
    cls = type(context)
    return cast("type[AgentContext[Any]]", cls.__pydantic_generic_metadata__["origin"] or cls)


def _closed_workflow_of(context: AgentContext[Any]) -> WorkflowItem | None:
    """Close the workflow that is open in a context, as ChatKit does; one without tasks was never shown."""
    item, context.workflow_item = context.workflow_item, None
    # ChatKit puts one back that was begun and ended at once; that has a summary
    if item is None or item.workflow.summary or not (item.workflow.tasks or item.workflow.type == "reasoning"):
        return None
    seconds = (datetime.now() - item.created_at).total_seconds()  # noqa: DTZ005  as ChatKit writes it
    item.workflow.summary = DurationSummary(duration=int(seconds))
    return item


def open_run(rules: Rules, context: object) -> Run | None:
    """Return the run that `context` belongs to, if its body runs; None if a tool is used without a server."""
    run = _current.get()
    is_served = run is not None and isinstance(context, AgentContext) and run.serves(rules, context.thread.id)
    return run if is_served else None


def run_of(rules: Rules | None, context: AgentContext[Any]) -> Run:
    """Return the run that `context` belongs to, or say which line is missing."""
    run, thread_id = _current.get(), context.thread.id
    shown = printable(thread_id)
    if run is not None and run.has_ended_early:
        early = NotSequencedError(
            f"Thread {shown}: a client tool call is not queued. Its run was cut off before, by Stop or a lost "
            "connection, or has failed."
        )
        logger.info("%s", early.for_the_log)  # nobody's mistake: the SDK lets a tool go on
        raise early
    if run is not None and run.serves(rules, thread_id):
        return run
    if run is None or run.thread_id is None:
        problem = (
            "No request to a ClientToolServer is being served here. Derive the server from ClientToolServer, call it "
            "through `process()`, and start threads with the context, as asyncio.to_thread does."
        )
    elif not run.is_open:
        problem = "The run has ended: a tool asks for client tools before it returns, not from a task that outlives it."
    elif run.thread_id != thread_id:
        problem = (
            f"The run that is open here is for thread {printable(run.thread_id)}: give the AgentContext the `thread` "
            "that `respond` was called with."
        )
    else:
        problem = (
            "The server has another ClientToolSequencer, or none: share one between the tools and the server, "
            "`client_tools = sequencer` in the body of the server's class."
        )
    raise log_and_return(NotSequencedError(f"Thread {shown}: a client tool call cannot be queued. {problem}"))


def _is_usable(other_id: str) -> bool:
    """Whether an id that somebody else has chosen can be that of a call."""
    return other_id not in FAKE_IDS and PRINTABLE_ID.fullmatch(other_id) is not None
