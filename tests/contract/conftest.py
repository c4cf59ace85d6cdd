"""What the tests of the contract start from."""

import pytest

from chatkit_clienttools.testing import _check_plans


@pytest.fixture(autouse=True)
def _short_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory a lock that keeps nobody out lets the second one in at once."""
    monkeypatch.setattr(_check_plans, "MOMENT", 0.01)
