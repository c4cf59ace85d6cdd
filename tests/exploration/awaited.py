"""The scenarios of tools that await the browser. `QUICK` is part of the suite, `LONG` takes much longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .scenario import Scenario

METADATA = "memory, plan in metadata"

SWEEP = Scenario(subject="waiting", calls=(), one_at_a_time=True, every_event=True)
"""No interleavings: a fault at every point, and whatever may come after it."""

OPEN = Scenario(subject="waiting", calls=(), opened=True)
"""The tool waits already."""

TWO = OPEN.but(workers=2)

STOP = OPEN.but(tools=("picks step",), stops=1)
"""The step is cut off, and nobody waits for a lease."""

CROSSING_STOP: dict[str, dict[str, int]] = {
    "a message": {"messages": 1},
    "a repeat": {"repeats": 1},
    "a reload": {"resumes": 1},
    "the application cancels": {"dismissals": 1},
}

BODIES = {
    1: "picks",
    2: "step picks step plays",
    3: "effect picks step effect plays fails picks effect",
}
"""Bodies that ask so often."""

KEEPS: dict[str, Any] = {"on_user_message": "keep", "later": ("shows",)}
ABORTS: dict[str, Any] = {"on_failure": "abort", "failing": (0,)}
STEPS_OF_TWO: dict[str, Any] = {"tools": ("picks step step picks",), "workers": 2, "most": 250, "at_random": True}
AGAIN: dict[str, Any] = {"crashes": 2, "resumes": 1}

SOME: dict[str, Any] = {"most": 25, "at_random": True}
"""Not all of it: some executions, taken at random with a seed. The rest is in `LONG`."""

MORE: dict[str, Any] = {"most": 500, "at_random": True}


def named(name: str, scenario: Scenario) -> Scenario:
    return replace(scenario, name=f"awaited: {name}")


QUICK = [
    named("a crash: 3 asks, memory", SWEEP.but(tools=(BODIES[3],), crashes=1)),
    named("a crash: 3 asks, plan in metadata", SWEEP.but(tools=(BODIES[3],), store=METADATA, crashes=1)),
    named("a crash: 2 asks, dicts, lock", SWEEP.but(tools=(BODIES[2],), store="dicts", locked=True, crashes=1)),
    named("a crash, and another in the recovery: 1 ask", SWEEP.but(tools=("picks",), opened=True, **AGAIN)),
    named("a crash: a loop", SWEEP.but(tools=("until step",), failing=(0, 1), crashes=1)),
    named("a crash: two that wait, one that does not", SWEEP.but(tools=("picks step", "picks", "step"), crashes=1)),
    named("a crash: what it queues", SWEEP.but(tools=("queues picks step",), calls=("gets",), crashes=1)),
    named("a crash: a message", SWEEP.but(tools=("picks step",), opened=True, messages=1, crashes=1)),
    named("a crash: a run that fails", SWEEP.but(tools=("picks",), failing_runs=1, repeats=1, crashes=1)),
    named("a store error", SWEEP.but(tools=("picks step",), opened=True, errors=1)),
    named("an outage", SWEEP.but(tools=("step picks step",), opened=True, outages=1)),
    named("a cancelled request", SWEEP.but(tools=("picks effect step",), opened=True, cancels=1)),
    named("a frozen stream", SWEEP.but(tools=("picks effect step",), opened=True, resumes=1, freezes=1)),
    named("a repeat at any moment", OPEN.but(tools=("picks step",), repeats=1)),
    named("a message at any moment", OPEN.but(tools=("picks step",), messages=1)),
    named("a message, asks kept", OPEN.but(tools=("picks step",), messages=1, **KEEPS, **SOME)),
    named("a resume at any moment", OPEN.but(tools=("picks step",), resumes=1)),
    named("a retry at any moment", OPEN.but(tools=("picks",), retries=1, **SOME)),
    named("an action at any moment", OPEN.but(tools=("picks",), later=("shows",), actions=1, **SOME)),
    named("a lease ends, and a resume", OPEN.but(tools=("picks step picks",), lapses=1, resumes=1, **SOME)),
    named("a message and a cancelled request", OPEN.but(tools=("picks step",), messages=1, cancels=1, **SOME)),
    named(
        "a rename at any moment: plan in metadata, validated",
        OPEN.but(tools=("picks step",), store=METADATA, around="validating", renames=1),
    ),
    *(named(f"Stop while a step runs, and {what}", STOP.but(**crossing)) for what, crossing in CROSSING_STOP.items()),
    named("two workers, a crash", TWO.but(tools=("picks step",), crashes=1)),
    named("two workers, a crash: dicts, lock", TWO.but(tools=("picks step",), store="dicts", locked=True, crashes=1)),
    named("two workers, a repeat", TWO.but(tools=("picks step",), repeats=1, **SOME)),
    named("two workers, a message", TWO.but(tools=("picks step",), messages=1, **SOME)),
    named("a crash: time is over", SWEEP.but(tools=("waits step waits",), opened=True, deadlines=1, crashes=1)),
    named("time is over at any moment", OPEN.but(tools=("waits step",), deadlines=1, expiries=1)),
    named("an agent of the SDK, a crash", SWEEP.but(tools=("picks step",), subject="waiting agent", crashes=1)),
    named(
        "an agent of the SDK, taken up, a crash",
        SWEEP.but(tools=("picks", "step"), subject="taken up", opened=True, crashes=1),
    ),
    named("an agent of the SDK, a message", OPEN.but(tools=("picks",), subject="waiting agent", messages=1, **SOME)),
]

LONG = [
    *(
        named(f"Stop while a step runs: 2 steps, two workers, and {what}", STOP.but(**STEPS_OF_TWO, **crossing))
        for what, crossing in CROSSING_STOP.items()
    ),
    *(
        named(f"two crashes: {n} ask{'s' * (n > 1)}, {kind}", SWEEP.but(tools=(body,), store=kind, **AGAIN))
        for n, body in BODIES.items()
        for kind in ("memory", METADATA)
    ),
    named("two crashes: what it queues", SWEEP.but(tools=("queues picks step",), store=METADATA, **AGAIN)),
    named("a crash: a message, asks kept", SWEEP.but(tools=("picks",), opened=True, messages=1, crashes=1, **KEEPS)),
    named("a crash: one ask is required", SWEEP.but(tools=("insists step picks",), messages=1, crashes=1)),
    named("a crash: a call fails, and the rest is cancelled", SWEEP.but(tools=("until", "picks"), crashes=1, **ABORTS)),
    named("a store error: a message", SWEEP.but(tools=("picks step",), messages=1, errors=1)),
    named("a cancelled request: a message, asks kept", SWEEP.but(tools=(BODIES[2],), messages=1, cancels=1, **KEEPS)),
    named("a message at any moment, one ask is required", OPEN.but(tools=("picks insists",), messages=1)),
    named("a message at any moment, asks kept", OPEN.but(tools=("picks step",), messages=1, **KEEPS)),
    named("a message and a crash at any moment", OPEN.but(tools=("picks step",), messages=1, crashes=1)),
    named("all of a retry at any moment", OPEN.but(tools=("picks step",), retries=1)),
    named("all of an action at any moment", OPEN.but(tools=("picks",), later=("shows",), actions=1)),
    named("two bodies, a repeat", OPEN.but(tools=("picks step", "picks"), repeats=1)),
    named("two bodies, a message", OPEN.but(tools=("picks step", "picks"), messages=1)),
    named("two workers, more of a repeat", TWO.but(tools=("picks step",), repeats=1, **MORE)),
    named("two workers, more of a message", TWO.but(tools=("picks step",), messages=1, **MORE)),
    named("two workers, a repeat, leases end", TWO.but(tools=("picks step",), repeats=1, lapses=1, **MORE)),
    named("two workers, a retry", TWO.but(tools=("picks",), retries=1, **MORE)),
    named("two workers, a resume", TWO.but(tools=("picks step",), resumes=1, **MORE)),
    named(
        "two workers, a message: dicts, lock", TWO.but(tools=("picks",), messages=1, store="dicts", locked=True, **MORE)
    ),
    named("an agent of the SDK, a crash: 3 asks", SWEEP.but(tools=(BODIES[3],), subject="waiting agent", crashes=1)),
    named("an agent of the SDK, all of a message", OPEN.but(tools=("picks",), subject="waiting agent", messages=1)),
    named(
        "an agent of the SDK, taken up: a message", OPEN.but(tools=("picks", "step"), subject="taken up", messages=1)
    ),
]
