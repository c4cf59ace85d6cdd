"""Every crash and every interleaving of small scenarios, explored; `make explore` explores larger ones.

`make test` plays what was found before, and what a missing safeguard leads to; `make test-all` explores the scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import counts
from .ablations import ABLATIONS, CLEANUP
from .regressions import FOUND
from .scenarios import ALL_PAIRS, HAZARDS, LONG, PAIRS, QUICK
from .schedule import parsed
from .search import Search, replay

if TYPE_CHECKING:
    from .ablations import Ablation
    from .regressions import Regression
    from .scenario import Scenario

pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage
PINNED = counts.load()
WITHOUT_CLEANUP = f"without {CLEANUP.safeguard}"


@pytest.mark.long
@pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.name)
def test_nothing_goes_wrong(scenario: Scenario) -> None:
    """Whatever the controller chooses, no property is violated; and it has as much to choose from as ever."""
    found = Search(scenario).run()

    assert {} == found.violations
    assert [] == counts.shrunk(PINNED, scenario.name, found)


def test_every_scenario_is_pinned() -> None:
    """Each scenario of the suite is pinned, and no pin is left of one that is gone."""
    suite = {*(scenario.name for scenario in (*QUICK, *PAIRS)), WITHOUT_CLEANUP}
    others = {scenario.name for scenario in (*LONG, *ALL_PAIRS)}

    assert set() == suite - PINNED.keys()
    assert set() == PINNED.keys() - suite - others


def test_no_two_scenarios_have_one_name() -> None:
    """A pin belongs to one scenario."""
    names = [scenario.name for scenario in (*QUICK, *PAIRS, *LONG, *ALL_PAIRS)]

    assert sorted(set(names)) == sorted(names)


@pytest.mark.long
@pytest.mark.parametrize("scenario", HAZARDS, ids=lambda scenario: scenario.name)
def test_what_is_known_to_go_wrong_is_seen(scenario: Scenario) -> None:
    """The exploration sees what goes wrong without the package, or without what its documentation asks for."""
    found = Search(scenario, until=scenario.shows).run()

    assert set(scenario.shows) <= set(found.kinds)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.safeguard)
def test_a_safeguard_is_needed(ablation: Ablation) -> None:
    """With one safeguard removed the exploration finds a violation."""
    assert ablation.finds in ablation.explore().kinds


def test_nothing_rests_on_cleaning_up() -> None:
    """Without the code that cleans up after a request, disconnects anywhere do no harm either."""
    found = CLEANUP.explore()

    assert {} == found.violations
    assert [] == counts.shrunk(PINNED, WITHOUT_CLEANUP, found)


@pytest.mark.parametrize(
    "regression", FOUND, ids=lambda regression: f"{regression.violated}: {regression.scenario.store}"
)
def test_what_was_found_is_mended(regression: Regression) -> None:
    """A schedule that once led to a violation does not any more."""
    assert replay(regression.scenario, parsed(regression.schedule)) is None
