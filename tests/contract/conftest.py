"""What the tests of the contract start from."""

import pytest

from chatkit_clienttools.testing.stores import _plans


@pytest.fixture(autouse=True)
def _short_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory a lock that keeps nobody out lets the second one in at once."""
    monkeypatch.setattr(_plans, "MOMENT", 0.01)
