"""The official ChatKit.js in the demos' pages. It comes from OpenAI, so a stand-in takes its place in these tests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import expect
from tests.helpers.typescript import compiled

from examples.demo import NAMES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page, Route

SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
STAND_IN = Path(__file__).parent / "stand_in.js"
QUESTION = "Who knows about maritime law?"
OFFICIAL = "This is OpenAI's ChatKit.js."
SMALL = "This is our small chat."
OFFLINE = "ChatKit.js cannot be reached, so this is our small chat."
NEVER_READY = 'customElements.define("openai-chatkit", class extends HTMLElement { setOptions() {} });'

USED = """() => JSON.stringify(used, (key, value) => {
  if (typeof value !== "function") return value;
  return key === "fetch" ? "(fetch)" : "(async () => ({}))";
})"""
TYPED = """
import type {{ ChatKitEvents, ChatKitOptions, OpenAIChatKit }} from "@openai/chatkit";
declare const chatkit: OpenAIChatKit;
export const options: ChatKitOptions[] = {options};
export const events: (keyof ChatKitEvents)[] = {events};
type Emitted = {{ [K in keyof ChatKitEvents]: [K, ChatKitEvents[K]["detail"]] }}[keyof ChatKitEvents];
export const emitted: Emitted[] = {emitted};
{calls}
"""


def say(page: Page, text: str) -> Any:
    return page.evaluate("text => document.querySelector('openai-chatkit').sendUserMessage({ text })", text)


async def choose(page: Page, name: str) -> None:
    await page.get_by_role("button", name=f"Choose {name}").click()


@pytest_asyncio.fixture
async def online(calm: Page) -> Page:
    """A tab that can load ChatKit.js."""
    await calm.route(SCRIPT, lambda route: route.fulfill(path=STAND_IN))
    return calm


async def test_merak_is_played_with_the_official_chat(
    online: Page, url: str, picture: Callable[[str], Awaitable[None]]
) -> None:
    """Where ChatKit.js can be loaded it is the chat of the page, and everything beside it works as with our own."""
    await online.goto(f"{url}/merak_search/")
    await expect(online.get_by_text(OFFICIAL)).to_be_visible()

    conversation = asyncio.ensure_future(say(online, QUESTION))
    await choose(online, "Bela")
    await conversation

    await expect(online.locator("openai-chatkit .assistant_message")).to_contain_text("Bela knows maritime insurance.")
    await expect(online.locator("#ours .person.chosen")).to_contain_text("Bela")
    await expect(online.locator("#ours .stage")).to_contain_text("You have chosen.")
    await expect(online.locator("#ours .score")).to_have_text(
        "3 of 3 client tools have reached the page; 1 answer in words."
    )
    await expect(online.locator("#timeline .step:last-child b")).to_have_text(
        ["completed", "returned", "completed", "completed"]
    )
    await picture("merak-official")


async def test_a_reload_with_the_official_chat(online: Page, url: str) -> None:
    """A page that is loaded again lets the user choose, and shows the choice when it is loaded once more."""
    await online.goto(f"{url}/merak_search/")
    await expect(online.get_by_text(OFFICIAL)).to_be_visible()
    asyncio.ensure_future(say(online, QUESTION)).add_done_callback(lambda done: done.exception())  # the reload ends it
    await expect(online.get_by_role("button", name="Choose Dara")).to_be_visible()

    await online.reload()
    await choose(online, "Dara")

    await expect(online.locator("openai-chatkit .assistant_message")).to_contain_text("Dara knows harbour")
    await online.reload()
    await expect(online.locator("#ours .person.chosen")).to_contain_text("Dara")


async def test_another_question_instead_of_a_choice(online: Page, url: str) -> None:
    """A message that is written in ChatKit.js clears the stage, as one that is written in our own chat does."""
    await online.goto(f"{url}/merak_search/")
    await expect(online.get_by_text(OFFICIAL)).to_be_visible()
    first = asyncio.ensure_future(say(online, QUESTION))
    await expect(online.get_by_role("button", name="Choose Ada")).to_be_visible()

    second = asyncio.ensure_future(say(online, "Who knows the harbour?"))

    await expect(online.locator("#ours .person b")).to_have_text(["Chen", "Dara"])
    await choose(online, "Chen")
    await second
    await expect(online.locator("#ours .stage")).to_contain_text("You have chosen.")
    first.cancel()


async def another_process_serves(page: Page, url: str) -> None:
    """Open Merak's page, and kill a server of which another one takes the place."""
    processes = iter([1, 1, 2])

    async def server(route: Route) -> None:
        await route.fulfill(json={"process": next(processes), "restarts": True})

    await page.route("**/server", server)
    await page.route("**/server/kill", lambda route: route.fulfill(status=202))
    await page.goto(f"{url}/merak_search/")
    await expect(page.get_by_text(OFFICIAL)).to_be_visible()
    await say(page, "Hello!")
    await page.get_by_role("button", name="Kill the server").click()
    await page.wait_for_function("used.calls.length === 2")


async def test_another_process_serves(online: Page, url: str) -> None:
    """When a killed process has a successor ChatKit.js loads what is new, and asks for the call that is open."""
    await another_process_serves(online, url)

    assert ["fetchUpdates", "sendCustomAction"] == [method for method, *_ in await online.evaluate("used.calls")]


async def test_a_theme_that_is_switched(online: Page, url: str) -> None:
    """ChatKit.js is as light or dark as the page, from the beginning, and when a client tool switches the theme."""
    await online.goto(f"{url}/theme_switcher/")
    await expect(online.get_by_text(OFFICIAL)).to_be_visible()

    await say(online, "I sail on Sundays. Make it dark.")

    await expect(online.locator("#facts li")).to_have_text(["I sail on Sundays."])
    await online.wait_for_function("used.options.at(-1).theme === 'dark'")
    assert "light" == await online.evaluate("used.options[0].theme")


@pytest.mark.long
async def test_what_it_is_given_has_the_types_of_chatkit_js(online: Page, url: str, tmp_path: Path) -> None:
    """Each page's options, events and calls, and what the stand-in emits, fit the types of `@openai/chatkit`."""
    used: dict[str, list[Any]] = {"options": [], "events": [], "calls": [], "emitted": []}
    for name in NAMES:
        await online.goto(f"{url}/{name}/")
        await expect(online.get_by_text(OFFICIAL)).to_be_visible()
        await say(online, "hi")
        await online.reload()
        await expect(online.locator("openai-chatkit .assistant_message")).to_have_count(1)
        for kind, values in json.loads(await online.evaluate(USED)).items():
            used[kind] += values
    await another_process_serves(online, url)
    for kind in ("calls", "emitted"):
        used[kind] += await online.evaluate(f"used.{kind}")

    options = (
        json.dumps(used["options"]).replace('"(fetch)"', "fetch").replace('"(async () => ({}))"', "async () => ({})")
    )
    calls = [f"chatkit.{method}({', '.join(map(json.dumps, given))});" for method, *given in used["calls"]]
    events, emitted = json.dumps(used["events"]), json.dumps(used["emitted"])
    typed = TYPED.format(options=options, events=events, emitted=emitted, calls="\n".join(calls))

    assert [] == compiled(tmp_path, {"used.ts": typed})
    assert "onClientTool" in options
    assert {"fetchUpdates", "sendCustomAction"} == {method for method, *_ in used["calls"]}
    named = {"chatkit.thread.change", "chatkit.thread.load.start", "chatkit.thread.load.end"}
    assert named == {name for name, _ in used["emitted"]}


async def never(_route: Route) -> None:
    """An address that does not answer."""


@pytest.mark.parametrize("script", [None, "", NEVER_READY], ids=["hangs", "is empty", "is never ready"])
async def test_it_takes_too_long(calm: Page, url: str, script: str | None) -> None:
    """If ChatKit.js is not there after six seconds the page takes our small chat, and says so."""
    await calm.clock.install(time=0)
    await calm.route(SCRIPT, never if script is None else lambda route: route.fulfill(body=script))
    await calm.goto(f"{url}/merak_search/", wait_until="domcontentloaded")
    await expect(calm.get_by_text("ChatKit.js is loaded from OpenAI…")).to_be_visible()

    await calm.clock.run_for(6000)

    await expect(calm.get_by_text(OFFLINE)).to_be_visible()
    await expect(calm.get_by_role("textbox", name="Message")).to_be_visible()
    await expect(calm.locator("openai-chatkit")).to_have_count(0)


async def test_it_cannot_be_reached(calm: Page, url: str) -> None:
    """Without a network the page takes our small chat at once, says so, and can be told to try again."""
    await calm.goto(f"{url}/merak_search/")
    await expect(calm.get_by_text(OFFLINE)).to_be_visible()
    await expect(calm.get_by_role("textbox", name="Message")).to_be_visible()
    await calm.route(SCRIPT, lambda route: route.fulfill(path=STAND_IN))

    await calm.get_by_role("link", name="Try it again").click()

    await expect(calm.get_by_text(OFFICIAL)).to_be_visible()
    await expect(calm.get_by_role("textbox", name="Message")).to_have_count(0)


async def test_the_user_takes_the_other_chat(online: Page, url: str) -> None:
    """One link leads from either chat to the other, in the same conversation; our small one asks nothing of OpenAI."""
    await online.goto(f"{url}/merak_search/")
    await expect(online.get_by_text(OFFICIAL)).to_be_visible()
    await say(online, "Hello!")
    asked: list[str] = []
    online.on("request", lambda request: asked.append(request.url))

    await online.get_by_role("link", name="Use our small chat").click()

    await expect(online.get_by_text(SMALL)).to_be_visible()
    await expect(online.get_by_role("log").first).to_contain_text("Hello! Ask me who knows")
    await expect(online.get_by_role("button", name="Stop")).to_be_hidden()
    assert SCRIPT not in asked
    async with online.expect_request_finished(
        lambda request: "chatkit_clienttools.resume" in (request.post_data or "")
    ):
        await online.get_by_role("link", name="Use OpenAI's ChatKit.js").click()
    await expect(online.locator("openai-chatkit .assistant_message")).to_have_count(1)
