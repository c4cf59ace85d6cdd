"""The plugin for pytest, found by its entry point: the fixture `fake_browser`.

It stands outside of the package, and imports it only for a test that asks for a browser. Pytest loads it in every
project where the package is installed: that must cost nothing, need no extra, and not come before coverage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkit_clienttools.testing import FakeBrowser


@pytest.fixture
def fake_browser(request: pytest.FixtureRequest) -> Iterator[Callable[..., FakeBrowser]]:
    """Return a function that makes browsers, as `FakeBrowser` does. A test that fails shows what they saw.

    A test that sets a fault and does nothing after it is an error at its end.
    """
    from chatkit_clienttools.testing.browser._fixture import browsers  # noqa: PLC0415  see above

    yield from browsers(request)
