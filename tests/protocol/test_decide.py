"""What becomes of a thread when something happens to it: a table of cases, then the rules that hold for every case."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._protocol.decide import (
    Acted,
    Answered,
    AtWork,
    Cancelled,
    Ended,
    Event,
    Expired,
    FilledIn,
    Policy,
    Resumed,
    Stopped,
    Wrote,
    recorded,
)
from chatkit_clienttools._protocol.plan import BODY_SECONDS, Body, Plan
from chatkit_clienttools.answers import EXPIRED, refusal
from chatkit_clienttools.receipts import RECEIPT, receipt_for, unstamped
from tests.protocol.values import (
    ME,
    NOW,
    OTHER,
    THREAD,
    answer,
    body,
    call,
    changes,
    done,
    gets,
    message,
    pending,
    plan,
    policy,
    shows,
    states,
    stops,
    stranger,
    text,
    thread,
    waits,
    writes,
)

if TYPE_CHECKING:
    from chatkit_clienttools._protocol.plan import PlannedCall
    from chatkit_clienttools._protocol.thread import Thread

A, B, C, S, F = gets("a"), gets("b"), shows("c"), stops("s"), call("f", "theirs")
"""The calls of most threads: two whose answers are wanted, one whose answer is not, and a required one."""

LATE = gets("a", expires_at=NOW)
"""A call whose time is over."""

Z = gets("z")
"""A call that has left the plan: it was answered last."""

CANCEL, KEEP, ABORT, BARE = policy(), policy(keeps=True), policy(aborts=True), policy(receipts=False)

OVER = NOW
"""A time at which a body may be taken for dead."""

ONE_HOUR_AHEAD = NOW + 3600
"""Until when a body claims to be at work whose worker has a wrong clock."""


def claimed(*, sees: int, holds: Any = ()) -> Body:
    """The body of the run that takes the step."""
    return body(ME, sees=sees, holds=holds, until=NOW + BODY_SECONDS)


@dataclass(frozen=True)
class Case:
    """A thread, what happens to it, and what then is the case."""

    before: Thread
    event: Event
    then: list[str] = field(default_factory=list)
    """The calls of the plan, finished ones included, with their states."""
    writes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    """What is announced, but for the positions."""
    by: Policy = CANCEL
    body: Body | None = None
    told: int = 0
    removed: tuple[str, ...] = ()


ANSWERS = {
    "an answer is recorded and the next call goes out": Case(
        thread(plan(A, B), pending(A)),
        answer(to=A),
        then=["a completed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> completed", "b: queued -> pending"],
    ),
    "after the last answer that is wanted a body tells the model": Case(
        thread(plan(A), pending(A)),
        answer(to=A),
        then=["a completed"],
        writes=["complete a"],
        changes=["a: pending -> completed"],
        body=claimed(sees=1),
    ),
    "an answer that nobody wants is the end": Case(
        thread(plan(C), pending(C)),
        answer(to=C),
        then=["c completed"],
        writes=["complete c"],
        changes=["c: pending -> completed"],
    ),
    "the model is told of an earlier answer after one that nobody wants": Case(
        thread(plan(C, answers=1), pending(C)),
        answer(to=C),
        then=["c completed"],
        writes=["complete c"],
        changes=["c: pending -> completed"],
        body=claimed(sees=1),
    ),
    "an answer without a receipt counts for the pending call": Case(
        thread(plan(A, B), pending(A)),
        answer(),
        then=["a completed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> completed", "b: queued -> pending"],
    ),
    "an answer to another call changes nothing": Case(
        thread(plan(B), done(A), pending(B)),
        answer(to=A),
        then=["b pending"],
    ),
    "an answer with somebody else's receipt changes nothing": Case(
        thread(plan(A), pending(A)),
        Answered({RECEIPT: "theirs", "result": 7}, ME),
        then=["a pending"],
    ),
    "an answer with a receipt is not for a call that has none": Case(
        thread(plan(F), stranger()),
        answer(to=A),
        then=["f pending"],
    ),
    "a call that nobody planned is answered like any other": Case(
        thread(plan(A), stranger()),
        answer(),
        then=["f completed", "a pending"],
        writes=["complete f", "add a"],
        changes=["f: pending -> completed", "a: queued -> pending"],
    ),
    "without receipts any answer is for the pending call": Case(
        thread(plan(A, B), pending(A, receipt=False)),
        answer(7),
        then=["a completed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> completed", "b: queued -> pending"],
        by=BARE,
    ),
    "a call that went out with a receipt is answered with it, whatever the rules are now": Case(
        thread(plan(B), done(A), pending(B)),
        answer(to=A),
        then=["b pending"],
        by=BARE,
    ),
    "a failed answer is recorded, and the next call goes out": Case(
        thread(plan(A, B), pending(A)),
        answer("no number", to=A),
        then=["a failed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> failed", "b: queued -> pending"],
    ),
    "with abort a failed answer cancels what waits, but for what is required": Case(
        thread(plan(A, B, S, C), pending(A)),
        answer("no number", to=A),
        then=["a failed", "s pending"],
        writes=["complete a", "add s"],
        changes=["a: pending -> failed", "b: queued -> cancelled", "s: queued -> pending", "c: queued -> cancelled"],
        by=ABORT,
        removed=("tc_b",),
    ),
    "with abort the model is told at once if nothing is required": Case(
        thread(plan(A, B), pending(A)),
        answer({"error": "no canvas"}),
        then=["a failed"],
        writes=["complete a"],
        changes=["a: pending -> failed", "b: queued -> cancelled"],
        by=ABORT,
        body=claimed(sees=1),
        removed=("tc_b",),
    ),
    "with abort an answer that fits cancels nothing": Case(
        thread(plan(A, B), pending(A)),
        answer(to=A),
        then=["a completed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> completed", "b: queued -> pending"],
        by=ABORT,
    ),
    "a repeat of the last answer goes on where the thread stands": Case(
        thread(plan(A, last=Z.id, mark="tc_z"), done(Z)),
        answer(to=Z),
        then=["a pending"],
        writes=["add a"],
        changes=["a: queued -> pending"],
    ),
    "a repeat of the last answer tells the model what it does not know": Case(
        thread(plan(last=Z.id, answers=1), done(Z)),
        answer(to=Z),
        body=claimed(sees=1),
    ),
    "a repeat of the last answer changes nothing if the model knows it": Case(
        thread(plan(last=Z.id, answers=1, told=1), done(Z)),
        answer(to=Z),
        told=1,
    ),
    "an answer to an older call that finds nothing pending changes nothing": Case(
        thread(plan(A, last=Z.id, answers=1), done(call("y")), done(Z)),
        answer(to=call("y")),
        then=["a queued"],
    ),
    "an answer to a call that was cancelled changes nothing": Case(
        thread(plan(A, answers=1)),
        answer(to=Z),
        then=["a queued"],
    ),
    "an answer without a receipt that finds nothing pending goes on": Case(
        thread(plan(A, last=Z.id), done(Z)),
        answer(),
        then=["a pending"],
        writes=["add a"],
        changes=["a: queued -> pending"],
    ),
    "without receipts an answer that finds nothing pending goes on": Case(
        thread(plan(A, last=Z.id), done(Z, receipt=False)),
        answer(),
        then=["a pending"],
        writes=["add a"],
        changes=["a: queued -> pending"],
        by=BARE,
    ),
    "without receipts nothing that an answer holds is taken for a receipt": Case(
        thread(plan(A, last=Z.id), done(Z, receipt=False)),
        answer(to=call("y")),
        then=["a pending"],
        writes=["add a"],
        changes=["a: queued -> pending"],
        by=BARE,
    ),
    "an answer to the next call, whose item was withdrawn and not sent again, sends it again": Case(
        thread(plan(A.new_attempt(), last=Z.id, removed=("tc_a",)), done(Z)),
        answer(to=A),
        then=["a-2 pending"],
        writes=["add a-2"],
        changes=["a-2: queued -> pending"],
        removed=("tc_a",),
    ),
    "an answer to a call that waits behind the next changes nothing": Case(
        thread(plan(A, B, last=Z.id), done(Z)),
        answer(to=B),
        then=["a queued", "b queued"],
    ),
    "a repeat goes on after a step that died between the answer and the next call": Case(
        thread(plan(A, B), done(A)),
        answer(to=A),
        then=["b pending"],
        writes=["add b"],
        changes=["b: queued -> pending"],
    ),
    "a repeat goes on after a step that died between the last answer and the body": Case(
        thread(plan(A), done(A)),
        answer(to=A),
        body=claimed(sees=1),
    ),
}

BODIES = {
    "a body that is at work and shows the answer is left alone": Case(
        thread(plan(last=Z.id, answers=2, body=body(OTHER, sees=2))),
        answer(to=Z),
        body=body(OTHER, sees=2),
    ),
    "a body that began before the answer does not show it": Case(
        thread(plan(last=Z.id, answers=2, body=body(OTHER, sees=1))),
        answer(to=Z),
        body=claimed(sees=2),
    ),
    "a body whose time is over is dead": Case(
        thread(plan(last=Z.id, answers=2, body=body(OTHER, sees=2, until=OVER))),
        answer(to=Z),
        body=claimed(sees=2),
    ),
    "a body of a clock that is ahead is dead": Case(
        thread(plan(last=Z.id, answers=2, body=body(OTHER, sees=2, until=ONE_HOUR_AHEAD))),
        answer(to=Z),
        body=claimed(sees=2),
    ),
    "an answer during another body is told by a body of its own": Case(
        thread(plan(A, body=body(OTHER, sees=0)), pending(A)),
        answer(to=A),
        then=["a completed"],
        writes=["complete a"],
        changes=["a: pending -> completed"],
        body=claimed(sees=1),
    ),
    "a call that a body holds does not go out": Case(
        thread(plan(S, last=Z.id, body=body(OTHER, holds=[S]))),
        answer(to=Z),
        then=["s queued"],
        body=body(OTHER, holds=[S]),
    ),
    "a call that a body does not hold goes out": Case(
        thread(plan(A, S, last=Z.id, body=body(OTHER, holds=[S]))),
        answer(to=Z),
        then=["a pending", "s queued"],
        writes=["add a"],
        changes=["a: queued -> pending"],
        body=body(OTHER, holds=[S]),
    ),
    "a call that a dead body holds goes out": Case(
        thread(plan(S, last=Z.id, body=body(OTHER, holds=[S], until=OVER))),
        answer(to=Z),
        then=["s pending"],
        writes=["add s"],
        changes=["s: queued -> pending"],
        body=body(OTHER, holds=[S], until=OVER),
    ),
    "a call that a body of a clock that is ahead holds goes out": Case(
        thread(plan(S, last=Z.id, body=body(OTHER, holds=[S], until=ONE_HOUR_AHEAD))),
        answer(to=Z),
        then=["s pending"],
        writes=["add s"],
        changes=["s: queued -> pending"],
        body=body(OTHER, holds=[S], until=ONE_HOUR_AHEAD),
    ),
}

RESUMES = {
    "a page that was loaded gets the pending call again": Case(
        thread(plan(A, B), pending(A)),
        Resumed(ME),
        then=["a-2 pending", "b queued"],
        writes=["delete a", "add a-2"],
        changes=["a-2: pending -> pending"],
        removed=("tc_a",),
    ),
    "and again, under an item of its own each time": Case(
        thread(plan(A.new_attempt(), removed=("tc_a",)), pending(A.new_attempt())),
        Resumed(ME),
        then=["a-3 pending"],
        writes=["delete a-2", "add a-3"],
        changes=["a-3: pending -> pending"],
        removed=("tc_a", "tc_a-2"),
    ),
    "a call that nobody planned is sent again as well": Case(
        thread(plan(), stranger()),
        Resumed(ME),
        then=["f-2 pending"],
        writes=["delete f", "add f-2"],
        changes=["f-2: pending -> pending"],
        removed=("tc_f",),
    ),
    "if nothing is pending the next call goes out": Case(
        thread(plan(A, B)),
        Resumed(ME),
        then=["a pending", "b queued"],
        writes=["add a"],
        changes=["a: queued -> pending"],
    ),
    "if nothing is left the model is told what it does not know": Case(
        thread(plan(answers=1)),
        Resumed(ME),
        body=claimed(sees=1),
    ),
    "if nothing is left, and nothing to be told, nothing changes": Case(thread(plan(), done(Z)), Resumed(ME)),
    "what a body holds is not sent": Case(
        thread(plan(S, body=body(OTHER, holds=[S]))),
        Resumed(ME),
        then=["s queued"],
        body=body(OTHER, holds=[S]),
    ),
    "of two pending calls the newer is sent again, and the older waits": Case(
        thread(plan(A, B), pending(A), pending(B)),
        Resumed(ME),
        then=["b-2 pending", "a-2 queued"],
        writes=["delete b", "delete a", "add b-2"],
        changes=["a-2: pending -> queued", "b-2: pending -> pending"],
        removed=("tc_a", "tc_b"),
    ),
}

MESSAGES = {
    "a message cancels what is open": Case(
        thread(plan(A, B, C), pending(A)),
        Wrote("msg_2", ME),
        writes=["delete a"],
        changes=["a: pending -> cancelled", "b: queued -> cancelled", "c: queued -> cancelled"],
        removed=("tc_a",),
    ),
    "the item of the first call that waits goes too, should it appear": Case(
        thread(plan(A, B)),
        Wrote("msg_2", ME),
        changes=["a: queued -> cancelled", "b: queued -> cancelled"],
        removed=("tc_a",),
    ),
    "required calls stay, and wait for the body": Case(
        thread(plan(A, S, B), pending(A)),
        Wrote("msg_2", ME),
        then=["s queued"],
        writes=["delete a"],
        changes=["a: pending -> cancelled", "b: queued -> cancelled"],
        body=claimed(sees=0, holds=[S]),
        removed=("tc_a",),
    ),
    "a required call that is pending waits for another attempt": Case(
        thread(plan(S, B), pending(S)),
        Wrote("msg_2", ME),
        then=["s-2 queued"],
        writes=["delete s"],
        changes=["s-2: pending -> queued", "b: queued -> cancelled"],
        body=claimed(sees=0, holds=[S]),
        removed=("tc_s",),
    ),
    "a required call that waits first keeps its item's id": Case(
        thread(plan(S, B)),
        Wrote("msg_2", ME),
        then=["s queued"],
        changes=["b: queued -> cancelled"],
        body=claimed(sees=0, holds=[S]),
    ),
    "the body of a message tells the model what it does not know": Case(
        thread(plan(B, answers=1), pending(B)),
        Wrote("msg_2", ME),
        writes=["delete b"],
        changes=["b: pending -> cancelled"],
        body=claimed(sees=1),
        removed=("tc_b",),
    ),
    "a message on a thread without open calls changes nothing": Case(
        thread(plan(answers=1, told=1), done(Z)), Wrote("msg_2", ME), told=1
    ),
    "the body of a newer message holds what is required": Case(
        thread(plan(S, body=body(OTHER, holds=[S]))),
        Wrote("msg_3", ME),
        then=["s queued"],
        body=claimed(sees=0, holds=[S]),
    ),
    "with cancel a retry takes the required calls of its message with it": Case(
        thread(plan(stops("s", turn="msg_1"), stops("r", turn="msg_0"))),
        Wrote("msg_1", ME),
        then=["r queued"],
        changes=["s: queued -> cancelled"],
        body=claimed(sees=0, holds=[stops("r")]),
        removed=("tc_s",),
    ),
    "with keep a message changes nothing": Case(
        thread(plan(A, B), pending(A)), Wrote("msg_2", ME), then=["a pending", "b queued"], by=KEEP
    ),
    "with keep the body of a message tells the model what it does not know": Case(
        thread(plan(A, answers=1), pending(A)),
        Wrote("msg_2", ME),
        then=["a pending"],
        by=KEEP,
        body=claimed(sees=1),
    ),
    "with keep a retry starts over without the calls of its message": Case(
        thread(plan(gets("a", turn="msg_1"), gets("b", turn="msg_1"), gets("d", turn="msg_0")), pending(A)),
        Wrote("msg_1", ME),
        then=["d queued"],
        writes=["delete a"],
        changes=["a: pending -> cancelled", "b: queued -> cancelled"],
        by=KEEP,
        body=claimed(sees=0, holds=[gets("d")]),
        removed=("tc_a",),
    ),
    "with keep a call stays pending if only those behind it are retried": Case(
        thread(plan(gets("a", turn="msg_0"), gets("b", turn="msg_1")), pending(A)),
        Wrote("msg_1", ME),
        then=["a pending"],
        changes=["b: queued -> cancelled"],
        by=KEEP,
    ),
    "with keep a retry cancels the calls of messages that it has deleted": Case(
        thread(plan(gets("a", turn="msg_2"), gets("b", turn="msg_0")), gone=["msg_2"]),
        Wrote("msg_1", ME),
        then=["b queued"],
        changes=["a: queued -> cancelled"],
        by=KEEP,
        body=claimed(sees=0, holds=[B]),
        removed=("tc_a",),
    ),
    "with keep a call of no message stays": Case(
        thread(plan(gets("a", turn=None)), pending(A)), Wrote(None, ME), then=["a pending"], by=KEEP
    ),
    "a call that was finished before is not cancelled": Case(
        thread(plan(A, B), done(A)),
        Wrote("msg_2", ME),
        changes=["b: queued -> cancelled"],
        body=claimed(sees=1),
        removed=("tc_b",),
    ),
}

ENDS = {
    "what a body has asked for is queued, and the first call goes out": Case(
        thread(plan(), message("msg_1")),
        Ended(ME, 0, (A, B)),
        then=["a pending", "b queued"],
        writes=["add a"],
        changes=["a: new -> queued", "b: new -> queued", "a: queued -> pending"],
    ),
    "what a body has asked for waits behind what is open": Case(
        thread(plan(C), pending(C)),
        Ended(ME, 0, (A,)),
        then=["c pending", "a queued"],
        changes=["a: new -> queued"],
    ),
    "what waits already goes out first": Case(
        thread(plan(C)),
        Ended(ME, 0, (A,)),
        then=["c pending", "a queued"],
        writes=["add c"],
        changes=["c: queued -> pending", "a: new -> queued"],
    ),
    "a body that has asked for nothing changes nothing": Case(thread(plan()), Ended(ME, 0)),
    "the answers that a body began with are told": Case(
        thread(plan(answers=3, told=1, body=body(ME, sees=2))), Ended(ME, 2), told=2
    ),
    "an answer that came during the body is not told": Case(
        thread(plan(A, answers=1, body=body(ME, sees=1)), done(A)), Ended(ME, 1), told=1
    ),
    "a body that began earlier does not take back what another has told": Case(
        thread(plan(answers=3, told=3, body=body(ME, sees=1))), Ended(ME, 1), told=3
    ),
    "no more can be told than was answered": Case(thread(plan(answers=1, body=body(ME))), Ended(ME, 5), told=1),
    "the body of another run goes on": Case(
        thread(plan(answers=2, body=body(OTHER, sees=2))), Ended(ME, 1), told=1, body=body(OTHER, sees=2)
    ),
    "what its own body held goes out": Case(
        thread(plan(S, body=body(ME, holds=[S]))),
        Ended(ME, 0),
        then=["s pending"],
        writes=["add s"],
        changes=["s: queued -> pending"],
    ),
    "what another body holds does not go out": Case(
        thread(plan(S, body=body(OTHER, holds=[S]))),
        Ended(ME, 0, (A,)),
        then=["s queued", "a queued"],
        changes=["a: new -> queued"],
        body=body(OTHER, holds=[S]),
    ),
    "the body of a run that has failed is not at work any more": Case(
        thread(plan(S, answers=1, body=body(ME, sees=1, holds=[S]))), Stopped(ME), then=["s queued"]
    ),
    "a run that has failed leaves the body of another alone": Case(
        thread(plan(body=body(OTHER))), Stopped(ME), body=body(OTHER)
    ),
    "a run that has failed without a body changes nothing": Case(thread(plan()), Stopped(ME)),
    "a run that is at work still has more time": Case(
        thread(plan(S, answers=1, body=body(ME, sees=1, holds=[S], until=NOW + 1))),
        AtWork(ME),
        then=["s queued"],
        body=body(ME, sees=1, holds=[S], until=NOW + BODY_SECONDS),
    ),
    "a run that is at work does not lengthen the body of another": Case(
        thread(plan(body=body(OTHER, until=NOW + 1))), AtWork(ME), body=body(OTHER, until=NOW + 1)
    ),
    "a run that is at work takes no body that was taken from it": Case(thread(plan()), AtWork(ME)),
    "a run that is at work leaves a call alone whose time is over": Case(
        thread(plan(LATE, body=body(ME, until=NOW + 1)), pending(LATE)),
        AtWork(ME),
        then=["a pending"],
        body=body(ME, until=NOW + BODY_SECONDS),
    ),
}

OTHERS = {
    "an action leaves the open calls alone": Case(
        thread(plan(A, B, answers=1), pending(A)), Acted(), then=["a pending", "b queued"]
    ),
    "a form leaves the open calls alone": Case(
        thread(plan(A, answers=1, told=1), pending(A)), FilledIn(ME), then=["a pending"], told=1
    ),
    "the body of a form tells the model what it does not know": Case(
        thread(plan(A, answers=1), pending(A)), FilledIn(ME), then=["a pending"], body=claimed(sees=1)
    ),
    "the body of a form does not take the place of one that is at work": Case(
        thread(plan(S, answers=1, body=body(OTHER, sees=1, holds=[S]))),
        FilledIn(ME),
        then=["s queued"],
        body=body(OTHER, sees=1, holds=[S]),
    ),
    "the body of a form takes the place of a dead one": Case(
        thread(plan(answers=1, body=body(OTHER, sees=1, until=OVER))), FilledIn(ME), body=claimed(sees=1)
    ),
    "cancelling takes what is open, but for what is required": Case(
        thread(plan(A, B, S), pending(A)),
        Cancelled(),
        then=["s queued"],
        writes=["delete a"],
        changes=["a: pending -> cancelled", "b: queued -> cancelled"],
        removed=("tc_a",),
    ),
    "cancelling withdraws a required call that is pending": Case(
        thread(plan(S, B), pending(S)),
        Cancelled(),
        then=["s-2 queued"],
        writes=["delete s"],
        changes=["s-2: pending -> queued", "b: queued -> cancelled"],
        removed=("tc_s",),
    ),
    "cancelling takes required calls too if that is said": Case(
        thread(plan(S, B, stops("t")), pending(S)),
        Cancelled(required=True),
        writes=["delete s"],
        changes=["s: pending -> cancelled", "b: queued -> cancelled", "t: queued -> cancelled"],
        removed=("tc_s",),
    ),
    "after cancelling the model is told nothing": Case(
        thread(plan(A, answers=2)),
        Cancelled(),
        changes=["a: queued -> cancelled"],
        told=2,
        removed=("tc_a",),
    ),
    "cancelling nothing changes nothing": Case(thread(plan(answers=1, told=1), done(Z)), Cancelled(), told=1),
    "an item that had to go goes, whatever happens": Case(
        thread(plan(A, removed=("tc_z",)), pending(A), pending(Z)),
        Acted(),
        then=["a pending"],
        writes=["delete z"],
        removed=("tc_z",),
    ),
    "an answer is not taken for a call that had to go": Case(
        thread(plan(removed=("tc_z",)), pending(Z)),
        answer(to=Z),
        writes=["delete z"],
        removed=("tc_z",),
    ),
    "a call goes out though an item that had to go is pending": Case(
        thread(plan(A, removed=("tc_z",)), pending(Z)),
        Ended(ME, 0),
        then=["a pending"],
        writes=["delete z", "add a"],
        changes=["a: queued -> pending"],
        removed=("tc_z",),
    ),
    "the older of two pending calls waits for the answer to the newer": Case(
        thread(plan(A, B), pending(A), pending(B)),
        answer(to=B),
        then=["b completed", "a-2 pending"],
        writes=["delete a", "complete b", "add a-2"],
        changes=["a-2: pending -> pending", "b: pending -> completed"],
        removed=("tc_a",),
    ),
    "a call that is pending again after a later one was answered is answered first": Case(
        thread(plan(A, B, C), pending(A), done(B), adopts=False),
        answer(to=A),
        then=["a completed", "b completed", "c pending"],
        writes=["complete a", "add c"],
        changes=["a: pending -> completed", "c: queued -> pending"],
    ),
}


DEADLINES = {
    "an answer to a call whose time is over is not taken": Case(
        thread(plan(LATE, B), pending(LATE)),
        answer(to=LATE),
        then=["a failed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> failed", "b: queued -> pending"],
    ),
    "an answer without a receipt does not count for the call after one whose time is over": Case(
        thread(plan(LATE, B), pending(LATE)),
        answer(),
        by=BARE,
        then=["a failed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> failed", "b: queued -> pending"],
    ),
    "an answer to another call ends one whose time is over": Case(
        thread(plan(LATE), done(Z), pending(LATE)),
        answer(to=Z),
        then=["a failed"],
        writes=["complete a"],
        changes=["a: pending -> failed"],
        body=claimed(sees=1),
    ),
    "an answer in the last moment is taken": Case(
        thread(plan(gets("a", expires_at=NOW + 0.001), B), pending(A)),
        answer(to=A),
        then=["a completed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> completed", "b: queued -> pending"],
    ),
    "a call whose time is over cancels those behind it": Case(
        thread(plan(LATE, B, S), pending(LATE)),
        answer(to=LATE),
        by=ABORT,
        then=["a failed", "s pending"],
        writes=["complete a", "add s"],
        changes=["a: pending -> failed", "b: queued -> cancelled", "s: queued -> pending"],
        removed=("tc_b",),
    ),
    "a page that is loaded gets the call after one whose time is over": Case(
        thread(plan(LATE, B), pending(LATE)),
        Resumed(ME),
        then=["a failed", "b pending"],
        writes=["complete a", "add b"],
        changes=["a: pending -> failed", "b: queued -> pending"],
    ),
    "a message finds that the time is over, and takes what waits": Case(
        thread(plan(LATE, B), pending(LATE), message("msg_2")),
        Wrote("msg_2", ME),
        then=["a failed"],
        writes=["complete a"],
        changes=["a: pending -> failed", "b: queued -> cancelled"],
        body=claimed(sees=1),
        removed=("tc_b",),
    ),
    "with keep a message finds that the time is over, and holds what waits": Case(
        thread(plan(LATE, B), pending(LATE), message("msg_2")),
        Wrote("msg_2", ME),
        by=KEEP,
        then=["a failed", "b queued"],
        writes=["complete a"],
        changes=["a: pending -> failed"],
        body=claimed(sees=1, holds=[B]),
    ),
    "the body of a form tells the model whose time is over": Case(
        thread(plan(LATE), pending(LATE)),
        FilledIn(ME),
        then=["a failed"],
        writes=["complete a"],
        changes=["a: pending -> failed"],
        body=claimed(sees=1),
    ),
    "an action ends a call whose time is over, and nothing goes on before it has run": Case(
        thread(plan(LATE, B), pending(LATE)),
        Acted(),
        then=["a failed", "b queued"],
        writes=["complete a"],
        changes=["a: pending -> failed"],
    ),
    "after an action that has ended a call the model is told": Case(
        thread(plan(answers=1), done(Z)), Ended(ME, 0, tells=True), body=claimed(sees=1)
    ),
    "after an action that has ended a call the next one goes out": Case(
        thread(plan(A, answers=1), done(Z)),
        Ended(ME, 0, tells=True),
        then=["a pending"],
        writes=["add a"],
        changes=["a: queued -> pending"],
    ),
    "outside of a request a call whose time is over ends, and nothing goes on": Case(
        thread(plan(LATE, B), pending(LATE)),
        Expired(),
        then=["a failed", "b queued"],
        writes=["complete a"],
        changes=["a: pending -> failed"],
    ),
    "outside of a request a call in its time is left alone": Case(
        thread(plan(gets("a", expires_at=NOW + 1), B), pending(A)), Expired(), then=["a pending", "b queued"]
    ),
    "a call that waits is left alone, though its time is over": Case(
        thread(plan(gets("a", expires_at=NOW - 1))), Expired(), then=["a queued"]
    ),
    "cancelling finds that the time is over, and takes what waits": Case(
        thread(plan(LATE, B), pending(LATE)),
        Cancelled(),
        then=["a failed"],
        writes=["complete a"],
        changes=["a: pending -> failed", "b: queued -> cancelled"],
        told=1,
        removed=("tc_b",),
    ),
    "the end of a body leaves a call alone whose time is over": Case(
        thread(plan(LATE, B), pending(LATE)), Ended(ME, 0), then=["a pending", "b queued"]
    ),
}


TABLE = {**ANSWERS, **BODIES, **RESUMES, **MESSAGES, **ENDS, **OTHERS, **DEADLINES}


def announced(before: Thread, after: Thread, by: Policy) -> list[str]:
    """What is announced, without the positions."""
    found = [each.split(" ", 2) for each in changes(before, after, by)]
    return [f"{letter}: {change}" for letter, _, change in found]


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE)
class TestTable:
    def test_what_becomes_of_a_thread(self, case: Case) -> None:
        """Each case of the table: the calls, what is written, what is announced, and what the plan remembers."""
        after = case.by.decide(case.before, case.event)

        assert case.then == states(after, case.by)
        assert case.writes == writes(case.before, after)
        assert case.changes == announced(case.before, after, case.by)
        assert (case.body, case.told, case.removed) == (after.plan.body, after.plan.told, after.plan.removed)

    def test_deciding_again_decides_the_same(self, case: Case) -> None:
        """A decision depends on nothing but thread and event, and changes neither."""
        text = case.before.plan.to_text()

        first, second = (case.by.decide(case.before, case.event) for _ in range(2))

        assert first == second
        assert text == case.before.plan.to_text()

    def test_at_most_one_call_is_pending_afterwards(self, case: Case) -> None:
        """Whatever was found: an answer does not say which call it is for."""
        after = case.by.decide(case.before, case.event)

        assert 1 >= sum(item.status == "pending" for item in after.items)


UNCHANGED = [name for name, case in TABLE.items() if case.by.decide(case.before, case.event) is case.before]


def test_what_changes_nothing_is_the_same_value() -> None:
    """Who asks whether anything has happened compares nothing: these cases return the very thread they were given."""
    expected = [
        "an answer to another call changes nothing",
        "an answer with somebody else's receipt changes nothing",
        "an answer with a receipt is not for a call that has none",
        "a call that went out with a receipt is answered with it, whatever the rules are now",
        "a repeat of the last answer changes nothing if the model knows it",
        "an answer to an older call that finds nothing pending changes nothing",
        "an answer to a call that was cancelled changes nothing",
        "an answer to a call that waits behind the next changes nothing",
        "a body that is at work and shows the answer is left alone",
        "a call that a body holds does not go out",
        "if nothing is left, and nothing to be told, nothing changes",
        "what a body holds is not sent",
        "a message on a thread without open calls changes nothing",
        "with keep a message changes nothing",
        "with keep a call of no message stays",
        "a body that has asked for nothing changes nothing",
        "a run that has failed leaves the body of another alone",
        "a run that has failed without a body changes nothing",
        "a run that is at work does not lengthen the body of another",
        "a run that is at work takes no body that was taken from it",
        "an action leaves the open calls alone",
        "a form leaves the open calls alone",
        "the body of a form does not take the place of one that is at work",
        "cancelling nothing changes nothing",
        "outside of a request a call in its time is left alone",
        "a call that waits is left alone, though its time is over",
        "the end of a body leaves a call alone whose time is over",
    ]

    assert expected == UNCHANGED


class TestItems:
    """What an item holds that a decision makes."""

    def test_a_call_goes_out_with_its_receipt(self) -> None:
        """The receipt names the thread and the call's own id; the plan's arguments stay without it."""
        [item] = CANCEL.decide(thread(plan(A)), Resumed(ME)).items

        assert {"of": "a", RECEIPT: receipt_for(THREAD, A.id)} == item.arguments
        assert ("provider's a", "gets") == (item.call_id, item.name)

    def test_each_attempt_has_the_same_receipt(self) -> None:
        """A page that has answered the first attempt knows the second."""
        after = CANCEL.decide(thread(plan(A), pending(A)), Resumed(ME))

        assert pending(A).arguments == after.items[0].arguments

    def test_a_stranger_gets_a_receipt_when_it_is_sent_again(self) -> None:
        """The receipt of a call that nobody planned is made of the provider's id, the only id that it has."""
        [item] = CANCEL.decide(thread(plan(), stranger()), Resumed(ME)).items

        assert {"of": "f", RECEIPT: receipt_for(THREAD, "provider's f")} == item.arguments

    def test_without_receipts_a_call_goes_out_as_it_is(self) -> None:
        """Without receipts the arguments of a released call are those of the plan."""
        [item] = BARE.decide(thread(plan(A)), Resumed(ME)).items

        assert {"of": "a"} == item.arguments

    @pytest.mark.parametrize(
        ("posted", "stored"),
        [
            ({RECEIPT: receipt_for(THREAD, A.id), "result": [1]}, [1]),
            ({RECEIPT: receipt_for(THREAD, A.id), "error": "no canvas"}, {"error": "no canvas"}),
            ({RECEIPT: receipt_for(THREAD, A.id)}, None),
            ([1], [1]),
            (None, None),
        ],
    )
    def test_an_answer_is_stored_without_its_receipt(self, posted: object, stored: object) -> None:
        """What is stored is what the model gets, and nothing else of the item changes."""
        before = thread(plan(A), pending(A))

        [item] = CANCEL.decide(before, Answered(posted, ME)).items

        assert pending(A).model_copy(update={"status": "completed", "output": stored}) == item

    def test_without_receipts_an_answer_is_stored_as_it_came(self) -> None:
        """Without receipts an answer is stored as it came, even if it has a `_receipt` of its own."""
        posted = {RECEIPT: "theirs", "result": 1}

        [item] = BARE.decide(thread(plan(A), pending(A, receipt=False)), Answered(posted, ME)).items

        assert posted == item.output


class TestTime:
    """When the time of a call begins, by what stands in the plan once it is released."""

    @pytest.mark.parametrize(
        ("released", "expires_at"),
        [
            (waits("a"), NOW + 60),
            (waits("a", attempt=2, expires_at=NOW + 1), NOW + 1),
            (waits("a", attempt=2, expires_at=NOW), NOW + 60),
            (gets("a"), None),
            (gets("a", attempt=2, expires_at=NOW + 1), NOW + 1),
        ],
        ids=["the first time", "once more", "when it is over", "no limit", "a limit that is gone"],
    )
    def test_a_call_that_is_released(self, released: PlannedCall, expires_at: float | None) -> None:
        """The time of a call begins with its first release, and begins anew only if it is over by a later one."""
        after = CANCEL.decide(thread(plan(released, B)), Resumed(ME))

        assert [expires_at, None] == [each.expires_at for each in after.plan.calls]

    def test_a_call_that_is_sent_again(self) -> None:
        """A page that is loaded gives the call no more time, and is told how much is left."""
        late = waits("a", expires_at=NOW + 15)

        after = CANCEL.decide(thread(plan(late), pending(late)), Resumed(ME))

        [item] = after.items
        assert [NOW + 15] == [each.expires_at for each in after.plan.calls]
        assert (round(1000 * (NOW + 15)), 15_000) == (item.arguments["_expires_at"], item.arguments["_expires_in"])

    def test_what_is_in_the_store(self) -> None:
        """A plan is stored with the time of its calls, and one without times as it always was."""
        assert "expires" not in plan(waits("a"), A).to_text()
        assert [NOW] == [each.expires_at for each in Plan.from_text(plan(LATE).to_text(), THREAD).calls]

    def test_a_call_without_its_stamps(self) -> None:
        """What an application sees of the params has neither receipt nor time."""
        after = CANCEL.decide(thread(plan(waits("a"))), Resumed(ME))

        assert [{"of": "a"}] == [unstamped(item) for item in after.items]


class TestSendingAgain:
    """A page that lost the response to its answer posts the answer again, and is shown the call that is pending."""

    @staticmethod
    def shown(by: Policy, before: Thread, event: Event) -> str | None:
        after = by.decide(before, event)
        assert after is before
        item = by.sends_again(after, event)
        return item.id if item else None

    def test_a_repeat_of_the_last_answer(self) -> None:
        """A page that repeats its last answer is streamed the pending call again; nothing is written."""
        assert "tc_b" == self.shown(CANCEL, thread(plan(B, last=A.id), done(A), pending(B)), answer(to=A))

    @pytest.mark.parametrize(
        ("before", "event"),
        [
            (thread(plan(B, last=A.id), done(A), pending(B)), answer(to=Z)),
            (thread(plan(B), done(A), pending(B)), answer(to=A)),
            (thread(plan(last=A.id, answers=1, told=1), done(A)), answer(to=A)),
            (thread(plan(B, last=A.id), done(A), pending(B)), Acted()),
            (thread(plan(B, last=A.id), done(A), pending(B)), recorded(answer(to=A))),
        ],
        ids=["an older answer", "no last answer", "nothing is pending", "another event", "an answer recorded just now"],
    )
    def test_nothing_else_is_sent_again(self, before: Thread, event: Event) -> None:
        """Nothing is streamed again unless the last answer is repeated while a call is pending."""
        assert self.shown(CANCEL, before, event) is None

    def test_without_receipts(self) -> None:
        """An answer cannot be told from an answer to the pending call: it is one."""
        before = thread(plan(C, last=A.id), done(A, receipt=False), pending(C, receipt=False))

        after = BARE.decide(before, answer(to=A))

        assert ["c completed"] == states(after, BARE)
        assert BARE.sends_again(before, answer(to=A)) is None

    def test_an_answer_that_was_recorded_in_this_step(self) -> None:
        """The next call goes out because it is added, and is not streamed twice."""
        before = thread(plan(A, B), pending(A))

        assert CANCEL.sends_again(CANCEL.decide(before, answer(to=A)), answer(to=A)) is None


class TestWhatThePlanRemembers:
    def test_the_last_call_that_was_answered(self) -> None:
        """A repeat of its answer is known by its id, and calls that the next body asks for belong to its message."""
        before = thread(plan(gets("a", turn="msg_1"), B, last="x", turn="msg_0"), pending(A))

        found = CANCEL.decide(before, answer(to=A)).at_rest

        assert (A.id, "msg_1", "tc_a", 1) == (found.last, found.turn, found.mark, found.answers)
        assert [B] == list(found.calls)

    def test_a_step_that_died_is_made_up_for(self) -> None:
        """A finished call that it left in the plan is counted once, and its item need not stay in sight."""
        before = thread(plan(A, S, finished=1, answers=1), pending(S))

        after = CANCEL.decide(before, Wrote("msg_2", ME))

        assert ["s-2 queued"] == states(after, CANCEL)
        assert (2, 2, A.id) == (after.plan.answers, after.plan.finished, after.plan.last)

    def test_positions_count_from_the_first_call_of_a_plan(self) -> None:
        """A call has one position as long as its plan is not over, even after a step that died."""
        before = thread(plan(A, B, S, finished=3), done(A))

        assert ["b 4: queued -> cancelled"] == changes(before, CANCEL.decide(before, Wrote("msg_2", ME)), CANCEL)

    @pytest.mark.parametrize(
        ("before", "mark"),
        [
            (thread(plan(mark="old"), message("msg_1"), text("msg_2")), "msg_2"),
            (thread(plan(C, mark="old"), done(C), text("msg_2")), "msg_2"),
            (thread(plan(B, mark="old"), message("msg_1")), "old"),
            (thread(plan(mark="old")), "old"),
            (thread(plan()), None),
            (thread(plan(mark="old", removed=("tc_z",)), text("msg_2"), pending(Z)), "old"),
        ],
        ids=[
            "a new plan",
            "a plan that is finished",
            "a plan that is not",
            "no items",
            "nothing at all",
            "the newest item has to go",
        ],
    )
    def test_the_mark(self, before: Thread, mark: str | None) -> None:
        """A new plan remembers the newest item: its own will be newer, and nothing of it is further back."""
        assert mark == CANCEL.decide(before, Ended(ME, 0, (A,))).plan.mark

    def test_a_body_without_calls_leaves_no_mark(self) -> None:
        """A body that has asked for no calls leaves no mark in the plan, as there is nothing to look for."""
        assert "old" == CANCEL.decide(thread(plan(mark="old"), text("m")), Ended(ME, 0)).plan.mark


class TestIds:
    """Every call has ids that its thread does not have: a provider, or a store, may repeat its own."""

    @pytest.mark.parametrize(
        "before",
        [
            thread(plan(call("x", base_item_id="tc_a"))),
            thread(plan(call("x", base_item_id="tc", attempt=2), call("y", base_item_id="tc_a"))),
            thread(plan(), done(call("x", base_item_id="tc_a"))),
            thread(plan(removed=("tc_a",))),
        ],
        ids=["of a planned call", "of a planned call, further back", "of an item", "of an item that had to go"],
    )
    def test_an_item_id_that_is_taken(self, before: Thread) -> None:
        """A new call whose item id is taken gets its own id in place of that one."""
        planned = CANCEL.decide(before, Ended(ME, 0, (A,))).plan.calls[-1]

        assert (A.id, A.call_id) == (planned.item_id, planned.call_id)

    @pytest.mark.parametrize(
        "before",
        [thread(plan(call("x", call_id=A.call_id))), thread(plan(), done(call("x", call_id=A.call_id)))],
        ids=["by a planned call", "by an item"],
    )
    def test_a_call_id_that_is_taken(self, before: Thread) -> None:
        """A new call whose `call_id` is taken uses its own id there."""
        planned = CANCEL.decide(before, Ended(ME, 0, (A,))).plan.calls[-1]

        assert (A.item_id, A.id) == (planned.item_id, planned.call_id)

    def test_two_new_calls_under_one_id(self) -> None:
        """Of two new calls under one item id the first one keeps it, and the second one gets its own id."""
        twin = gets("b", base_item_id=A.base_item_id, call_id=A.call_id)

        first, second = CANCEL.decide(thread(plan()), Ended(ME, 0, (A, twin))).plan.calls

        assert (A.item_id, A.call_id, B.id, B.id) == (first.item_id, first.call_id, second.item_id, second.call_id)

    def test_ids_that_are_free_are_kept(self) -> None:
        """New calls whose ids are free are planned as they are."""
        assert [A, B] == list(CANCEL.decide(thread(plan()), Ended(ME, 0, (A, B))).plan.calls)


class TestRecorded:
    """An event is decided again if another worker comes in between: the plan may hold already what it asks for."""

    def test_what_a_body_has_asked_for_is_not_asked_for_twice(self) -> None:
        """If the end of a body is decided again, its calls are not asked for twice."""
        assert Ended(ME, 3) == recorded(Ended(ME, 3, (A, B)))

    def test_an_answer_that_is_recorded_is_not_recorded_in_the_next_call(self) -> None:
        """Decided again it only goes on: the call that is pending now is another one."""
        found = thread(plan(A, B), done(A), pending(B))

        after = CANCEL.decide(found, recorded(answer()))

        assert ["b pending"] == states(after, CANCEL)
        assert [] == writes(found, after)

    def test_a_recorded_answer_goes_on(self) -> None:
        """What was left to do after it is done: the next call goes out, or the model is told."""
        released = CANCEL.decide(thread(plan(A, B), done(A)), recorded(answer(to=A)))
        told = CANCEL.decide(thread(plan(A), done(A)), recorded(answer(to=A)))

        assert ["b pending"] == states(released, CANCEL)
        assert claimed(sees=1) == told.plan.body

    @pytest.mark.parametrize("event", [Resumed(ME), Wrote("m", ME), Acted(), Stopped(ME), Cancelled()])
    def test_every_other_event_stays(self, event: Event) -> None:
        """What was done of it before is in the thread, and is not done again."""
        assert event is recorded(event)


@pytest.mark.parametrize("event", [recorded(answer(to=A)), Resumed(ME), Wrote("m", ME), FilledIn(ME)])
def test_a_body_claimed_in_an_attempt_that_was_overtaken_is_given_back(event: Event) -> None:
    """A step that another worker has overtaken decides again, and does not take its own claim for somebody's work."""
    found = thread(plan(S, answers=1, body=body(ME, sees=1, holds=[S])), message("m"))

    assert KEEP.decide(found.planning(body=None), event) == KEEP.decide(found, event)


def test_what_is_stored_of_an_expired_call() -> None:
    """A call whose time is over is answered by a sentence of ours, which says so."""
    overdue = gets("a", expires_at=NOW - 1)

    item = CANCEL.decide(thread(plan(overdue), pending(overdue)), Expired()).item(overdue)

    assert item is not None
    assert refusal(EXPIRED) == item.output


def test_an_answer_is_stored_as_its_tool_wants_it() -> None:
    """What is stored of an answer may depend on the tool: one that takes images may be answered with more."""
    by_name = replace(CANCEL, taken=lambda name, output: {name: output})
    found = thread(plan(A), pending(A))

    item = by_name.decide(found, answer(7, to=A)).item(A)

    assert item is not None
    assert {"gets": 7} == item.output


def test_the_newest_items_that_had_to_go_are_remembered() -> None:
    """A page that is loaded again and again removes an item each time: the plan names the latest eight of them."""
    found = thread(plan(A), pending(A))
    for _ in range(10):
        found = CANCEL.decide(found, Resumed(ME))

    assert tuple(f"tc_a-{n}" for n in range(3, 11)) == found.plan.removed
    assert Plan.from_text(found.plan.to_text(), THREAD) == found.plan
