"""A real Chromium for tests, driven by Playwright: the fixtures `browser` and `page`, for every test of the project.

It is the one that CHROMIUM names in the environment, or else the one that `make chromium` has installed, or else the
system's. Without one the tests that want it are skipped, and the end of the run says so; with CI set they fail.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tools import chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_CHROMIUM = "no Chromium: call `make chromium`, or put one on the PATH (apt-get install chromium)"


def executable() -> str:
    """Return the path of a Chromium; without one, skip the test that asks, or fail it where CI is set."""
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else [str(chromium.EXECUTABLE), *NAMES])), None)
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail(NO_CHROMIUM)
    pytest.skip(NO_CHROMIUM)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser that knows nothing yet."""
    from playwright.async_api import async_playwright  # noqa: PLC0415  a run without such tests need not import it

    path = executable()
    added = chromium.ENVIRONMENT if path == str(chromium.EXECUTABLE) else {}
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, env={**os.environ, **added})
        yield started
        await started.close()


@pytest_asyncio.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty tab, which may open others; an exception that nobody catches in any of them fails the test."""
    context = await browser.new_context()
    uncaught: list[str] = []
    context.on("weberror", lambda error: uncaught.append(str(error.error)))
    yield await context.new_page()
    await context.close()
    assert [] == uncaught


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last of all how many tests wanted a browser and had none."""
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_CHROMIUM in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} browser tests were SKIPPED: {NO_CHROMIUM}", yellow=True)
