"""What to do with a thread's plan: decisions, without any I/O.

A `View` is what the store shows of the thread; a `Decision` is what is to be written, streamed and announced. `_turn`
reads the one and carries out the other, and may ask again when somebody else was quicker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent, ThreadItemRemovedEvent

from ._lifecycle import Event, State
from ._plan import MODEL, Claim, Plan, PlannedCall, Progress, reconcile
from ._requests import Posted
from .observe import logger
from .receipts import RECEIPT, Answer, answer_of, opened, stamped, unstamped
from .tools import is_error_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chatkit.types import ThreadStreamEvent

    from ._journal import Journal
    from ._rules import Rules
    from ._runs import Asked

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""


@dataclass(frozen=True)
class View:
    """What the store shows of a thread."""

    plan: Plan
    journal: Journal
    progress: Progress
    vanished: frozenset[str] = frozenset()
    """Messages under which calls were asked for, and which a retry has deleted since."""


@dataclass(frozen=True)
class Step:
    """One step of one call, to be announced once it is written. Without an event: the call has been queued."""

    call: PlannedCall
    position: int
    previous: State | None = None
    event: Event | None = None
    waited: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Decision:
    """What is to be written, streamed and announced."""

    plan: Plan
    events: tuple[ThreadStreamEvent, ...] = ()
    steps: tuple[Step, ...] = ()
    runs_body: bool = False
    claims: str | None = None
    tells_model: tuple[str, ...] = ()
    """The items of the settled calls that the body's run lets the model see."""
    deletes: tuple[str, ...] = ()
    """The items to be deleted, before the plan is written."""
    completes: ClientToolCallItem | None = None
    """The call that is answered, to be saved after the plan."""
    is_over: bool = False
    """Whether nothing is to be done about what was posted."""


class Decider:
    """Decides for one thread, by the rules of its sequencer."""

    def __init__(
        self, rules: Rules, scope: str, thread_id: str, new_id: Callable[[Callable[[str], bool]], str]
    ) -> None:
        self._rules = rules
        self._scope = scope
        self._thread_id = thread_id
        self._new_id = new_id

    def after_failure(self, view: View) -> tuple[View, list[Step]]:
        """Give up what a failure gives up, if nobody has: every decision begins with that."""
        plan, progress = view.plan, view.progress
        if self._rules.on_failure != "abort" or progress.pending or not progress.settled:
            return view, []
        last = progress.settled[-1]
        if plan.aborted == last.item_id or not self.has_failed(view, last):
            return view, []
        given_up = [call for call in progress.open if not call.required]
        rest = plan.keeping(lambda call: call not in given_up).model_copy(update={"aborted": last.item_id})
        steps = [self._answered(view, last), *self._cancelled(view, given_up)]
        return replace(view, plan=rest, progress=reconcile(rest, view.journal.states)), steps

    def on_arrival(self, view: View, result: Any) -> Decision:
        """An answer has come in: record it for the call that it is for, wherever in the thread that is."""
        plan, pending = view.plan, view.journal.pending
        if pending is None:
            return Decision(plan, is_over=not plan.calls)
        has_receipts = self._rules.receipts or RECEIPT in pending.arguments
        answer = opened(result) if has_receipts else Answer(result)
        if answer.receipt not in {None, pending.call_id}:
            return Decision(plan, is_over=True)
        strangers = view.journal.strangers(plan)
        return Decision(
            self._adopting(view, plan, [item for item in strangers if item is pending]),
            completes=pending.model_copy(update={"output": answer.output, "status": "completed"}),
            deletes=tuple(item.id for item in strangers if item is not pending),
        )

    def on_resume(self, view: View) -> Decision:
        """A page was loaded, and may not know of the call that is pending: withdraw it, to be released afresh."""
        pending = view.journal.pending
        if pending is None:
            return Decision(view.plan, is_over=not view.plan.calls)
        plan = self._adopting(view, view.plan, view.journal.strangers(view.plan)[-1:])
        position, call = next((n, call) for n, call in enumerate(plan.calls) if call.item_id == pending.id)
        again = call.model_copy(update={"item_id": self._new_id(self._free_in(view))})
        waited = self._rules.clock() - waiting_since(view, call)
        return Decision(
            plan.keeping(lambda _: False).adding([*plan.calls[:position], again, *plan.calls[position + 1 :]]),
            steps=(Step(call, position, State.PENDING, Event.CANCEL, waited), Step(again, position)),
            deletes=tuple(item.id for item in view.journal.calls if item.status == "pending"),
        )

    def on_answer(self, view: View, posted: Posted | None) -> Decision:
        """`respond` was called without a message.

        That is an answer, as a rule: to a pending call, or its repeat. But ChatKit does the same for a form that was
        filled in, and an application may do it to let the model speak. Who has not been told has to guess.
        """
        plan, journal, progress = view.plan, view.journal, view.progress
        if posted in {Posted.FORM, Posted.OTHER}:
            return Decision(plan, runs_body=True, tells_model=tuple(call.item_id for call in progress.settled))
        is_told = posted is not None
        if progress.pending:
            # another request was quicker and the next call is out; or the user has filled in a form meanwhile
            return self._repeat(plan, runs_body=not is_told and journal.has_answered_form)
        if not plan.calls:
            is_repeat = is_told or (journal.is_repeat_of(plan.last) and not journal.has_answered_form)
            return self._repeat(plan, runs_body=not is_repeat)
        # a resumed call was released when that answer had been dealt with
        answered = () if posted is Posted.RESUME else progress.settled[-1:]
        steps = [self._answered(view, call) for call in answered if call.item_id != plan.aborted]
        return self._release_next(view, progress, steps) or self._after_last(view, progress, steps)

    def on_message(self, view: View, message: str) -> Decision:
        """The user wrote, or wants a turn again: a retry starts over without what was asked for under its message."""

        def is_retried(call: PlannedCall) -> bool:
            return call.turn is not None and (call.turn == message or call.turn in view.vanished)

        settled = tuple(call.item_id for call in view.progress.settled)
        if self._rules.on_user_message == "cancel":
            return self._give_up(view, [call for call in view.progress.open if call.required and not is_retried(call)])
        retried = [call for call in view.progress.open if is_retried(call)]
        plan = view.plan.keeping(lambda call: call not in retried)
        return Decision(plan, (), tuple(self._cancelled(view, retried)), runs_body=True, tells_model=settled)

    def on_action(self, view: View) -> Decision:
        """An action leaves the open calls alone."""
        return Decision(view.plan, runs_body=True)

    def on_cancel(self, view: View) -> Decision:
        """Somebody gives up what is left."""
        return self._give_up(view, [call for call in view.progress.open if call.required])

    def at_end(
        self, view: View, asked: Sequence[Asked], taken: frozenset[str], told: Iterable[str], message: str | None
    ) -> Decision:
        """The body has ended well: queue what it asked for, and release the next call.

        `taken` are item ids that ChatKit has chosen for a call, and that the thread already has.
        """
        plan = self._adopting(view, view.plan.done_with(told), view.journal.strangers(view.plan))
        new = self._planned(view, asked, taken, message)
        progress = reconcile(plan.adding(new), view.journal.states)
        steps = [Step(call, len(plan.calls) + n) for n, call in enumerate(new)]
        return self._release_next(view, progress, steps) or Decision(progress.plan, steps=tuple(steps))

    def at_failure(self, view: View, claim: Claim | None) -> Decision:
        """The body has raised: free what it had claimed."""
        plan = self._adopting(view, view.plan, view.journal.strangers(view.plan))
        return Decision(plan.claimed(None) if claim is not None and plan.claim == claim else plan)

    def has_failed(self, view: View, call: PlannedCall) -> bool:
        """Whether the answer of a call is none: the items do not say, its tool does."""
        item = view.journal.call(call.item_id)
        return item is not None and self._rules.tool(call.name).problem_with(answer_of(item)) is not None

    def _repeat(self, plan: Plan, *, runs_body: bool) -> Decision:
        if not runs_body:
            logger.info(
                "thread %s: respond() was called without a message, and nothing is left to do: taken for a repeated "
                "answer. If an action has called it, decorate the action too.",
                self._thread_id,
            )
        return Decision(plan, runs_body=runs_body)

    def _release_next(self, view: View, progress: Progress, steps: list[Step]) -> Decision | None:
        """Hand the next call to ChatKit, as the item that its own slot would have made."""
        plan, call = progress.plan, progress.next
        if call is None or view.journal.strangers(plan) or self._rules.is_claimed(self._scope, plan, call.item_id):
            return None
        now = self._rules.clock()
        item = ClientToolCallItem(
            id=call.item_id,
            thread_id=self._thread_id,
            created_at=view.journal.time_after_newest(now),
            call_id=call.call_id,
            name=call.name,
            arguments=stamped(call.arguments, call.call_id) if self._rules.receipts else call.arguments,
        )
        step = Step(call, plan.calls.index(call), State.QUEUED, Event.RELEASE, now - call.at)
        return Decision(plan, (ThreadItemDoneEvent(item=item),), (*steps, step), claims=call.item_id)

    def _after_last(self, view: View, progress: Progress, steps: list[Step]) -> Decision:
        """No call could be released: let the model run if an answer was wanted, and nobody else has let it run."""
        plan = progress.plan
        done = tuple(call.item_id for call in plan.calls)
        what = f"{MODEL} after {done[-1]}"
        if progress.open or view.journal.strangers(plan) or self._rules.is_claimed(self._scope, plan, what):
            return Decision(plan)
        if not any(call.wanted for call in plan.calls):
            return Decision(plan.done_with(done), steps=tuple(steps))
        return Decision(plan, steps=tuple(steps), runs_body=True, claims=what, tells_model=done)

    def _give_up(self, view: View, required: list[PlannedCall]) -> Decision:
        """Drop the plan but for the `required` calls, which go out again later: as fresh ones, if they were out."""
        journal, plan = view.journal, view.plan
        withdrawn = [item.id for item in journal.calls if item.status == "pending"]
        again = [
            call.model_copy(update={"item_id": self._new_id(self._free_in(view))})
            if call.item_id in withdrawn
            else call
            for call in required
        ]
        gone = [call for call in view.progress.open if call not in again]
        steps = self._cancelled(view, gone)
        steps += [Step(call, n) for n, call in enumerate(again) if call not in required]
        settled = (call.item_id for call in view.progress.settled)
        rest = plan.done_with(settled).keeping(lambda _: False).adding(again).claimed(None)
        events = tuple(ThreadItemRemovedEvent(item_id=item_id) for item_id in withdrawn)
        return Decision(rest, events, tuple(steps), runs_body=True)

    def _planned(
        self, view: View, asked: Sequence[Asked], taken: frozenset[str], message: str | None
    ) -> list[PlannedCall]:
        """Give every call that a run asked for the ids it will have."""
        is_free = self._free_in(view, taken)
        call_ids = {call.call_id for call in view.journal.calls} | {call.call_id for call in view.plan.calls} | FAKE_IDS
        turn = message or view.journal.message or (view.plan.calls[-1].turn if view.plan.calls else None)
        planned: list[PlannedCall] = []
        for each in asked:
            tool = self._rules.tool(each.call.name)
            self._rules.warn_about_unknown(each.call.name)
            item_id = each.item.id if each.item and is_free(each.item.id) else self._new_id(is_free)
            proposed = each.item.call_id if each.item else each.invocation if tool.answer_wanted else None
            call_id = item_id if proposed is None or proposed in call_ids else proposed
            call_ids |= {call_id}
            planned.append(
                PlannedCall(
                    name=each.call.name,
                    arguments=each.call.arguments,
                    item_id=item_id,
                    call_id=call_id,
                    wanted=tool.answer_wanted,
                    required=tool.required,
                    behind=view.journal.newest.id if view.journal.newest else None,
                    turn=turn,
                    at=each.at,
                )
            )
        return planned

    def _adopting(self, view: View, plan: Plan, strangers: Iterable[ClientToolCallItem]) -> Plan:
        """Take pending calls that no plan has put there into it, before those that still wait in the queue."""
        adopted = [
            PlannedCall(
                name=item.name,
                arguments=unstamped(item.arguments),
                item_id=item.id,
                call_id=item.call_id,
                wanted=self._rules.tool(item.name).answer_wanted,
                turn=view.journal.message,
                at=item.created_at.timestamp(),
            )
            for item in strangers
        ]
        if not adopted:
            return plan
        states = reconcile(plan, view.journal.states).states
        waiting = [call for call, state in zip(plan.calls, states, strict=True) if state is State.QUEUED]
        return plan.keeping(lambda call: call not in waiting).adding([*adopted, *waiting])

    @staticmethod
    def _free_in(view: View, also: frozenset[str] = frozenset()) -> Callable[[str], bool]:
        """Return a check for item ids that are new to the thread, and that takes each id it has let through."""
        taken = {item.id for item in view.journal.items} | {call.item_id for call in view.plan.calls} | FAKE_IDS | also

        def is_free(item_id: str) -> bool:
            if item_id in taken:
                return False
            taken.add(item_id)
            return True

        return is_free

    def _answered(self, view: View, call: PlannedCall) -> Step:
        if not self.has_failed(view, call):
            return self._step(view, call, State.PENDING, Event.ANSWER)
        item = view.journal.call(call.item_id)
        has_reported = item is not None and is_error_report(answer_of(item))
        reason = "the browser reported an error" if has_reported else "the answer does not fit the tool's result type"
        return replace(self._step(view, call, State.PENDING, Event.FAIL), reason=reason)

    def _cancelled(self, view: View, calls: Iterable[PlannedCall]) -> list[Step]:
        pending = view.progress.pending
        return [
            self._step(view, call, State.PENDING if call is pending else State.QUEUED, Event.CANCEL) for call in calls
        ]

    def _step(self, view: View, call: PlannedCall, previous: State, event: Event) -> Step:
        waited = self._rules.clock() - waiting_since(view, call)
        return Step(call, view.plan.calls.index(call), previous, event, waited)


def waiting_since(view: View, call: PlannedCall) -> float:
    """When a call was released, or asked for if it was not."""
    item = view.journal.call(call.item_id)
    return item.created_at.timestamp() if item else call.at
