"""The front page: what it shows is what the servers do, and it shows it without a click."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from examples import front, recording
from examples.demo import NAMES
from examples.web import PICTURES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from playwright.async_api import Browser, Page

README = Path(__file__).parent.parent / "README.md"
LOST = "2 of 3 calls are lost."
LAST_WORDS = "Dara knows harbour and port law."
FRAME_BY_FRAME = """
window.began = performance.now();
window.requestAnimationFrame = (frame) => (window.frame = frame);
"""
SHOW = """async (milliseconds) => {
  frame(began + milliseconds);
  await Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => {})));
}"""
OPACITIES = "parts => parts.map(part => getComputedStyle(part).opacity)"


def without_times(played: list[list[recording.Moment]]) -> list[list[dict[str, Any]]]:
    """What pages have done, and what tools have: which of the two is told first may differ."""
    told = [[moment.model_dump(exclude={"at"}) for moment in moments] for moments in played]
    return [sorted(moments, key=lambda moment: moment["kind"] in {"waits", "woken", "returned"}) for moments in told]


async def test_the_recording_is_what_the_servers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the front page plays is what the servers do today; `python -m examples.front` records it again."""
    monkeypatch.setattr(recording, "PERSON_SECONDS", 0)

    played = await front.recorded()

    assert without_times(played) == without_times(front.RECORDED.validate_json(front.FILE.read_bytes()))


def test_the_code_is_that_of_the_readme() -> None:
    """Each line of our code on the front page stands in README.md, which is run by the tests."""
    lines = {re.sub(r"\s+#.*", "", line).strip() for line in README.read_text("utf-8").splitlines()}

    shown = [line.replace("(ctx, query", "(ctx: RunContextWrapper[AgentContext], query") for line in front.OUR_CODE]

    assert [] == [line for line in shown if line.strip() not in lines]


def test_the_pictures_are_there_and_small() -> None:
    """Each demo has a picture for both schemes, and all pictures together are less than a megabyte."""
    wanted = {f"{name}-{scheme}.png" for name in (*NAMES, "front", "merak") for scheme in ("light", "dark")}

    found = {file.name: file.stat().st_size for file in PICTURES.glob("*.png")}

    assert wanted == set(found)
    assert 1_000_000 > sum(found.values())


async def test_it_plays_without_a_click(page: Page, url: str) -> None:
    """What is lost is said from the beginning; the two sides play by themselves, and end with what has come of each."""
    await page.goto(url)
    await expect(page.get_by_text(LOST)).to_be_visible()
    await expect(page.locator(".ours .bubble.later")).to_contain_text(LAST_WORDS)

    await expect(page.locator(".later")).to_have_count(0, timeout=20_000)

    await expect(page.locator(".plain .lost")).to_have_count(2)
    await expect(page.locator(".plain .bubble:not(.asked)")).to_have_count(2)
    await expect(page.locator(".ours .kept")).to_have_count(3)
    await expect(page.get_by_role("button", name="Play again")).to_be_visible()


async def test_it_can_be_used_while_it_plays(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """At each moment of the play anybody can use the page: at the beginning, while the tool waits, near the end."""
    await calm.emulate_media(reduced_motion="no-preference")
    await calm.add_init_script(FRAME_BY_FRAME)
    await calm.goto(url)

    for milliseconds, people in ((600, 0), (3900, 3), (6500, 3)):
        await calm.evaluate(SHOW, milliseconds)
        await expect(calm.locator(".face:not(.later)")).to_have_count(people)
        await expect(calm.get_by_role("button", name="Show the end")).to_be_visible()
        await picture(f"front-plays-{milliseconds}")


async def test_it_can_be_stopped_and_played_again(page: Page, url: str) -> None:
    """One button shows the end at once, and then plays again."""
    await page.goto(url)

    await page.get_by_role("button", name="Show the end").press("Enter")

    await expect(page.locator(".later")).to_have_count(0)
    await page.get_by_role("button", name="Play again").press("Enter")
    await expect(page.locator(".ours .bubble.later")).to_contain_text(LAST_WORDS)


async def test_little_motion(calm: Page, url: str, picture: Callable[[str], Awaitable[None]]) -> None:
    """Who wants little motion sees the end at once, and can play it."""
    await calm.goto(url)

    await expect(calm.get_by_role("button", name="Play again")).to_be_visible()
    assert {"1"} == set(await calm.locator("[data-at]").evaluate_all(OPACITIES))
    await picture("front")


async def test_it_needs_no_script(browser: Browser, url: str) -> None:
    """Without JavaScript the page shows the end, with all its pictures."""
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    missing: list[str] = []
    page.on("response", lambda response: missing.append(response.url) if response.status >= 400 else None)

    await page.goto(url, wait_until="networkidle")

    await expect(page.get_by_text(LAST_WORDS)).to_be_visible()
    await expect(page.get_by_role("button")).to_have_count(0)
    assert [] == missing
    await context.close()
