"""The scenarios. `QUICK` and `PAIRS` are part of the suite, `LONG` and `ALL_PAIRS` take much longer.

`HAZARDS` show what is known to go wrong.
"""

from __future__ import annotations

from dataclasses import replace

from . import awaited
from .pairs import AWAITED, QUEUED
from .scenario import Scenario

CALLS = {
    1: ("gets",),
    2: ("shows", "gets"),
    3: ("shows", "gets", "stops"),
    4: ("shows", "gets", "shows", "stops"),
}
METADATA = "memory, plan in metadata"
KINDS = ("memory", METADATA, "dicts")
ODD = ("add raises", "add ignores", "add duplicates", "live references", "tied timestamps")

SWEEP = Scenario(one_at_a_time=True, every_event=True)
"""No interleavings: a fault at every point, and whatever may come after it."""

TWO = Scenario(calls=CALLS[2], workers=2, opened=True)


def named(scenario: Scenario, name: str) -> Scenario:
    return replace(scenario, name=name)


def crashes(counts: tuple[int, ...], kinds: tuple[str, ...], times: int) -> list[Scenario]:
    """Return the sweeps over crashes: at every point, and then at every point of what the user does about it."""
    how = {1: "a crash", 2: "a crash, and another in the recovery"}[times]
    return [
        named(
            SWEEP.but(calls=CALLS[n], store=kind, crashes=times, resumes=times),
            f"{how}: {n} call{'s' * (n > 1)}, {kind}",
        )
        for kind in kinds
        for n in counts
    ]


def faults(kinds: tuple[str, ...], times: int) -> list[Scenario]:
    """Return the sweeps over everything else that can hit a request."""
    return [
        named(SWEEP.but(calls=CALLS[3], store=kind, resumes=1, **{fault: n}), f"{n} of {fault}: 3 calls, {kind}")
        for kind in kinds
        for fault, n in (("errors", times), ("outages", 1), ("cancels", times), ("freezes", times))
    ]


ALONG_THE_WAY = [
    ("no answer wanted", SWEEP.but(calls=("shows", "shows"))),
    ("a call that fails", SWEEP.but(calls=CALLS[3], failing=(0,))),
    ("a call that fails, and gives up the rest", SWEEP.but(calls=CALLS[3], failing=(0,), on_failure="abort")),
    ("a run that fails", SWEEP.but(calls=CALLS[2], failing_runs=1, repeats=1)),
    ("the model asks again", SWEEP.but(calls=CALLS[1], then=CALLS[2])),
    ("a retry", SWEEP.but(calls=CALLS[2], retries=1)),
    ("an action", SWEEP.but(calls=CALLS[2], later=("shows",), actions=1)),
    ("a message, calls kept", SWEEP.but(calls=CALLS[2], later=("shows",), messages=1, on_user_message="keep")),
    ("a message, none required", SWEEP.but(calls=CALLS[2], later=("shows",), messages=1)),
    ("a rename", SWEEP.but(calls=CALLS[2], store=METADATA, around="validating", renames=1)),
    ("an answer that is lost", SWEEP.but(calls=CALLS[2], drops=1, resumes=1)),
    ("no receipts", SWEEP.but(calls=CALLS[3], receipts=False)),
]
"""What users, browsers and models do, one thing after the other, with a crash at every point."""

MEDIA = SWEEP.but(calls=("draws", "gets"), around="media")

IMAGES = [
    ("a crash", MEDIA.but(crashes=1, resumes=1)),
    ("a crash, and the answer again", MEDIA.but(crashes=1, recovery="again")),
    ("a store error", MEDIA.but(errors=1, resumes=1)),
    ("the store is away", MEDIA.but(outages=1, resumes=1)),
    ("a disconnect", MEDIA.but(cancels=1, resumes=1)),
    ("a crash, and a retry", MEDIA.but(crashes=1, retries=1)),
    ("a repeat at any moment", Scenario(calls=("draws", "gets"), around="media", repeats=1)),
    ("two workers, a repeat", TWO.but(calls=("draws",), around="media", repeats=1)),
    ("a tool that waits, a crash", MEDIA.but(calls=(), tools=("draws",), subject="waiting", crashes=1)),
]
"""A `MediaStore`: the image of an answer is written before the item that refers to it."""

QUICK = [
    *crashes((1, 2, 3, 4), ("memory", METADATA), 1),
    *crashes((2,), ("dicts",), 1),
    *crashes((1,), ("memory",), 2),
    *faults(("memory",), 1),
    named(SWEEP.but(calls=CALLS[3], messages=1, crashes=1), "a crash: a message, one call required"),
    *(named(scenario.but(crashes=1), f"a crash: {name}") for name, scenario in ALONG_THE_WAY),
    named(SWEEP.but(calls=CALLS[3], crashes=1, recovery="again"), "a crash, and the answer again: 3 calls"),
    named(SWEEP.but(calls=CALLS[3], crashes=1, recovery="message"), "a crash, and a message: 3 calls"),
    named(SWEEP.but(calls=CALLS[2], subject="agent", crashes=1, resumes=1), "a crash: an agent of the SDK"),
    named(Scenario(calls=CALLS[3], repeats=1), "a repeat at any moment"),
    named(
        Scenario(calls=CALLS[3], failing=(0,), on_failure="abort", repeats=1),
        "a repeat at any moment: a call that fails, and gives up the rest",
    ),
    named(Scenario(calls=CALLS[2], failing_runs=1, repeats=1), "a repeat at any moment: a run that fails"),
    named(Scenario(calls=CALLS[1], then=CALLS[2], repeats=1), "a repeat at any moment: the model asks again"),
    named(Scenario(calls=CALLS[2], subject="agent", repeats=1), "a repeat at any moment: an agent of the SDK"),
    named(Scenario(calls=CALLS[2], resumes=1), "a resume at any moment"),
    named(Scenario(calls=CALLS[3], messages=1), "a message at any moment"),
    named(Scenario(calls=CALLS[2], later=("shows",), actions=1), "an action at any moment"),
    named(Scenario(calls=CALLS[2], renames=1), "a rename at any moment"),
    named(
        Scenario(calls=CALLS[2], store=METADATA, around="validating", renames=1),
        "a rename at any moment: plan in metadata, validated",
    ),
    *(named(Scenario(calls=CALLS[2], store=kind, repeats=1), f"a repeat at any moment: {kind}") for kind in ODD),
    named(TWO.but(calls=CALLS[1], repeats=1), "two workers, a repeat: 1 call, memory"),
    named(TWO.but(calls=CALLS[1], repeats=1, store="dicts", locked=True), "two workers, a repeat: 1 call, dicts, lock"),
    named(TWO.but(crashes=1), "two workers, a crash: 2 calls, memory"),
    named(SWEEP.but(calls=("waits", "gets"), deadlines=1, crashes=1), "a crash: time is over"),
    named(Scenario(calls=("waits", "gets"), deadlines=1, repeats=1, opened=True), "time is over, and a repeat"),
    named(Scenario(calls=("waits", "gets"), deadlines=1, messages=1, opened=True), "time is over, and a message"),
    named(Scenario(calls=("waits",), deadlines=1, resumes=1, opened=True), "time is over, and a resume"),
    named(TWO.but(calls=("waits",), deadlines=1, expiries=1), "two workers, an answer when time is over"),
    *(named(scenario, f"images beside the items: {name}") for name, scenario in IMAGES),
    *awaited.QUICK,
]

PAIRS = [*QUEUED.one_row_each(25), *AWAITED.one_row_each(5)]
"""One row of each pair of what can happen: these are part of the suite too."""

LONG = [
    *(scenario for scenario in (*crashes((1, 2, 3, 4), KINDS, 2), *faults(KINDS, 2)) if scenario not in QUICK),
    *crashes((3,), ODD, 1),
    named(Scenario(calls=CALLS[3], repeats=2), "two repeats at any moment: 3 calls"),
    named(Scenario(calls=CALLS[3], resumes=1, repeats=1), "a resume and a repeat at any moment"),
    *(
        named(
            Scenario(calls=CALLS[2], store=kind, around="validating", repeats=1),
            f"a repeat at any moment: {kind}, validated",
        )
        for kind in ODD
    ),
    named(TWO.but(calls=CALLS[3], repeats=1, most=20_000), "two workers, a repeat: 3 calls, 20,000 executions"),
    named(TWO.but(calls=CALLS[2], repeats=1, store="dicts, plans"), "two workers, a repeat: 2 calls, dicts, plans"),
    named(
        TWO.but(calls=CALLS[2], repeats=1, store="dicts", locked=True), "two workers, a repeat: 2 calls, dicts, lock"
    ),
    named(TWO.but(calls=CALLS[4], crashes=1), "two workers, a crash: 4 calls, memory"),
    named(TWO.but(calls=CALLS[1], repeats=2), "two workers, three answers at once"),
    named(TWO.but(calls=CALLS[1], repeats=1, lapses=1, most=20_000), "two workers, leases end: 20,000 executions"),
    named(TWO.but(calls=CALLS[1], repeats=1, crashes=1), "two workers, a repeat, a crash: memory"),
    named(TWO.but(calls=CALLS[1], repeats=1, renames=1), "two workers, a repeat, a rename: memory"),
    named(SWEEP.but(calls=CALLS[3], subject="agent", crashes=2, resumes=1), "two crashes: an agent of the SDK"),
    named(SWEEP.but(calls=CALLS[2], subject="agent", cancels=1, resumes=1), "disconnects: an agent of the SDK"),
    named(Scenario(calls=CALLS[2], retries=1), "a retry at any moment"),
    named(TWO.but(calls=CALLS[1], resumes=1), "two workers, a resume: memory"),
    named(TWO.but(calls=CALLS[1], messages=1), "two workers, a message: 1 call"),
    named(TWO.but(calls=CALLS[1], retries=1, most=5000), "two workers, a retry: 1 call, 5,000 executions"),
    named(
        TWO.but(calls=CALLS[1], later=("shows",), actions=1, most=5000),
        "two workers, an action: 1 call, 5,000 executions",
    ),
    *awaited.LONG,
]

ALL_PAIRS = [*QUEUED.every_row(25), *AWAITED.every_row(8)]
"""Every row of each pair."""

NAIVE = Scenario(
    subject="naive", receipts=False, store="dicts", recovery="nothing", calls=("gets", "gets"), opened=True
)

HAZARDS = [
    named(
        NAIVE.but(repeats=1, shows=("an answer under another call", "a broken stream", "two pending")),
        "plain ChatKit, a naive queue: two answers",
    ),
    named(
        NAIVE.but(calls=("gets",), messages=1, later=("gets",), shows=("two pending",)),
        "plain ChatKit, a naive queue: answer, message",
    ),
    named(
        NAIVE.but(repeats=2, calls=("gets",) * 3, shows=("an answer under another call", "a broken stream")),
        "plain ChatKit, a naive queue: three answers",
    ),
    named(
        NAIVE.but(recovery="repeat", crashes=1, shows=("a broken stream",), one_at_a_time=True),
        "plain ChatKit, a naive queue: a crash",
    ),
    named(
        TWO.but(store="dicts", calls=("shows", "shows"), repeats=1, shows=("a final state changed",)),
        "two workers, neither comparison nor lock: add replaces",
    ),
]
"""What is known to go wrong without the package, or without what its documentation asks for."""
