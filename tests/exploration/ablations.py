"""Each safeguard removed in turn: what the exploration must then find. If it did not, its green would mean nothing."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, patch

from chatkit_clienttools._lifecycle import State
from chatkit_clienttools._plan import Plan, Progress

from .scenario import Scenario
from .scenarios import CALLS, METADATA, SWEEP, TWO
from .search import Search

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .search import Found


def by_the_plan_alone(plan: Plan, items: Mapping[str, State]) -> Progress:
    """Stand for `reconcile`: what is not pending waits, whatever the items say."""
    return Progress(
        plan,
        tuple(State.PENDING if items.get(c.item_id) is State.PENDING else State.QUEUED for c in plan.calls),
    )


@dataclass(frozen=True)
class Ablation:
    """One safeguard, a scenario in which it is needed, and how it is taken away."""

    safeguard: str
    intact: Scenario
    without: dict[str, Any] = field(default_factory=dict)
    """How the scenario is changed."""
    instead: dict[str, Any] = field(default_factory=dict)
    """What stands for a name of the package."""
    finds: str = ""

    def explore(self) -> Found:
        with self._removed():
            return Search(self.intact.but(**self.without), until=filter(None, [self.finds])).run()

    @contextmanager
    def _removed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, value in self.instead.items():
                stack.enter_context(patch(f"chatkit_clienttools.{name}", value))
            yield


ABLATIONS = [
    Ablation(
        "receipts",
        Scenario(calls=CALLS[2], repeats=1),
        without={"receipts": False},
        finds="an answer under another call",
    ),
    Ablation(
        "the browser's memory",
        SWEEP.but(calls=CALLS[2], resumes=1),
        without={"remembers": False},
        finds="executed twice",
    ),
    Ablation(
        "reconcile",
        SWEEP.but(calls=CALLS[2], crashes=1),
        instead={"_turn.reconcile": by_the_plan_alone, "_decide.reconcile": by_the_plan_alone},
        finds="a broken stream",
    ),
    Ablation("write before emit", SWEEP.but(calls=CALLS[2], crashes=1), without={"around": "late"}, finds="stuck"),
    Ablation(
        "compare-and-set",
        TWO.but(calls=CALLS[2], repeats=1, store="dicts, plans"),
        without={"store": "plans, no comparison"},
        finds="emitted twice",
    ),
    Ablation(
        "the lease",
        SWEEP.but(calls=CALLS[2], crashes=1),
        instead={"_rules.RELEASE_LEASE_SECONDS": inf, "_rules.LEASE_SECONDS": inf},
        finds="stuck",
    ),
    Ablation(
        "merge",
        Scenario(calls=CALLS[2], store=METADATA, around="validating", renames=1),
        without={"around": "nothing"},
        finds="stuck",
    ),
    Ablation(
        "no lock across a yield",
        SWEEP.but(calls=CALLS[2], freezes=1),
        without={"subject": "holding"},
        finds="stuck",
    ),
]

CLEANUP = Ablation(
    "all code that cleans up",
    SWEEP.but(calls=CALLS[2], cancels=1, freezes=1),
    instead={"sequencer._give_back": AsyncMock(), "_runs.RunStream._end": lambda _, *, early: None},
)
"""Nothing rests on it: without it nothing is lost, and nobody is kept waiting longer than a lease."""
