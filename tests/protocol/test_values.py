"""The values that the protocol is made of: they do not change, and what is left out of them means nothing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from chatkit_clienttools._protocol.decide import (
    Acted,
    Answered,
    AtWork,
    Cancelled,
    Ended,
    Expired,
    FilledIn,
    Resumed,
    StepTaken,
    Stopped,
    WentOn,
    Wrote,
)
from chatkit_clienttools._protocol.outputs import Output
from chatkit_clienttools._protocol.plan import Entry, WaitingTool
from chatkit_clienttools._protocol.states import State
from chatkit_clienttools._protocol.thread import Thread, Transition
from tests.protocol.values import ASKED, ME, NOW, THREAD, gets, plan

TOOL = WaitingTool(id="output_1", call_id="call_1", name="guides", arguments="{}", at=ASKED)
CALL = gets("a")
PLAN = plan()

EVENTS = [
    Acted(),
    Answered(7, by=ME),
    Cancelled(),
    Expired(),
    Ended(ME, sees=0),
    FilledIn(by=ME),
    Resumed(by=ME),
    StepTaken(ME, TOOL),
    AtWork(ME),
    Stopped(ME),
    WentOn(ME, TOOL),
    Wrote("m", by=ME),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_do_not_change(event: Any) -> None:
    """An event says what has happened, and nobody can change that afterwards."""
    with pytest.raises(FrozenInstanceError):
        event.by = "somebody else"


SHORT_AND_LONG = [
    (Answered(7, by=ME), Answered(7, by=ME, is_recorded=False)),
    (Ended(ME, sees=0), Ended(ME, sees=0, calls=(), tools=(), state=None)),
    (WentOn(ME, TOOL), WentOn(ME, TOOL, calls=(), output=None, then=None, is_recorded=False)),
    (Output("c", "guides", "{}", 7), Output("c", "guides", "{}", 7, before=None)),
    (
        Entry(kind="ask", name="gets"),
        Entry(kind="ask", name="gets", key="", call=None, item_id=None, is_cancelled=False, result=None, error=None),
    ),
    (TOOL, TOOL.but(turn=None, journal=(), is_cancelled=False, output=None, before=None)),
    (CALL, CALL.model_copy(update={"turn": None, "attempt": 1, "awaited_by": None})),
    (
        Thread(id=THREAD, plan=PLAN, items=(), now=NOW),
        Thread(id=THREAD, plan=PLAN, items=(), now=NOW, message=None, newest=None, gone=frozenset(), outputs=()),
    ),
    (
        Transition(CALL, 0, State.QUEUED),
        Transition(CALL, 0, State.QUEUED, previous=None, change=None, since=0.0),
    ),
]


@pytest.mark.parametrize(("short", "long"), SHORT_AND_LONG, ids=lambda value: type(value).__name__)
def test_what_is_left_out_means_nothing(short: Any, long: Any) -> None:
    """A value that leaves a field out is the one that says: none, not yet, no."""
    assert repr(long) == repr(short)
