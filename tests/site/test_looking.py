"""The site in a real Chromium: wide and narrow, light and dark."""

from __future__ import annotations

import re
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

pytestmark = pytest.mark.long

Scheme = Literal["light", "dark"]
WIDE, NARROW = 1280, 390
VIEWS: list[tuple[int, Scheme]] = [(WIDE, "light"), (NARROW, "dark"), (WIDE, "dark"), (NARROW, "light")]
SHOWN_IN_ALL = ("index.html", "reference/index.html")


def names_in(html: Path, text: str = "") -> list[str]:
    return [path.relative_to(html).as_posix() for path in sorted(html.glob("**/*.html")) if text in path.read_text()]


async def opened(page: Page, url: str, name: str, width: int, scheme: Scheme) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)
    await page.goto(f"{url}/{name}")


async def test_everybody_can_read_every_page(page: Page, html: Path, url: str) -> None:
    """Axe finds nothing on any page, no page is wider than the screen, and nothing comes from another host."""
    names = names_in(html)
    looks = [*zip(names, cycle(VIEWS), strict=False), *((name, view) for name in SHOWN_IN_ALL for view in VIEWS)]
    requested: list[str] = []
    page.on(
        "request", lambda request: None if request.url.startswith((url, "data:")) else requested.append(request.url)
    )

    found: dict[tuple[str, int, str], Any] = {}
    for name, (width, scheme) in looks:
        await opened(page, url, name, width, scheme)
        violations = (await Axe().run(page)).response["violations"]
        too_wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        found[name, width, scheme] = [f"{each['id']}: {each['nodes'][0]['html']}" for each in violations]
        found[name, width, scheme] += ["too wide"] if too_wide else []

    assert len(names) > 20
    assert {} == {look: problems for look, problems in found.items() if problems}
    assert [] == [to for to in requested if not to.startswith((url, "data:"))]


async def test_a_search_finds_a_name(page: Page, url: str) -> None:
    """The search finds a public name in the reference first."""
    await opened(page, url, "index.html", WIDE, "light")

    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("textbox").or_(page.get_by_role("combobox")).first.fill("ClientToolSequencer")
    await expect(page.get_by_role("option").first.get_by_role("heading")).to_contain_text("ClientToolSequencer")
    await page.keyboard.press("Enter")

    await expect(page).to_have_url(re.compile("/reference/chatkit_clienttools.html.*#ClientToolSequencer"))


async def test_a_diagram_is_drawn(page: Page, html: Path, url: str) -> None:
    """A mermaid fence is a picture, and needs no other host for that."""
    await opened(page, url, next(iter(names_in(html, 'class="mermaid"'))), WIDE, "light")

    await expect(page.locator("div.mermaid").first).to_be_visible()
    await expect(page.locator("pre.mermaid")).to_have_count(0)
