"""The todo list in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio
from playwright.async_api import expect

from examples import offline

from .offline import HELLO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from playwright.async_api import Page

ADDED = "“buy milk” is on your list."
AWAY = "The server is away. Your tasks are kept."


@pytest_asyncio.fixture
async def todo(calm: Page, url: str) -> Page:
    await calm.goto(f"{url}/todo/")
    await expect(calm.get_by_text("No tasks.")).to_be_visible()
    return calm


async def say(page: Page, text: str) -> None:
    await expect(page.get_by_role("button", name="Send")).not_to_have_attribute("aria-disabled", "true")
    box = page.get_by_role("textbox", name="Message")
    await box.fill(text)
    await box.press("Enter")


def answers(page: Page) -> Any:
    return page.locator(".assistant_message p")


def tasks(page: Page) -> Any:
    return page.locator(".task b")


def highlighted(page: Page) -> Any:
    return page.locator(".highlighted b")


async def test_a_whole_conversation(todo: Page, picture: Callable[[str], Awaitable[None]]) -> None:
    """Each change is in the list beside the chat at once, and highlighted."""
    await say(todo, "hi")
    await expect(answers(todo)).to_have_text([HELLO])
    await say(todo, "add buy milk")
    await expect(highlighted(todo)).to_have_text("buy milk")
    await say(todo, "add call the plumber about the kitchen tap")
    await expect(highlighted(todo)).to_have_text("call the plumber about the kitchen tap")

    await say(todo, "finish milk")
    await expect(todo.locator(".highlighted")).to_contain_text("✓ done")
    await expect(tasks(todo)).to_have_text(["buy milk", "call the plumber about the kitchen tap"])
    await say(todo, "show me all tasks")
    await expect(answers(todo).last).to_contain_text("1. buy milk (done)")
    await picture("todo")
    await say(todo, "delete milk")

    await expect(tasks(todo)).to_have_text(["call the plumber about the kitchen tap"])
    await expect(answers(todo).last).to_have_text("“buy milk” is off your list.")


async def test_a_reload_with_a_call_pending(todo: Page) -> None:
    """The page that is loaded anew does what the old one had still to do."""
    await todo.route("**/tasks", lambda route: None)  # the list never comes, so the client tool never ends
    async with todo.expect_request("**/tasks"):
        await say(todo, "add buy milk")
    await expect(answers(todo)).to_have_text([ADDED])
    await todo.unroute("**/tasks")

    await todo.reload()

    await expect(highlighted(todo)).to_have_text("buy milk")
    await expect(answers(todo)).to_have_text([ADDED])


async def test_the_last_conversation_is_opened(todo: Page, url: str) -> None:
    """Who comes back finds the tasks and the last conversation, and goes on with it."""
    await say(todo, "add buy milk")
    await expect(highlighted(todo)).to_have_text("buy milk")

    await todo.goto(url)
    await todo.get_by_role("link", name="Todo").click()

    await expect(answers(todo)).to_have_text([ADDED])
    await expect(tasks(todo)).to_have_text(["buy milk"])
    await say(todo, "hi")
    await expect(answers(todo)).to_have_text([ADDED, HELLO])


async def test_a_double_click_adds_one_task(todo: Page) -> None:
    """Two clicks on a suggestion are one message."""
    await todo.get_by_role("button", name="add buy milk").dblclick()

    await expect(highlighted(todo)).to_have_text("buy milk")
    await expect(todo.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(tasks(todo)).to_have_text(["buy milk"])
    await expect(answers(todo)).to_have_text([ADDED])


async def test_stop_in_mid_stream(todo: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ends the answer; what was done is done, and the next message is answered."""
    monkeypatch.setattr(offline, "PAUSE", 3600)
    await say(todo, "hi")
    await expect(todo.locator(".assistant_message")).to_have_count(1)

    await todo.get_by_role("button", name="Stop").click()

    await expect(todo.get_by_text("Stopped. Write to go on.")).to_be_visible()
    monkeypatch.setattr(offline, "PAUSE", 0)
    await say(todo, "add buy milk")
    await expect(answers(todo).last).to_have_text(ADDED)
    await expect(highlighted(todo)).to_have_text("buy milk")


async def test_two_tabs(todo: Page) -> None:
    """Two tabs are one user with one list; a message in each is answered in its own."""
    await say(todo, "add buy milk")
    await expect(highlighted(todo)).to_have_text("buy milk")
    other = await todo.context.new_page()
    await other.goto(todo.url)
    await expect(answers(other)).to_have_text([ADDED])

    await say(other, "add feed the cat")
    await expect(highlighted(other)).to_have_text("feed the cat")
    await say(todo, "finish cat")

    await expect(todo.locator(".highlighted")).to_contain_text("✓ done")
    await expect(tasks(todo)).to_have_text(["buy milk", "feed the cat"])
    await expect(answers(todo)).to_have_text(
        [ADDED, "“feed the cat” is on your list.", "“feed the cat” is done. Well done!"]
    )
    await expect(answers(other)).to_have_text(await answers(todo).all_text_contents())


async def test_a_handler_that_fails(todo: Page, picture: Callable[[str], Awaitable[None]]) -> None:
    """A list that cannot be loaded is said in words, and the conversation goes on."""
    await todo.route("**/tasks", lambda route: route.abort())

    await say(todo, "add buy milk")

    await expect(todo.locator(".list").get_by_role("alert")).to_contain_text(AWAY)
    await expect(todo.get_by_role("button", name="Stop")).to_be_hidden()
    await picture("todo-away")
    await todo.unroute("**/tasks")
    await todo.locator(".list").get_by_role("button", name="Try again").click()
    await expect(tasks(todo)).to_have_text(["buy milk"])
    await say(todo, "hi")
    await expect(answers(todo)).to_have_text([ADDED, HELLO])


async def test_another_user_sees_nothing(todo: Page) -> None:
    """Who becomes another user has an empty list, and no way to the other one's conversation."""
    await say(todo, "add buy milk")
    await expect(highlighted(todo)).to_have_text("buy milk")
    conversation = todo.url
    await expect(todo.locator(".call:first-child .step b")).to_have_text(["queued", "pending", "completed"])
    name = await todo.locator("#user").inner_text()

    await todo.get_by_role("button", name="Become another user").click()

    await expect(todo.get_by_text("No tasks.")).to_be_visible()
    await expect(todo.locator("#user")).not_to_have_text(name)
    await say(todo, "add feed the cat")
    await expect(highlighted(todo)).to_have_text("feed the cat")
    await expect(todo.locator(".task small")).to_have_text(["1."])
    await todo.goto(conversation)
    await expect(todo.locator("#chat").get_by_role("alert")).to_contain_text("does not know this conversation")
    await expect(todo.locator(".item")).to_have_count(0)


async def test_the_server_is_away_from_the_beginning(calm: Page, url: str) -> None:
    """A page that cannot learn who its user is says so, and begins when it is asked to try again."""
    await calm.route("**/user", lambda route: route.abort())
    await calm.goto(f"{url}/todo/")
    await expect(calm.get_by_role("alert")).to_contain_text(AWAY)

    await calm.unroute("**/user")
    await calm.get_by_role("button", name="Try again").click()

    await expect(calm.get_by_role("textbox", name="Message")).to_be_visible()
