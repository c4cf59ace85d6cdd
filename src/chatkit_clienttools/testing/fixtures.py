"""A fixture for pytest: browsers that show what they saw when a test fails. Import it where your fixtures are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .browser import FakeBrowser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkit.server import ChatKitServer

__all__ = ["fake_browser"]


@pytest.fixture
def fake_browser(request: pytest.FixtureRequest) -> Iterator[Callable[..., FakeBrowser]]:
    """Return a function that makes browsers, as `FakeBrowser` does. A test that fails shows what they saw.

    So does one that has set a fault and done nothing after it: that is an error at its end.
    """
    browsers: list[FakeBrowser] = []
    failed = request.session.testsfailed

    def make(server: ChatKitServer[Any] | str, **options: Any) -> FakeBrowser:
        browsers.append(FakeBrowser(server, **options))
        return browsers[-1]

    yield make
    for browser in browsers:
        print(browser.transcript)  # noqa: T201  pytest keeps it, and shows it with a failure
    for browser in browsers if request.session.testsfailed == failed else []:  # one that has failed says enough
        browser.check_faults()
