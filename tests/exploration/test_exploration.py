"""Every crash and every interleaving of small scenarios, explored; `make explore` explores larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import counts
from .ablations import ABLATIONS, CLEANUP
from .regressions import FOUND
from .scenarios import HAZARDS, QUICK
from .schedule import parsed
from .search import Search, replay

if TYPE_CHECKING:
    from .ablations import Ablation
    from .regressions import Regression
    from .scenario import Scenario

PINNED = counts.load()


@pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.name)
def test_nothing_goes_wrong(scenario: Scenario) -> None:
    """Whatever the controller chooses, no property is violated; and it has as much to choose from as ever."""
    found = Search(scenario).run()

    assert {} == found.violations
    assert [] == counts.shrunk(PINNED, scenario.name, found)


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
    assert {} == CLEANUP.explore().violations


@pytest.mark.parametrize(
    "regression", FOUND, ids=lambda regression: f"{regression.violated}: {regression.scenario.store}"
)
def test_what_was_found_is_mended(regression: Regression) -> None:
    """A schedule that once led to a violation does not any more."""
    assert replay(regression.scenario, parsed(regression.schedule)) is None
