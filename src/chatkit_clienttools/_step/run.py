"""One streaming request: the step for what was posted, the bodies that it runs, and the step that ends each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from chatkit.types import ClientToolCallItem, ThreadCreatedEvent, ThreadItemDoneEvent, UserMessageItem
from pydantic_core import from_json

from chatkit_clienttools._protocol.decide import Acted, AtWork, Ended, FilledIn, StepTaken, Stopped, WentOn, Wrote
from chatkit_clienttools._protocol.outputs import output_in
from chatkit_clienttools._protocol.plan import BODY_SECONDS
from chatkit_clienttools.content import with_content
from chatkit_clienttools.errors import printable
from chatkit_clienttools.observe import ToolEvent, announce_tool, logger

from .body import RunningBody, WokenBody
from .exclusion import in_background
from .planned import planned
from .requests import Posted
from .step import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chatkit.agents import AgentContext
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent

    from chatkit_clienttools._protocol.decide import Event
    from chatkit_clienttools._protocol.plan import Plan, WaitingTool
    from chatkit_clienttools._protocol.thread import Thread
    from chatkit_clienttools.observe import ToolObserver, ToolState

    from .body import Events
    from .rules import Rules
    from .step import Outcome

OUTPUTS_READ = 50
"""Among how many items what tools have returned is looked for."""


class Run:
    """One streaming request: its step, the bodies that it runs one after the other, and the step that ends each."""

    def __init__(self, rules: Rules, posted: Posted, thread_id: str | None) -> None:
        self.rules = rules
        self.posted = posted
        self.thread_id = thread_id or ""
        """Empty until ChatKit has made the thread of a first message."""
        self.id = uuid4().hex
        self.message: str | None = None
        """The user's message, once it is stored."""
        self.begun: Outcome | None = None
        self.body: RunningBody | None = None
        """The body that runs, or has run last."""
        self.store: Store[Any]
        self.thread: ThreadMetadata
        self.context: object
        self.make_context: Callable[[], AgentContext[Any]]
        """Makes the context that a woken tool runs with."""
        self._is_new_thread = False
        self._has_run_application = False
        self._returned_tool: str | None = None
        """The tool that was woken in this request and has returned."""
        self._latest: Outcome
        self._steps: Steps | None = None
        self._may_hold_body = False
        self._own_turn: str | None

    @property
    def shown(self) -> str:
        """The id of the thread, as the log and errors show it."""
        return printable(self.thread_id)

    @property
    def locks_thread(self) -> bool:
        """Whether the page shows the thread as locked while the browser has a call of it."""
        return bool(self.rules.locks_thread)

    @property
    def latest(self) -> Thread:
        """The thread as the latest step has left it."""
        return self._latest.after

    @property
    def plan(self) -> Plan:
        """Its plan."""
        return self.latest.at_rest

    def note(self, event: ThreadStreamEvent) -> None:
        """See which message the user has written, in which thread: ChatKit stores and streams both before `respond`."""
        match event:
            case ThreadCreatedEvent(thread=thread):
                self.thread_id, self._is_new_thread = thread.id, True
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

    @property
    def respond_is_due(self) -> Wrote | FilledIn | None:
        """What the request is, if the application's `respond` runs next in any case."""
        event = self.event()
        return event if isinstance(event, (Wrote, FilledIn)) and not self._has_run_application else None

    async def begin(
        self, store: Store[Any], thread_id: str, context: object, event: Event, *, with_thread: bool
    ) -> Outcome:
        """Take the step for what was posted."""
        self.thread_id, self.store, self.context = thread_id, store, context
        self._steps = Steps(self.rules, store, thread_id, context)
        self._may_hold_body = True
        try:
            if self._is_new_thread:
                begun = self._steps.begin_new()
            else:
                begun = await self._steps.take(event, with_thread=with_thread)
            self.begun = begun
        except Exception:
            self._may_hold_body = self._steps.has_saved
            raise
        plan = self._now_at(begun)
        # of a run that goes on after an answer it is the message of the calls, whatever the user has written since
        self._own_turn = self.message or (plan.turn if self._goes_on else None) or begun.after.message
        if self._own_turn is None and self.runs_body:
            before = plan.calls[-1].turn if plan.calls else plan.turn
            self._own_turn = await self._steps.newest_message() or before
        return begun

    @property
    def _goes_on(self) -> bool:
        return self.posted in {Posted.ANSWER, Posted.RESUME}

    def _now_at(self, outcome: Outcome) -> Plan:
        """Take note of where the thread stands."""
        self._latest, plan = outcome, outcome.after.at_rest
        self._may_hold_body = plan.body is not None and plan.body.by == self.id
        return plan

    @property
    def runs_body(self) -> bool:
        """Whether a body has to run: that of a tool that can go on, or the application's `respond` or `action`."""
        is_called_for = self.posted in {Posted.MESSAGE, Posted.FORM, Posted.OTHER} and not self._has_run_application
        return self._may_hold_body or is_called_for

    def next_body(
        self, thread: ThreadMetadata, make_context: Callable[[], AgentContext[Any]], *, first: Events, again: Events
    ) -> RunningBody:
        """Return the body that has to run now.

        `first` is the application's body for what was posted, and `again` the one that tells the model an answer.
        """
        self.thread, self.make_context = thread, make_context
        plan = self.plan
        waiting = plan.tool(plan.body.tool) if plan.body and self._may_hold_body else None
        if waiting is not None:
            self._announce(waiting, "woken")
            self.body = WokenBody(self, waiting)
        else:
            is_first = not self._has_run_application
            is_action = is_first and self.posted is Posted.OTHER
            self.body = RunningBody(self, self._own_turn, first if is_first else again, is_action=is_action)
            self._has_run_application = True
        return self.body

    @property
    def has_ended_well(self) -> bool:
        """Whether the body that has run last came to its end."""
        return self.body is not None and self.body.has_ended_well

    async def end(self) -> Outcome | None:
        """Take the step that ends a body, if there is anything to do in it."""
        body, steps = cast("RunningBody", self.body), cast("Steps", self._steps)
        if not isinstance(body, WokenBody):
            self._warn_of_what_is_lost(body)
        is_needed = body.queue.calls or self._may_hold_body or body.waiting or self.latest.next or self.latest.ready
        if not (is_needed or body.tells):
            return None
        event = body.end(tuple([await planned(each, body) for each in body.queue.calls]))
        self._may_hold_body = True  # this step may claim the next one
        outcome = await steps.take(event)
        self._announce_tools(event, outcome)
        self._now_at(outcome)
        return outcome

    def _warn_of_what_is_lost(self, body: RunningBody) -> None:
        """Say that the model does not read what tools have returned, or that a run has ended without a word."""
        if body.waiting and not body.keeps_state:
            logger.info(
                "thread %s: a tool waits, and its run is not kept: after the answer the model does not read what other "
                "tools have returned in it. With `sequencer.run_streamed(agent, history, context=...)` it does",
                self.shown,
            )
        leaves_nothing = body.is_silent and not body.queue.calls and not body.waiting and not body.keeps_state
        if leaves_nothing and self.rules.gated and self.posted is not Posted.OTHER:
            self.rules.warn_once(
                "thread %s: a run has ended without an answer. Perhaps `respond` returns if there is no user message: "
                "after an answer of the browser it is called without one, and runs the agent. Or the model has called "
                "a tool that may wait with arguments that are no JSON object, which ends a run since openai-agents "
                "0.19: then use `sequencer.run_streamed(agent, history, context=...)` in the place of "
                "`Runner.run_streamed`",
                self.shown,
            )
        if self._returned_tool is None or body.has_read_outputs or body.is_silent:
            return
        self.rules.warn_once(
            "thread %s: the tool %s has returned, and the history of the run that followed did not come through "
            "ClientToolConverter: the model does not know what the tool has returned, and may call it again. In "
            "`respond`: `await converter.to_agent_input(await converter.load_history(self.store, thread, context))`",
            self.shown,
            self._returned_tool,
        )

    def _announce_tools(self, event: Ended | WentOn, outcome: Outcome) -> None:
        """Announce which tools wait now, or what has come of a woken one; not if another request has dropped that."""
        if isinstance(event, Ended):
            for tool in event.tools:
                self._announce(tool, "waiting")
            return
        tool = event.tool
        if event.output is None:
            kept = outcome.after.at_rest.tool(tool.id)
            if kept is not None and not tool.is_ready and kept.journal[-1:] == tool.journal[-1:]:
                self._announce(tool, "waiting")
        elif any(write.item.id == tool.id for write in outcome.writes):
            self._returned_tool = tool.name
            tracer = self.rules.tracer
            self._announce(tool, "returned", [tracer.of_tool(outcome.before.plan.trace)] if tracer else ())

    def _announce(self, tool: WaitingTool, state: ToolState, others: Iterable[ToolObserver] = ()) -> None:
        announce_tool(
            ToolEvent(
                thread_id=self.thread_id,
                call_id=tool.call_id,
                tool=tool.name,
                state=state,
                waits_for=next(entry.name for entry in reversed(tool.journal) if entry.kind == "ask"),
                waited_ms=max(0, round(1000 * (self.rules.clock() - tool.at))),
            ),
            [*self.rules.tool_observers, *others],
        )

    # what the page wants to know

    @property
    def has_pending(self) -> bool:
        """Whether the browser has a call of the thread, as far as this request knows."""
        return self.begun is not None and self.latest.pending is not None

    async def look_again(self) -> bool:
        """Whether the browser has a call still; the application may have cancelled it meanwhile."""
        if self.has_pending:
            thread, _ = await cast("Steps", self._steps).look()
            return thread.pending is not None
        return False

    # what bodies want to know, and to have written

    def knows_as_waiting(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether this call of the model has waited since before this body began: it is one of an earlier run.

        The id alone does not tell: some providers give the same one to each first call.
        """
        alike = [tool for tool in self.plan.tools if (tool.call_id, tool.name) == (call_id, name)]
        return any(_read(tool.arguments) == _read(arguments) for tool in alike)

    async def state_to_go_on_from(self) -> tuple[str, dict[str, Any]] | None:
        """Return the state of the run that the last answer belongs to, and what its tools have returned meanwhile."""
        state = self.plan.state
        if state is None or not self._goes_on:
            return None
        page = await self.store.load_thread_items(self.thread.id, None, OUTPUTS_READ, "desc", self.context)
        outputs = [output for item in reversed(page.data) if (output := output_in(item))]  # the newest one counts
        return state, {output.call_id: output.output for output in outputs}

    async def answers_of(self, waiting: WaitingTool) -> dict[str, ClientToolCallItem]:
        """Return the items with the answers that a tool has had, by their ids."""
        items = await cast("Steps", self._steps).answers_of(waiting, self.latest.items)
        return {item_id: await with_content(self.store, item, self.context) for item_id, item in items.items()}

    async def record(self, tool: WaitingTool) -> bool:
        """Write the step that a woken tool has taken; False if another request has taken the tool over."""
        outcome = await cast("Steps", self._steps).take(StepTaken(self.id, tool))
        body = outcome.after.plan.body
        return body is not None and body.by == self.id

    async def stay_at_work(self) -> None:
        """Claim more time for the body that runs here, when half of it is over: others take it for dead after that."""
        body = self.plan.body if self._may_hold_body else None
        if body is None or body.until - self.rules.clock() > BODY_SECONDS / 2:
            return
        try:
            self._now_at(await cast("Steps", self._steps).take(AtWork(self.id)))
        except Exception as error:  # noqa: BLE001  a run need not fail for that, and tries it again
            why = type(error).__name__
            logger.warning("thread %s: a long run could not claim more time (%s)", self.shown, why)

    def removed(self) -> list[str]:
        """The items that are gone, of which the browser has not heard; each is named once."""
        if self._steps is None:
            return []
        removed, self._steps.removed = self._steps.removed, []
        return removed

    async def give_back(self) -> None:
        """Say that the body is not at work any more, if others were told that it is."""
        if self._may_hold_body:
            self._may_hold_body = False
            try:
                await cast("Steps", self._steps).take(Stopped(self.id))
            except Exception as error:  # noqa: BLE001  others may take the body for dead after a while
                why = type(error).__name__
                logger.warning("thread %s: a failed run still counts as running (%s)", self.shown, why)

    def leave(self) -> None:
        """Do the same without waiting: the request was cut off."""
        if self._may_hold_body:
            in_background(self.give_back())


def _read(arguments: str) -> object:
    """Return arguments to compare them; None if they are not JSON: no tool waits that was called with such."""
    try:
        return from_json(arguments)
    except ValueError:
        return None
