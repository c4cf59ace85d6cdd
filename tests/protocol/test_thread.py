"""A thread as a value: how far its calls have come, what is made of it, and what two such values differ in."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from chatkit_clienttools._protocol.plan import Plan
from chatkit_clienttools._protocol.states import Change, State
from chatkit_clienttools._protocol.thread import Thread, Transition, Write, transitions
from chatkit_clienttools.errors import IllegalTransitionError
from chatkit_clienttools.receipts import RECEIPT
from tests.protocol.values import (
    ASKED,
    NOW,
    RELEASED,
    THREAD,
    body,
    call,
    changes,
    done,
    gets,
    message,
    moment,
    own_id,
    pending,
    plan,
    policy,
    shows,
    states,
    stops,
    stranger,
    text,
    thread,
)

A, B, C, D = gets("a"), gets("b"), shows("c"), gets("d")
"""Most threads have these four calls in their plan."""


class TestProgress:
    """How far a plan has come is read from the items."""

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            ([], ["a queued", "b queued", "c queued", "d queued"]),
            ([pending(A)], ["a pending", "b queued", "c queued", "d queued"]),
            ([done(A)], ["a completed", "b queued", "c queued", "d queued"]),
            ([done(A, "no number")], ["a failed", "b queued", "c queued", "d queued"]),
            ([done(A), pending(B)], ["a completed", "b pending", "c queued", "d queued"]),
            ([pending(C)], ["a completed", "b completed", "c pending", "d queued"]),
            ([done(D)], ["a completed", "b completed", "c completed", "d completed"]),
            ([done(call("z"))], ["a queued", "b queued", "c queued", "d queued"]),
        ],
    )
    def test_states(self, items: list[Any], expected: list[str]) -> None:
        """A call without an item waits, unless a later one has an item: then it is finished, and out of sight."""
        assert expected == states(thread(plan(A, B, C, D), *items), policy())

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            ([], (None, A, 0)),
            ([pending(A)], (A, None, 0)),
            ([done(A)], (None, B, 1)),
            ([pending(B)], (B, None, 1)),
            ([done(A), done(B), done(C)], (None, D, 3)),
            ([done(D)], (None, None, 4)),
        ],
    )
    def test_what_is_pending_what_is_next_and_what_is_settled(self, items: list[Any], expected: Any) -> None:
        """Nothing is next while a call is pending, nor after the last."""
        found = thread(plan(A, B, C, D), *items)

        assert expected == (found.pending, found.next, found.settled)

    def test_a_thread_without_a_plan(self) -> None:
        """Nothing is pending, next or settled, whatever is said in it."""
        found = thread(plan(), message("msg_1"), text("msg_2"), done(A))

        assert (None, None, 0, 0, False) == (found.pending, found.next, found.settled, found.answers, found.has_news)

    def test_a_call_that_is_pending_again_is_not_finished(self) -> None:
        """A late write may bring back the item of a call after a later one was answered: it is still to be answered."""
        found = thread(plan(A, B, C), pending(A), done(B), adopts=False)

        assert (A, None, 0) == (found.pending, found.next, found.settled)
        assert ["a pending", "b completed", "c queued"] == states(found, policy())

    def test_since_when(self) -> None:
        """A call waits since it was released, or since it was asked for if it was not."""
        found = thread(plan(A, B), pending(A))

        assert [RELEASED, ASKED] == [found.since(each) for each in (A, B)]

    def test_it_cannot_be_changed(self) -> None:
        """What was seen stays as it was: a decision may be made again about what another worker wrote."""
        with pytest.raises(FrozenInstanceError):
            thread(plan()).now = 1.0  # type: ignore[misc]


class TestReading:
    def test_what_is_read(self) -> None:
        """The client tool calls, the newest item and the newest message; nothing else counts."""
        items: list[Any] = [text("m5"), pending(A), message("m3"), text("m2"), message("m1")]

        found = Thread.read(THREAD, plan(A), items, NOW, frozenset({"m0"}))

        assert ((pending(A),), "m5", "m3") == (found.items, found.newest and found.newest.id, found.message)
        assert (THREAD, NOW, frozenset({"m0"})) == (found.id, found.now, found.gone)

    def test_an_empty_thread(self) -> None:
        """An empty thread has no newest item and no message."""
        found = Thread.read(THREAD, plan(), [], NOW, frozenset())

        assert ((), None, None) == (found.items, found.newest, found.message)


class TestAnswers:
    """How many wanted answers there were, and how many of them the model knows."""

    @pytest.mark.parametrize(
        ("planned", "items", "answers", "has_news"),
        [
            (plan(A, B), [], 0, False),
            (plan(A, B), [pending(A)], 0, False),
            (plan(A, B), [done(A)], 1, True),
            (plan(A, B), [pending(B)], 1, True),
            (plan(A, B, told=1), [done(A)], 1, False),
            (plan(A, B, C), [done(C)], 2, True),
            (plan(C), [done(C)], 0, False),
            (plan(answers=3, told=3), [], 3, False),
            (plan(answers=3, told=2), [], 3, True),
            (plan(A, answers=3, told=3), [done(A)], 4, True),
        ],
    )
    def test_wanted_answers_are_counted(self, planned: Plan, items: list[Any], answers: int, *, has_news: bool) -> None:
        """Answers count if the model wants them: those of settled calls in the plan, and of calls that have left it."""
        found = thread(planned, *items)

        assert (answers, has_news) == (found.answers, found.has_news)

    def test_an_answer_that_failed_counts(self) -> None:
        """The model hears of an error as of any answer."""
        assert 1 == thread(plan(A), done(A, {"error": "no canvas"})).answers


class TestAdopting:
    def test_what_nobody_planned(self) -> None:
        """A pending call that no plan knows comes into it as what its tool says, under the newest message."""
        found = thread(plan(), message("msg_1"), stranger("f", "shows"), text("msg_2"))

        [adopted] = found.plan.calls
        assert ("shows", {"of": "f"}, "tc_f", "provider's f") == (
            adopted.name,
            adopted.arguments,
            adopted.item_id,
            adopted.call_id,
        )
        assert ("provider's f", False, False, "msg_1", RELEASED) == (
            adopted.id,
            adopted.wanted,
            adopted.required,
            adopted.turn,
            adopted.at,
        )
        assert ["f pending"] == states(found, policy())

    def test_one_of_ours(self) -> None:
        """A call with a receipt of ours, which the plan has lost, keeps its own id, and its receipt is no argument."""
        found = thread(plan(), pending(A))

        assert [(A.id, A.arguments)] == [(each.id, each.arguments) for each in found.plan.calls]

    def test_one_with_somebody_elses_receipt(self) -> None:
        """What an application keeps under the key of our receipts is an argument like any other."""
        theirs = stranger().model_copy(update={"arguments": {RECEIPT: "theirs"}})

        [adopted] = thread(plan(), theirs).plan.calls

        assert ("provider's f", {RECEIPT: "theirs"}) == (adopted.id, adopted.arguments)

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            ([stranger()], ["f pending", "a queued", "b queued"]),
            ([done(A), stranger()], ["a completed", "f pending", "b queued"]),
            ([done(B), stranger()], ["a completed", "b completed", "f pending"]),
        ],
    )
    def test_its_place(self, items: list[Any], expected: list[str]) -> None:
        """The browser has it now: it stands behind what is finished and before what waits."""
        assert expected == states(thread(plan(A, B), *items), policy())

    @pytest.mark.parametrize(
        "items",
        [
            [],
            [done(call("z"))],
            [pending(A)],
            [pending(call("z")), pending(A)],
            [text("msg_1")],
        ],
    )
    def test_nothing_to_adopt(self, items: list[Any]) -> None:
        """Without a pending call, or if the newest one is planned, the thread is the same value."""
        found = thread(plan(A), *items, adopts=False)

        assert found is found.adopting_stranger(lambda _: True)

    def test_what_has_to_go_is_not_adopted(self) -> None:
        """An item that was removed before, and was written late, is not taken for a new call."""
        found = thread(plan(removed=("tc_f",)), stranger())

        assert [] == list(found.plan.calls)

    def test_it_is_the_mark(self) -> None:
        """Nothing older than the call that is adopted has to be read from now on, and the call itself has to."""
        found = thread(plan(A, mark="old"), stranger(), text("msg_1"))

        assert "tc_f" == found.plan.mark

    def test_it_is_no_mark_once_it_is_gone(self) -> None:
        """A call that was adopted and is withdrawn is a mark no more: it may be written again, and be newer."""
        found = thread(plan(A), stranger())

        assert None is found.withdrawing(stranger()).plan.mark


class TestStrays:
    """A thread has one pending item at most: the others go."""

    def test_one_pending_item_is_no_stray(self) -> None:
        """Without a stray the thread is the same value."""
        found = thread(plan(A, B), done(call("z")), pending(A))

        assert found is found.without_strays()

    def test_what_had_to_go_goes_now(self) -> None:
        """A pending item that had to go before is removed now, and is not remembered twice."""
        found = thread(plan(A, removed=("tc_z",)), pending(call("z")), pending(A)).without_strays()

        assert ((pending(A),), ("tc_z",), ["a pending"]) == (found.items, found.plan.removed, states(found, policy()))

    def test_what_had_to_go_and_was_answered_stays(self) -> None:
        """A recorded answer is never deleted."""
        found = thread(plan(A, removed=("tc_z",)), done(call("z")), pending(A))

        assert found is found.without_strays()

    def test_of_several_strangers_the_newest_stays(self) -> None:
        """Of several pending calls that nobody planned the newest stays, because the page was given that one last."""
        found = thread(plan(), stranger("e"), stranger("f")).without_strays()

        assert ((stranger("f"),), ("tc_e",)) == (found.items, found.plan.removed)
        assert ["f pending"] == states(found, policy())

    def test_a_newer_stranger_comes_before_a_planned_call(self) -> None:
        """The planned one is withdrawn, and goes out again after it."""
        found = thread(plan(A, B), pending(A), stranger()).without_strays()

        assert ["f pending", "a-2 queued", "b queued"] == states(found, policy())
        assert ((stranger(),), ("tc_a",)) == (found.items, found.plan.removed)

    def test_of_two_planned_calls_the_older_waits_for_the_newer(self) -> None:
        """Of two pending calls of the plan the older one does not count as answered: it waits for the newer one."""
        found = thread(plan(A, B, D), pending(A), pending(B)).without_strays()

        assert ["b pending", "a-2 queued", "d queued"] == states(found, policy())
        assert (0, ("tc_a",)) == (found.answers, found.plan.removed)

    def test_of_three_planned_calls_the_older_ones_keep_their_order(self) -> None:
        """Of three pending calls of the plan the two older ones wait for the newest, in the order of the plan."""
        found = thread(plan(A, B, D), pending(A), pending(B), pending(D)).without_strays()

        assert ["d pending", "a-2 queued", "b-2 queued"] == states(found, policy())


class TestWithdrawing:
    def test_withdrawing_a_planned_call(self) -> None:
        """A planned call that is withdrawn waits in its place for a new attempt; its item goes, and is remembered."""
        before = thread(plan(A, B), done(call("z")), pending(A))

        found = before.withdrawing(before.items[0])

        assert ((done(call("z")),), ("tc_a",)) == (found.items, found.plan.removed)
        assert ["a-2 queued", "b queued"] == states(found, policy())

    def test_it_again(self) -> None:
        """Each attempt has an item of its own, and all have the same receipt."""
        before = thread(plan(A.new_attempt()), pending(A.new_attempt()))

        found = before.withdrawing(before.items[0])

        assert ["a-3 queued"] == states(found, policy())
        assert ((), ("tc_a-2",)) == (found.items, found.plan.removed)

    def test_withdrawing_a_call_that_nobody_planned(self) -> None:
        """Withdrawing a call that nobody planned removes its item, and leaves the calls of the plan alone."""
        before = thread(plan(B), done(A), stranger(), adopts=False)

        found = before.withdrawing(before.items[0])

        assert (["b queued"], ("tc_f",)) == (states(found, policy()), found.plan.removed)

    def test_withdrawing_a_call_before_one_that_was_answered(self) -> None:
        """A call withdrawn before an answered one waits behind that, because it would count as finished before it."""
        before = thread(plan(A, B, D), pending(A), done(B), adopts=False)

        found = before.withdrawing(before.items[1])

        assert ["b completed", "a-2 queued", "d queued"] == states(found, policy())

    @pytest.mark.parametrize(
        "before",
        [
            thread(plan(A, gets("b", base_item_id="tc_a-2")), pending(A)),
            thread(plan(A), done(gets("b", base_item_id="tc_a-2")), pending(A)),
            thread(plan(A, removed=("tc_a-2",)), pending(A)),
        ],
        ids=["of a planned call", "of an item", "of a removed item"],
    )
    def test_an_id_that_is_taken(self, before: Thread) -> None:
        """A new attempt skips a number whose item id is taken already: two items must not have one id."""
        found = before.withdrawing(before.items[0])

        assert "tc_a-3" == found.plan.calls[0].item_id


class TestHaving:
    def test_a_part_of_what_was_decided(self) -> None:
        """A step that was cut off has done some of its writes: what it has reached is a thread as well."""
        before = thread(plan(A, B), pending(A))
        after = before.completing(done(A)).releasing(B, {})
        complete, add = after.writes_after(before)

        reached = [states(before.having(before.plan, part), policy()) for part in ([], [complete], [complete, add])]

        assert [
            ["a pending", "b queued"],
            ["a completed", "b queued"],
            ["a completed", "b pending"],
        ] == reached

    def test_a_deletion_and_another_plan(self) -> None:
        """An item that is gone is not there, however often it is deleted."""
        before = thread(plan(A, B), pending(A))
        deletion = Write("delete", before.items[0])

        found = before.having(plan(B), [deletion, deletion])

        assert ((), ["b queued"]) == (found.items, states(found, policy()))


class TestReleasing:
    def test_releasing_a_call_adds_its_item(self) -> None:
        """A released call's item is what ChatKit's own slot would have made, under the ids of the plan."""
        found = thread(plan(A)).releasing(A, {"n": 1})

        item = found.items[0]
        assert ("tc_a", THREAD, "provider's a", "gets", {"n": 1}, "pending", None) == (
            item.id,
            item.thread_id,
            item.call_id,
            item.name,
            item.arguments,
            item.status,
            item.output,
        )
        assert (item, moment(NOW)) == (found.newest, item.created_at)
        assert ["a pending"] == states(found, policy())

    @pytest.mark.parametrize("newest", [moment(NOW), moment(NOW + 3600), moment(NOW - 1)])
    def test_it_is_the_newest(self, newest: datetime) -> None:
        """A store that orders by time takes the older of two on a tie: an item is newer than any before it."""
        before = thread(plan(A), text("m").model_copy(update={"created_at": newest}))

        found = before.releasing(A, {}).items[0].created_at

        assert max(newest + timedelta(microseconds=1), moment(NOW)) == found

    def test_times_with_a_zone(self) -> None:
        """If a store gives times with a zone, so does a call: the two can be compared."""
        newest = datetime.fromtimestamp(NOW - 5, timezone.utc)
        before = thread(plan(A), text("m").model_copy(update={"created_at": newest}))

        assert datetime.fromtimestamp(NOW, timezone.utc) == before.releasing(A, {}).items[0].created_at


class TestAtRest:
    """The plan as it is kept: finished calls leave it."""

    def test_finished_calls_leave(self) -> None:
        """Finished calls leave the plan, which counts them and their answers and remembers the last one."""
        planned = plan(A, shows("c", turn="msg_3"), B, finished=2, answers=1, last="x", turn="msg_1", mark="m")

        found = thread(planned, done(A), done(C), pending(B)).at_rest

        assert plan(B, finished=4, answers=2, last=C.id, turn="msg_3", mark="tc_c") == found

    def test_if_none_has_finished_nothing_changes(self) -> None:
        """If no call has finished, the plan keeps its counts and what it remembers."""
        planned = plan(A, B, finished=2, answers=1, told=1, last="x", turn="msg_1", mark="m")

        assert planned == thread(planned, pending(A)).at_rest

    @pytest.mark.parametrize(
        ("planned", "items", "finished"),
        [
            (plan(C, finished=2), [done(C)], 0),
            (plan(finished=2, answers=1, told=1), [], 0),
            (plan(A, finished=2), [done(A)], 3),
            (plan(C, finished=2, body=body()), [done(C)], 3),
            (plan(C, B, finished=2), [done(C)], 3),
        ],
        ids=["nothing is left", "nothing was left", "an answer is to be told", "a body is at work", "a call waits"],
    )
    def test_when_a_plan_is_over(self, planned: Plan, items: list[Any], finished: int) -> None:
        """Finished calls count until there is nothing left to do and to tell the model; then the count starts anew."""
        assert finished == thread(planned, *items).at_rest.finished

    @pytest.mark.parametrize(
        ("until", "is_kept"),
        [(NOW + 1, True), (NOW, False), (NOW + 3600, False)],
        ids=["at work", "its time is over", "its clock is ahead"],
    )
    def test_the_body_of_a_dead_worker_leaves(self, until: float, *, is_kept: bool) -> None:
        """The body of a dead worker leaves the plan, which would otherwise never be over."""
        at_work = body(until=until)

        assert (at_work if is_kept else None) == thread(plan(A, body=at_work), pending(A)).at_rest.body

    def test_an_answer_is_counted_once(self) -> None:
        """A plan at rest counts what its finished calls brought, and they are not in it any more."""
        found = thread(plan(A, B, answers=1), done(A), pending(B))

        again = replace(found, plan=found.at_rest)

        assert (2, 2) == (found.answers, again.answers)
        assert found.at_rest == again.at_rest

    def test_finished_calls_can_be_dropped_before(self) -> None:
        """A step that was cut off leaves finished calls: without them the thread says the same."""
        found = thread(plan(A, B), pending(B))

        assert ["b pending"] == states(found.without_finished(), policy())
        assert (found.answers, A.id) == (found.without_finished().answers, found.without_finished().plan.last)

    def test_a_thread_without_finished_calls_stays(self) -> None:
        """Dropping the finished calls of a thread that has none gives the same value."""
        found = thread(plan(A, B), pending(A))

        assert found is found.without_finished()


class TestWrites:
    """What is done to the items is the difference between two values."""

    BEFORE = thread(plan(A, B), pending(A))

    def test_none(self) -> None:
        """Two equal values differ in nothing, and a change to the plan alone changes no item."""
        assert [] == self.BEFORE.writes_after(self.BEFORE)
        assert [] == self.BEFORE.planning(told=7).writes_after(self.BEFORE)

    def test_an_item_that_is_gone_is_deleted(self) -> None:
        """An item that is gone from the thread is deleted from the store."""
        after = self.BEFORE.withdrawing(self.BEFORE.items[0])

        assert [Write("delete", pending(A))] == after.writes_after(self.BEFORE)

    def test_an_item_that_is_new_is_added(self) -> None:
        """An item that is new in the thread is added to the store as it is."""
        before = thread(plan(A))
        after = before.releasing(A, {})

        assert [Write("add", after.items[0])] == after.writes_after(before)

    def test_an_item_that_has_changed_is_completed(self) -> None:
        """An item that has changed is written as completed, because nothing else ever changes in an item."""
        after = self.BEFORE.completing(done(A))

        assert [Write("complete", done(A))] == after.writes_after(self.BEFORE)

    def test_their_order(self) -> None:
        """Deletions come first and additions last: at no moment are two calls pending."""
        before = thread(plan(A, B), stranger(), pending(A), adopts=False)
        after = before.withdrawing(before.items[1]).completing(done(A)).releasing(B, {})

        assert ["delete", "complete", "add"] == [write.kind for write in after.writes_after(before)]


class TestTransitions:
    """What is announced is the difference between two values, named by the table."""

    def test_none(self) -> None:
        """A value that differs in nothing but its plan's counts announces nothing."""
        found = thread(plan(A, B), pending(A))

        assert [] == changes(found, found.planning(told=3), policy())

    def test_everything_that_is_said_of_one(self) -> None:
        """The call as it is now, its place, both states, the change between them, and since when it was so."""
        before = thread(plan(A, B, finished=3), pending(A))
        after = before.completing(done(A)).releasing(B, {})

        assert [
            Transition(A, 3, State.COMPLETED, State.PENDING, Change.ANSWER, RELEASED),
            Transition(B, 4, State.PENDING, State.QUEUED, Change.RELEASE, ASKED),
        ] == list(transitions(before, after, policy().has_failed))

    def test_a_call_that_was_sent_again(self) -> None:
        """A call that was sent again stays pending, and is announced under its new attempt."""
        before = thread(plan(A, B), pending(A))
        withdrawn = before.withdrawing(before.items[0])
        after = withdrawn.releasing(withdrawn.plan.calls[0], {})

        expected = Transition(A.new_attempt(), 0, State.PENDING, State.PENDING, Change.SEND_AGAIN, RELEASED)
        assert [expected] == list(transitions(before, after, policy().has_failed))

    def test_new_calls_are_announced_before_a_release(self) -> None:
        """New calls are announced without a previous state, all of them before the first one is released."""
        before = thread(plan(A, finished=1), done(A))
        after = before.planning(calls=before.plan.calls.adding([B, C])).releasing(B, {})

        assert ["b 2: new -> queued", "c 3: new -> queued", "b 2: queued -> pending"] == changes(
            before, after, policy()
        )

    def test_calls_that_are_gone_are_cancelled(self) -> None:
        """A call that is gone from the plan without an answer is announced as cancelled."""
        before = thread(plan(A, B, C), pending(A))
        after = before.withdrawing(before.items[0]).planning(calls=plan().calls)

        assert ["a 0: pending -> cancelled", "b 1: queued -> cancelled", "c 2: queued -> cancelled"] == changes(
            before, after, policy()
        )

    def test_a_finished_call_that_leaves_the_plan(self) -> None:
        """A finished call that leaves the plan is not announced, because nothing has happened to it."""
        before = thread(plan(A, B), done(A))

        assert [] == changes(before, before.without_finished(), policy())

    def test_a_finished_call_out_of_sight_that_leaves_the_plan(self) -> None:
        """A call is finished if a later one has an item, and leaves the plan unannounced, its own item seen or not."""
        before = thread(plan(A, B, C), pending(B))

        assert [] == changes(before, before.planning(calls=plan(B, C).calls), policy())

    def test_since_when_a_new_call_has_waited_that_is_released_at_once(self) -> None:
        """A new call that goes out in the same step has waited since it was asked for."""
        before = thread(plan())
        after = before.planning(calls=plan(A).calls).releasing(A, {})

        assert [
            Transition(A, 0, State.QUEUED),
            Transition(A, 0, State.PENDING, State.QUEUED, Change.RELEASE, ASKED),
        ] == list(transitions(before, after, policy().has_failed))

    @pytest.mark.parametrize(("output", "becomes"), [(7, "completed"), ("no number", "failed")])
    def test_a_call_that_was_answered_and_has_left_the_plan(self, output: Any, becomes: str) -> None:
        """A call that was answered and has left the plan is announced as its item says, and not as cancelled."""
        before = thread(plan(A, B), pending(A))
        after = before.completing(done(A, output)).without_finished()

        assert [f"a 0: pending -> {becomes}"] == changes(before, after, policy())

    def test_a_call_that_has_left_with_its_item_pending_is_cancelled(self) -> None:
        """A call that leaves the plan with its item pending is cancelled, because only an answer finishes a call."""
        before = thread(plan(A, B), pending(A))

        assert ["a 0: pending -> cancelled"] == changes(before, before.planning(calls=plan(B).calls), policy())

    def test_a_call_that_moves_is_announced_at_its_old_place(self) -> None:
        """The place of a call that was there before is the one that it had."""
        before = thread(plan(A, B), pending(A), pending(B))

        assert ["a-2 0: pending -> queued"] == changes(before, before.without_strays(), policy())

    @pytest.mark.parametrize(
        ("before", "after", "states"),
        [
            (thread(plan(A), done(A)), thread(plan(A), pending(A)), ("completed", "pending")),
            (thread(plan(A), done(A, "no number")), thread(plan(A), done(A)), ("failed", "completed")),
            (thread(plan(A), done(A)), thread(plan(A)), ("completed", "queued")),
            (
                thread(plan(A), pending(A)).planning(calls=plan().calls),
                thread(plan(A), done(A)),
                ("queued", "completed"),
            ),
            (thread(plan(A)), thread(plan(A), done(A)), ("queued", "completed")),
        ],
    )
    def test_an_illegal_difference(self, before: Thread, after: Thread, states: tuple[str, str]) -> None:
        """What is not in the table raises, and names both states: it cannot be announced, nor written."""
        with pytest.raises(IllegalTransitionError) as raised:
            list(transitions(before, after, policy().has_failed))

        assert states == (raised.value.state, raised.value.becomes)

    def test_an_illegal_difference_of_an_item_alone(self) -> None:
        """A completed item that becomes pending raises, even if both plans have the same calls."""
        before = thread(plan(A, B), done(A))
        after = replace(before, items=(pending(A),))

        with pytest.raises(IllegalTransitionError, match="completed cannot become pending"):
            list(transitions(before, after, policy().has_failed))

    def test_an_item_that_nobody_planned_is_not_announced(self) -> None:
        """An item that nobody planned is not announced when it goes, because it is no call of ours."""
        before = thread(plan(A), pending(A), stranger(), adopts=False)
        after = replace(before, items=before.items[1:])

        assert [] == changes(before, after, policy())

    def test_only_what_differs_is_looked_at(self) -> None:
        """What is announced of an answer takes no longer for a plan of many calls: the others are not even read."""
        many = plan(A, *(stops("b", base_item_id=f"tc_{n}", id=f"call_{n}") for n in range(50)))
        before = thread(Plan.from_text(many.to_text(), THREAD), pending(A))
        after = before.completing(done(A))

        assert ["a 0: pending -> completed"] == changes(before, after, policy())
        assert 50 == sum(isinstance(entry, str) for entry in before.plan.calls._entries)


def test_own_ids_are_recognized() -> None:
    """The ids of these tests are of the form that receipts carry."""
    assert [own_id("a")] == [each.id for each in thread(plan(), pending(A)).plan.calls]
