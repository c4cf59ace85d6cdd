"""From measurements in pairs to a ratio, its spread, and whether a goal is missed.

Both sides of a row are measured in turns, in one run. The pairs are cut into five parts, in the order in which they
were taken, and each part gives a ratio of medians. The figure of the row is the middle one of the five. Its spread goes
from the smallest to the largest. A goal is missed if all five parts miss it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PARTS = 5
"""Into how many parts the pairs of a row are cut."""

Unit = Literal["cpu", "wall", "bytes"]
"""What is measured: seconds of processor time, seconds on the clock, or memory."""

Cost = dict[Unit, float]
"""What one thing took."""


class Pair(NamedTuple):
    """The same work done by both sides, one directly after the other."""

    ours: Cost
    theirs: Cost


@dataclass(frozen=True)
class Ratio:
    """How much we take of what the other side takes."""

    value: float
    low: float
    high: float
    ours: float
    """The median of our side, in seconds or bytes."""
    theirs: float

    def misses(self, goal: float) -> bool:
        """Whether it is over the goal, whichever part of the measurements is looked at."""
        return self.low > goal


def ratio_of(pairs: Sequence[Pair], unit: Unit) -> Ratio:
    """Return the ratio of the medians, and how far it differs from one part of the measurements to another."""
    if not pairs:
        raise ValueError("nothing was measured")
    parts = sorted(_median(part, "ours", unit) / _median(part, "theirs", unit) for part in parts_of(pairs))
    return Ratio(median(parts), parts[0], parts[-1], _median(pairs, "ours", unit), _median(pairs, "theirs", unit))


def parts_of(pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
    """Cut the pairs into five parts of about the same length; fewer pairs than that are a part each."""
    count = min(PARTS, len(pairs))
    ends = [round(n * len(pairs) / count) for n in range(count + 1)]
    return [pairs[begin:end] for begin, end in pairwise(ends)]


def units_of(pairs: Iterable[Pair]) -> list[Unit]:
    """Return what was measured."""
    return list(next(iter(pairs)).ours)


def _median(pairs: Iterable[Pair], side: Literal["ours", "theirs"], unit: Unit) -> float:
    costs = [pair.ours if side == "ours" else pair.theirs for pair in pairs]
    return median(cost[unit] for cost in costs)
