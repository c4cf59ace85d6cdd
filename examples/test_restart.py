"""The whole command, with a server that dies: what was asked is answered in the next one, in a real Chromium."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Page

ROOT = Path(__file__).parent.parent
SECONDS = 60
QUESTION = "Who knows about maritime law?"


@pytest.fixture
def search_seconds() -> str:
    """How long a search takes."""
    return "1.2"


@pytest_asyncio.fixture(params=[1, 2])
async def served(request: pytest.FixtureRequest, tmp_path: Path, search_seconds: str) -> AsyncIterator[str]:
    """The demos as `make demo` serves them, with one worker and with two; their address."""
    command = [sys.executable, "-m", "examples", "--port=0", f"--workers={request.param}"]
    pauses = {"DEMO_PAUSE": "0.3", "DEMO_SEARCH_SECONDS": search_seconds}
    environment = {**os.environ, "DEMO_DATA": str(tmp_path), **pauses}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        yield (await process.stdout.readline()).decode().split()[4]
    finally:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # it may be starting a worker anew; that Ctrl-C ends all of them is another test
        for worker in workers:
            with suppress(psutil.NoSuchProcess):  # a worker that the test has killed
                worker.kill()
        await process.wait()


async def ask(page: Page, url: str, text: str = QUESTION) -> None:
    await page.goto(f"{url}/merak_search/", timeout=SECONDS * 1000)
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def kill(page: Page) -> None:
    await page.get_by_role("button", name="Kill the server").press("Enter")
    await expect(page.locator(".server")).to_contain_text("has taken over.", timeout=SECONDS * 1000)


async def it_goes_on(page: Page) -> None:
    await page.get_by_role("button", name="Choose Dara").click(timeout=SECONDS * 1000)
    await expect(page.get_by_role("log").first).to_contain_text("Dara knows harbour and port law.")
    await expect(page.locator("#ours .score")).to_have_text(
        "3 of 3 client tools have reached the page; 1 answer in words."
    )


async def test_the_server_is_killed_while_the_user_chooses(calm: Page, served: str) -> None:
    """The tool waits for a choice, its process is killed, and the next process goes on with the choice."""
    await ask(calm, served)
    await expect(calm.get_by_role("button", name="Choose Dara")).to_be_visible()

    await kill(calm)

    await it_goes_on(calm)


async def test_a_reload_after_a_kill(calm: Page, served: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """A page that is loaded after the kill lets the user choose, and shows what each call has done before."""
    await ask(calm, served)
    await expect(calm.get_by_role("button", name="Choose Dara")).to_be_visible()
    await kill(calm)

    await calm.reload()

    await expect(calm.get_by_role("button", name="Choose Dara")).to_be_visible()
    await picture("merak-killed")
    await it_goes_on(calm)
    rows = calm.locator("#timeline .call:not(.server-tool)")
    await expect(rows.nth(0).locator("b")).to_have_text(["queued", "pending", "completed"])


@pytest.mark.parametrize("served", [1], indirect=True)  # of two processes the other one may be killed
async def test_the_server_is_killed_while_it_answers(calm: Page, served: str) -> None:
    """A message whose run has died with its process is offered to be answered again, and then it is."""
    await ask(calm, served, "Hello!")
    await expect(calm.locator("#ours .assistant_message")).to_have_count(1)

    await kill(calm)

    await expect(calm.get_by_role("alert").first).to_contain_text("This message has no answer yet.")
    await calm.get_by_role("button", name="Try again").click()
    await expect(calm.get_by_role("log").first).to_contain_text("choose one of them.", timeout=SECONDS * 1000)
    await expect(calm.locator("#ours .assistant_message")).to_have_count(1)


@pytest.mark.parametrize("search_seconds", ["12"])
@pytest.mark.parametrize("served", [1], indirect=True)
async def test_the_server_is_killed_while_it_searches(
    calm: Page, served: str, picture: Callable[[str], Awaitable[None]]
) -> None:
    """A search that has died with its process is offered to be made again; then the user chooses, and is answered."""
    await ask(calm, served)
    await expect(calm.locator("#ours .so-far")).to_contain_text("1 of 6", timeout=SECONDS * 1000)

    await kill(calm)

    await expect(calm.get_by_role("alert").first).to_contain_text("This message has no answer yet.")
    await expect(calm.locator("#ours .stage")).to_have_attribute("data-state", "idle")
    await picture("merak-search-killed")
    await calm.get_by_role("button", name="Try again").click()
    await expect(calm.locator("#ours .so-far")).to_contain_text("1 of 6", timeout=SECONDS * 1000)
    await it_goes_on(calm)
    await expect(calm.locator("#ours .user_message")).to_have_count(1)
