"""What to do with a thread's plan: decisions, without any I/O.

A `View` is what the store shows of the thread; a `Decision` is what is to be written, streamed and announced. `_turn`
reads the one and carries out the other, and may ask again when somebody else was quicker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent

from ._intake import Intake
from ._lifecycle import Event, State
from ._plan import Claim, Plan, PlannedCall, Progress, What, reconcile
from ._requests import Posted
from .observe import logger
from .receipts import Answer, answer_of, is_stamped, opened, stamped
from .tools import is_error_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chatkit.types import ThreadStreamEvent

    from ._journal import View
    from ._rules import Rules
    from ._runs import Asked, Run


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
    claims: tuple[tuple[What, PlannedCall], ...] = ()
    """What the run is at from now on: nobody else is to do it."""
    guards: tuple[tuple[What, str], ...] = ()
    """What is done to items after the plan is written: other workers are to leave these items alone."""
    tells_model: tuple[str, ...] = ()
    """The items of the settled calls that the body's run lets the model see."""
    withdraws: tuple[str, ...] = ()
    """The items to be deleted, here and in the browser."""
    completes: ClientToolCallItem | None = None
    """The call that is answered, to be saved."""
    is_over: bool = False
    """Whether nothing is to be done about what was posted."""


@dataclass(frozen=True)
class Begun:
    """How a run has begun, for its end."""

    message: str | None = None
    told: tuple[str, ...] = ()
    """The items of the settled calls that its body lets the model see."""
    claims: tuple[Claim, ...] = ()


class Decider:
    """Decides for one run on one thread, by the rules of its sequencer."""

    def __init__(self, rules: Rules, thread_id: str, run: Run, new_id: Callable[[Callable[[str], bool]], str]) -> None:
        self._rules = rules
        self._thread_id = thread_id
        self._run = run
        self._intake = Intake(rules, new_id)

    def after_failure(self, view: View) -> tuple[View, list[Step]]:
        """Give up what a failure gives up, if nobody has: every decision begins with that."""
        plan, progress = view.plan, view.progress
        if self._rules.on_failure != "abort":
            return view, []
        if any(call.item_id == plan.aborted for call in progress.open):
            # a retry took its answer back: it may fail anew
            plan = plan.model_copy(update={"aborted": None})
            view = replace(view, plan=plan, progress=reconcile(plan, view.journal.states))
        if progress.pending or not progress.settled:
            return view, []
        last = progress.settled[-1]
        if plan.aborted == last.item_id or not self.has_failed(view, last):
            return view, []
        given_up = [call for call in progress.open if not call.required]
        rest = plan.keeping(lambda call: call not in given_up).model_copy(update={"aborted": last.item_id})
        steps = self._cancelled(view, given_up)
        return replace(view, plan=rest, progress=reconcile(rest, view.journal.states)), steps

    def on_arrival(self, view: View, result: Any) -> Decision:
        """An answer has come in: record it for the call that it is for, wherever in the thread that is."""
        pending = self._pending(view)
        if pending is None:
            return Decision(view.plan, is_over=not self._concerns(view, opened(result)))
        answer = opened(result) if self._rules.receipts or is_stamped(pending) else Answer(result)
        if answer.receipt not in {None, pending.call_id}:
            return Decision(view.plan, is_over=True)
        strangers = self._strangers(view)
        plan = self._intake.adopting(view, view.plan, [item for item in strangers if item is pending])
        completed = pending.model_copy(update={"output": answer.output, "status": "completed"})
        older = tuple(item.id for item in strangers if item is not pending)
        return Decision(
            plan,
            steps=(self._answered(replace(view, plan=plan), self._planned_as(plan, pending), completed),),
            guards=(("answer", pending.id), *_withdrawals(older)),
            withdraws=older,
            completes=completed,
        )

    def on_resume(self, view: View) -> Decision:
        """A page was loaded, and may not know of the call that is pending: withdraw it, to be released afresh."""
        pending = self._pending(view)
        if pending is None or self._is_claimed(view.plan, "answer", pending.id):
            return Decision(view.plan, is_over=pending is not None or not view.plan.calls)
        plan = self._intake.adopting(view, view.plan, [item for item in self._strangers(view) if item is pending])
        call = self._planned_as(plan, pending)
        again = self._intake.afresh(view, call)
        position = plan.calls.index(call)
        waited = self._rules.clock() - view.waiting_since(call)
        withdrawn = self._to_be_withdrawn(view)
        return Decision(
            plan.replacing(call, again),
            steps=(Step(call, position, State.PENDING, Event.CANCEL, waited), Step(again, position)),
            guards=_withdrawals(withdrawn),
            withdraws=withdrawn,
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
        # a ClientToolServer has announced the answer when it has recorded it
        answered = () if is_told else progress.settled[-1:]
        steps = [self._answered(view, call, journal.call(call.item_id)) for call in answered]
        return self._release_next(view, progress, steps) or self._after_last(view, progress, steps)

    def on_message(self, view: View, message: str) -> Decision:
        """The user wrote, or wants a turn again: a retry starts over without what was asked for under its message."""

        def is_retried(call: PlannedCall) -> bool:
            return call.turn is not None and (call.turn == message or call.turn in view.vanished)

        retried = [call for call in view.progress.open if is_retried(call)]
        if self._rules.on_user_message == "cancel":
            decision = self._give_up(view, retried)
            # they wait for the answer to this message
            return replace(decision, claims=tuple(("turn", call) for call in decision.plan.calls))
        in_flight = self._in_flight(view, retried)
        dropped = [call for call in retried if call not in in_flight]
        plan = view.plan.keeping(lambda call: call not in dropped)
        settled = tuple(call.item_id for call in view.progress.settled)
        return Decision(plan, (), tuple(self._cancelled(view, dropped)), runs_body=True, tells_model=settled)

    def on_action(self, view: View) -> Decision:
        """An action leaves the open calls alone."""
        return Decision(view.plan, runs_body=True)

    def on_cancel(self, view: View) -> Decision:
        """Somebody gives up what is left."""
        return self._give_up(view)

    def at_end(self, view: View, asked: Sequence[Asked], taken: frozenset[str], begun: Begun) -> Decision:
        """The body has ended well: queue what it asked for, and release the next call.

        `taken` are item ids that ChatKit has chosen for a call, and that the thread already has.
        """
        plan = self._intake.adopting(view, view.plan.freed(begun.claims).done_with(begun.told), self._strangers(view))
        new = self._intake.planned(view, asked, taken, begun.message)
        progress = reconcile(plan.adding(new), view.journal.states)
        steps = [Step(call, len(plan.calls) + n) for n, call in enumerate(new)]
        return self._release_next(view, progress, steps) or Decision(progress.plan, steps=tuple(steps))

    def at_failure(self, view: View, claims: Iterable[Claim]) -> Decision:
        """The body has raised: free what it had claimed."""
        return Decision(self._intake.adopting(view, view.plan.freed(claims), self._strangers(view)))

    def has_failed(self, view: View, call: PlannedCall) -> bool:
        """Whether the answer of a call is none: the items do not say, its tool does."""
        item = view.journal.call(call.item_id)
        return item is not None and self._rules.tool(call.name).problem_with(answer_of(item)) is not None

    def _is_claimed(self, plan: Plan, what: What, item_id: str) -> bool:
        return self._rules.is_claimed(self._thread_id, plan, what, item_id, besides=self._run)

    def _pending(self, view: View) -> ClientToolCallItem | None:
        """The newest pending call that nobody is about to delete."""
        pending = (call for call in view.journal.calls if call.status == "pending")
        return next((call for call in pending if not self._is_claimed(view.plan, "withdrawal", call.id)), None)

    def _strangers(self, view: View) -> list[ClientToolCallItem]:
        """The pending calls that no plan has put there and nobody is about to delete, oldest first."""
        strangers = view.journal.strangers(view.plan)
        return [item for item in strangers if not self._is_claimed(view.plan, "withdrawal", item.id)]

    def _in_flight(self, view: View, retried: Sequence[PlannedCall] = ()) -> list[PlannedCall]:
        """The calls that somebody is storing as pending at this moment: they cannot be called back.

        Of the `retried` ones ChatKit has deleted the items; that another worker was storing them proves nothing.
        """

        def is_being_stored(call: PlannedCall) -> bool:
            if call in retried:
                return self._rules.is_at_work(self._thread_id, "release", call, besides=self._run)
            return self._is_claimed(view.plan, "release", call.item_id)

        return [call for call in view.progress.open if not view.journal.call(call.item_id) and is_being_stored(call)]

    def _to_be_withdrawn(self, view: View) -> tuple[str, ...]:
        """The items of the pending calls, but for those that somebody is answering or deleting."""
        pending = (item.id for item in view.journal.calls if item.status == "pending")
        kinds: tuple[What, ...] = ("answer", "withdrawal")
        return tuple(each for each in pending if not any(self._is_claimed(view.plan, kind, each) for kind in kinds))

    @staticmethod
    def _planned_as(plan: Plan, item: ClientToolCallItem) -> PlannedCall:
        return next(call for call in plan.calls if call.item_id == item.id)

    def _concerns(self, view: View, answer: Answer) -> bool:
        """Whether an answer that finds nothing pending may be the one after which the plan has to go on."""
        if not self._rules.receipts or answer.receipt is None:
            return bool(view.plan.calls)
        return any(call.call_id == answer.receipt for call in view.progress.settled[-1:])

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
        if call is None or view.journal.strangers(plan):
            return None
        if self._is_claimed(plan, "release", call.item_id) or self._is_claimed(plan, "turn", call.item_id):
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
        return Decision(plan, (ThreadItemDoneEvent(item=item),), (*steps, step), claims=(("release", call),))

    def _after_last(self, view: View, progress: Progress, steps: list[Step]) -> Decision:
        """No call could be released: let the model run if it does not know an answer that it wants."""
        plan = progress.plan
        if progress.open or view.journal.strangers(plan):
            return Decision(plan, steps=tuple(steps))
        done = tuple(call.item_id for call in plan.calls)
        told = max((n for n, item_id in enumerate(done, 1) if self._is_claimed(plan, "model", item_id)), default=0)
        if any(call.wanted for call in plan.calls[told:]):
            return Decision(
                plan, steps=tuple(steps), runs_body=True, claims=(("model", plan.calls[-1]),), tells_model=done
            )
        # the run that tells the model some of them drops them when it has ended
        return Decision(plan if told else plan.done_with(done), steps=tuple(steps))

    def _give_up(self, view: View, retried: Sequence[PlannedCall] = ()) -> Decision:
        """Drop the plan but for required calls that are not `retried`: they go out again, afresh if they were out."""
        withdrawn, in_flight = self._to_be_withdrawn(view), self._in_flight(view, retried)
        answered_elsewhere = [
            call for call in view.progress.open if call.item_id not in withdrawn and view.journal.call(call.item_id)
        ]
        kept = [
            call
            for call in view.progress.open
            if call.required and call not in (*retried, *in_flight, *answered_elsewhere)
        ]
        again = [self._intake.afresh(view, call) if call.item_id in withdrawn else call for call in kept]
        left_alone = [*in_flight, *answered_elsewhere, *again]
        steps = self._cancelled(view, [call for call in view.progress.open if call not in left_alone])
        steps += [Step(call, n) for n, call in enumerate(again) if call not in kept]
        settled = (call.item_id for call in view.progress.settled)
        rest = view.plan.done_with(settled).keeping(lambda _: False).adding([*in_flight, *again])
        return Decision(rest, steps=tuple(steps), runs_body=True, guards=_withdrawals(withdrawn), withdraws=withdrawn)

    def _answered(self, view: View, call: PlannedCall, item: ClientToolCallItem | None) -> Step:
        """The step that a call takes with its answer, which is in `item` if that is in sight."""
        if item is None or self._rules.tool(call.name).problem_with(answer_of(item)) is None:
            return self._step(view, call, State.PENDING, Event.ANSWER)
        has_reported = is_error_report(answer_of(item))
        reason = "the browser reported an error" if has_reported else "the answer does not fit the tool's result type"
        return replace(self._step(view, call, State.PENDING, Event.FAIL), reason=reason)

    def _cancelled(self, view: View, calls: Iterable[PlannedCall]) -> list[Step]:
        pending = view.progress.pending
        return [
            self._step(view, call, State.PENDING if call is pending else State.QUEUED, Event.CANCEL) for call in calls
        ]

    def _step(self, view: View, call: PlannedCall, previous: State, event: Event) -> Step:
        waited = self._rules.clock() - view.waiting_since(call)
        return Step(call, view.plan.calls.index(call), previous, event, waited)


def _withdrawals(item_ids: Iterable[str]) -> tuple[tuple[What, str], ...]:
    return tuple(("withdrawal", item_id) for item_id in item_ids)
