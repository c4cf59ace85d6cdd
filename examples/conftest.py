"""What the demos' tests have in common: no pauses."""

import pytest

from examples import offline
from examples.merak_search import people


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches."""
    monkeypatch.setattr(offline, "PAUSE", 0)
    monkeypatch.setattr(people, "SEARCH_SECONDS", 0)
