"""What has to become of a thread when something happens to it: `Policy.decide`, from one value to another.

Each event is one method. The way of an answer: `_answered` completes the item, and `_go_on` adds the item of the next
call, or claims the body for this run when no call is left and the model wants to know an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from chatkit_clienttools.answers import EXPIRED, refusal
from chatkit_clienttools.receipts import answer_of, opened, receipt_for, receipt_of, stamped

from .plan import BODY_SECONDS, Body, PlannedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from chatkit.types import ClientToolCallItem

    from .plan import WaitingTool
    from .thread import Thread


@dataclass(frozen=True)
class Answered:
    """The browser has posted an answer."""

    result: Any
    by: str
    is_recorded: bool = False
    """Whether it is in its call already, and the thread has only to go on."""


@dataclass(frozen=True)
class Resumed:
    """A page was loaded, and may not know of the call that is pending."""

    by: str


@dataclass(frozen=True)
class Wrote:
    """The user has written, or wants a message answered again."""

    message: str | None
    by: str


@dataclass(frozen=True)
class Acted:
    """The user has pressed a button. What the application does then need not tell the model anything."""


@dataclass(frozen=True)
class FilledIn:
    """The user has filled in a form, and the model runs."""

    by: str


@dataclass(frozen=True)
class Ended:
    """A body has ended well."""

    by: str
    sees: int
    """How many wanted answers the model had before it when it began."""
    calls: tuple[PlannedCall, ...] = ()
    """What it asked for."""
    tools: tuple[WaitingTool, ...] = ()
    """The tools that it left waiting."""
    state: str | None = None
    """The state of its run, to go on from when they have returned."""
    tells: bool = False
    """Whether the model has to be told next what it does not know: the request has ended a call, and was no answer."""


@dataclass(frozen=True)
class StepTaken:
    """The body of a waiting tool has taken a step."""

    by: str
    tool: WaitingTool
    """The tool with the step in its journal."""


@dataclass(frozen=True)
class WentOn:
    """The body of a waiting tool has gone on: it waits again, or has returned."""

    by: str
    tool: WaitingTool
    calls: tuple[PlannedCall, ...] = ()
    """What it asked for."""
    output: str | None = None
    """What it has returned, as JSON."""
    then: Wrote | FilledIn | None = None
    """What the request was, if the application's `respond` runs next in any case."""
    is_recorded: bool = False
    """Whether all this is in the plan already, and the thread has only to go on."""


@dataclass(frozen=True)
class AtWork:
    """A body is at work still."""

    by: str


@dataclass(frozen=True)
class Stopped:
    """A body has failed, or was cut off."""

    by: str


@dataclass(frozen=True)
class Cancelled:
    """The application cancels what is open."""

    required: bool = False
    """Whether required calls are cancelled as well."""


@dataclass(frozen=True)
class Expired:
    """The application ends the pending call if its time is over, outside of any request of a page."""


def recorded(event: Event) -> Event:
    """Return the event as it is decided again when the store holds already what it brings."""
    match event:
        case Ended():
            return replace(event, calls=(), tools=())
        case Answered() | WentOn():
            return replace(event, is_recorded=True)
    return event


Event = (
    Answered | Resumed | Wrote | Acted | FilledIn | Ended | StepTaken | WentOn | AtWork | Stopped | Cancelled | Expired
)


class Tool(Protocol):
    """What has to be known of a client tool."""

    @property
    def answer_wanted(self) -> bool:
        """Whether the model gets the answer."""
        ...

    @property
    def expires_after(self) -> timedelta | None:
        """How long the browser may take; None for as long as it likes."""
        ...

    def problem_with(self, answer: object) -> str | None:
        """Why an answer is invalid; None if it is valid."""
        ...


@dataclass(frozen=True)
class Policy:
    """The rules of one sequencer."""

    tool: Callable[[str], Tool]
    keeps: bool
    """Whether calls stay open when the user writes."""
    aborts: bool
    """Whether a call that fails cancels those behind it."""
    receipts: bool
    taken: Callable[[str, Any], Any] = field(default=lambda _, output: output)
    """What is stored of an answer to a tool: the answer, or why it was refused."""

    def decide(self, thread: Thread, event: Event) -> Thread:  # noqa: C901, PLR0911, PLR0912  one for each event
        """Return the thread as it has to be after the event; the same value if nothing has to change."""
        message = event.message if isinstance(event, Wrote) else None
        thread = thread.without_strays().without_finished().with_outputs(message)
        if isinstance(event, (Answered, Resumed, Wrote, FilledIn)):
            thread = _without_body(thread, event.by)  # claimed in an attempt that somebody else has overtaken
        if thread.overdue and not isinstance(event, (Ended, StepTaken, WentOn, AtWork, Stopped)):
            thread = self._expiring(thread, thread.overdue)
            if isinstance(event, Answered):  # whatever it says, it is too late
                return self._go_on(thread, event.by)
        match event:
            case Answered():
                return self._answered(thread, event)
            case Resumed():
                return self._resumed(thread, event)
            case Wrote():
                return self._wrote(thread, event)
            case FilledIn():
                return self._filled_in(thread, event)
            case Ended():
                return self._ended(thread, event)
            case StepTaken():
                return _step_taken(thread, event)
            case WentOn():
                return self._went_on(thread, event)
            case AtWork():
                return _at_work(thread, event.by)
            case Stopped():
                return _without_body(thread, event.by)
            case Cancelled():
                return self._cancelled(thread, event)
        return thread  # an action leaves the open calls alone; outside of a request nobody is there to go on

    def has_failed(self, item: ClientToolCallItem) -> bool:
        """Whether the answer of a call is invalid: the item does not say, its tool does."""
        return self.tool(item.name).problem_with(answer_of(item)) is not None

    def _answered(self, thread: Thread, event: Answered) -> Thread:
        if event.is_recorded:
            return self._go_on(thread, event.by)
        item = thread.pending_item
        if item is None:
            return self._go_on(thread, event.by) if self._concerns(thread, event.result) else thread
        receipt = receipt_of(item)
        answer = opened(event.result) if receipt is not None or self.receipts else None
        if answer is not None and answer.receipt not in {None, receipt}:
            return thread
        output = event.result if answer is None else answer.output
        return self._go_on(self._completing(thread, item, self.taken(item.name, output)), event.by)

    def _expiring(self, thread: Thread, item: ClientToolCallItem) -> Thread:
        """Return the thread with its overdue call failed: as a step leaves it that dies after the answer."""
        return self._completing(thread, item, refusal(EXPIRED))

    def _completing(self, thread: Thread, item: ClientToolCallItem, output: Any) -> Thread:
        """Return the thread with an answer to its pending call; if that has failed, it may cancel the rest."""
        item = item.model_copy(update={"status": "completed", "output": output})
        thread = thread.completing(item)
        return _cancelling(thread, lambda call: not call.required) if self.aborts and self.has_failed(item) else thread

    def _resumed(self, thread: Thread, event: Resumed) -> Thread:
        item = thread.pending_item
        return self._go_on(thread if item is None else thread.withdrawing(item), event.by)

    def _wrote(self, thread: Thread, event: Wrote) -> Thread:
        def is_retried(asked: PlannedCall | WaitingTool) -> bool:
            return asked.turn is not None and (asked.turn == event.message or asked.turn in thread.gone)

        goes = is_retried if self.keeps else lambda call: is_retried(call) or not call.required
        if thread.plan.tools:
            stays = [tool for tool in thread.plan.tools if not is_retried(tool)]
            thread = _with_tools(thread, [tool if self.keeps else tool.but(is_cancelled=True) for tool in stays])
        thread = _cancelling(_without_state(thread), goes)
        item = None if self.keeps else thread.pending_item
        if item is not None:
            thread = thread.withdrawing(item)
        return self._before_respond(thread, event)

    def _filled_in(self, thread: Thread, event: FilledIn) -> Thread:
        thread = _without_state(thread)
        return _waking(thread, event.by) or _telling(thread, event.by)

    def _before_respond(self, thread: Thread, event: Wrote) -> Thread:
        """Let a tool go on that can; then the application's `respond` runs, whether it has to be claimed or not."""
        if woken := _waking(thread, event.by):
            return woken
        body = thread.plan.body
        if body is not None and body.tool and body.is_alive(thread.now):
            return thread  # it goes on, and holds the calls back meanwhile
        # with "keep" nothing is pending only if a retry, or an older ChatKit, took it away: then the next has to go
        holds = () if self.keeps and thread.pending else _waiting(thread)
        return _claiming(thread, event.by, holds) if holds or thread.has_news else thread

    def _ended(self, thread: Thread, event: Ended) -> Thread:
        thread = _without_body(thread, event.by)
        plan = thread.plan
        told = min(max(plan.told, event.sees), thread.answers)
        if told != plan.told:
            thread = thread.planning(told=told)
        if event.tools:
            # the state of a run knows nothing of what a tool of another run returns
            state = None if plan.tools else event.state
            thread = thread.planning(tools=(*plan.tools, *event.tools), state=state)
        elif plan.state and not plan.tools:
            thread = thread.planning(state=None)
        thread = _adding(thread, event.calls)
        # an answer that came meanwhile has left a tool ready: it was not woken beside this body
        return self._go_on(thread, event.by) if event.tells else _waking(thread, event.by) or self._release(thread)

    def _went_on(self, thread: Thread, event: WentOn) -> Thread:
        tool = thread.plan.tool(event.tool.id)
        # if another request has taken the tool over, or a retry has dropped it, nobody wants what it did here
        if tool is not None and _is_run_by(thread, tool, event.by):
            before = event.then.message if isinstance(event.then, Wrote) else None
            changes = {"is_cancelled": tool.is_cancelled, "output": event.output, "before": before}
            thread = _replacing(thread, event.tool.but(**changes)).with_outputs()
            goes = tool.is_cancelled
            thread = _adding(thread, tuple(c for c in event.calls if c.required or not (goes and c.awaited_by)))
        elif not event.is_recorded:
            return _without_body(thread, event.by)
        thread = _without_body(thread, event.by)
        match event.then:
            case Wrote():
                return self._before_respond(thread, event.then)
            case FilledIn():
                return self._filled_in(thread, event.then)
        return self._go_on(thread, event.by)

    def _cancelled(self, thread: Thread, event: Cancelled) -> Thread:
        thread = _cancelling(thread, lambda call: event.required or not call.required)
        if thread.plan.tools:
            wanted = {call.awaited_by for call in thread.plan.calls[thread.settled :]}
            thread = _with_tools(thread, [tool for tool in thread.plan.tools if tool.id in wanted])
            thread = thread.planning(state=None)
        item = thread.pending_item
        thread = thread if item is None else thread.withdrawing(item)
        return thread.planning(told=thread.answers) if thread.has_news else thread

    def sends_again(self, thread: Thread, event: Event) -> ClientToolCallItem | None:
        """Return the pending item that has to be streamed once more, if any.

        The response to the answer before it was lost, and the page has posted that answer again. With receipts this
        does no harm: a page that has the call already answers from its memory.
        """
        call = thread.pending
        is_repeat = isinstance(event, Answered) and not event.is_recorded and self._is_last(thread, event.result)
        return thread.item(call) if call and is_repeat else None

    def _concerns(self, thread: Thread, result: Any) -> bool:
        """Whether an answer that finds nothing pending may be the one after which the thread has to go on.

        The next call may have been out already, and withdrawn for another attempt that a failing store has prevented.
        """
        if not self.receipts or opened(result).receipt is None or self._is_last(thread, result):
            return True
        return thread.next is not None and _is_for(thread, thread.next.id, result)

    def _is_last(self, thread: Thread, result: Any) -> bool:
        """Whether an answer carries the receipt of the call that was answered last."""
        last = thread.plan.last
        return self.receipts and last is not None and _is_for(thread, last, result)

    def _go_on(self, thread: Thread, by: str) -> Thread:
        """Let a tool go on that can; else release the next call; else let a body tell the model what it does not know.

        The model is told when no tool waits any more: it gets the outputs of all of them.
        """
        if woken := _waking(thread, by):
            return woken
        if thread.pending or thread.next:
            return self._release(thread)
        body = thread.plan.body
        is_being_told = body is not None and body.is_alive(thread.now) and (body.tool or body.sees >= thread.answers)
        return _claiming(thread, by) if thread.has_news and not thread.tools and not is_being_told else thread

    def _release(self, thread: Thread) -> Thread:
        call, body = thread.next, thread.plan.body
        if call is None or (body is not None and body.is_alive(thread.now) and call.id in body.holds):
            return thread
        thread = thread.timing_next(self.tool(call.name).expires_after)
        return thread.releasing(call, self._params(thread, cast("PlannedCall", thread.next)))

    def _params(self, thread: Thread, call: PlannedCall) -> dict[str, Any]:
        """Return what the browser gets of a call."""
        if not self.receipts:
            return call.arguments
        return stamped(call.arguments, receipt_for(thread.id, call.id), call.expires_at, thread.now)


def _is_for(thread: Thread, call_id: str, result: Any) -> bool:
    return opened(result).receipt == receipt_for(thread.id, call_id)


def _with_free_ids(thread: Thread, calls: tuple[PlannedCall, ...]) -> list[PlannedCall]:
    """Return the calls, each under ids that the thread does not have: a provider, or a store, may repeat its own."""
    known = [*thread.plan.calls]
    item_ids = {item.id for item in thread.items} | {call.item_id for call in known} | {*thread.plan.removed}
    call_ids = {item.call_id for item in thread.items} | {call.call_id for call in known}
    free: list[PlannedCall] = []
    for call in calls:
        item_id = call.id if call.base_item_id in item_ids else call.base_item_id
        call_id = call.id if call.call_id in call_ids else call.call_id
        item_ids.add(item_id)
        call_ids.add(call_id)
        free.append(call.model_copy(update={"base_item_id": item_id, "call_id": call_id}))
    return free


def _adding(thread: Thread, calls: tuple[PlannedCall, ...]) -> Thread:
    """Return the thread with more calls in its plan."""
    if not calls:
        return thread
    plan = thread.plan
    # an item that has to go is no mark: it may be there again later, and be newer than these calls
    newest = thread.newest.id if thread.newest and thread.newest.id not in plan.removed else plan.mark
    mark = plan.mark if plan.calls[thread.settled :] else newest
    return thread.planning(calls=plan.calls.adding(_with_free_ids(thread, calls)), mark=mark)


def _waiting(thread: Thread) -> tuple[str, ...]:
    """The ids of the calls that are not answered."""
    return tuple(call.id for call in thread.plan.calls[thread.settled :])


def _waking(thread: Thread, by: str) -> Thread | None:
    """Return the thread with a claim on the body of a tool that can go on, if there is one and no body is at work.

    Nothing is released until the body has gone on.
    """
    body, tool = thread.plan.body, thread.ready
    if tool is None or (body is not None and body.is_alive(thread.now)):
        return None
    return _claiming(thread, by, _waiting(thread), tool.id)


def _is_run_by(thread: Thread, tool: WaitingTool, by: str) -> bool:
    """Whether the body of a waiting tool is still that of a request."""
    body = thread.plan.body
    return body is not None and body.by == by and body.tool == tool.id


def _step_taken(thread: Thread, event: StepTaken) -> Thread:
    """Return the thread with one more step in the journal of a tool, and more time for its body."""
    tool = thread.plan.tool(event.tool.id)
    if tool is None or not _is_run_by(thread, tool, event.by):
        return thread
    return _at_work(_replacing(thread, event.tool.but(is_cancelled=tool.is_cancelled)), event.by)


def _at_work(thread: Thread, by: str) -> Thread:
    """Return the thread with more time for a body, if it is still that of the request."""
    body = thread.plan.body
    if body is None or body.by != by:
        return thread
    return thread.planning(body=body.model_copy(update={"until": thread.now + BODY_SECONDS}))


def _replacing(thread: Thread, tool: WaitingTool) -> Thread:
    """Return the thread with another journal of one tool."""
    return thread.planning(tools=tuple(tool if each.id == tool.id else each for each in thread.plan.tools))


def _with_tools(thread: Thread, tools: Sequence[WaitingTool]) -> Thread:
    """Return the thread with these of its tools. The body of one that is dropped is no more, wherever it runs."""
    kept, body = {tool.id for tool in tools}, thread.plan.body
    is_dropped = body is not None and body.tool is not None and body.tool not in kept
    plan = thread.plan.but(tools=tuple(tools), body=None if is_dropped else body)
    return replace(thread, plan=plan, outputs=tuple(item for item in thread.outputs if item.id in kept))


def _telling(thread: Thread, by: str) -> Thread:
    """Return the thread with a body that tells the model what it does not know, unless a body is at work."""
    body = thread.plan.body
    is_at_work = body is not None and body.is_alive(thread.now)
    return _claiming(thread, by) if thread.has_news and not is_at_work else thread


def _claiming(thread: Thread, by: str, holds: tuple[str, ...] = (), tool: str | None = None) -> Thread:
    body = Body(by=by, until=thread.now + BODY_SECONDS, sees=thread.answers, holds=holds, tool=tool)
    return thread.planning(body=body)


def _without_body(thread: Thread, by: str) -> Thread:
    body = thread.plan.body
    return thread.planning(body=None) if body is not None and body.by == by else thread


def _without_state(thread: Thread) -> Thread:
    """Return the thread without the state of a run: that does not know what the user has done since."""
    return thread.planning(state=None) if thread.plan.state else thread


def _cancelling(thread: Thread, goes: Callable[[PlannedCall], bool]) -> Thread:
    """Return the thread without the open calls for which `goes` is true.

    The first call that waits may be on its way into the store, if a write outlasts its lease. So its item has to go
    too, should it appear.
    """
    pending, first = thread.pending, thread.next
    if pending is not None and goes(pending):
        item = thread.item(pending)
        thread = thread if item is None else thread.withdrawing(item)
    if first is not None and goes(first):
        thread = thread.planning(removed=thread.plan.removing(first.item_id).removed)
    done = thread.settled
    calls = thread.plan.calls
    open_calls = calls[done:].keeping(lambda call: not goes(call))
    if len(open_calls) == len(calls) - done:
        return thread
    return thread.planning(calls=calls[:done].adding(open_calls))
