"""The plan: what is written, what is read back, and what is made of one plan to get the next."""

from __future__ import annotations

import json
import re
import traceback
from contextlib import suppress
from typing import Any, cast

import pytest
from chatkit.agents import ClientToolCall
from chatkit.errors import CustomStreamError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chatkit_clienttools._protocol.plan import BODY_SECONDS, CLOCK_SKEW_SECONDS, REMOVED_KEPT, Body, Calls, Plan
from chatkit_clienttools._protocol.plan import PlannedCall as Planned
from chatkit_clienttools._step.queued import _measured
from chatkit_clienttools.errors import ContendedPlanError, DamagedPlanError, InvalidArgumentsError
from tests.protocol.values import NOW, THREAD, body, call, gets, own_id, plan, shows, stops

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
planned_calls = st.builds(
    Planned,
    id=texts,
    name=texts,
    arguments=st.dictionaries(texts, json_values, max_size=3),
    base_item_id=texts,
    call_id=texts,
    wanted=st.booleans(),
    required=st.booleans(),
    turn=st.none() | texts,
    at=numbers,
    attempt=st.integers(1, 30),
)
counts = st.integers(min_value=0)
plans = st.builds(
    Plan,
    calls=st.lists(planned_calls, max_size=4).map(Calls),
    finished=counts,
    answers=counts,
    told=counts,
    last=st.none() | texts,
    turn=st.none() | texts,
    mark=st.none() | texts,
    removed=st.lists(texts, max_size=3).map(tuple),
    body=st.none()
    | st.builds(Body, by=texts, until=numbers, sees=counts, holds=st.lists(texts, max_size=3).map(tuple)),
    lease=st.none() | texts,
    writer=texts,
)


def read(*lines: str) -> Plan:
    return Plan.from_text("\n".join(lines), THREAD)


def line(**fields: Any) -> str:
    """A call as a line of text, with fields that are not as they should be."""
    return json.dumps({**json.loads(gets("a").model_dump_json()), **fields})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def ids(calls: Calls) -> list[str]:
    return [each.base_item_id for each in calls]


class TestDocument:
    @settings(deadline=None, max_examples=200)
    @given(plan=plans)
    def test_what_is_written_is_read_back(self, plan: Plan) -> None:
        """A plan survives the way through its text unchanged."""
        assert plan == Plan.from_text(plan.to_text(), THREAD)

    @settings(deadline=None, max_examples=60)
    @given(plan=plans)
    def test_a_plan_that_is_only_read_is_written_as_it_was(self, plan: Plan) -> None:
        """Whether its calls were looked at or not, the text stays the same."""
        text = plan.to_text()
        looked_at = Plan.from_text(text, THREAD)
        list(looked_at.calls)

        assert [text, text] == [Plan.from_text(text, THREAD).to_text(), looked_at.to_text()]

    def test_an_empty_plan_is_a_small_document(self) -> None:
        """What has its default is not written; the version always is."""
        assert '{"version":2}' == Plan().to_text()

    def test_what_a_document_need_not_say(self) -> None:
        """A plan is empty, and a body holds nothing, unless they say otherwise."""
        empty: tuple[Any, ...] = (2, [], 0, 0, 0, None, None, None, (), (), None, None, None, None, "")

        assert empty == tuple(list(value) if name == "calls" else value for name, value in Plan())
        assert () == Body(by="me", until=1.0, sees=0).holds

    def test_the_format_is_pinned(self) -> None:
        """The text of a plan of version 2 is pinned, because documents like it are in people's databases."""
        document = (
            '{"version":2,"finished":4,"answers":3,"told":2,"last":"call_0","turn":"msg_0","mark":"tc_0",'
            '"removed":["tc_x"],"body":{"by":"run","until":9.5,"sees":2,"holds":["call_2"]},"lease":"worker",'
            '"writer":"worker"}\n'
            '{"id":"call_1","name":"show","arguments":{"n":"ä"},"base_item_id":"tc_1","call_id":"fc_1","wanted":false,'
            '"required":true,"turn":"msg_1","at":2.5,"attempt":2}\n'
            '{"id":"call_2","name":"get","arguments":{},"base_item_id":"tc_2","call_id":"call_2","wanted":true,'
            '"at":3.0}'
        )
        plan = Plan(
            calls=Calls(
                [
                    Planned(
                        id="call_1",
                        name="show",
                        arguments={"n": "ä"},
                        base_item_id="tc_1",
                        call_id="fc_1",
                        wanted=False,
                        required=True,
                        turn="msg_1",
                        at=2.5,
                        attempt=2,
                    ),
                    Planned(
                        id="call_2",
                        name="get",
                        arguments={},
                        base_item_id="tc_2",
                        call_id="call_2",
                        wanted=True,
                        at=3.0,
                    ),
                ]
            ),
            finished=4,
            answers=3,
            told=2,
            last="call_0",
            turn="msg_0",
            mark="tc_0",
            removed=("tc_x",),
            body=Body(by="run", until=9.5, sees=2, holds=("call_2",)),
            lease="worker",
            writer="worker",
        )

        assert document == plan.to_text()
        assert plan == Plan.from_text(document, THREAD)

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (None, "it is a NoneType, not text"),
            ({"version": 2, "calls": SECRET}, "it is a dict, not text"),
            (SECRET.encode(), "it is a bytes, not text"),
            ("", "it is not JSON"),
            (SECRET, "it is not JSON"),
            ("[" * 100_000, "it is not JSON"),
            (f'["{SECRET}"]', "it is a list, not a JSON object"),
            ("2", "it is a int, not a JSON object"),
            ("{}", "its format version is a NoneType, and this code knows 2"),
            (f'{{"version": "{SECRET}"}}', "its format version is a str, and this code knows 2"),
            (f'{{"version": {{"{SECRET}": 1}}}}', "its format version is a dict, and this code knows 2"),
            (f'{{"version": 1, "calls": "{SECRET}"}}', "its format version is 1, and this code knows 2"),
            ('{"version": 3}', "its format version is 3, and this code knows 2"),
            ('{"version": 2, "calls": []}', "calls: .*"),
            (f'{{"version": 2, "pace": "{SECRET}"}}', "pace: Extra inputs are not permitted"),
            (f'{{"version": 2, "finished": "{SECRET}"}}', "finished: Input should be a valid integer.*"),
            ('{"version": 2, "told": null}', "told: Input should be a valid integer.*"),
            (f'{{"version": 2, "last": ["{SECRET}"]}}', "last: Input should be a valid string"),
            (f'{{"version": 2, "removed": "{SECRET}"}}', "removed: Input should be a valid (tuple|array)"),
            (f'{{"version": 2, "body": {{"by": "{SECRET}"}}}}', "body.until: Field required"),
            ('{"version": 2, "body": {"by": "x", "until": 1, "sees": 0, "pace": 1}}', "body.pace: Extra inputs.*"),
        ],
    )
    def test_a_damaged_document_is_refused(self, document: object, reason: str) -> None:
        """A document that is not a plan raises, names thread, field and cure, and does not show what is in it."""
        with pytest.raises(DamagedPlanError) as raised:
            Plan.from_text(document, THREAD)

        assert THREAD == raised.value.thread_id
        assert re.fullmatch(reason, raised.value.reason)
        assert f"of thread {THREAD} cannot be read: {raised.value.reason}. " in str(raised.value)
        assert SECRET not in "".join(traceback.format_exception(raised.value))

    @pytest.mark.parametrize(
        ("damaged", "reason"),
        [
            ("", "Invalid JSON: EOF.*"),
            (SECRET, "Invalid JSON: .*"),
            (f'["{SECRET}"]', "Input should be an object"),
            (line(name=[SECRET]), "name: Input should be a valid string"),
            (line(arguments=[SECRET]), "arguments: Input should be an object"),
            (line(wanted=SECRET), "wanted: Input should be a valid boolean.*"),
            (line(at=SECRET), "at: Input should be a valid number.*"),
            (line(colour=SECRET), "colour: Extra inputs are not permitted"),
            ('{"id": "call_1"}', "name: Field required"),
        ],
    )
    def test_a_damaged_call_is_refused_when_it_is_looked_at(self, damaged: str, reason: str) -> None:
        """A line that is not a call raises when a step needs it, however far back it is, and not before."""
        found = read('{"version":2}', line(), damaged)
        first = found.calls[0]

        with pytest.raises(DamagedPlanError) as raised:
            found.calls[1]

        assert gets("a") == first
        assert THREAD == raised.value.thread_id
        assert re.fullmatch(reason, raised.value.reason)
        assert SECRET not in "".join(traceback.format_exception(raised.value))

    @pytest.mark.parametrize(
        "looks",
        [
            list,
            lambda calls: calls[1:][0],
            lambda calls: calls[-1],
            lambda calls: calls.keeping(lambda _: True),
            lambda calls: calls.position("tc_b"),
            lambda calls: calls.adding([])[1],
            lambda calls: calls.with_inserted(0, [])[1],
            lambda calls: calls.replacing(0, gets("z"), at=0)[1],
        ],
    )
    def test_whoever_looks_at_a_damaged_call_hears_of_its_thread(self, looks: Any) -> None:
        """Calls that were made of other calls still know which thread they belong to."""
        calls = read('{"version":2}', line(), line(base_item_id="tc_b", at=SECRET)).calls

        with pytest.raises(DamagedPlanError, match=f"of thread {THREAD} cannot be read: at: "):
            looks(calls)

    def test_a_damaged_call_that_nobody_looks_at_stays(self) -> None:
        """What a step does not need does not fail it, and is written back as it was."""
        found = read('{"version":2}', line(), SECRET)

        assert (None, 0) == (found.calls.position("tc_z"), found.calls.position("tc_a"))
        assert f"\n{SECRET}" in found.but(told=1).to_text()

    def test_a_number_is_a_number(self) -> None:
        """Some databases have one kind of number: a version and counts that come back as floats are read."""
        assert Plan(finished=1, answers=3) == read('{"version":2.0,"finished":1.0,"answers":3.0}')

    @settings(deadline=None, max_examples=100)
    @given(plan=plans.filter(lambda plan: len(plan.calls) > 0), data=st.data(), value=json_values)
    def test_any_damage_is_a_damaged_plan(self, plan: Plan, data: st.DataObject, value: object) -> None:
        """Whatever stands in a field, reading gives a plan or `DamagedPlanError`, and nothing else."""
        lines = plan.to_text().split("\n")
        place = data.draw(st.integers(0, len(lines) - 1))
        fields = json.loads(lines[place])
        fields[data.draw(st.sampled_from(sorted(fields)) | texts)] = value
        lines[place] = json.dumps(fields)

        with suppress(DamagedPlanError):
            found = read(*lines)
            list(found.calls)
            assert found == Plan.from_text(found.to_text(), THREAD)

    @settings(deadline=None, max_examples=100)
    @given(document=st.text() | plans.map(Plan.to_text).flatmap(lambda text: st.integers().map(lambda n: text[:n])))
    def test_any_text_is_a_plan_or_damaged(self, document: str) -> None:
        """Half a document, or any other text, is a damaged plan."""
        with suppress(DamagedPlanError):
            list(Plan.from_text(document, THREAD).calls)

    @pytest.mark.parametrize("depth", [100, 190])
    def test_what_can_be_asked_for_can_be_read_back(self, depth: int) -> None:
        """Whatever the arguments of a call are, if it can be enqueued a plan that holds it is not damaged."""
        taken, _ = _measured(ClientToolCall(name="show", arguments={"value": nested(depth)}))

        planned = plan(gets("a", arguments=taken.arguments))

        assert list(planned.calls) == list(read(*planned.to_text().split("\n")).calls)

    @pytest.mark.parametrize("depth", [199, 250, 2000])
    def test_what_could_not_be_read_back_cannot_be_asked_for(self, depth: int) -> None:
        """Pydantic reads no deeper nesting: such a call would damage the plan for good."""
        with pytest.raises(InvalidArgumentsError, match="value: not JSON"):
            _measured(ClientToolCall(name="show", arguments={"value": nested(depth)}))

    def test_chatkit_shows_a_plan_error_in_the_chat(self) -> None:
        """A plan that cannot be used is an error event with a sentence and no retry, not a broken stream."""
        errors = [DamagedPlanError(THREAD, "it is not JSON"), ContendedPlanError(THREAD, 20)]

        assert [True, True] == [isinstance(error, CustomStreamError) for error in errors]
        assert [False, False] == [error.allow_retry for error in errors]

    def test_a_contended_plan_says_how_often_it_was_tried(self) -> None:
        """The error carries thread and attempts as data, and says what to do."""
        error = ContendedPlanError(THREAD, 20)

        problem = "was changed by others 20 times while it was to be written. Try again."
        assert (THREAD, 20, problem) == (error.thread_id, error.attempts, error.problem)


class TestCalls:
    CALLS = (gets("a"), shows("b"), stops("c"))

    @pytest.mark.parametrize("calls", [Calls(CALLS), read(*plan(*CALLS).to_text().split("\n")).calls])
    def test_calls_are_a_sequence(self, calls: Calls) -> None:
        """The calls of a plan can be counted, indexed, sliced and searched, whether they are text or not."""
        assert 3 == len(calls)
        assert list(self.CALLS) == list(calls)
        assert (gets("a"), stops("c"), [shows("b"), stops("c")]) == (calls[0], calls[-1], list(calls[1:]))
        assert gets("a") in calls
        assert gets("z") not in calls

    def test_equal_calls_are_equal_as_text_too(self) -> None:
        """What was read and what was made compare equal; another order, another kind of thing, do not."""
        read_back = read(*plan(*self.CALLS).to_text().split("\n")).calls

        assert Calls(self.CALLS) == read_back
        assert Calls(self.CALLS) != Calls(self.CALLS[::-1])
        assert Calls(self.CALLS) != list(self.CALLS)

    def test_they_cannot_be_hashed(self) -> None:
        """What is text at first is replaced when it is looked at."""
        with pytest.raises(TypeError, match="unhashable"):
            hash(Calls())

    def test_reading_the_first_leaves_the_others_text(self) -> None:
        """A step on a plan of many calls costs what a step on a plan of few calls costs."""
        many = [gets("a", base_item_id=f"tc_{n}") for n in range(60)]
        calls = read(*plan(*many).to_text().split("\n")).calls

        found = (calls[0].item_id, calls.position("tc_59"), calls[1:][0].item_id)

        assert ("tc_0", 59, "tc_1") == found
        assert 58 == sum(isinstance(entry, str) for entry in calls._entries)

    def test_their_size_is_in_bytes(self) -> None:
        """What counts against `max_bytes` is what is stored, not how many letters that is."""
        calls = Calls([gets("a", arguments={"text": "äöü"})])

        assert len(calls.lines()[0]) + 3 == calls.size
        assert calls.size == read(*plan(*calls).to_text().split("\n")).calls.size

    def test_calls_are_kept_in_order(self) -> None:
        """`keeping` drops what is not wanted any more, and changes nothing that it started from."""
        calls = Calls(self.CALLS)

        assert ["tc_a", "tc_c"] == ids(calls.keeping(lambda each: each != shows("b")))
        assert ["tc_a", "tc_b", "tc_c"] == ids(calls)

    @pytest.mark.parametrize(
        ("position", "at", "expected"),
        [
            (1, 1, ["tc_a", "tc_z", "tc_c"]),
            (0, 0, ["tc_z", "tc_b", "tc_c"]),
            (0, 1, ["tc_b", "tc_z", "tc_c"]),
            (0, 2, ["tc_b", "tc_c", "tc_z"]),
            (2, 2, ["tc_a", "tc_b", "tc_z"]),
        ],
    )
    def test_a_call_is_replaced(self, position: int, at: int, expected: list[str]) -> None:
        """The new call is where it is wanted: in the old one's place, or further back."""
        calls = Calls(self.CALLS)

        assert expected == ids(calls.replacing(position, gets("z"), at=at))
        assert ["tc_a", "tc_b", "tc_c"] == ids(calls)

    def test_calls_are_added(self) -> None:
        """Calls are added at the end of the others, or before a place among them."""
        calls = Calls(self.CALLS)

        assert ["tc_a", "tc_b", "tc_c", "tc_y", "tc_z"] == ids(calls.adding([gets("y"), gets("z")]))
        assert ["tc_a", "tc_z", "tc_b", "tc_c"] == ids(calls.with_inserted(1, [gets("z")]))


class TestPosition:
    """Which call an item belongs to."""

    @staticmethod
    def both(*calls: Planned) -> list[Calls]:
        """Calls that were made, and that were read."""
        return [Calls(calls), read(*plan(*calls).to_text().split("\n")).calls]

    def test_only_the_id_of_its_item_finds_a_call(self) -> None:
        """An item belongs to a call by the item's id: neither the call's own id nor the provider's counts."""
        for calls in self.both(gets("a"), gets("b")):
            assert [0, 1, None, None] == [calls.position(x) for x in ("tc_a", "tc_b", own_id("a"), "provider's a")]

    def test_only_the_present_attempt_finds_a_call(self) -> None:
        """Only the item of the present attempt belongs to a call: those of earlier attempts had to go."""
        for calls in self.both(gets("a"), gets("b", attempt=3)):
            found = [calls.position(item_id) for item_id in ("tc_b", "tc_b-2", "tc_b-3", "tc_b-4", "tc_a-3")]

            assert [None, None, 1, None, None] == found

    def test_of_a_call_whose_id_looks_like_an_attempt(self) -> None:
        """An id of a store, or of a provider, may end in a number too."""
        for calls in self.both(gets("a", base_item_id="tc"), gets("b", base_item_id="tc-2"), gets("c", attempt=2)):
            assert [0, 1, 2] == [calls.position(item_id) for item_id in ("tc", "tc-2", "tc_c-2")]

    @pytest.mark.parametrize("item_id", ['q"uote', "back\\slash", "new\nline", "ümlaut", "\x7f", "\x01", "-2", "🙂-7"])
    def test_of_a_call_with_an_unusual_id(self, item_id: str) -> None:
        """Whatever a store makes up as an id is found, also while the call is text."""
        for calls in self.both(gets("a"), gets("b", base_item_id=item_id)):
            assert 1 == calls.position(item_id)

        for calls in self.both(gets("a"), gets("b", base_item_id=item_id, attempt=2)):
            assert 1 == calls.position(f"{item_id}-2")

    def test_an_id_in_the_arguments_is_no_item(self) -> None:
        """Text that only mentions an item is not taken for its call."""
        for calls in self.both(gets("a", arguments={"of": "tc_b"}), gets("b")):
            assert 1 == calls.position("tc_b")


class TestBody:
    @pytest.mark.parametrize(
        ("until", "is_alive"),
        [
            (NOW - 1, False),
            (NOW, False),
            (NOW + 0.1, True),
            (NOW + BODY_SECONDS, True),
            (NOW + BODY_SECONDS + CLOCK_SKEW_SECONDS, True),
            (NOW + BODY_SECONDS + CLOCK_SKEW_SECONDS + 0.1, False),
            (NOW + 3600, False),
        ],
    )
    def test_how_long_it_may_be_at_work(self, until: float, *, is_alive: bool) -> None:
        """Until its time is over; one that claims too much was written by a clock that is ahead, and counts as dead."""
        assert is_alive is body(until=until).is_alive(NOW)

    def test_its_times_are_pinned(self) -> None:
        """The times of a body are pinned, because workers of one deployment have to agree on them."""
        assert (120.0, 5.0) == (BODY_SECONDS, CLOCK_SKEW_SECONDS)


class TestPlan:
    def test_it_cannot_be_changed(self) -> None:
        """A plan, a call and a body are values: what looks like a change gives a new one."""
        for value, field in ((plan(), "told"), (gets("a"), "attempt"), (body(), "by")):
            with pytest.raises(ValidationError, match="frozen"):
                setattr(cast("Any", value), field, "x")

    def test_a_new_attempt_is_the_call_under_another_item(self) -> None:
        """A new attempt of a call differs only in the item's id; its own id and the provider's stay."""
        first = gets("a")
        second = first.new_attempt()
        third = second.new_attempt()

        assert ["tc_a", "tc_a-2", "tc_a-3"] == [each.item_id for each in (first, second, third)]
        assert {(first.id, first.call_id)} == {(each.id, each.call_id) for each in (first, second, third)}

    def test_the_latest_removed_items_are_remembered(self) -> None:
        """A plan stays small: of the items that had to go it keeps the newest few."""
        before = plan(removed=tuple(f"tc_{n}" for n in range(REMOVED_KEPT)))

        assert (*before.removed[2:], "x", "y") == before.removing("x", "y").removed
        assert ("x",) == plan().removing("x").removed

    def test_the_removal_of_another_item_leaves_the_mark(self) -> None:
        """Only the mark's own removal ends it."""
        marked = plan(mark="tc_a")

        assert ("tc_a", None) == (marked.removing("tc_b").mark, marked.removing("tc_b", "tc_a").mark)

    def test_an_item_that_is_removed_again_counts_as_new(self) -> None:
        """An item that is removed again is remembered once, as the newest of the removed ones."""
        before = plan(removed=tuple(f"tc_{n}" for n in range(REMOVED_KEPT)))

        assert (*before.removed[1:], "tc_0") == before.removing("tc_0").removed

    def test_a_writer_alone_is_nothing_new(self) -> None:
        """A plan that differs in its writer only need not be written."""
        assert plan(gets("a"), writer="me").is_same_as(plan(gets("a"), writer="you"))

    @pytest.mark.parametrize(
        "other",
        [
            plan(gets("a"), gets("b")),
            plan(gets("a").new_attempt()),
            plan(gets("a"), finished=1),
            plan(gets("a"), answers=1),
            plan(gets("a"), told=1),
            plan(gets("a"), last="x"),
            plan(gets("a"), turn="x"),
            plan(gets("a"), mark="x"),
            plan(gets("a"), removed=("x",)),
            plan(gets("a"), body=body()),
            plan(gets("a"), lease="x"),
        ],
    )
    def test_every_other_difference_is_written(self, other: Plan) -> None:
        """Every difference between two plans but their writers has to be written."""
        assert not other.is_same_as(plan(gets("a")))

    def test_what_a_call_does_not_say(self) -> None:
        """A call is not required, under no message, and goes out for the first time, unless it says otherwise."""
        plain = call("a", required=False)

        assert {"required", "turn", "attempt"}.isdisjoint(json.loads(Calls([plain]).lines()[0]))
        assert (False, None, 1) == (plain.required, plain.turn, plain.attempt)
