"""What the fixture `fake_browser` does: browsers that show what they saw when a test fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._browser import FakeBrowser

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

    import pytest
    from chatkit.server import ChatKitServer

LOGGERS = {"chatkit", "chatkit_clienttools"}


def browsers(request: pytest.FixtureRequest) -> Iterator[Callable[..., FakeBrowser]]:
    """Yield a function that makes browsers, as `FakeBrowser` does. Afterwards print what they saw.

    A fault that was set and never reached is an error, unless the test has failed anyway; and so is a mistake in a
    tool, which only the model and the log hear of.
    """
    made: list[FakeBrowser] = []
    failed = request.session.testsfailed
    logs = request.config.pluginmanager.has_plugin("logging-plugin")
    caplog: pytest.LogCaptureFixture | None = request.getfixturevalue("caplog") if logs else None

    def make(server: ChatKitServer[Any] | str, **options: Any) -> FakeBrowser:
        made.append(FakeBrowser(server, **options))
        return made[-1]

    yield make
    for browser in made:
        print(browser.transcript)  # noqa: T201  pytest keeps it, and shows it with a failure
    if request.session.testsfailed == failed:
        for browser in made:
            browser.check_faults()
        _check_log(caplog.get_records("call") if caplog else [])


def _check_log(records: list[logging.LogRecord]) -> None:
    """Raise if the package, or ChatKit, has logged an error."""
    errors = [record for record in records if record.levelname == "ERROR" and record.name in LOGGERS]
    if errors:
        said = "\n".join(record.getMessage() for record in errors)
        raise AssertionError(f"An error was logged; a test that wants that ends with `caplog.clear()`.\n{said}")
