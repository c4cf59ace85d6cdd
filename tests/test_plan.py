"""The plan: what is written, what is read back, and how far the thread's items say it has come."""

from __future__ import annotations

import json
import re
import traceback
from contextlib import suppress
from typing import Any, cast, get_args

import pytest
from chatkit.errors import CustomStreamError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import ValidationError

from chatkit_clienttools._lifecycle import State
from chatkit_clienttools._plan import Claim, Plan, PlannedCall, Progress, What, reconcile
from chatkit_clienttools.errors import ContendedPlanError, DamagedPlanError

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
planned_calls = st.builds(
    PlannedCall,
    name=texts,
    arguments=st.dictionaries(texts, json_values, max_size=3),
    item_id=texts,
    call_id=texts,
    wanted=st.booleans(),
    required=st.booleans(),
    turn=st.none() | texts,
    at=numbers,
)
plans = st.builds(
    Plan,
    calls=st.lists(planned_calls, max_size=4).map(tuple),
    revision=st.integers(min_value=0),
    last=st.none() | texts,
    claims=st.lists(
        st.builds(Claim, what=st.sampled_from(get_args(What)), item_id=texts, by=texts, until=numbers), max_size=3
    ).map(tuple),
    writer=texts,
)


def call(item_id: str, **fields: Any) -> PlannedCall:
    given_ones = {"name": "show", "arguments": {}, "call_id": f"call_{item_id}", "wanted": True, "at": 1.0, **fields}
    return PlannedCall(item_id=item_id, **given_ones)


def a_claim(item_id: str, *, by: str = "me", until: float = 1.0) -> Claim:
    return Claim(what="model", item_id=item_id, by=by, until=until)


def plan_of(*item_ids: str) -> Plan:
    return Plan(calls=tuple(call(item_id) for item_id in item_ids))


def ids(calls: tuple[PlannedCall, ...]) -> list[str]:
    return [each.item_id for each in calls]


def stored(plan: Plan) -> Any:
    return json.loads(json.dumps(plan.to_json(), allow_nan=False))


class TestDocument:
    @settings(deadline=None, max_examples=60)
    @given(plan=plans)
    def test_what_is_written_is_read_back(self, plan: Plan) -> None:
        """A plan survives the way through JSON text unchanged."""
        assert plan == Plan.from_json(stored(plan), "thr_1")

    def test_an_empty_plan_is_a_small_document(self) -> None:
        """What has its default is not written; the version always is."""
        empty = Plan(version=1, calls=(), revision=0, last=None, aborted=None, claims=(), writer="")

        assert empty == Plan()
        assert {"version": 1} == empty.to_json()

    def test_the_format_is_pinned(self) -> None:
        """This is the format of version 1: documents like this one are in people's databases."""
        document = {
            "version": 1,
            "calls": [
                {
                    "name": "show",
                    "arguments": {"n": 1},
                    "item_id": "tc_1",
                    "call_id": "call_1",
                    "wanted": False,
                    "required": True,
                    "turn": "msg_1",
                    "at": 2.5,
                }
            ],
            "revision": 3,
            "last": "tc_0",
            "claims": [{"what": "model", "item_id": "tc_1", "by": "worker", "until": 9.5}],
            "writer": "worker",
        }
        plan = Plan(
            calls=(
                PlannedCall(
                    name="show",
                    arguments={"n": 1},
                    item_id="tc_1",
                    call_id="call_1",
                    wanted=False,
                    required=True,
                    turn="msg_1",
                    at=2.5,
                ),
            ),
            revision=3,
            last="tc_0",
            claims=(Claim(what="model", item_id="tc_1", by="worker", until=9.5),),
            writer="worker",
        )

        assert document == plan.to_json()
        assert plan == Plan.from_json(document, "thr_1")

    def test_a_claim_names_what_is_done(self) -> None:
        """These words are in people's databases as well."""
        assert ("release", "turn", "model", "answer", "withdrawal") == get_args(What)

    def test_what_a_call_does_not_say(self) -> None:
        """A call that names neither is behind no item and under no message, and its document says nothing of it."""
        plan = Plan.from_json(stored(plan_of("a")), "thr_1")

        assert [(None, None)] == [(each.behind, each.turn) for each in plan.calls]

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (None, "it is a NoneType, not a JSON object"),
            ([SECRET], "it is a list, not a JSON object"),
            (SECRET, "it is a str, not a JSON object"),
            ({}, "its format version is a NoneType, and this code knows 1"),
            ({"version": SECRET}, "its format version is a str, and this code knows 1"),
            ({"version": {SECRET: 1}}, "its format version is a dict, and this code knows 1"),
            ({"version": 2, "calls": SECRET}, "its format version is 2, and this code knows 1"),
            ({"version": 0}, "its format version is 0, and this code knows 1"),
            ({"version": 1, "calls": SECRET}, "calls: Input should be a valid tuple.*"),
            (
                {"version": 1, "calls": [SECRET]},
                "calls.0: Input should be a valid dictionary or instance of PlannedCall.*",
            ),
            ({"version": 1, "calls": [{"name": SECRET}]}, "calls.0.arguments: Field required"),
            ({"version": 1, "revision": SECRET}, "revision: Input should be a valid integer.*"),
            ({"version": 1, "revision": None}, "revision: Input should be a valid integer.*"),
            ({"version": 1, "last": [SECRET]}, "last: Input should be a valid string.*"),
            ({"version": 1, "writer": {"a": SECRET}}, "writer: Input should be a valid string.*"),
            ({"version": 1, "claims": [{"item_id": SECRET}]}, "claims.0.what: Field required"),
            ({"version": 1, "pace": SECRET}, "pace: Extra inputs are not permitted"),
            (
                {"version": 1, "calls": [{**call("tc_1").model_dump(), "colour": SECRET}]},
                "calls.0.colour: Extra inputs are not permitted",
            ),
            (
                {"version": 1, "calls": [{**call("tc_1").model_dump(), "arguments": [SECRET]}]},
                "calls.0.arguments: Input should be a valid dictionary.*",
            ),
            (
                {"version": 1, "calls": [{**call("tc_1").model_dump(), "wanted": SECRET}]},
                "calls.0.wanted: Input should be a valid boolean.*",
            ),
        ],
    )
    def test_a_damaged_document_is_refused(self, document: object, reason: str) -> None:
        """A document that is not a plan raises, names thread, field and cure, and does not show what is in it."""
        with pytest.raises(DamagedPlanError) as raised:
            Plan.from_json(document, "thr_1")

        assert "thr_1" == raised.value.thread_id
        assert re.fullmatch(reason, raised.value.reason)
        assert raised.value.reason in str(raised.value)
        assert "of thread thr_1 cannot be read: " in str(raised.value)
        assert "`await sequencer.cancel(store, 'thr_1', context)` drops it." in str(raised.value)
        assert SECRET not in "".join(traceback.format_exception(raised.value))

    def test_a_number_is_a_number(self) -> None:
        """Some databases have one kind of number: a version and a revision that come back as floats are read."""
        document = {"version": 1.0, "revision": 3.0, "calls": [{**call("tc_1").model_dump(), "at": 1}]}

        assert Plan(revision=3, calls=(call("tc_1"),)) == Plan.from_json(document, "thr_1")

    @settings(deadline=None, max_examples=60)
    @given(plan=plans.filter(lambda plan: plan.calls), field=st.data(), value=json_values)
    def test_any_damage_is_a_damaged_plan(self, plan: Plan, field: st.DataObject, value: object) -> None:
        """Whatever stands in a field, reading the document gives a plan or `DamagedPlanError`, and nothing else."""
        document = stored(plan)
        place = field.draw(st.sampled_from([document, document["calls"][0]]))
        place[field.draw(st.sampled_from(sorted(place)) | texts)] = value

        with suppress(DamagedPlanError):
            read = Plan.from_json(document, "thr_1")
            assert read == Plan.from_json(stored(read), "thr_1")

    def test_chatkit_shows_a_plan_error_in_the_chat(self) -> None:
        """A plan that cannot be used is an error event with its sentence and no retry, not a broken stream."""
        errors = [DamagedPlanError("thr_1", "it is not JSON"), ContendedPlanError("thr_1", 20)]

        assert [True, True] == [isinstance(error, CustomStreamError) for error in errors]
        assert [(str(error), False) for error in errors] == [(error.message, error.allow_retry) for error in errors]

    def test_a_contended_plan_says_how_often_it_was_tried(self) -> None:
        """The error carries thread and attempts as data, and says what to do."""
        error = ContendedPlanError("thr_1", 20)

        problem = "was changed by others 20 times while it was to be written. Try again."
        assert ("thr_1", 20, problem) == (error.thread_id, error.attempts, error.problem)
        assert f"The queue of client tool calls of thread thr_1 {problem}" == str(error)


class TestPlan:
    def test_it_cannot_be_changed(self) -> None:
        """A plan, a call and a claim are values: what looks like a change gives a new plan."""
        plan = plan_of("a").claimed([a_claim("a")], 0.0)

        for value, field in ((plan, "revision"), (plan.calls[0], "item_id"), (plan.claims[0], "by")):
            with pytest.raises(ValidationError, match="frozen"):
                setattr(cast("Any", value), field, "x")

    def test_it_holds_its_calls(self) -> None:
        """`holds` knows the items that the calls have or will have."""
        plan = plan_of("a", "b")

        assert [True, True, False] == [plan.holds(item_id) for item_id in ("a", "b", "call_a")]

    def test_calls_are_added_at_the_end(self) -> None:
        """`adding` keeps what is there, in order, and leaves the plan it started from alone."""
        plan = plan_of("a")

        longer = plan.adding([call("b"), call("c")])

        assert ["a", "b", "c"] == ids(longer.calls)
        assert ["a"] == ids(plan.calls)

    def test_calls_are_kept_in_order(self) -> None:
        """`keeping` drops what is not wanted any more, and remembers nothing of it."""
        plan = plan_of("a", "b", "c").model_copy(update={"last": "z"})

        shorter = plan.keeping(lambda each: each.item_id != "b")

        assert ["a", "c"] == ids(shorter.calls)
        assert "z" == shorter.last

    def test_a_call_is_replaced_in_its_place(self) -> None:
        """`replacing` puts the other call where the one was, and leaves the rest and the plan it started from alone."""
        plan = plan_of("a", "b", "c")

        other = plan.replacing(plan.calls[1], call("b2"))

        assert ["a", "b2", "c"] == ids(other.calls)
        assert ["a", "b", "c"] == ids(plan.calls)

    def test_settled_calls_are_dropped_and_the_last_is_remembered(self) -> None:
        """`done_with` remembers the last one in the plan's order, whatever order it is told, and ends its claims."""
        plan = plan_of("a", "b", "c").claimed([a_claim("b"), a_claim("c")], 0.0)

        after = plan.done_with(["b", "a", "unknown"])

        assert (["c"], "b", (a_claim("c"),)) == (ids(after.calls), after.last, after.claims)

    @pytest.mark.parametrize("item_ids", [[], ["unknown"]])
    def test_done_with_nothing_changes_nothing(self, item_ids: list[str]) -> None:
        """Without a call to drop the plan stays what it is: claim, last call and all."""
        plan = plan_of("a").claimed([a_claim("a")], 0.0).model_copy(update={"last": "z"})

        assert plan == plan.done_with(item_ids)

    def test_a_claim_takes_the_place_of_the_one_before(self) -> None:
        """`claimed` replaces a claim to the same thing, leaves others, and drops those that are over; `freed` drops."""
        yours, over = a_claim("b", by="you"), a_claim("c", until=0.5)
        plan = plan_of("a").claimed([a_claim("a", by="you"), yours, over], 0.0)

        mine = plan.claimed([a_claim("a")], 0.5)

        assert (yours, a_claim("a")) == mine.claims
        assert (yours,) == mine.freed([a_claim("a")]).claims

    def test_the_next_revision(self) -> None:
        """`following` counts on from the stored revision, not from its own, and names the writer."""
        plan = plan_of("a").model_copy(update={"revision": 2})

        after = plan.following(7, "worker")

        assert (8, "worker", plan.calls) == (after.revision, after.writer, after.calls)

    def test_a_revision_alone_is_nothing_new(self) -> None:
        """Two plans say the same when writing one over the other would change revision and writer only."""
        plan = plan_of("a")

        assert plan.following(7, "worker").says_the_same_as(plan)

    @pytest.mark.parametrize(
        "other",
        [
            plan_of("a", "b"),
            plan_of("a").model_copy(update={"last": "z"}),
            plan_of("a").model_copy(update={"aborted": "z"}),
            plan_of("a").claimed([a_claim("a")], 0.0),
        ],
        ids=["calls", "last", "aborted", "claim"],
    )
    def test_anything_else_is(self, other: Plan) -> None:
        """Another call, last call, failed call or claim has to be written."""
        assert not other.says_the_same_as(plan_of("a"))


class TestReconcile:
    @staticmethod
    def states(plan: Plan, items: dict[str, State]) -> list[State]:
        return list(reconcile(plan, items).states)

    def test_no_item_is_queued(self) -> None:
        """A call without an item still waits."""
        assert [State.QUEUED, State.QUEUED] == self.states(plan_of("a", "b"), {})

    def test_a_pending_item_is_pending(self) -> None:
        """A call with a pending item was released, and nobody has answered."""
        assert [State.PENDING, State.QUEUED] == self.states(plan_of("a", "b"), {"a": State.PENDING})

    def test_a_completed_item_is_completed(self) -> None:
        """A call with a completed item was answered."""
        items = {"a": State.COMPLETED, "b": State.PENDING}

        assert [State.COMPLETED, State.PENDING] == self.states(plan_of("a", "b"), items)

    def test_what_is_before_the_latest_is_settled(self) -> None:
        """A call before the latest one with an item is settled even if its own item is out of sight."""
        plan = plan_of("a", "b", "c", "d")

        assert [State.COMPLETED, State.COMPLETED, State.PENDING, State.QUEUED] == self.states(
            plan, {"c": State.PENDING}
        )

    def test_other_items_do_not_count(self) -> None:
        """Items of calls that are not in the plan say nothing about it."""
        assert [State.QUEUED] == self.states(plan_of("a"), {"z": State.PENDING})

    def test_an_empty_plan_has_come_to_its_end(self) -> None:
        """Without calls there is nothing pending, nothing next, nothing settled and nothing open."""
        progress = reconcile(Plan(), {"z": State.PENDING})

        assert (None, None, (), ()) == (progress.pending, progress.next, progress.settled, progress.open)

    def test_the_first_in_the_queue_is_next(self) -> None:
        """When no call is pending the next one is the first that has no item."""
        progress = reconcile(plan_of("a", "b", "c"), {"a": State.COMPLETED})

        assert (None, call("b")) == (progress.pending, progress.next)
        assert (["a"], ["b", "c"]) == (ids(progress.settled), ids(progress.open))

    def test_nothing_is_next_while_a_call_is_pending(self) -> None:
        """One call at a time: what the browser has comes first."""
        progress = reconcile(plan_of("a", "b"), {"a": State.PENDING})

        assert (call("a"), None) == (progress.pending, progress.next)
        assert ([], ["a", "b"]) == (ids(progress.settled), ids(progress.open))

    @pytest.mark.parametrize("read", ["pending", "settled", "open"])
    def test_every_call_has_a_state(self, read: str) -> None:
        """Progress with a state too few is refused: a call would be overlooked."""
        progress = Progress(plan_of("a", "b"), (State.QUEUED,))

        with pytest.raises(ValueError, match="shorter"):
            getattr(progress, read)

    @settings(deadline=None, max_examples=60)
    @given(
        plan=st.lists(st.sampled_from("abcdef"), unique=True).map(lambda found: plan_of(*found)),
        items=st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([State.PENDING, State.COMPLETED])),
    )
    def test_it_is_idempotent(self, plan: Plan, items: dict[str, State]) -> None:
        """Reading again, or reading what was read, says the same; each call is either settled or open."""
        before = items.copy()

        once = reconcile(plan, items)
        seen = {each.item_id: its for each, its in zip(plan.calls, once.states, strict=True) if its is not State.QUEUED}
        again = reconcile(once.plan, seen)

        assert (once.plan, once.states) == (again.plan, again.states)
        assert before == items
        assert sorted(ids(plan.calls)) == sorted(ids(once.settled) + ids(once.open))


class PlanMachine(RuleBasedStateMachine):
    """However a plan is written and its thread changes: order kept, one pending, nothing lost, nothing doubled.

    `thread` stands for the thread's items. The oracle is four plain lists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan = Plan()
        self.revisions = [self.plan]
        self.thread: dict[str, State] = {}
        self.added: list[str] = []
        self.at_browser: list[str] = []
        self.answered: list[str] = []
        self.dropped: list[str] = []

    @property
    def waiting(self) -> list[str]:
        return [one for one in self.added if one not in self.answered and one not in self.at_browser]

    def write(self, plan: Plan) -> None:
        self.plan = Plan.from_json(stored(plan.following(self.plan.revision, "worker")), "thr_1")
        self.revisions.append(self.plan)

    def expected_states(self, plan: Plan) -> list[State]:
        expected = []
        for one in ids(plan.calls):
            if one in self.answered:
                expected.append(State.COMPLETED)
            elif one in self.at_browser:
                expected.append(State.PENDING)
            else:
                expected.append(State.QUEUED)
        return expected

    @rule(count=st.integers(min_value=1, max_value=3))
    def add(self, count: int) -> None:
        new = [f"tc_{len(self.added) + n}" for n in range(count)]
        self.write(self.plan.adding([call(one) for one in new]))
        self.added += new

    @rule()
    def release_next(self) -> None:
        expected = self.waiting[0] if self.waiting and not self.at_browser else None

        found = reconcile(self.plan, self.thread).next

        assert expected == (found.item_id if found else None)
        if found:
            self.thread[found.item_id] = State.PENDING
            self.at_browser.append(found.item_id)

    @precondition(lambda self: self.at_browser)
    @rule()
    def answer_pending(self) -> None:
        one = self.at_browser.pop()
        self.thread[one] = State.COMPLETED
        self.answered.append(one)

    @precondition(lambda self: self.at_browser)
    @rule()
    def remove_pending_item(self) -> None:
        del self.thread[self.at_browser.pop()]

    @rule()
    def drop_settled(self) -> None:
        settled = [one for one in ids(self.plan.calls) if one in self.answered]

        self.write(self.plan.done_with(ids(reconcile(self.plan, self.thread).settled)))

        self.dropped += settled
        if settled:
            assert settled[-1] == self.plan.last

    @rule(data=st.data())
    def write_an_old_revision(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.revisions))

        assert self.expected_states(old) == list(reconcile(old, self.thread).states)

        # one that does not know a call yet would lose it: compare-and-set and ValidatingStore are there to refuse it
        if set(self.waiting + self.at_browser) <= set(ids(old.calls)):
            self.write(old)
            self.dropped = [one for one in self.added if one not in ids(old.calls)]

    @invariant()
    def progress_is_what_happened(self) -> None:
        progress = reconcile(self.plan, self.thread)
        assert self.expected_states(self.plan) == list(progress.states)
        assert self.at_browser == ([progress.pending.item_id] if progress.pending else [])

    @invariant()
    def order_is_kept_and_nothing_doubled(self) -> None:
        planned = ids(self.plan.calls)
        assert [one for one in self.added if one in planned] == planned
        assert self.answered == [one for one in self.added if one in self.answered]

    @invariant()
    def at_most_one_is_pending(self) -> None:
        assert len([state for state in self.thread.values() if state is State.PENDING]) <= 1

    @invariant()
    def nothing_is_lost(self) -> None:
        assert set(self.added) == set(ids(self.plan.calls)) | set(self.dropped)
        assert set(self.dropped) <= set(self.answered)

    @invariant()
    def the_latest_item_tells_all(self) -> None:
        latest = [one for one in ids(self.plan.calls) if one in self.thread][-1:]
        in_sight = {one: self.thread[one] for one in latest}
        assert self.states_seen(self.thread) == self.states_seen(in_sight)

    def states_seen(self, items: dict[str, State]) -> tuple[State, ...]:
        progress: Progress = reconcile(self.plan, items)
        return progress.states


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
