"""What all pages have in common, in a real Chromium: the chat of examples/web, tried on Merak's page."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import pytest
from agents.testing import ModelStep, ScriptedModel, assistant_message
from playwright.async_api import expect

from examples import offline
from examples.demo import NAMES, demos
from examples.merak_search import people, tools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page, Route

QUESTION = "Who knows about maritime law?"
ANSWER = "Ada knows maritime law."
SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
AWAY = "The server is away. What you wrote is still in the box."
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")

COLOURS = """
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => {
      const c = v / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour !== "rgba(0, 0, 0, 0)" || !node.parentElement ? colour : behind(node.parentElement);
  };
  const between = (one, other) => Math.max(light(one), light(other)) / Math.min(light(one), light(other));
"""
CONTRASTS = (
    "() => {"
    + COLOURS
    + """
  const ratio = (node) => between(getComputedStyle(node).color, behind(node));
  const speaks = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  return [...document.body.querySelectorAll("*")].filter((node) => speaks(node) && node.checkVisibility())
    .filter((node) => !["SCRIPT", "STYLE"].includes(node.tagName) && ratio(node) < 4.5)
    .map((node) => `${node.textContent.trim()}: ${ratio(node).toFixed(1)}`);
}
"""
)
BOXES = ".controls input"
FRAMES = (
    "(boxes) => {"
    + COLOURS
    + """
  return [...document.querySelectorAll(boxes)].flatMap((box) => {
    const { borderTopColor } = getComputedStyle(box);
    return [between(borderTopColor, behind(box)), between(borderTopColor, behind(box.parentElement))];
  });
}
"""
)
SIZES_OF_TEXT = "(nodes) => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
LOOK = """(button) => {
  const { borderTopColor, textDecorationLine } = getComputedStyle(button);
  return [borderTopColor, textDecorationLine];
}"""


async def opened(page: Page, url: str, name: str = "merak_search") -> Page:
    await page.goto(f"{url}/{name}/")
    return page


async def ask(page: Page, text: str = QUESTION) -> None:
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def answered(page: Page) -> None:
    """Choose one of the people, and wait for what the assistant says to that."""
    await page.get_by_role("button", name="Choose Ada").click()
    await expect(log(page)).to_contain_text(ANSWER)


def log(page: Page) -> Any:
    return page.get_by_role("log").first


async def idle(page: Page) -> None:
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_the_index_leads_to_every_demo(calm: Page, url: str) -> None:
    """The first page has a link to each demo, by keyboard too."""
    await calm.goto(url)

    links = await calm.get_by_role("link").all()

    assert [f"{name}/" for name in NAMES] == [await link.get_attribute("href") for link in links]
    await calm.get_by_role("button", name="Play again").focus()
    for _ in range(3):  # the code of both sides can be scrolled by keyboard
        await calm.keyboard.press("Tab")
    await expect(links[0]).to_be_focused()


async def test_a_page_needs_nobody_else(calm: Page, url: str) -> None:
    """What a page loads comes from its own server, all of it but OpenAI's ChatKit.js, and nothing is missing."""
    loaded: dict[str, int] = {}
    wanted: set[str] = set()
    calm.on("request", lambda request: wanted.add(request.url))
    calm.on("response", lambda response: loaded.update({response.url: response.status}))

    for name in ["", *NAMES]:
        await calm.goto(f"{url}/{name}", wait_until="networkidle")

    assert [SCRIPT] == [at for at in wanted if not at.startswith((url, "data:"))]
    assert {} == {at: status for at, status in loaded.items() if status >= 400}


@pytest.mark.parametrize("name", NAMES)
async def test_a_page_at_the_beginning(
    calm: Page, url: str, name: str, picture: Callable[[str], Awaitable[None]]
) -> None:
    """A page on which nothing has happened yet says what it is for, and anybody can use it."""
    await opened(calm, url, name)

    await expect(calm.get_by_role("textbox", name="Message")).to_be_visible()
    await expect(log(calm)).to_have_attribute("data-greeting", re.compile(r"\w+"))
    await picture(f"{name}-begin")


async def test_text_can_be_read_on_a_phone(calm: Page, url: str) -> None:
    """All text has a contrast of 4.5 at least, light and dark; at 320 pixels nothing has to be moved sideways."""
    await calm.set_viewport_size({"width": 320, "height": 640})
    found: dict[tuple[str, str], Any] = {}
    for name in ["", *NAMES]:
        await calm.goto(f"{url}/{name}")
        if name:
            await ask(calm, demos()[name].says[0])
            if name == "merak_search":
                await answered(calm)
            await expect(calm.locator(".assistant_message")).to_be_visible()
            await idle(calm)
        for scheme in SCHEMES:
            await calm.emulate_media(color_scheme=scheme)
            found[name, scheme] = await calm.evaluate(CONTRASTS)
        found[name, "width"] = await calm.evaluate("document.documentElement.scrollWidth")

    assert {key: 320 if key[1] == "width" else [] for key in found} == found


async def test_a_box_to_check_looks_as_if_it_can_be_checked(calm: Page, url: str) -> None:
    """The frame of each checkbox and radio button has a contrast of 3 at least, light and dark."""
    found: dict[tuple[str, str], Any] = {}
    for name in ("merak_search", "canvas_selection"):
        await opened(calm, url, name)
        for scheme in SCHEMES:
            await calm.emulate_media(color_scheme=scheme)
            assert 0 < await calm.locator(BOXES).count()
            found[name, scheme] = [ratio for ratio in await calm.evaluate(FRAMES, BOXES) if ratio < 3]

    assert {key: [] for key in found} == found


async def test_a_heading_is_not_bigger_than_the_one_above_it(calm: Page, url: str) -> None:
    """On each page an h2 is smaller than the h1, and an h3 is smaller than the h2."""
    for name in ["", *NAMES]:
        await calm.goto(f"{url}/{name}")
        sizes = [set(await calm.locator(f"h{level}").evaluate_all(SIZES_OF_TEXT)) for level in (1, 2, 3)]

        above = [(min(above), max(below)) for above, below in pairwise(sizes) if above and below]
        assert [] == [(name, *pair) for pair in above if pair[0] <= pair[1]]


async def test_a_new_conversation_is_no_suggestion(calm: Page, url: str) -> None:
    """What begins a new conversation does not look like what the visitor may say, and does not stand among it."""
    await opened(calm, url)
    begins = calm.get_by_role("button", name="New conversation")
    suggestion = calm.get_by_role("button", name=QUESTION)

    looks = [await button.evaluate(LOOK) for button in (begins, suggestion)]

    assert ["rgba(0, 0, 0, 0)", "underline"] == looks[0]
    assert "rgba(0, 0, 0, 0)" != looks[1][0]
    assert "underline" != looks[1][1]
    assert 0 == await calm.locator(".suggestions").get_by_text("New conversation").count()


async def test_everything_has_a_name(calm: Page, url: str) -> None:
    """Each thing that can be used has a name for a screen reader, and the conversation is a log."""
    await opened(calm, url)
    await ask(calm)
    await answered(calm)

    usable = calm.locator("button, input, textarea, a, [role=log]")
    unnamed = calm.locator("button:empty, input:not(label > input):not([aria-label]), textarea:not([aria-label])")

    assert 0 < await usable.count()
    assert 0 == await unnamed.count()
    articles = log(calm).get_by_role("article")
    said = [f"You: {QUESTION}", f"Assistant: {ANSWER} I will let Ada know that you ask."]
    assert said == [text.strip() for text in await articles.all_text_contents()]


async def test_a_keyboard_is_enough(calm: Page, url: str) -> None:
    """Enter sends, Shift+Enter begins a line, and the focus stays where it is; Enter chooses, too."""
    await opened(calm, url)
    box = calm.get_by_role("textbox", name="Message")
    await box.focus()

    await calm.keyboard.type("Who knows")
    await calm.keyboard.press("Shift+Enter")
    await calm.keyboard.type("about maritime law?")
    await calm.keyboard.press("Enter")

    choice = calm.get_by_role("button", name="Choose Ada")
    await expect(choice).to_be_visible()
    assert "Who knows\nabout maritime law?" == await calm.locator(".user_message p").inner_text()
    await expect(box).to_be_focused()
    await expect(box).to_have_value("")
    await choice.press("Enter")
    await expect(log(calm)).to_contain_text(ANSWER)


async def test_a_double_click_sends_once(calm: Page, url: str) -> None:
    """Two clicks on Send are one message, and neither is a click on Stop."""
    await opened(calm, url)
    await calm.get_by_role("textbox", name="Message").fill(QUESTION)

    await calm.get_by_role("button", name="Send").dblclick()

    await answered(calm)
    await idle(calm)
    assert 1 == await calm.locator("#ours .user_message").count()
    assert 1 == await calm.locator("#ours .assistant_message").count()


async def test_stop_in_mid_stream(calm: Page, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ends the answer at once and the search with it, the page says so, and the next message is answered."""
    searching, stopped, forever = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> list[people.Profile]:
        searching.set()
        try:
            await forever.wait()
        finally:
            stopped.set()
        return []

    monkeypatch.setattr(tools, "find", slow)
    await opened(calm, url)
    await ask(calm)
    await searching.wait()

    await calm.get_by_role("button", name="Stop").click()

    await expect(calm.get_by_text("Stopped. Write to go on.")).to_be_visible()
    await expect(calm.locator("#ours .stage")).to_have_attribute("data-state", "idle")
    await stopped.wait()
    monkeypatch.setattr(tools, "find", people.find)
    await ask(calm)
    await answered(calm)


async def test_a_message_without_an_answer(calm: Page, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose run was cut off is offered to be answered again by the page that is loaded afterwards."""
    monkeypatch.setattr(offline, "PAUSE", 3600)
    await opened(calm, url)
    await ask(calm, "Hello!")
    await expect(calm.locator("#ours .assistant_message")).to_have_count(1)
    await calm.reload()
    await expect(calm.get_by_role("alert").first).to_contain_text("This message has no answer yet.")
    monkeypatch.setattr(offline, "PAUSE", 0)

    await calm.get_by_role("button", name="Try again").click()

    await expect(log(calm)).to_contain_text("Ask me who knows about something")
    await expect(calm.get_by_role("alert").first).to_be_empty()
    assert 1 == await calm.locator("#ours .user_message").count()


async def test_the_server_is_away(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """Without a server the page says so in words, keeps what was written, and sends it when it is asked to."""
    await opened(calm, url)
    await calm.route("**/chatkit", lambda route: route.abort())
    await ask(calm)

    await expect(calm.get_by_role("alert").first).to_contain_text(AWAY)
    await expect(calm.get_by_role("textbox", name="Message")).to_have_value(QUESTION)
    assert 0 == await calm.locator(".user_message").count()
    await picture("away")

    await calm.unroute("**/chatkit")
    await calm.get_by_role("button", name="Try again").click()
    await answered(calm)
    assert 1 == await calm.locator("#ours .user_message").count()
    await expect(calm.get_by_role("alert").first).to_be_empty()


async def test_the_server_goes_away_while_calls_are_open(calm: Page, url: str) -> None:
    """An answer that cannot be posted is not lost: trying again loads the thread, and goes on from there."""

    async def no_answers(route: Route) -> None:
        posted = json.loads(route.request.post_data or "{}")
        await (route.abort() if posted["type"] == "threads.add_client_tool_output" else route.continue_())

    await opened(calm, url)
    await calm.route("**/chatkit", no_answers)
    await ask(calm)
    await expect(calm.get_by_role("alert").first).to_contain_text("The server is away. Nothing that it knows is lost.")

    await calm.unroute("**/chatkit")
    await calm.get_by_role("button", name="Try again").click()

    await answered(calm)
    await expect(calm.locator("#ours .person")).to_have_count(3)


async def test_the_network_is_gone_while_the_user_chooses(calm: Page, url: str) -> None:
    """A choice that is made without a network is not lost: it is there when the network is, and nothing runs twice."""
    await opened(calm, url)
    await ask(calm)
    choice = calm.get_by_role("button", name="Choose Ada")
    await expect(choice).to_be_visible()
    await calm.context.set_offline(True)
    await choice.click()
    await expect(calm.get_by_role("alert").first).to_contain_text("The server is away. Nothing that it knows is lost.")
    await expect(calm.locator("#ours .person.chosen")).to_contain_text("Ada")

    await calm.context.set_offline(False)
    await calm.get_by_role("button", name="Try again").click()

    await expect(log(calm)).to_contain_text(ANSWER)
    await expect(calm.locator("#ours .assistant_message")).to_have_count(1)
    await expect(choice).to_have_count(0)


async def test_a_message_that_is_too_long(calm: Page, url: str) -> None:
    """More than the server takes is refused in words, and the next message is answered."""
    await opened(calm, url)
    await ask(calm, "Who knows? " * 200_000)

    await expect(calm.get_by_role("alert").first).to_contain_text("This is too long.")
    await ask(calm)
    await answered(calm)


async def test_the_timeline_of_a_slow_line(calm: Page, url: str) -> None:
    """With 1.5 s of latency and 50 kB a second the timeline shows every step in the end, by one request at a time."""
    at_once: list[int] = []
    open_now: set[Any] = set()

    def begins(request: Any) -> None:
        if "/timeline/" in request.url:
            open_now.add(request)
            at_once.append(len(open_now))

    def ends(request: Any) -> None:
        open_now.discard(request)

    calm.on("request", begins)
    calm.on("requestfinished", ends)
    await opened(calm, url)
    line = await calm.context.new_cdp_session(calm)
    slow = {"offline": False, "latency": 1500, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
    await line.send("Network.emulateNetworkConditions", slow)
    await ask(calm)

    await calm.get_by_role("button", name="Choose Ada").click()

    last_steps = calm.locator("#timeline .step:last-child b")
    whole = ["completed", "returned", "completed", "completed"]
    await expect(last_steps).to_have_text(whole, timeout=30_000)
    assert {1} == set(at_once)


async def test_an_id_in_the_timeline_is_short(calm: Page, url: str) -> None:
    """The timeline shows the end of an id, and all of it to who points at it."""
    await opened(calm, url)
    await ask(calm)
    await answered(calm)

    shown = calm.locator("#timeline .id").first
    full = await shown.get_attribute("title")

    assert full
    assert f"…{full[-6:]}" == await shown.inner_text()


async def test_an_error_can_be_retried(calm: Page, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the model fails the page says so, and lets the message be answered again."""
    answer = ModelStep(output=[assistant_message("There.", item_id="msg_there")])
    steps = [ModelStep.raise_error(RuntimeError("no model")), answer]
    monkeypatch.setattr(offline.OfflineModel, "stream_response", ScriptedModel(steps).stream_response)
    await opened(calm, url)
    await ask(calm)

    await calm.get_by_role("button", name="Try again").click()

    await expect(log(calm)).to_contain_text("There.")
    assert 1 == await calm.locator("#ours .user_message").count()


async def test_a_conversation_that_is_gone(calm: Page, url: str) -> None:
    """A thread that the server has never heard of is a new conversation, and the page says why."""
    await calm.goto(f"{url}/merak_search/?thread=thr_gone")

    await expect(calm.get_by_role("alert").first).to_contain_text("does not know this conversation any more")
    await ask(calm)
    await answered(calm)


async def test_a_new_conversation(calm: Page, url: str) -> None:
    """Starting over empties the page; the old conversation is still at its address."""
    await opened(calm, url)
    await ask(calm)
    await answered(calm)
    await idle(calm)
    old = calm.url

    await calm.get_by_role("button", name="New conversation").click()

    await expect(log(calm)).to_be_empty()
    await expect(calm.get_by_role("textbox", name="Message")).to_be_focused()
    await calm.goto(old)
    await expect(log(calm)).to_contain_text(ANSWER)
