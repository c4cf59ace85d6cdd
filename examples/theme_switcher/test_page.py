"""The theme switcher's page in a real Chromium."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from examples.held import Held
from examples.theme_switcher import server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest
    from playwright.async_api import Page

BOTH = "I sail on Sundays. Make it dark."


async def both_are_done(page: Page) -> None:
    await expect(page.locator("#facts li")).to_have_text(["I sail on Sundays."])
    await expect(page.locator("#scheme")).to_have_text("dark")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(page.locator(".step:last-child")).to_contain_text(["completed"] * 2)


async def test_both_happen_and_the_card_is_there(
    calm: Page, url: str, picture: Callable[[str], Awaitable[None]]
) -> None:
    """One message: the fact is on the page, the page is dark, and the card is in the chat, before the words."""
    await calm.goto(f"{url}/theme_switcher/")
    await calm.get_by_role("button", name="I sail on Sundays. Make it dark.").click()

    await expect(calm.locator("#facts li")).to_have_text(["I sail on Sundays."])
    await expect(calm.locator("#scheme")).to_have_text("dark")
    await expect(calm.locator(".step.completed")).to_have_count(2)
    items = calm.get_by_role("log").get_by_role("article")
    assert ["You", "Card", "Assistant"] == [text.split(":")[0] for text in await items.all_text_contents()]
    assert "rgb(18, 20, 29)" == await calm.evaluate("getComputedStyle(document.body).backgroundColor")
    await picture("facts")


async def test_a_reload_shows_what_was_done(calm: Page, url: str) -> None:
    """The facts, the theme and the card are there again, each once, and nothing is asked of the model."""
    await calm.goto(f"{url}/theme_switcher/")
    await calm.get_by_role("button", name="I sail on Sundays. Make it dark.").click()
    await expect(calm.locator(".step.completed")).to_have_count(2)

    await calm.reload()

    await expect(calm.locator("#facts li")).to_have_text(["I sail on Sundays."])
    await expect(calm.locator("#scheme")).to_have_text("dark")
    await expect(calm.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(calm.get_by_role("log").get_by_role("article")).to_have_count(3)
    await expect(calm.locator(".step.completed")).to_have_count(2)


async def test_a_reload_with_a_call_pending(calm: Page, url: str) -> None:
    """The first call's answer is on its way when the page is loaded again: both happen, each once."""
    held = Held(1)
    await calm.goto(f"{url}/theme_switcher/")
    await calm.route("**/chatkit", held)
    await calm.get_by_role("button", name=BOTH).click()
    await held.arrived.wait()

    await calm.reload()

    await both_are_done(calm)
    await expect(calm.get_by_role("log").get_by_role("article")).to_have_count(3)


async def test_two_tabs(calm: Page, url: str) -> None:
    """A second tab finishes what the first one has begun; what that one answers then does no harm."""
    held = Held(1)
    await calm.goto(f"{url}/theme_switcher/")
    await calm.route("**/chatkit", held)
    await calm.get_by_role("button", name=BOTH).click()
    await held.arrived.wait()

    other = await calm.context.new_page()
    await other.goto(calm.url)
    await both_are_done(other)
    held.released.set()

    await expect(calm.get_by_role("button", name="Stop")).to_be_hidden()
    await calm.reload()
    await both_are_done(calm)


async def test_a_double_click_sends_once(calm: Page, url: str) -> None:
    """Two clicks on Send are one message, one fact and one answer."""
    await calm.goto(f"{url}/theme_switcher/")
    await calm.get_by_role("textbox", name="Message").fill(BOTH)

    await calm.get_by_role("button", name="Send").dblclick()

    await both_are_done(calm)
    await expect(calm.get_by_role("log").get_by_role("article")).to_have_count(3)


async def test_a_handler_that_fails(calm: Page, url: str) -> None:
    """When the fact cannot be put on the page its call has failed, and the theme is switched all the same."""
    await calm.goto(f"{url}/theme_switcher/")
    await calm.evaluate("() => { document.querySelector('#facts').append = () => { throw new Error('no list') } }")

    await calm.get_by_role("button", name=BOTH).click()

    await expect(calm.locator("#scheme")).to_have_text("dark")
    await expect(calm.locator(".step.failed")).to_have_count(1)
    await expect(calm.locator(".step.completed")).to_have_count(1)


async def test_stop_in_mid_stream(calm: Page, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ends the answer at once, nothing of that turn happens, and the next message is answered."""
    begun, forever = asyncio.Event(), asyncio.Event()

    async def slow(_context: Any, _result: Any) -> AsyncIterator[Any]:
        begun.set()
        await forever.wait()
        yield

    with monkeypatch.context() as patched:
        patched.setattr(server, "stream_agent_response", slow)
        await calm.goto(f"{url}/theme_switcher/")
        await calm.get_by_role("button", name=BOTH).click()
        await begun.wait()
        await calm.get_by_role("button", name="Stop").click()
        await expect(calm.get_by_text("Stopped. Write to go on.")).to_be_visible()
    await expect(calm.locator("#facts li")).to_have_count(0)

    await calm.get_by_role("textbox", name="Message").fill(BOTH)
    await calm.get_by_role("button", name="Send").click()

    await both_are_done(calm)
