"""Merak's page in a real Chromium: what appears on the stage, and in which order, whatever the user does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from examples.held import Held
from examples.merak_search import people, tools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from playwright.async_api import Page

QUESTION = "Who knows about maritime law?"
IN_ORDER = ["searching", "choosing", "Ada, Bela, Dara", "chosen", "done"]

WATCH = """
window.seen = [];
let last = "idle";
const see = (what) => what === last || seen.push((last = what));
const stage = document.querySelector("#ours .stage");
const names = () => [...stage.querySelectorAll(".person b")].map((name) => name.textContent).join(", ");
new MutationObserver((changes) => {
  for (const change of changes) {
    if (change.type === "attributes") see(stage.dataset.state);
    else if (change.addedNodes.length && change.target.matches(".cards")) see(names());
  }
}).observe(stage, { attributeFilter: ["data-state"], childList: true, subtree: true });
"""

STEPS = """() => [...document.querySelectorAll("#timeline .call:not(.server-tool)")].map((call) => [
  call.querySelector("code").textContent, [...call.querySelectorAll("b")].map((step) => step.textContent).join(" ")
])"""
BESIDE_THE_STATUS = "getComputedStyle(document.querySelector('#ours .progress'), '::before').content"
WHOLE = "queued pending completed"
ALL_COMPLETED = [
    ["run_search_animation", WHOLE],
    ["choose_agent", WHOLE],
    ["run_search_animation", WHOLE],
]


async def opened(page: Page, url: str) -> Page:
    await page.goto(f"{url}/merak_search/")
    await page.evaluate(WATCH)
    return page


async def ask(page: Page, text: str = QUESTION) -> None:
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def choose(page: Page, name: str = "Ada") -> None:
    await page.get_by_role("button", name=f"Choose {name}").click()


async def it_is_done(page: Page) -> None:
    await expect(page.locator("#ours .stage")).to_contain_text("You have chosen.")
    await expect(page.locator("#ours .person")).to_have_count(3)
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def life_is(page: Page, *calls: list[str]) -> None:
    """Wait until the timeline shows these calls, each with its steps."""
    await page.wait_for_function(f"expected => JSON.stringify(({STEPS})()) === expected", arg=as_js(calls))


def as_js(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


async def test_the_order_on_the_stage(
    calm: Page, url: str, picture: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The animation turns WHILE the server searches; then come the people, the user's choice and the end, each once."""
    searching, go_on = asyncio.Event(), asyncio.Event()

    async def slow(query: str, tell: Any) -> list[people.Profile]:
        await tell("3 of 6 people looked at, 1 found")
        searching.set()
        await go_on.wait()
        return await people.find(query, tell)

    monkeypatch.setattr(tools, "find", slow)
    await opened(calm, url)
    await ask(calm)
    await searching.wait()

    await expect(calm.locator("#ours .stage")).to_contain_text("Searching…")
    for place in ("#ours .stage .so-far", "#ours .progress"):
        await expect(calm.locator(place)).to_have_text("3 of 6 people looked at, 1 found")
    await picture("merak-searching")
    go_on.set()
    await expect(calm.locator("#ours .stage")).to_contain_text("Choose one of them.")
    await expect(calm.locator("#ours .progress")).to_have_text("Waiting for your choice.")
    assert "none" == await calm.evaluate(BESIDE_THE_STATUS)
    await picture("merak-choosing")
    await choose(calm)
    await it_is_done(calm)

    await expect(calm.get_by_role("log").first).to_contain_text("Ada knows maritime law.")
    assert IN_ORDER == await calm.evaluate("seen")
    await life_is(calm, *ALL_COMPLETED)
    await picture("merak-done")


async def test_plain_chatkit_next_to_it(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """The switch plays the same on plain ChatKit: two of three calls are lost, and the model answers twice."""
    await opened(calm, url)
    await calm.get_by_label("Play the same on plain ChatKit").check()
    await ask(calm)

    await choose(calm)

    await it_is_done(calm)
    await expect(calm.locator("#ours .score")).to_have_text(
        "3 of 3 client tools have reached the page; 1 answer in words."
    )
    await expect(calm.locator("#plain .score")).to_have_text(
        "1 of 3 client tools have reached the page; 2 answers in words."
    )
    await expect(calm.locator("#plain .person")).to_have_count(0)
    await picture("merak-plain")


async def test_a_reload_while_the_user_chooses(calm: Page, url: str) -> None:
    """The page that is loaded again lets the user choose, and the search is not made a second time."""
    await opened(calm, url)
    await ask(calm)
    await expect(calm.get_by_role("button", name="Choose Ada")).to_be_visible()
    await life_is(calm, ["run_search_animation", WHOLE], ["choose_agent", "queued pending"])

    await calm.reload()
    await choose(calm)

    await it_is_done(calm)
    await expect(calm.locator("#ours .assistant_message")).to_have_count(1)
    await life_is(calm, ALL_COMPLETED[0], ["choose_agent", "queued pending sent again completed"], ALL_COMPLETED[2])


async def test_a_reload_afterwards(calm: Page, url: str) -> None:
    """What the user has chosen is on the stage again after a reload."""
    await opened(calm, url)
    await ask(calm)
    await choose(calm, "Dara")
    await it_is_done(calm)

    await calm.reload()

    await expect(calm.locator("#ours .person.chosen")).to_contain_text("Dara")
    await it_is_done(calm)


async def test_two_tabs(calm: Page, url: str) -> None:
    """A second tab shows the conversation and finishes it; what the first one answers then does no harm."""
    held = Held(2)
    await opened(calm, url)
    await calm.route("**/chatkit", held)
    await ask(calm)
    await choose(calm)
    await held.arrived.wait()

    other = await calm.context.new_page()
    await other.goto(calm.url)
    await choose(other, "Bela")
    await it_is_done(other)
    held.released.set()

    await expect(calm.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(calm.get_by_role("alert").first).to_be_empty()
    await calm.reload()
    await it_is_done(calm)
    await expect(calm.locator("#ours .person.chosen")).to_contain_text("Bela")
    await expect(calm.locator("#timeline .call:not(.server-tool) .step:last-child")).to_contain_text(["completed"] * 3)


async def test_a_choice_in_another_tab(calm: Page, url: str, picture: Callable[..., Awaitable[None]]) -> None:
    """A tab that waits for a choice shows the one that was made in another tab, and the answer to it."""
    await opened(calm, url)
    await ask(calm)
    await expect(calm.get_by_role("button", name="Choose Ada")).to_be_visible()
    other = await calm.context.new_page()
    await other.goto(calm.url)

    await choose(other, "Bela")

    for tab in (other, calm):
        await it_is_done(tab)
        await expect(tab.locator("#ours .person.chosen")).to_contain_text("Bela")
        await expect(tab.get_by_role("log").first).to_contain_text("Bela knows maritime insurance.")
        await expect(tab.get_by_role("alert").first).to_be_empty()
        await picture(f"merak-tab-{'two' if tab is other else 'one'}", tab)


async def test_a_message_that_cannot_be_sent_leaves_the_stage(calm: Page, url: str) -> None:
    """What is on the stage stays there until the server has the next message."""
    await opened(calm, url)
    await ask(calm)
    await choose(calm)
    await it_is_done(calm)
    await calm.route("**/chatkit", lambda route: route.abort())

    await ask(calm, "Who knows the harbour?")

    await expect(calm.get_by_role("alert").first).to_contain_text("The server is away.")
    await expect(calm.locator("#ours .person.chosen")).to_contain_text("Ada")


async def test_a_count_in_progress_is_no_loss(calm: Page, url: str) -> None:
    """While calls are still to come the count says so far, and is not marked as a loss."""
    await opened(calm, url)
    await ask(calm)
    await expect(calm.get_by_role("button", name="Choose Ada")).to_be_visible()

    await expect(calm.locator("#ours .score")).to_contain_text("2 of 3 client tools have reached the page so far")
    await calm.reload()
    await expect(calm.get_by_role("button", name="Choose Ada")).to_be_visible()
    await expect(calm.locator("#ours .score.lost")).to_have_count(0)


async def test_a_handler_that_fails(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """When the page cannot show the people the call has failed, and the animation is stopped all the same."""
    await opened(calm, url)
    await calm.get_by_label("Let the page fail").check()
    await ask(calm)

    await expect(calm.locator("#ours .stage")).to_contain_text("The page could not show them")
    await expect(calm.locator("#ours .score")).to_contain_text("3 of 3")
    await expect(calm.locator("#timeline .failed")).to_have_count(1)
    await life_is(calm, ALL_COMPLETED[0], ["choose_agent", "queued pending failed"], ALL_COMPLETED[2])
    await picture("merak-failed")
    await calm.reload()
    await expect(calm.locator("#ours .stage")).to_contain_text("The page could not show them")


async def test_another_question_instead_of_a_choice(calm: Page, url: str) -> None:
    """A user who asks for others instead of choosing gets those; the first search ends with its animation stopped."""
    await opened(calm, url)
    await ask(calm)
    await expect(calm.get_by_role("button", name="Choose Ada")).to_be_visible()

    await calm.get_by_role("button", name="Stop").click()
    await expect(calm.get_by_text("Stopped. Write to go on.")).to_be_visible()
    await ask(calm, "Who knows the harbour?")

    await expect(calm.locator("#ours .person b")).to_have_text(["Chen", "Dara"])
    await choose(calm, "Chen")
    await expect(calm.locator("#ours .stage")).to_contain_text("You have chosen.")
    await expect(calm.get_by_role("log").first).to_contain_text("Chen knows harbour pilotage.")
    await life_is(
        calm,
        ["run_search_animation", WHOLE],
        ["choose_agent", "queued pending cancelled"],
        ["run_search_animation", WHOLE],
        *ALL_COMPLETED,
    )


async def test_nobody_has_to_wait_for_the_page(calm: Page, url: str) -> None:
    """A user who writes while the page runs a client tool is answered, and the open call is cancelled."""
    await calm.clock.install(time=0)
    await calm.emulate_media(reduced_motion="no-preference")
    await opened(calm, url)
    await calm.clock.pause_at(60_000)
    await ask(calm)
    await life_is(calm, ["run_search_animation", "queued pending"])

    await ask(calm, "Hello!")

    await expect(calm.get_by_role("log").first).to_contain_text("Ask me who knows about something")
    await expect(calm.locator("#ours .user_message")).to_have_count(2)


async def test_nobody_is_found(calm: Page, url: str) -> None:
    """When the search finds nobody the animation begins and ends all the same, and the stage says so."""
    await opened(calm, url)
    await ask(calm, "Who can repair a zeppelin?")

    await expect(calm.locator("#ours .stage")).to_contain_text("Nobody was found.")
    await expect(calm.locator("#ours .score")).to_contain_text("2 of 2")
    await expect(calm.get_by_role("log").first).to_contain_text("Nobody I know can help with that.")


async def test_a_greeting(calm: Page, url: str) -> None:
    """A greeting is answered in words, and the stage stays as it is."""
    await opened(calm, url)
    await ask(calm, "Hello!")

    await expect(calm.get_by_role("log").first).to_contain_text("Ask me who knows about something")
    assert [] == await calm.evaluate("seen")
