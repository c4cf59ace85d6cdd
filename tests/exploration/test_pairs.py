"""Each two of what can happen to a conversation, at once: one row of each pair; `make explore` plays all rows."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest

from . import counts
from .pairs import GRIDS
from .scenarios import PAIRS as SCENARIOS
from .search import Search

if TYPE_CHECKING:
    from .pairs import Grid
    from .scenario import Scenario

pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage
PINNED = counts.load()
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_goes_wrong(scenario: Scenario) -> None:
    """Whatever the controller chooses, no property is violated; and it sees as many states as ever."""
    found = Search(scenario).run()

    assert {} == found.violations
    assert [] == counts.shrunk(PINNED, scenario.name, found)


@each_grid
def test_every_two_events_are_a_pair(grid: Grid) -> None:
    """No two of the things that can happen are left out."""
    assert {frozenset(pair) for pair in combinations(grid.events, 2)} == {frozenset(pair) for pair in grid.pairs}


@each_grid
def test_every_pair_meets_every_setting(grid: Grid) -> None:
    """The long run plays each pair under each value of each setting."""
    played = {(pair, setting, value) for pair, row in grid.rows() for setting, value in row.items()}
    wanted = {
        (pair, setting, value) for pair in grid.pairs for setting in grid.settings for value in grid.settings[setting]
    }
    # two workers over a store that cannot compare need a lock: the documentation says so
    excused = {(pair, "lock", "no") for pair in grid.pairs if "second worker" in pair}

    assert set() == wanted - played - excused
    assert set() == {(pair, "store", store) for pair, store in product(grid.pairs, grid.settings["store"])} - played
