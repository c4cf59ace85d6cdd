"""What becomes of a thread whose tools wait for the browser: a table of cases, then the rules that hold for each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import HiddenContextItem, SDKHiddenContextItem

from chatkit_clienttools._protocol.decide import (
    Answered,
    Cancelled,
    Ended,
    FilledIn,
    Resumed,
    StepTaken,
    Stopped,
    WentOn,
    Wrote,
    recorded,
)
from chatkit_clienttools._protocol.outputs import Output, item_of, new_tool_id, output_in
from chatkit_clienttools._protocol.plan import BODY_SECONDS, Body, Calls, Entry, Plan, WaitingTool
from tests.protocol.values import (
    ASKED,
    ME,
    NOW,
    OTHER,
    THREAD,
    answer,
    body,
    call,
    done,
    gets,
    message,
    moment,
    pending,
    plan,
    policy,
    shows,
    states,
    stops,
    thread,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chatkit_clienttools._protocol.decide import Event, Policy
    from chatkit_clienttools._protocol.plan import PlannedCall
    from chatkit_clienttools._protocol.thread import Thread

CANCEL, KEEP, ABORT = policy(), policy(keeps=True), policy(aborts=True)

OVER = NOW
"""A time at which a body may be taken for dead."""

ONE, TWO = "output_1", "output_2"
"""The ids of two tools."""


# builders


def asked(letter: str, by: str = ONE, name: str = "gets", **fields: Any) -> PlannedCall:
    """A call whose answer a tool awaits."""
    own_id = f"ask_{letter * 32}"
    return call(letter, name, **{"id": own_id, "call_id": own_id, "wanted": False, "awaited_by": by, **fields})


def ask(of: PlannedCall, **fields: Any) -> Entry:
    """The line of a journal for a call that is open."""
    return Entry(kind="ask", name=of.name, key="k", call=of.id, **fields)


def had(of: PlannedCall) -> Entry:
    """The line of a call that is answered."""
    return ask(of, item_id=of.item_id)


def lost(of: PlannedCall) -> Entry:
    """The line of a call that was cancelled."""
    return ask(of, is_cancelled=True)


STEP = Entry(kind="step", name="reads", result='"read"')


def waits(tool_id: str, *journal: Entry, **fields: Any) -> WaitingTool:
    """A tool with what it has done so far."""
    fields = {"call_id": f"model's {tool_id}", "name": "guides", "arguments": '{"to": 1}', "at": ASKED, **fields}
    return WaitingTool(id=tool_id, journal=journal, **fields)


def woken(tool_id: str = ONE, by: str = ME, *, sees: int = 0, holds: Iterable[PlannedCall] = ()) -> Body:
    """The body of a tool, claimed just now."""
    return body(by, sees=sees, holds=holds, until=NOW + BODY_SECONDS).model_copy(update={"tool": tool_id})


def tells(*, sees: int, by: str = ME, holds: Iterable[PlannedCall] = ()) -> Body:
    """The application's `respond`, claimed just now."""
    return body(by, sees=sees, holds=holds, until=NOW + BODY_SECONDS)


def returned(tool: WaitingTool, text: str = "done", before: str | None = None) -> WaitingTool:
    """A tool that has returned, and has no item yet."""
    return tool.but(output=json.dumps(text), before=before)


def output_item(tool_id: str, text: str = "done") -> SDKHiddenContextItem:
    """The item of a tool that has returned."""
    output = Output(f"model's {tool_id}", "guides", '{"to": 1}', text)
    return item_of(tool_id, output, THREAD, moment(ASKED))


# as words


def tools(of: Thread) -> list[str]:
    """Each tool that has not returned, with whether it can go on."""
    return [
        f"{tool.id} {'is ready' if tool.is_ready else 'waits'}{', cancelled' if tool.is_cancelled else ''}"
        for tool in of.tools
    ]


A, B = asked("a"), asked("b", TWO)
"""What two tools wait for."""

A2 = asked("c")
"""What the first of them asks for next."""

S = asked("5", ONE, "stops", required=True)
"""A required call that a tool waits for."""

Q, N = gets("d"), shows("e")
"""Calls that no tool waits for: one whose answer the model wants, and one whose answer nobody wants."""


@dataclass(frozen=True)
class Case:
    """A thread, what happens to it, and what then is the case."""

    before: Thread
    event: Event
    then: list[str] = field(default_factory=list)
    """The calls of the plan with their states."""
    tools: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    by: Policy = CANCEL
    body: Body | None = None


T, T2 = waits(ONE, ask(A)), waits(TWO, ask(B))
"""Two tools that have asked."""

ENDED = {
    "what a tool waits for goes out at the end of its run": Case(
        thread(plan(), message("m")),
        Ended(ME, sees=0, calls=(A,), tools=(T,)),
        then=["a pending"],
        tools=[f"{ONE} waits"],
        writes=["add a"],
    ),
    "two tools get their calls one after the other": Case(
        thread(plan(body=tells(sees=0)), message("m")),
        Ended(ME, sees=0, calls=(A, B), tools=(T, T2)),
        then=["a pending", "b queued"],
        tools=[f"{ONE} waits", f"{TWO} waits"],
        writes=["add a"],
    ),
    "a tool comes behind one that waits already": Case(
        thread(plan(A, tools=(T,)), message("m"), pending(A)),
        Ended(ME, sees=0, calls=(B,), tools=(T2,)),
        then=["a pending", "b queued"],
        tools=[f"{ONE} waits", f"{TWO} waits"],
    ),
    "a tool whose answer came meanwhile is woken at the end": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=tells(sees=0)), done(A)),
        Ended(ME, sees=0),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "what was asked for is held back until that tool has gone on": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=tells(sees=0)), done(A)),
        Ended(ME, sees=0, calls=(N,)),
        then=["e queued"],
        tools=[f"{ONE} is ready"],
        body=woken(holds=[N]),
    ),
    "no tool is woken beside another body": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=tells(sees=0, by=OTHER)), done(A)),
        Ended(ME, sees=0),
        tools=[f"{ONE} is ready"],
        body=tells(sees=0, by=OTHER),
    ),
    "a body that fails leaves a tool that can go on alone": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        Stopped(ME),
        tools=[f"{ONE} is ready"],
    ),
}

ANSWERS = {
    "an answer wakes the tool": Case(
        thread(plan(A, tools=(T,)), pending(A)),
        answer(to=A),
        then=["a completed"],
        tools=[f"{ONE} is ready"],
        writes=["complete a"],
        body=woken(),
    ),
    "an answer without a receipt does, too": Case(
        thread(plan(A, tools=(T,)), pending(A)),
        answer(),
        then=["a completed"],
        tools=[f"{ONE} is ready"],
        writes=["complete a"],
        body=woken(),
    ),
    "what waits behind it is held back until the tool has gone on": Case(
        thread(plan(A, B, N, tools=(T, T2)), pending(A)),
        answer(to=A),
        then=["a completed", "b queued", "e queued"],
        tools=[f"{ONE} is ready", f"{TWO} waits"],
        writes=["complete a"],
        body=woken(holds=[B, N]),
    ),
    "an answer wakes the tool that it is for": Case(
        thread(plan(B, A, tools=(T, T2)), pending(B)),
        answer(to=B),
        then=["b completed", "a queued"],
        tools=[f"{ONE} waits", f"{TWO} is ready"],
        writes=["complete b"],
        body=woken(TWO, holds=[A]),
    ),
    "the answer to another call releases what the tool waits for": Case(
        thread(plan(Q, A, tools=(T,)), pending(Q)),
        answer(to=Q),
        then=["d completed", "a pending"],
        tools=[f"{ONE} waits"],
        writes=["complete d", "add a"],
    ),
    "the model is not told while a tool waits": Case(
        thread(plan(Q, tools=(waits(ONE, ask(A), STEP),), body=woken(by=OTHER, holds=[])), pending(Q)),
        answer(to=Q),
        then=["d completed"],
        tools=[f"{ONE} is ready"],
        writes=["complete d"],
        body=woken(by=OTHER),
    ),
    "an answer to an earlier ask is late": Case(
        thread(plan(A2, tools=(waits(ONE, had(A), ask(A2)),), last=A.id), done(A), pending(A2)),
        answer(to=A, output=8),
        then=["c pending"],
        tools=[f"{ONE} waits"],
    ),
    "a repeat while the body is at work changes nothing": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken(by=OTHER), last=A.id), done(A)),
        answer(to=A),
        tools=[f"{ONE} is ready"],
        body=woken(by=OTHER),
    ),
    "a repeat after the body has died wakes the tool again": Case(
        thread(
            plan(
                tools=(waits(ONE, had(A)),),
                body=body(OTHER, until=OVER).model_copy(update={"tool": ONE}),
                last=A.id,
            ),
            done(A),
        ),
        answer(to=A),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "a repeat after a death before the waking wakes the tool": Case(
        thread(plan(A, tools=(T,)), done(A)),
        answer(to=A),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "a claim of this very step is made anew": Case(
        thread(plan(A, tools=(T,), body=woken()), pending(A)),
        answer(to=A),
        then=["a completed"],
        tools=[f"{ONE} is ready"],
        writes=["complete a"],
        body=woken(),
    ),
    "a body that is at work keeps its claim, though there is news that it does not show": Case(
        thread(plan(A, tools=(T,), answers=1, body=tells(sees=0, by=OTHER)), pending(A)),
        answer(to=A),
        then=["a completed"],
        tools=[f"{ONE} is ready"],
        writes=["complete a"],
        body=tells(sees=0, by=OTHER),
    ),
    "a failed answer wakes the tool, which hears of it": Case(
        thread(plan(A, B, tools=(T, T2)), pending(A)),
        answer({"error": "away"}),
        then=["a failed", "b queued"],
        tools=[f"{ONE} is ready", f"{TWO} waits"],
        writes=["complete a"],
        body=woken(holds=[B]),
    ),
    "with abort it cancels what others wait for": Case(
        thread(plan(A, B, tools=(T, T2)), pending(A)),
        answer({"error": "away"}),
        then=["a failed"],
        tools=[f"{ONE} is ready", f"{TWO} is ready"],
        writes=["complete a"],
        body=woken(),
        by=ABORT,
    ),
}

RESUMED = {
    "a page that is loaded gets what the tool waits for as a new item": Case(
        thread(plan(A, tools=(T,)), pending(A)),
        Resumed(by=ME),
        then=["a-2 pending"],
        tools=[f"{ONE} waits"],
        writes=["delete a", "add a-2"],
    ),
    "a page that is loaded wakes a tool that can go on": Case(
        thread(plan(A, tools=(T,)), done(A)),
        Resumed(by=ME),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "a page that is loaded leaves a body alone that is at work": Case(
        thread(plan(A2, tools=(waits(ONE, had(A)),), body=woken(by=OTHER, holds=[A2])), done(A)),
        Resumed(by=ME),
        then=["c queued"],
        tools=[f"{ONE} is ready"],
        body=woken(by=OTHER, holds=[A2]),
    ),
    "a page that is loaded gets what a tool that has returned has left in the plan": Case(
        thread(plan(tools=(returned(waits(ONE, had(A))),)), done(A)),
        Resumed(by=ME),
        writes=["add output_1"],
        body=tells(sees=1),
    ),
}

WENT = {
    "it waits again": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        WentOn(ME, waits(ONE, had(A), ask(A2)), calls=(A2,)),
        then=["c pending"],
        tools=[f"{ONE} waits"],
        writes=["add c"],
    ),
    "what another tool waits for goes out first": Case(
        thread(plan(B, tools=(waits(ONE, had(A)), T2), body=woken(holds=[B])), done(A)),
        WentOn(ME, waits(ONE, had(A), ask(A2)), calls=(A2,)),
        then=["b pending", "c queued"],
        tools=[f"{ONE} waits", f"{TWO} waits"],
        writes=["add b"],
    ),
    "it has returned, and a body tells the model": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        WentOn(ME, waits(ONE, had(A)), output='"done"'),
        writes=["add output_1"],
        body=tells(sees=1),
    ),
    "it has returned, and what it enqueued goes out before the model is told": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        WentOn(ME, waits(ONE, had(A)), calls=(N,), output='"done"'),
        then=["e pending"],
        writes=["add output_1", "add e"],
    ),
    "it has returned, and the model is not told before the other tool has": Case(
        thread(plan(B, tools=(waits(ONE, had(A)), T2), body=woken(holds=[B])), done(A)),
        WentOn(ME, waits(ONE, had(A)), output='"done"'),
        then=["b pending"],
        tools=[f"{TWO} waits"],
        writes=["add output_1", "add b"],
    ),
    "it has returned, and the other tool can go on": Case(
        thread(plan(tools=(waits(ONE, had(A)), waits(TWO, had(B))), body=woken()), done(A), done(B)),
        WentOn(ME, waits(ONE, had(A)), output='"done"'),
        tools=[f"{TWO} is ready"],
        writes=["add output_1"],
        body=woken(TWO, sees=1),
    ),
    "another request has taken it over": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken(by=OTHER)), done(A)),
        WentOn(ME, waits(ONE, had(A)), calls=(A2,), output='"done"'),
        tools=[f"{ONE} is ready"],
        body=woken(by=OTHER),
    ),
    "a retry has dropped it": Case(
        thread(plan(body=woken()), message("m")),
        WentOn(ME, waits(ONE, had(A)), calls=(A2,), output='"done"'),
    ),
    "another tool is run by the request meanwhile": Case(
        thread(plan(tools=(waits(ONE, had(A)), waits(TWO, had(B))), body=woken(TWO)), done(A), done(B)),
        WentOn(ME, waits(ONE, had(A)), output='"done"'),
        tools=[f"{ONE} is ready", f"{TWO} is ready"],
    ),
    "it is recorded already that it waits again": Case(
        thread(plan(A2, tools=(waits(ONE, had(A), ask(A2)),), body=None), done(A)),
        WentOn(ME, waits(ONE, had(A), ask(A2)), calls=(A2,), is_recorded=True),
        then=["c pending"],
        tools=[f"{ONE} waits"],
        writes=["add c"],
    ),
    "it is recorded already that it has returned": Case(
        thread(plan(tools=(returned(waits(ONE, had(A))),)), done(A)),
        WentOn(ME, waits(ONE, had(A)), output='"done"', is_recorded=True),
        writes=["add output_1"],
        body=tells(sees=1),
    ),
    "what it asks for after a message is cancelled": Case(
        thread(plan(tools=(waits(ONE, had(A), is_cancelled=True),), body=woken()), done(A), message("m")),
        WentOn(ME, waits(ONE, had(A), ask(A2)), calls=(A2, N)),
        then=["e queued"],
        tools=[f"{ONE} is ready, cancelled"],
        body=woken(holds=[N]),
    ),
    "but for a required call": Case(
        thread(plan(tools=(waits(ONE, had(A), is_cancelled=True),), body=woken()), done(A), message("m")),
        WentOn(ME, waits(ONE, had(A), ask(S)), calls=(S,)),
        then=["5 pending"],
        tools=[f"{ONE} waits, cancelled"],
        writes=["add 5"],
    ),
    "in the request of a message the application answers next": Case(
        thread(plan(tools=(waits(ONE, lost(A), is_cancelled=True),), body=woken()), message("m")),
        WentOn(ME, waits(ONE, lost(A)), calls=(N,), output='"done"', then=Wrote("m", by=ME)),
        then=["e queued"],
        writes=["add output_1"],
        body=tells(sees=1, holds=[N]),
    ),
    "in the request of a form the model is told": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        WentOn(ME, waits(ONE, had(A)), output='"done"', then=FilledIn(by=ME)),
        writes=["add output_1"],
        body=tells(sees=1),
    ),
    "in the request of a form the model is told before what was asked for goes out": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A)),
        WentOn(ME, waits(ONE, had(A)), calls=(N,), output='"done"', then=FilledIn(by=ME)),
        then=["e queued"],
        writes=["add output_1"],
        body=tells(sees=1),
    ),
}

LIKE_AN_OUTPUT = '{"call_id": "call_1", "name": "guides", "arguments": "{}", "output": 1}'
"""What a hidden item of the application's own may hold."""

NOTED = {
    "a step is written, and its body has more time": Case(
        thread(
            plan(tools=(waits(ONE, had(A)),), body=woken().model_copy(update={"until": NOW + 1})),
            done(A),
        ),
        StepTaken(ME, waits(ONE, had(A), STEP)),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "a step of a body that was taken over is not": Case(
        thread(plan(tools=(waits(ONE, had(A)),), body=woken(by=OTHER)), done(A)),
        StepTaken(ME, waits(ONE, had(A), STEP)),
        tools=[f"{ONE} is ready"],
        body=woken(by=OTHER),
    ),
    "a step of a tool that a retry has dropped is not": Case(
        thread(plan(body=woken()), message("m")),
        StepTaken(ME, waits(ONE, had(A), STEP)),
        body=woken(),
    ),
    "a step without a body is not": Case(
        thread(plan(tools=(waits(ONE, had(A)),)), done(A)),
        StepTaken(ME, waits(ONE, had(A), STEP)),
        tools=[f"{ONE} is ready"],
    ),
    "the tool stays cancelled": Case(
        thread(plan(tools=(waits(ONE, had(A), is_cancelled=True),), body=woken()), done(A)),
        StepTaken(ME, waits(ONE, had(A), STEP)),
        tools=[f"{ONE} is ready, cancelled"],
        body=woken(),
    ),
}

MESSAGES = {
    "a message cancels what a tool waits for, and wakes it": Case(
        thread(plan(A, tools=(T,)), pending(A), message("m")),
        Wrote("m", by=ME),
        tools=[f"{ONE} is ready, cancelled"],
        writes=["delete a"],
        body=woken(),
    ),
    "a message cancels what two tools wait for, and wakes the first": Case(
        thread(plan(A, B, tools=(T, T2)), pending(A), message("m")),
        Wrote("m", by=ME),
        tools=[f"{ONE} is ready, cancelled", f"{TWO} is ready, cancelled"],
        writes=["delete a"],
        body=woken(),
    ),
    "a required call stays, and holds its tool": Case(
        thread(plan(S, tools=(waits(ONE, ask(S)),)), pending(S), message("m")),
        Wrote("m", by=ME),
        then=["5-2 queued"],
        tools=[f"{ONE} waits, cancelled"],
        writes=["delete 5"],
        body=tells(sees=0, holds=[S]),
    ),
    "with keep the tool goes on waiting": Case(
        thread(plan(A, tools=(T,)), pending(A), message("m")),
        Wrote("m", by=ME),
        then=["a pending"],
        tools=[f"{ONE} waits"],
        by=KEEP,
    ),
    "with keep a tool that can go on does so first": Case(
        thread(plan(tools=(waits(ONE, had(A)),)), done(A), message("m")),
        Wrote("m", by=ME),
        tools=[f"{ONE} is ready"],
        body=woken(),
        by=KEEP,
    ),
    "a message leaves a body alone that is at work, and cancels what it asks for next": Case(
        thread(plan(N, tools=(waits(ONE, had(A)),), answers=1, body=woken(by=OTHER, holds=[N])), done(A), message("m")),
        Wrote("m", by=ME),
        tools=[f"{ONE} is ready, cancelled"],
        body=woken(by=OTHER, holds=[N]),
    ),
    "a retry drops the tool with its call": Case(
        thread(plan(asked("a", turn="m"), tools=(waits(ONE, ask(A), turn="m"),)), message("m"), pending(A)),
        Wrote("m", by=ME),
        writes=["delete a"],
    ),
    "with keep a retry drops it, too": Case(
        thread(plan(asked("a", turn="m"), tools=(waits(ONE, ask(A), turn="m"),)), message("m"), pending(A)),
        Wrote("m", by=ME),
        writes=["delete a"],
        by=KEEP,
    ),
    "a retry of an earlier message drops a tool of one that is gone": Case(
        thread(plan(tools=(waits(ONE, had(A), turn="gone"),)), message("m"), gone=["gone"]),
        Wrote("m", by=ME),
    ),
    "a retry drops a tool that has returned and has no item yet": Case(
        thread(plan(tools=(returned(waits(ONE, had(A), turn="m")),)), message("m")),
        Wrote("m", by=ME),
    ),
    "a retry leaves a tool of another message alone": Case(
        thread(plan(A, tools=(waits(ONE, ask(A), turn="before"),)), pending(A), message("m")),
        Wrote("m", by=ME),
        then=["a pending"],
        tools=[f"{ONE} waits"],
        by=KEEP,
    ),
    "what a tool has returned whose item is not written yet is written": Case(
        thread(plan(tools=(returned(waits(ONE, had(A))),)), done(A), message("m")),
        Wrote("m", by=ME),
        writes=["add output_1"],
        body=tells(sees=1),
    ),
    "a form wakes a tool that can go on": Case(
        thread(plan(tools=(waits(ONE, had(A)),)), done(A)),
        FilledIn(by=ME),
        tools=[f"{ONE} is ready"],
        body=woken(),
    ),
    "a form leaves a tool waiting, and tells the model what it does not know": Case(
        thread(plan(A, tools=(T,), answers=1), pending(A)),
        FilledIn(by=ME),
        then=["a pending"],
        tools=[f"{ONE} waits"],
        body=tells(sees=1),
    ),
}

CANCELLED = {
    "the application drops a tool with its call": Case(
        thread(plan(A, tools=(T,)), pending(A)),
        Cancelled(),
        writes=["delete a"],
    ),
    "a tool that waits for a required call stays": Case(
        thread(plan(A, S, tools=(waits(TWO, ask(A)), waits(ONE, ask(S)))), pending(A)),
        Cancelled(),
        then=["5 queued"],
        tools=[f"{ONE} waits"],
        writes=["delete a"],
    ),
    "a tool that can go on is dropped": Case(
        thread(plan(tools=(waits(ONE, had(A)),)), done(A)),
        Cancelled(),
    ),
}

CASES = ENDED | ANSWERS | RESUMED | WENT | NOTED | MESSAGES | CANCELLED


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestTable:
    def test_what_becomes_of_a_thread(self, case: Case) -> None:
        """Calls, tools, items and the claim of a body are those of the table."""
        after = case.by.decide(case.before, case.event)

        assert (case.then, case.tools, case.writes, case.body) == (
            states(after, case.by),
            tools(after),
            writes(case.before, after),
            after.plan.body,
        )

    def test_deciding_again_adds_nothing(self, case: Case) -> None:
        """An event that is decided again, when the store holds what it brings, writes nothing a second time."""
        after = case.by.decide(case.before, case.event)
        items: list[Any] = [*after.outputs, *after.items]
        at_rest = thread(after.at_rest, *reversed(items), gone=case.before.gone, adopts=False)
        again = case.by.decide(at_rest, recorded(case.event))

        added = [each for each in writes(at_rest, again) if each in case.writes]
        assert [] == added

    def test_the_plan_comes_back_from_the_store(self, case: Case) -> None:
        """What is kept of a thread with its tools is read as what was written."""
        kept = case.by.decide(case.before, case.event).at_rest

        assert kept == Plan.from_text(kept.to_text(), THREAD)

    def test_nobody_is_stuck(self, case: Case) -> None:
        """A tool that waits has a call that is open; one that can go on has a body, or a repeat or reload wakes it."""
        after = case.by.decide(case.before, case.event)
        open_calls = {each.id for each in after.plan.calls[after.settled :]}
        for tool in after.tools:
            is_open = any(entry.is_open and entry.call in open_calls for entry in tool.journal)
            assert is_open != tool.is_ready

    def test_one_call_is_pending_at_most(self, case: Case) -> None:
        """However many tools wait, the browser has one call."""
        after = case.by.decide(case.before, case.event)

        assert sum(item.status == "pending" for item in after.items) <= 1


class TestWhatIsWrittenFirst:
    def test_a_step_is_in_the_journal(self) -> None:
        """A noted step is in the plan, so that it is not taken again."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A))

        after = CANCEL.decide(before, StepTaken(ME, waits(ONE, had(A), STEP)))

        assert (had(A), STEP) == after.at_rest.tools[0].journal

    @pytest.mark.parametrize("body", [None, woken(by=OTHER)], ids=["nobody's", "another run's"])
    def test_a_step_of_a_body_that_was_taken_over_is_not(self, body: Body | None) -> None:
        """What another request takes for undone stays undone: its own run of the body takes the step."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=body), done(A))

        after = CANCEL.decide(before, StepTaken(ME, waits(ONE, had(A), STEP)))

        assert before.at_rest == after.at_rest

    def test_the_output_comes_before_the_next_call(self) -> None:
        """The item of a tool that has returned is written before the call that goes out then."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A))

        after = CANCEL.decide(before, WentOn(ME, waits(ONE, had(A)), calls=(N,), output='"done"'))

        assert ["add output_1", "add e"] == writes(before, after)
        assert after.outputs[0].created_at < after.items[0].created_at

    def test_the_output_is_in_the_plan_until_it_is_an_item(self) -> None:
        """The plan that is saved first holds what the tool has returned; the plan at rest does not hold the tool."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A))

        after = CANCEL.decide(before, WentOn(ME, waits(ONE, had(A)), output='"done"'))

        assert (['"done"'], ()) == ([tool.output for tool in after.plan.tools], after.at_rest.tools)

    def test_an_output_that_is_an_item_is_not_written_twice(self) -> None:
        """A step that died after it had written the item leaves nothing to write but the plan."""
        before = thread(plan(tools=(returned(waits(ONE, had(A))),), last=A.id), done(A), output_item(ONE))

        after = CANCEL.decide(before, answer(to=A))

        assert ([], tells(sees=1), ()) == (writes(before, after), after.plan.body, after.at_rest.tools)

    def test_an_output_is_one_answer_for_the_model(self) -> None:
        """What two tools have returned is two answers, and the body that shows them takes note of both."""
        before = thread(plan(tools=(returned(waits(ONE, had(A))), returned(waits(TWO, had(B))))), done(A), done(B))

        after = CANCEL.decide(before, Resumed(by=ME))

        assert (tells(sees=2), 2) == (after.plan.body, after.at_rest.answers)

    def test_the_message_before_which_it_is_read(self) -> None:
        """The output of a tool that goes on in the request of a message names that message."""
        before = thread(plan(tools=(waits(ONE, lost(A), is_cancelled=True),), body=woken()), message("m"))

        after = CANCEL.decide(before, WentOn(ME, waits(ONE, lost(A)), output='"done"', then=Wrote("m", by=ME)))

        assert Output(f"model's {ONE}", "guides", '{"to": 1}', "done", before="m") == output_in(after.outputs[0])

    def test_an_output_whose_item_a_dead_step_did_not_write(self) -> None:
        """The request of a message writes it, and the model reads it before that message."""
        before = thread(plan(tools=(returned(waits(ONE, had(A))),)), done(A), message("m"))

        after = CANCEL.decide(before, Wrote("m", by=ME))

        assert Output(f"model's {ONE}", "guides", '{"to": 1}', "done", before="m") == output_in(after.outputs[0])


class TestTheBodyOfAToolThatIsDropped:
    """A worker may have died in it: nobody has to wait until it is taken for dead."""

    def test_by_a_retry(self) -> None:
        """A retry that drops a tool drops its body, and the application's own runs at once."""
        before = thread(plan(tools=(waits(ONE, had(A), turn="m"),), body=woken(by=OTHER)), message("m"))

        after = CANCEL.decide(before, Wrote("m", by=ME)).at_rest

        assert ((), None) == (after.tools, after.body)

    def test_by_the_application(self) -> None:
        """Dropping what is open drops the body of a tool that is dropped."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken(by=OTHER)), done(A))

        after = CANCEL.decide(before, Cancelled()).at_rest

        assert ((), None) == (after.tools, after.body)

    def test_one_that_stays_is_left_alone(self) -> None:
        """The body of a tool that a message only cancels goes on."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken(by=OTHER)), done(A), message("m"))

        assert woken(by=OTHER) == CANCEL.decide(before, Wrote("m", by=ME)).at_rest.body


class TestTheStateOfARun:
    def test_it_is_kept_with_the_tools(self) -> None:
        """The state of a run is kept with the tools that wait in it."""
        after = CANCEL.decide(thread(plan(), message("m")), Ended(ME, sees=0, calls=(A,), tools=(T,), state="s"))

        assert "s" == after.at_rest.state

    def test_not_beside_tools_of_another_run(self) -> None:
        """Beside a tool of another run it is dropped: it knows nothing of what that one returns."""
        before = thread(plan(A, tools=(T,), state="old"), message("m"), pending(A))

        after = CANCEL.decide(before, Ended(ME, sees=0, calls=(B,), tools=(T2,), state="s"))

        assert after.at_rest.state is None

    def test_a_run_without_one_drops_it(self) -> None:
        """A run that ends without tools that wait leaves no state behind."""
        after = CANCEL.decide(thread(plan(state="old"), message("m")), Ended(ME, sees=0))

        assert after.at_rest.state is None

    def test_a_message_drops_the_state(self) -> None:
        """A message drops the state of a run, which does not know the message."""
        before = thread(plan(A, tools=(T,), state="s"), pending(A), message("m"))

        assert CANCEL.decide(before, Wrote("m", by=ME)).at_rest.state is None

    def test_a_form_drops_the_state(self) -> None:
        """A form that is filled in drops the state of a run, which does not know the form's answers."""
        before = thread(plan(tools=(waits(ONE, had(A)),), state="s"), done(A))

        assert CANCEL.decide(before, FilledIn(by=ME)).at_rest.state is None

    def test_it_goes_with_a_tool_that_is_dropped(self) -> None:
        """The application drops what is open; a tool that waits for a required call stays, without the state."""
        before = thread(plan(B, S, tools=(T2, waits(ONE, ask(S))), state="s"), pending(B), message("m"))

        after = CANCEL.decide(before, Cancelled()).at_rest

        assert ([ONE], None) == ([tool.id for tool in after.tools], after.state)


class TestRecorded:
    def test_the_end_of_a_body(self) -> None:
        """Tools that a body has left waiting are not left waiting twice."""
        event = recorded(Ended(ME, sees=1, calls=(A,), tools=(T,)))

        assert Ended(ME, sees=1) == event

    def test_a_tool_that_has_gone_on(self) -> None:
        """A tool whose progress is recorded does not go on twice."""
        event = recorded(WentOn(ME, T, calls=(A2,), output='"done"'))

        assert WentOn(ME, T, calls=(A2,), output='"done"', is_recorded=True) == event


class TestJournals:
    def test_a_call_that_has_left_the_plan_is_cancelled(self) -> None:
        """An open line whose call is not in the plan any more counts as cancelled: the tool can go on."""
        before = thread(plan(tools=(T,)))

        assert [lost(A)] == [*before.tools[0].journal]

    def test_a_call_that_is_answered(self) -> None:
        """An open line whose call is answered names the item with the answer, that of its latest attempt."""
        again = A.new_attempt()

        journal = thread(plan(again, tools=(T,)), done(again)).tools[0].journal

        assert [ask(A, item_id="tc_a-2")] == [*journal]

    def test_a_call_that_is_open(self) -> None:
        """The line of a call that is pending or queued stays open, beside others that are not."""
        tool = waits(ONE, STEP, had(Q), ask(A))

        assert tool.journal == thread(plan(A, tools=(tool,)), pending(A)).tools[0].journal

    def test_the_items_of_its_answers(self) -> None:
        """A tool names the items that it needs when it runs again."""
        assert ["tc_a"] == waits(ONE, STEP, had(A), lost(B), ask(A2)).answers

    def test_a_step_is_no_open_call(self) -> None:
        """A tool that has taken a step only can go on."""
        assert waits(ONE, STEP).is_ready


class TestCalls:
    def test_find(self) -> None:
        """A call is found by its own id, in calls that were parsed and in lines of text."""
        kept = plan(Q, A, N)
        stored = Plan.from_text(kept.to_text(), THREAD).calls

        assert (1, 1) == (kept.calls.find(A.id), stored.find(A.id))
        assert (None, None) == (kept.calls.find("ask_x"), stored.find("ask_x"))

    def test_find_does_not_take_a_mention_for_the_call(self) -> None:
        """A call whose arguments hold another one's id is not that other call."""
        mention = gets("f", arguments={"of": A.id})
        stored = Plan.from_text(plan(mention, A).to_text(), THREAD).calls

        assert 1 == stored.find(A.id)

    def test_no_calls(self) -> None:
        """In an empty plan nothing is found, and no tool waits."""
        assert (None, None) == (Calls().find(A.id), plan().tool(ONE))


class TestOutputs:
    def test_an_output_comes_back_from_its_item(self) -> None:
        """The item of a tool that has returned holds the model's call and its output, whatever JSON that is."""
        output = Output("call_1", "guides", '{"to": 1}', [{"type": "input_text", "text": "\N{SNOWMAN}"}], before="m")

        assert output == output_in(item_of(new_tool_id(), output, THREAD, moment(ASKED)))

    @pytest.mark.parametrize(
        "item",
        [
            message("output_m"),
            HiddenContextItem(id="output_h", thread_id=THREAD, created_at=moment(ASKED), content="{}"),
            SDKHiddenContextItem(id="shcx_1", thread_id=THREAD, created_at=moment(ASKED), content="{}"),
            SDKHiddenContextItem(id="output_1", thread_id=THREAD, created_at=moment(ASKED), content="was cancelled"),
            SDKHiddenContextItem(id="shcx_1", thread_id=THREAD, created_at=moment(ASKED), content=LIKE_AN_OUTPUT),
            SDKHiddenContextItem(id="output_1", thread_id=THREAD, created_at=moment(ASKED), content="{}"),
            SDKHiddenContextItem(id="output_1", thread_id=THREAD, created_at=moment(ASKED), content="[]"),
        ],
    )
    def test_other_items(self, item: Any) -> None:
        """An item that is none of these holds no output, also if its id looks like one."""
        assert output_in(item) is None

    def test_ids_are_random(self) -> None:
        """Two tools never have the same id."""
        assert new_tool_id() != new_tool_id()


class TestThreads:
    def test_only_outputs_of_tools_of_the_plan_are_read(self) -> None:
        """The item of a tool that has left the plan is one like any other: its answer is counted already."""
        seen = thread(plan(tools=(T,)), output_item(ONE), output_item(TWO))

        assert [ONE] == [item.id for item in seen.outputs]

    def test_as_far_as_it_is_written(self) -> None:
        """A thread whose step was cut off has the outputs that were written before that."""
        before = thread(plan(tools=(waits(ONE, had(A)),), body=woken()), done(A))
        after = CANCEL.decide(before, WentOn(ME, waits(ONE, had(A)), calls=(N,), output='"done"'))

        reached = before.having(after.plan, after.writes_after(before)[:1])

        assert ([ONE], ["tc_a"]) == ([item.id for item in reached.outputs], [item.id for item in reached.items])

    def test_a_plan_with_a_tool_is_not_over(self) -> None:
        """While a tool waits the plan is not over, and the calls that were answered count."""
        answered = thread(plan(A, tools=(T,)), done(A))

        assert (1, 1) == (answered.at_rest.finished, len(answered.at_rest.tools))

    def test_a_required_call_of_ours_beside(self) -> None:
        """Required calls that no tool waits for stay beside a tool that a message has cancelled."""
        required = stops("6")
        before = thread(plan(A, required, tools=(T,)), pending(A), message("m"))

        after = CANCEL.decide(before, Wrote("m", by=ME))

        assert (["6 queued"], woken(holds=[required])) == (states(after, CANCEL), after.plan.body)


class TestSendingAgain:
    def test_the_next_ask(self) -> None:
        """A repeat of the last answer streams the ask that is pending once more."""
        before = thread(plan(A2, tools=(waits(ONE, had(A), ask(A2)),), last=A.id), done(A), pending(A2))

        assert pending(A2) == CANCEL.sends_again(before, answer(to=A))

    def test_a_recorded_answer(self) -> None:
        """An answer that this very step has recorded is no repeat."""
        before = thread(plan(A2, tools=(waits(ONE, had(A), ask(A2)),), last=A.id), done(A), pending(A2))
        event = answer(to=A)

        assert CANCEL.sends_again(before, Answered(event.result, ME, is_recorded=True)) is None
