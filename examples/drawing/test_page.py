"""The drawing in a real Chromium: what is drawn by mouse, finger or keyboard is what the assistant sees."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser, Page

MINE = "What have I drawn?"
SIZE = "The picture has 512 by 341 pixels"
EMPTY = f"{SIZE}, and the paper is empty."


@pytest_asyncio.fixture
async def drawing(calm: Page, url: str) -> Page:
    await calm.goto(f"{url}/drawing/")
    return calm


async def say(page: Page, text: str = MINE) -> None:
    await expect(page.get_by_role("button", name="Send")).not_to_have_attribute("aria-disabled", "true")
    box = page.get_by_role("textbox", name="Message")
    await box.fill(text)
    await box.press("Enter")


async def choose(page: Page, *names: str) -> None:
    for name in names:
        await page.get_by_role("radio", name=name).check()


def paper(page: Page) -> Any:
    return page.get_by_role("application", name="Paper")


def answers(page: Page) -> Any:
    return page.locator(".assistant_message p")


def mostly(colour: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(SIZE)}\. Most of what you have drawn is {colour}: [1-9]")


async def drag(page: Page, *places: tuple[float, float]) -> None:
    """Draw a line with the mouse; places are shares of the paper's width and height."""
    box = await paper(page).bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    await page.mouse.move(*points[0])
    await page.mouse.down()
    for point in points[1:]:
        await page.mouse.move(*point)
    await page.mouse.up()


async def test_an_empty_paper(drawing: Page) -> None:
    """A question before anything is drawn is answered, too."""
    await say(drawing)

    await expect(answers(drawing)).to_have_text([EMPTY])


async def test_a_mouse_draws(drawing: Page, picture: Callable[[str], Awaitable[None]]) -> None:
    """The assistant says what is on the canvas, in its own colours and no larger than 512 pixels."""
    await choose(drawing, "red")
    await drag(drawing, (0.1, 0.2), (0.9, 0.2), (0.9, 0.8), (0.1, 0.8))
    await choose(drawing, "blue", "square")
    await drag(drawing, (0.5, 0.5))

    await say(drawing)

    await expect(answers(drawing)).to_have_text([mostly("blue|red")])
    await expect(answers(drawing)).to_contain_text("red")
    await expect(answers(drawing)).to_contain_text("blue")
    await expect(drawing.locator(".seen")).to_contain_text("The assistant has seen this:")
    await expect(drawing.locator(".call .step b")).to_have_text(["queued", "pending", "completed"])
    await picture("drawing")


async def test_a_keyboard_draws(drawing: Page) -> None:
    """Arrows move, Space stamps, Shift and an arrow draw a line; the paper is reached by Tab, and left by Tab."""
    await choose(drawing, "green", "circle")
    await drawing.keyboard.press("Tab")
    await expect(paper(drawing)).to_be_focused()
    for key in ("ArrowLeft", "ArrowUp", "Space", "Shift+ArrowRight", "Shift+ArrowDown"):
        await drawing.keyboard.press(key)
    await drawing.keyboard.press("Tab")
    await expect(drawing.get_by_role("button", name="Undo")).to_be_focused()

    await say(drawing)

    await expect(answers(drawing)).to_have_text([mostly("green")])
    marks = await drawing.evaluate("JSON.parse(sessionStorage.drawing).map(({ shape }) => shape)")
    assert ["circle", "pen", "pen"] == marks


async def test_a_finger_draws(browser: Browser, url: str) -> None:
    """On a phone of 390 pixels a touch draws, the page does not scroll meanwhile, and nothing sticks out."""
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    await page.goto(f"{url}/drawing/")
    await choose(page, "purple", "triangle")
    await paper(page).tap()
    line = await context.new_cdp_session(page)
    await choose(page, "pen")
    box = await paper(page).bounding_box()
    before = await page.evaluate("scrollY")
    for kind, y in (("touchStart", 10), ("touchMove", 60), ("touchMove", 110), ("touchEnd", None)):
        points = [] if y is None else [{"x": box["x"] + 30, "y": box["y"] + y}]
        await line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    marks = await page.evaluate("JSON.parse(sessionStorage.drawing).map(({ shape, points }) => [shape, points.length])")
    await say(page)

    await expect(answers(page)).to_have_text([mostly("purple")])
    assert ["triangle", "pen"] == [shape for shape, _ in marks]
    assert marks[1][1] >= 2
    assert (before, 390) == (
        await page.evaluate("scrollY"),
        await page.evaluate("document.documentElement.scrollWidth"),
    )
    await context.close()


async def test_undo_and_clear(drawing: Page) -> None:
    """What was taken back is not seen."""
    await choose(drawing, "orange", "square")
    await paper(drawing).click()
    await choose(drawing, "black")
    await paper(drawing).click()
    await drawing.get_by_role("button", name="Undo").click()
    await say(drawing)
    await expect(answers(drawing)).to_have_text([mostly("orange")])

    await drawing.get_by_role("button", name="Clear").click()
    await say(drawing)

    await expect(answers(drawing)).to_have_text([mostly("orange"), EMPTY])


async def test_a_reload_keeps_the_drawing(drawing: Page) -> None:
    """The page that is loaded again has the drawing and the conversation, and the drawing can be asked about."""
    await choose(drawing, "red", "circle")
    await paper(drawing).click()
    await say(drawing)
    await expect(answers(drawing)).to_have_text([mostly("red")])

    await drawing.reload()
    await say(drawing, "Which colour have I used most?")

    await expect(answers(drawing)).to_have_text([mostly("red"), mostly("red")])
