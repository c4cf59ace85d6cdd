"""The React page: its types fit, it builds, and its client tools do what the server's tool waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tools import react

from chatkit_clienttools.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page

pytestmark = pytest.mark.long

STUB = """
customElements.define("openai-chatkit", class extends HTMLElement {
  setOptions(options) { window.given = options; }
  async sendCustomAction(action) { window.sent = action.type; }
});
"""
CHOOSE = """() => { window.answer = given.onClientTool({
  name: "choose_agent", params: { _receipt: "thr_1:call_1", agents: [{ name: "Ada", knows: "maritime law" }] }
}); }"""


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """The compiler and the bundler find no mistake."""
    react.build()


def test_its_types_are_those_of_the_server() -> None:
    """The types that the page is compiled with are written from the server's client tools, and are current."""
    file = str(react.FOLDER / "src" / "client-tools.ts")

    status = main(["types", "examples.merak_search.client_tools:sequencer", "--output", file, "--check"])

    assert 0 == status


async def test_the_user_chooses(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """A client tool call shows people, waits for the user, and is answered under its receipt."""
    await calm.route("https://cdn.platform.openai.com/**", lambda route: route.fulfill(body=STUB))
    await calm.goto(f"{url}/react/")
    await calm.wait_for_function("window.given")
    await calm.evaluate(CHOOSE)
    await picture("react")

    await calm.get_by_role("button", name="Choose Ada").click()

    answer = await asyncio.wait_for(calm.evaluate("answer"), 10)
    assert {"_receipt": "thr_1:call_1", "result": {"name": "Ada"}} == answer
    await expect(calm.get_by_role("button")).to_have_count(0)
    assert f"{url}/merak_search/chatkit" == await calm.evaluate("given.api.url")


async def test_a_loaded_thread_is_resumed(calm: Page, url: str) -> None:
    """When ChatKit has loaded a thread the page asks for the call that is open."""
    await calm.route("https://cdn.platform.openai.com/**", lambda route: route.fulfill(body=STUB))
    await calm.goto(f"{url}/react/")
    await calm.wait_for_function("window.given")

    await calm.locator("openai-chatkit").dispatch_event("chatkit.thread.load.end")

    await calm.wait_for_function("window.sent === 'chatkit_clienttools.resume'")
