"""The canvas in a real Chromium: the model waits for a person, who may do anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio
from playwright.async_api import expect

from .offline import HELLO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page

MINE = "What have I selected?"
LARGEST = "Which of these is the largest?"
WAITING = "Waiting for your selection."


@pytest_asyncio.fixture
async def canvas(calm: Page, url: str) -> Page:
    await calm.goto(f"{url}/canvas_selection/")
    return calm


async def say(page: Page, text: str) -> None:
    await expect(page.get_by_role("button", name="Send")).not_to_have_attribute("aria-disabled", "true")
    box = page.get_by_role("textbox", name="Message")
    await box.fill(text)
    await box.press("Enter")


async def select(page: Page, *names: str) -> None:
    for name in names:
        await page.get_by_role("checkbox", name=name).check()


def done(page: Page) -> Any:
    return page.get_by_role("button", name="Done")


def status(page: Page) -> Any:
    return page.locator("#canvas").get_by_role("status")


def answers(page: Page) -> Any:
    return page.locator(".assistant_message p")


def steps(page: Page) -> Any:
    return page.locator(".call .step b")


async def test_the_model_waits_for_the_selection(canvas: Page, picture: Callable[[str], Awaitable[None]]) -> None:
    """The page asks, nothing is said meanwhile; after Done the answer is about what is selected then."""
    await expect(status(canvas)).to_contain_text("Nothing is asked.")
    await say(canvas, LARGEST)
    await expect(status(canvas)).to_contain_text(WAITING)
    await expect(steps(canvas)).to_have_text(["queued", "pending"])
    await select(canvas, "blue square", "teal circle")
    await picture("canvas-waiting")
    assert 0 == await answers(canvas).count()

    await done(canvas).click()

    await expect(answers(canvas)).to_have_text(["The largest one is the blue square."])
    await expect(steps(canvas)).to_have_text(["queued", "pending", "completed"])
    await expect(status(canvas)).to_contain_text("Nothing is asked.")
    await expect(done(canvas)).to_be_hidden()
    await picture("canvas")


async def test_a_keyboard_selects(canvas: Page) -> None:
    """Tab goes to each shape and then to Done; when Done has gone the focus is where the page says what comes next."""
    await say(canvas, MINE)
    await expect(done(canvas)).to_be_visible()
    await canvas.get_by_role("checkbox", name="teal circle").focus()

    await canvas.keyboard.press("Space")
    await canvas.keyboard.press("Tab")
    await expect(done(canvas)).to_be_focused()
    await canvas.keyboard.press("Enter")

    await expect(answers(canvas)).to_have_text(["You have selected a teal circle."])
    await expect(status(canvas)).to_be_focused()


async def test_a_reload_asks_again(canvas: Page) -> None:
    """A page that is loaded while a call is pending asks for the same selection, and one answer comes of it."""
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text(WAITING)

    await canvas.reload()

    await expect(status(canvas)).to_contain_text(WAITING)
    await select(canvas, "green triangle")
    await done(canvas).click()
    await expect(answers(canvas)).to_have_text(["You have selected a green triangle."])
    assert 1 == await canvas.locator(".call").count()


async def test_a_double_click_is_one_answer(canvas: Page) -> None:
    """Done, clicked twice, is done once."""
    await say(canvas, MINE)
    await select(canvas, "red circle")

    await done(canvas).dblclick()

    await expect(answers(canvas)).to_have_text(["You have selected a red circle."])
    await expect(steps(canvas)).to_have_text(["queued", "pending", "completed"])


async def test_stop_while_the_page_waits(canvas: Page) -> None:
    """Stop ends the wait, and the next message is answered."""
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text(WAITING)

    await canvas.get_by_role("button", name="Stop").click()

    await expect(canvas.get_by_text("Stopped. Write to go on.")).to_be_visible()
    await expect(status(canvas)).to_contain_text("Nothing is asked.")
    await say(canvas, "hi")
    await expect(answers(canvas)).to_have_text([HELLO])
    await expect(steps(canvas)).to_have_text(["queued", "pending", "cancelled"])


async def test_a_message_instead_of_a_selection(canvas: Page) -> None:
    """While the page waits the user can write: the call is cancelled, and the message is answered."""
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text(WAITING)

    await say(canvas, "hi")

    await expect(answers(canvas)).to_have_text([HELLO])
    await expect(steps(canvas)).to_have_text(["queued", "pending", "cancelled"])
    await expect(done(canvas)).to_be_hidden()


async def test_a_canvas_that_fails(canvas: Page) -> None:
    """What goes wrong in the page reaches the model, which says so; the next question is answered."""
    await canvas.get_by_label("It fails").check()
    await say(canvas, MINE)
    sorry = "I could not see your selection: the canvas is covered in paint. Ask me again, please."
    await expect(answers(canvas)).to_have_text([sorry])

    await canvas.get_by_label("The canvas answers").check()
    await say(canvas, MINE)
    await select(canvas, "red circle", "orange square")
    await done(canvas).click()

    await expect(answers(canvas)).to_have_text([sorry, "You have selected a red circle and an orange square."])


async def test_a_canvas_that_never_answers(canvas: Page, picture: Callable[[str], Awaitable[None]]) -> None:
    """The assistant waits until the user writes again; then the old call is cancelled."""
    await canvas.get_by_label("It never answers").check()
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text("The canvas keeps quiet.")
    await expect(done(canvas)).to_be_hidden()
    await picture("canvas-quiet")
    await canvas.get_by_label("The canvas answers").check()

    await say(canvas, MINE)
    await select(canvas, "purple triangle")
    await done(canvas).click()

    await expect(answers(canvas)).to_have_text(["You have selected a purple triangle."])
    await expect(steps(canvas)).to_have_text(["queued", "pending", "cancelled", "queued", "pending", "completed"])


async def test_two_tabs(canvas: Page) -> None:
    """If two tabs ask, an answer in one of them ends the waiting in the other one too, which shows the answer."""
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text(WAITING)
    other = await canvas.context.new_page()
    await other.goto(canvas.url)
    await expect(status(other)).to_contain_text(WAITING)
    await select(other, "teal circle")

    await done(other).click()

    for tab in (other, canvas):
        await expect(answers(tab)).to_have_text(["You have selected a teal circle."])
        await expect(status(tab)).to_contain_text("Nothing is asked.")
        await expect(tab.get_by_role("button", name="Stop")).to_be_hidden()
        await expect(tab.locator("#chat").get_by_role("alert")).to_be_empty()
        await expect(steps(tab)).to_have_text(["queued", "pending", "sent again", "completed"])


async def test_a_message_in_another_tab(canvas: Page) -> None:
    """A message in one tab cancels the call, and the other tab waits no longer for a selection."""
    await say(canvas, MINE)
    await expect(status(canvas)).to_contain_text(WAITING)
    other = await canvas.context.new_page()
    await other.goto(canvas.url)
    await expect(status(other)).to_contain_text(WAITING)

    await say(other, "hi")

    for tab in (other, canvas):
        await expect(answers(tab)).to_have_text([HELLO])
        await expect(done(tab)).to_be_hidden()


async def test_the_page_says_who_has_to_act(canvas: Page) -> None:
    """While the page waits for the user it says so, and not that it is working."""
    await say(canvas, MINE)

    await expect(canvas.locator("#chat .progress")).to_have_text("Waiting for your selection.")
