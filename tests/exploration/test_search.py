"""The explorer itself: that it leaves nothing out, and that a schedule is all there is to an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .ablations import ABLATIONS
from .scenarios import CALLS, TWO
from .schedule import parsed, readable
from .search import Search, replay

if TYPE_CHECKING:
    from .choices import Choice
    from .search import Sleep

pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage

SMALL = TWO.but(calls=CALLS[1], repeats=1)


class Exhaustive(Search):
    """Takes every step in every order."""

    def _leave(self, path: list[str], awake: list[Choice], sleep: Sleep) -> Sleep:
        super()._leave(path, awake, sleep)
        self._stack = [(schedule, ()) for schedule, _ in self._stack]
        return ()


def test_one_order_of_two_steps_that_commute_is_enough() -> None:
    """Leaving out the other order leaves out no state, only executions."""
    quick = SMALL.but(repeats=0, renames=1)
    every, reduced = Exhaustive(quick), Search(quick)
    every.run()
    reduced.run()

    assert every._seen.keys() == reduced._seen.keys()
    assert every._recovered == reduced._recovered
    assert every.found.endings == reduced.found.endings
    assert every.found.executions > reduced.found.executions


def test_nothing_is_left_to_chance() -> None:
    """Two explorations of a scenario are the same, step by step."""
    one, other = Search(SMALL, limit=100), Search(SMALL, limit=100)
    one.run()
    other.run()

    assert one._seen == other._seen


def test_a_schedule_reads_as_it_is_written() -> None:
    """What is printed of a schedule can be played again."""
    schedule = ("message1: load_thread", "message1: emit item-1", "CRASH of A", "user: writes at A")

    assert schedule == parsed(readable(schedule))


def test_a_schedule_leads_to_its_violation() -> None:
    """Playing the schedule of a violation again violates the same."""
    receipts = ABLATIONS[0]
    without = receipts.intact.but(**receipts.without)
    found = Search(without, until=[receipts.finds]).run()

    assert (replay(without, found.violations[receipts.finds]) or "").startswith(receipts.finds)
