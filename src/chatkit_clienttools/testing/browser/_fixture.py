"""What the fixture `fake_browser` does: browsers that show what they saw when a test fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._browser import FakeBrowser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from chatkit.server import ChatKitServer


def browsers(request: pytest.FixtureRequest) -> Iterator[Callable[..., FakeBrowser]]:
    """Yield a function that makes browsers, as `FakeBrowser` does. Afterwards print what they saw.

    A fault that was set and never reached is an error, unless the test has failed anyway.
    """
    made: list[FakeBrowser] = []
    failed = request.session.testsfailed

    def make(server: ChatKitServer[Any] | str, **options: Any) -> FakeBrowser:
        made.append(FakeBrowser(server, **options))
        return made[-1]

    yield make
    for browser in made:
        print(browser.transcript)  # noqa: T201  pytest keeps it, and shows it with a failure
    for browser in made if request.session.testsfailed == failed else []:
        browser.check_faults()
