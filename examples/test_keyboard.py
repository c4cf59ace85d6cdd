"""Each demo by keyboard alone, from the front page on, on a desk and on a phone: Tab, Enter, Space and letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Page

MOST = 40
"""More often nobody presses Tab."""

FOCUSED = """() => {
  const { activeElement: at } = document;
  if (at === document.body) return ["", true]; // from the last one it goes to the first
  const isRinged = ({ outlineStyle, outlineWidth }) => outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  const name = at.getAttribute("aria-label") ?? at.closest("label")?.textContent ?? at.textContent;
  return [name.trim(), [at, at.parentElement].some((each) => isRinged(getComputedStyle(each)))];
}"""


@pytest_asyncio.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
async def front(request: pytest.FixtureRequest, calm: Page, url: str) -> Page:
    """The front page, on which nothing was touched yet."""
    width, height = request.param
    await calm.set_viewport_size({"width": width, "height": height})
    await calm.goto(url)
    return calm


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until something of that name has the focus; whatever has it on the way shows that."""
    for _ in range(MOST):
        await page.keyboard.press("Tab")
        focused, is_shown = await page.evaluate(FOCUSED)
        assert is_shown, f"nothing shows that {focused} has the focus"
        if focused.startswith(name):
            return
    pytest.fail(f"Tab does not come to {name}")


async def open_demo(page: Page, title: str) -> None:
    await tab_to(page, title)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Message")).to_be_visible()


async def say(page: Page, text: str) -> None:
    await tab_to(page, "Message")
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def press(page: Page, name: str, key: str = "Enter") -> None:
    """Go to something that is there by now, and press a key."""
    await expect(page.get_by_label(name).or_(page.get_by_role("button", name=name)).first).to_be_visible()
    await tab_to(page, name)
    await page.keyboard.press(key)


async def test_merak(front: Page) -> None:
    """A person is chosen, and when the buttons have gone the focus is where the page says what comes next."""
    await open_demo(front, "Merak")
    await say(front, "Who knows about maritime law?")

    await press(front, "Choose Bela")

    await expect(front.get_by_role("log").first).to_contain_text("Bela knows maritime insurance.")
    await expect(front.locator("#ours .stage").get_by_role("status")).to_be_focused()


async def test_merak_on_both(front: Page) -> None:
    """The comparison is switched on, and a conversation is stopped and begun anew."""
    await open_demo(front, "Merak")
    await press(front, "Play the same on plain ChatKit", "Space")
    await say(front, "Who knows about maritime law?")
    await expect(front.locator("#plain .score")).to_contain_text("1 of 3")

    await press(front, "Stop")
    await press(front, "New conversation")

    await expect(front.get_by_role("log").first).to_be_empty()
    await expect(front.get_by_role("textbox", name="Message")).to_be_focused()


async def test_merak_killed(front: Page) -> None:
    """The server is killed, the button keeps the focus, and what has become of the server is said beside it."""
    processes = iter([1, 1, 2])
    await front.route("**/server", lambda route: route.fulfill(json={"process": next(processes), "restarts": True}))
    await front.route("**/server/kill", lambda route: route.fulfill(status=202))
    await open_demo(front, "Merak")

    await press(front, "Kill the server")

    await expect(front.locator(".server [role=status]")).to_have_text("Process 1 was killed. Process 2 has taken over.")
    await expect(front.get_by_role("button", name="Kill the server")).to_be_focused()


async def test_facts(front: Page) -> None:
    """A suggestion is taken."""
    await open_demo(front, "Facts")

    await press(front, "I sail on Sundays. Make it dark.")

    await expect(front.locator("#facts li")).to_have_text(["I sail on Sundays."])
    await expect(front.locator("#scheme")).to_have_text("dark")


async def test_canvas(front: Page) -> None:
    """Shapes are selected, and Done is behind them."""
    await open_demo(front, "Canvas")
    await say(front, "Which of these is the largest?")
    await expect(front.get_by_role("button", name="Done")).to_be_visible()

    await press(front, "blue square", "Space")
    await press(front, "teal circle", "Space")
    await press(front, "Done")

    await expect(front.locator(".assistant_message p")).to_have_text(["The largest one is the blue square."])


async def test_todo(front: Page) -> None:
    """A task is added, and another user has none."""
    await open_demo(front, "Todo")
    await say(front, "add buy milk")
    await expect(front.locator(".highlighted b")).to_have_text("buy milk")
    await expect(front.get_by_role("button", name="Stop")).to_be_hidden()

    await press(front, "Become another user")

    await expect(front.get_by_text("No tasks.")).to_be_visible()
