"""The theme switcher's page in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page


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
