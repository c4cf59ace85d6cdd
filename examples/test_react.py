"""The React page: its types fit, it builds, and its client tools do what the server's tool waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tools import react

from chatkit_clienttools.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page

pytestmark = pytest.mark.long

SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
STAND_IN = Path(__file__).parent / "stand_in.js"
SAY = "document.querySelector('openai-chatkit').sendUserMessage({ text: 'Who knows about maritime law?' })"


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """The compiler and the bundler find no mistake."""
    react.build()


def test_its_types_are_those_of_the_server() -> None:
    """The types that the page is compiled with are written from the server's client tools, and are current."""
    file = str(react.FOLDER / "src" / "client-tools.ts")

    status = main(["types", "examples.merak_search.client_tools:sequencer", "--output", file, "--check"])

    assert 0 == status


async def opened(page: Page, url: str) -> None:
    """Open the page; a stand-in takes the place of ChatKit.js."""
    await page.route(SCRIPT, lambda route: route.fulfill(path=STAND_IN))
    await page.goto(f"{url}/react/")
    await page.wait_for_function("window.used?.options.length")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desk", "phone"])
async def test_the_user_chooses(
    calm: Page, url: str, width: int, height: int, picture: Callable[[str], Awaitable[None]]
) -> None:
    """By keyboard alone: the tool waits for a choice, goes on with it, and the focus is where the page says what is."""
    await opened(calm, url)
    conversation = asyncio.ensure_future(calm.evaluate(SAY))
    chosen = calm.get_by_role("button", name="Choose Bela")
    await expect(chosen).to_be_visible()
    await picture("react")
    await calm.set_viewport_size({"width": width, "height": height})

    for _ in range(2):
        await calm.keyboard.press("Tab")
    await expect(chosen).to_be_focused()
    await calm.keyboard.press("Enter")

    await conversation
    await expect(calm.locator("openai-chatkit .assistant_message")).to_contain_text("Bela knows maritime insurance.")
    await expect(calm.get_by_role("button")).to_have_count(0)
    await expect(calm.get_by_role("status")).to_have_text("Ask Merak for people.")
    await expect(calm.get_by_role("status")).to_be_focused()
    assert f"{url}/merak_search/chatkit" == await calm.evaluate("used.options[0].api.url")


async def test_a_loaded_thread_is_resumed(calm: Page, url: str) -> None:
    """When ChatKit has loaded a thread the page asks for the call that is open."""
    await opened(calm, url)

    await calm.locator("openai-chatkit").dispatch_event("chatkit.thread.load.end")

    await calm.wait_for_function("used.calls.flat()[1]?.type === 'chatkit_clienttools.resume'")
