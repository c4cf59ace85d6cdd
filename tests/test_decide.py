"""What is decided about a plan, without a store: who looks at what, and what others are told to leave alone."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ClientToolCallItem, InferenceOptions, ThreadMetadata, UserMessageItem

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._decide import Begun, Decider, Decision, Step
from chatkit_clienttools._journal import Journal, View
from chatkit_clienttools._lifecycle import Event, State
from chatkit_clienttools._plan import Claim, Plan, PlannedCall, reconcile
from chatkit_clienttools._requests import Posted
from chatkit_clienttools._runs import RunStream
from tests.helpers.merak import TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkit.types import ThreadItem

    from chatkit_clienttools._runs import Run

THREAD = ThreadMetadata(id="thr_1", created_at=datetime(2026, 1, 1))  # noqa: DTZ001  naive, as ChatKit writes it
NOW = 1_700_000_100.0
RELEASED = 1_700_000_040.0
ASKED = 1_700_000_000.0

WANTED = "get_selected_canvas_nodes"
SHOWN = "run_search_animation"


def planned(item_id: str, name: str = WANTED, **more: Any) -> PlannedCall:
    tool = next(tool for tool in TOOLS if tool.name == name)
    return PlannedCall(
        name=name,
        arguments={},
        item_id=item_id,
        call_id=f"call of {item_id}",
        wanted=tool.answer_wanted,
        required=tool.required,
        at=ASKED,
        **more,
    )


def item(item_id: str, status: Any = "pending", name: str = WANTED, output: Any = None) -> ClientToolCallItem:
    return ClientToolCallItem(
        id=item_id,
        thread_id=THREAD.id,
        created_at=datetime.fromtimestamp(RELEASED),  # noqa: DTZ006  as ChatKit writes it
        status=status,
        call_id=f"call of {item_id}",
        name=name,
        arguments={},
        output=output,
    )


def message() -> UserMessageItem:
    return UserMessageItem(
        id="msg_7",
        thread_id=THREAD.id,
        created_at=datetime.fromtimestamp(ASKED),  # noqa: DTZ006  as ChatKit writes it
        content=[],
        attachments=[],
        inference_options=InferenceOptions(),
    )


def view(plan: Plan, *items: ThreadItem) -> View:
    """What the store shows, with the items in the order in which they came."""
    journal = Journal(list(reversed(items)))
    return View(plan, journal, reconcile(plan, journal.states))


def decider(**options: Any) -> Decider:
    rules = ClientToolSequencer(TOOLS, clock=lambda: NOW, **options).rules
    ids = iter(f"new{n}" for n in range(1, 100))
    return Decider(rules, THREAD.id, rules.new_run(THREAD), lambda is_free: next(filter(is_free, ids)))


async def no_events() -> AsyncGenerator[Any, None]:
    return
    yield


def at_work(run: Run) -> RunStream:
    """A run is at work for as long as somebody has its events."""
    return RunStream(run, no_events(), lambda: NOW)


def by_another(what: Any, item_id: str, until: float = NOW + 1) -> Claim:
    return Claim(what=what, item_id=item_id, by="another worker", until=until)


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            Decision(Plan()),
            Step(planned("a"), 0),
            Begun(),
            view(Plan()),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_they_do_not_change(self, value: Any) -> None:
        """What was seen and decided stays as it was: a decision may be tried again on what another worker wrote."""
        for field in fields(value):
            with pytest.raises(FrozenInstanceError):
                setattr(value, field.name, None)

    def test_nothing_is_done_that_is_not_said(self) -> None:
        """A decision that says no more than what the plan is does nothing else."""
        nothing = ((), (), False, (), (), (), (), None, False)

        assert nothing == tuple(getattr(Decision(Plan()), field.name) for field in fields(Decision)[1:])
        assert (None, (), ()) == tuple(getattr(Begun(), field.name) for field in fields(Begun))

    def test_a_call_is_queued_without_an_event(self) -> None:
        """The step into the queue has no state before it, and nothing was waited for."""
        step = Step(planned("a"), 3)

        assert (None, None, 0.0, None) == (step.previous, step.event, step.waited, step.reason)


class TestArrival:
    def test_others_leave_the_call_alone(self) -> None:
        """Before an answer is saved other workers are told: not to withdraw its call, nor what is deleted for it."""
        seen = view(Plan(calls=(planned("a"),)), item("stranger"), item("a"))

        decision = decider().on_arrival(seen, [])

        assert (("answer", "a"), ("withdrawal", "stranger")) == decision.guards
        assert ("stranger",) == decision.withdraws
        assert decision.completes == item("a", "completed", output=[])

    def test_one_that_is_being_withdrawn_takes_no_answer(self) -> None:
        """What another worker is about to delete is not pending any more."""
        plan = Plan(calls=(planned("a"),), claims=(by_another("withdrawal", "a"),))

        decision = decider().on_arrival(view(plan, item("a")), [])

        assert (None, False) == (decision.completes, decision.is_over)

    def test_a_claim_ends(self) -> None:
        """A worker that died while it was at it keeps nobody from going on."""
        plan = Plan(calls=(planned("a"),), claims=(by_another("withdrawal", "a", until=NOW),))

        decision = decider().on_arrival(view(plan, item("a")), [])

        assert decision.completes


class TestResume:
    def test_the_pending_call_is_released_afresh(self) -> None:
        """The old item is withdrawn, after so many seconds, and the same call waits in its place under a new one."""
        first, second, third = planned("a"), planned("b"), planned("c")
        plan = Plan(calls=(first, second, third))

        decision = decider().on_resume(view(plan, item("a", "completed"), item("b")))

        again = second.model_copy(update={"item_id": "new1"})
        assert (first, again, third) == decision.plan.calls
        assert (Step(second, 1, State.PENDING, Event.CANCEL, NOW - RELEASED), Step(again, 1)) == decision.steps
        assert (("b",), (("withdrawal", "b"),)) == (decision.withdraws, decision.guards)

    @pytest.mark.parametrize(
        ("claim", "is_over"),
        [
            (by_another("answer", "a"), True),
            (by_another("answer", "a", until=NOW), False),
            (by_another("answer", "b"), False),
            (by_another("release", "a"), False),
        ],
        ids=["by an answer", "by one that is over", "another call", "by a release"],
    )
    def test_one_that_is_being_answered_stays(self, claim: Claim, is_over: bool) -> None:
        """While another worker records an answer, the page that was loaded has nothing to do."""
        plan = Plan(calls=(planned("a"), planned("b")), claims=(claim,))

        decision = decider().on_resume(view(plan, item("a")))

        assert (is_over, () if is_over else ("a",)) == (decision.is_over, decision.withdraws)

    def test_a_call_of_nobody_is_released_afresh_too(self) -> None:
        """A pending call that no plan knows comes into it, and goes out again."""
        decision = decider().on_resume(view(Plan(), item("stranger")))

        assert ["new1"] == [call.item_id for call in decision.plan.calls]
        assert ("stranger",) == decision.withdraws


class TestFailures:
    @pytest.mark.parametrize(
        ("items", "aborted"), [((), None), ((item("a", "completed"),), "a")], ids=["gone", "there"]
    )
    def test_what_was_given_up_for_is_forgotten_with_its_answer(self, items: Any, aborted: str | None) -> None:
        """While the failed answer is there nothing is given up twice; once a retry has removed it, it may fail anew."""
        plan = Plan(calls=(planned("a"), planned("b")), aborted="a")

        after, steps = decider(on_failure="abort").after_failure(view(plan, *items))

        assert (aborted, []) == (after.plan.aborted, steps)
        assert after.plan is after.progress.plan


class TestForms:
    @pytest.mark.parametrize("posted", [Posted.FORM, Posted.OTHER])
    def test_the_model_sees_what_is_settled(self, posted: Posted) -> None:
        """A form lets the model run, and that run tells it of every answer that is there."""
        plan = Plan(calls=(planned("a"), planned("b"), planned("c")))

        decision = decider().on_answer(view(plan, item("a", "completed"), item("b", "completed"), item("c")), posted)

        assert (True, ("a", "b")) == (decision.runs_body, decision.tells_model)


class TestMessages:
    def test_a_retry_drops_what_was_asked_for_under_its_message(self) -> None:
        """With "keep" the rest stays: those calls are cancelled, and the run tells the model what is settled."""
        older, retried = planned("a", turn="msg_1"), planned("b", turn="msg_2")
        waiting, other = planned("c", turn="msg_2"), planned("d", turn="msg_1")
        plan = Plan(calls=(older, retried, waiting, other))

        decision = decider(on_user_message="keep").on_message(view(plan, item("a", "completed"), item("b")), "msg_2")

        assert (older, other) == decision.plan.calls
        assert [
            Step(retried, 1, State.PENDING, Event.CANCEL, NOW - RELEASED),
            Step(waiting, 2, State.QUEUED, Event.CANCEL, NOW - ASKED),
        ] == list(decision.steps)
        assert (True, ("a",)) == (decision.runs_body, decision.tells_model)

    @pytest.mark.parametrize(("turn", "stays"), [("msg_1", True), ("msg_2", False)])
    def test_what_another_worker_is_storing(self, turn: str, stays: bool) -> None:
        """It cannot be called back; but of a retried turn ChatKit has deleted the items, whoever was storing them."""
        call = planned("a", turn=turn)
        plan = Plan(calls=(call,), claims=(by_another("release", "a"),))

        decision = decider(on_user_message="keep").on_message(view(plan), "msg_2")

        assert ((call,) if stays else ()) == decision.plan.calls

    @pytest.mark.parametrize("turn", ["msg_1", "msg_2"])
    def test_what_this_process_is_storing(self, turn: str) -> None:
        """It cannot be called back either, and of that one it is certain: it stays, retried or not."""
        call, other = planned("a", turn=turn), planned("b", turn=turn)
        mine = decider(on_user_message="keep")
        run = mine._rules.new_run(THREAD)
        events = at_work(run)
        mine._rules.claims.take(THREAD.id, "release", call, run)
        mine._rules.claims.take(THREAD.id, "turn", other, run)

        decision = mine.on_message(view(Plan(calls=(call, other))), "msg_2")
        del events

        assert ((call, other) if turn == "msg_1" else (call,)) == decision.plan.calls

    def test_what_it_claims_itself(self) -> None:
        """A run's own claim keeps nothing from it."""
        call = planned("a", turn="msg_2")
        mine = decider(on_user_message="keep")
        events = at_work(mine._run)
        mine._rules.claims.take(THREAD.id, "release", call, mine._run)

        decision = mine.on_message(view(Plan(calls=(call,))), "msg_2")
        del events

        assert () == decision.plan.calls

    def test_a_call_that_is_stored_is_not_in_flight(self) -> None:
        """Once its item is there it can be called back, whatever is still claimed."""
        call = planned("a")
        plan = Plan(calls=(call,), claims=(by_another("release", "a"),))

        decision = decider().on_message(view(plan, item("a")), "msg_2")

        assert ((), ("a",)) == (decision.plan.calls, decision.withdraws)

    @pytest.mark.parametrize(
        ("claim", "is_left_alone"),
        [
            (by_another("answer", "a"), True),
            (by_another("withdrawal", "a"), True),
            (by_another("answer", "b"), False),
            (by_another("release", "a"), False),
        ],
        ids=["its answer", "its withdrawal", "another answer", "its release"],
    )
    def test_what_another_worker_is_at_is_not_withdrawn(self, claim: Claim, is_left_alone: bool) -> None:
        """A pending call that is being answered, or deleted already, is neither deleted nor announced as cancelled."""
        plan = Plan(calls=(planned("a"),), claims=(claim,))

        decision = decider().on_message(view(plan, item("a")), "msg_2")

        assert (() if is_left_alone else ("a",)) == decision.withdraws
        assert is_left_alone is (decision.steps == ())


class TestEnd:
    @staticmethod
    def asked(name: str = WANTED) -> Any:
        return SimpleNamespace(call=SimpleNamespace(name=name, arguments={}), item=None, invocation=None, at=ASKED)

    def test_calls_belong_to_the_message_of_their_run(self) -> None:
        """Also when another message has come meanwhile: a retry of that one leaves them alone."""
        decision = decider().at_end(view(Plan()), [self.asked()], frozenset(), Begun(message="msg_1"))

        assert ["msg_1"] == [call.turn for call in decision.plan.calls]

    def test_what_waits_is_announced(self) -> None:
        """Calls that are queued behind a pending one take their step all the same."""
        plan = Plan(calls=(planned("a"),))

        decision = decider().at_end(view(plan, item("a")), [self.asked()], frozenset(), Begun())

        assert ((), (Step(decision.plan.calls[1], 1),)) == (decision.events, decision.steps)

    def test_a_failed_run_adopts_what_it_left(self) -> None:
        """A pending call that a body has put there by itself is part of the plan, also when the body has failed."""
        claim = Claim(what="model", item_id="a", by="me", until=NOW + 1)
        plan = Plan(calls=(planned("a"),), claims=(claim,))

        decision = decider().at_failure(view(plan, item("a", "completed"), item("stranger")), [claim])

        assert (["a", "stranger"], ()) == ([call.item_id for call in decision.plan.calls], decision.plan.claims)


class TestWithdrawals:
    """While another worker deletes an item, it is as good as gone; any other claim leaves it where it is."""

    CLAIMS = pytest.mark.parametrize(
        ("claim", "is_gone"),
        [
            (by_another("withdrawal", "stranger"), True),
            (by_another("withdrawal", "another"), False),
            (by_another("answer", "stranger"), False),
        ],
        ids=["it", "another item", "another claim"],
    )

    @CLAIMS
    def test_for_an_answer(self, claim: Claim, is_gone: bool) -> None:
        """An answer is not taken for it."""
        decision = decider().on_arrival(view(Plan(claims=(claim,)), item("stranger")), [])

        assert is_gone is (decision.completes is None)

    @CLAIMS
    def test_for_the_end_of_a_run(self, claim: Claim, is_gone: bool) -> None:
        """It does not come into the plan."""
        decision = decider().at_end(view(Plan(claims=(claim,)), item("stranger")), [], frozenset(), Begun())

        assert is_gone is (decision.plan.calls == ())


class TestIntake:
    def test_a_call_of_no_message(self) -> None:
        """Asked for where no message is known, as by an action: it belongs to the newest that is in sight."""
        decision = decider().at_end(view(Plan(), message()), [TestEnd.asked()], frozenset(), Begun())

        assert [("msg_7", "msg_7")] == [(call.turn, call.behind) for call in decision.plan.calls]

    def test_a_call_of_nobody(self) -> None:
        """A pending call that no plan knows comes into it as what its tool says, asked for when it was put there."""
        seen = view(Plan(), message(), item("stranger", name=SHOWN))

        [call] = decider().at_end(seen, [], frozenset(), Begun()).plan.calls

        assert (SHOWN, "call of stranger", False) == (call.name, call.call_id, call.wanted)
        assert ("msg_7", RELEASED) == (call.turn, call.at)

    def test_a_call_of_no_message_behind_others(self) -> None:
        """Where none is in sight either, it belongs to the message of the calls before it."""
        plan = Plan(calls=(planned("a", turn="msg_1"),))

        decision = decider().at_end(view(plan, item("a")), [TestEnd.asked()], frozenset(), Begun())

        assert ["msg_1", "msg_1"] == [call.turn for call in decision.plan.calls]

    @pytest.mark.parametrize("known", ["in the thread", "in the plan"])
    def test_an_invocations_id_is_taken_once(self, known: str) -> None:
        """An id that a call has already, stored or queued, does not become that of another one."""
        asked = TestEnd.asked()
        asked.invocation = "call of a"
        plan = Plan() if known == "in the thread" else Plan(calls=(planned("b"), planned("a")))
        items = [item("a", "completed")] if known == "in the thread" else [item("b")]

        decision = decider().at_end(view(plan, *items), [asked], frozenset(), Begun())

        assert "call of a" != decision.plan.calls[-1].call_id
