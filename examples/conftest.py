"""What the demos' tests have in common: no key, no pauses, all demos in one site, and pictures of what was seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.helpers.axe import violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Page

os.environ.pop("OPENAI_API_KEY", None)

PICTURES = Path(__file__).parent.parent / "build" / "pictures"
CHATKIT = "https://cdn.platform.openai.com/**"
SIZES = {"desktop": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches."""
    monkeypatch.setattr("examples.offline.PAUSE", 0)
    monkeypatch.setattr("examples.merak_search.people.SEARCH_SECONDS", 0)


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """Where all demos are served, in the test's own event loop."""
    from examples import play, site  # noqa: PLC0415  pytest loads this file also to do no more than hand out tests

    async with play.serving(site.application()) as served:
        yield served


@pytest_asyncio.fixture
async def calm(page: Page) -> Page:
    """A tab of a person who wants little motion, and has no network: nothing on the page takes its time."""
    from playwright.async_api import expect  # noqa: PLC0415  a run without such tests need not import it

    expect.set_options(timeout=20_000)  # a machine on which much else runs may take its time
    await page.context.route(CHATKIT, lambda route: route.abort())
    await page.emulate_media(reduced_motion="reduce", color_scheme="light")
    return page


@pytest.fixture
def picture(calm: Page) -> Callable[..., Awaitable[None]]:
    """Take pictures of the page as it is, in each size, light and dark: `build/pictures/NAME-SIZE-SCHEME.png`.

    Nothing of it may keep anybody from using the page: axe finds nothing, and nothing has to be moved sideways.
    """

    async def take(name: str, tab: Page = calm) -> None:
        found: list[str] = []
        for scheme in ("light", "dark"):
            await tab.emulate_media(color_scheme=scheme)
            for size, (width, height) in SIZES.items():
                await tab.set_viewport_size({"width": width, "height": height})
                await tab.screenshot(path=PICTURES / f"{name}-{size}-{scheme}.png", full_page=size != "desktop")
                wide = await tab.evaluate("document.documentElement.scrollWidth")
                found += [f"{size} {scheme}: {wide} pixels wide"] if wide > width else []
                found += [f"{size} {scheme}: {each}" for each in await violations(tab)]
        await tab.emulate_media(color_scheme="light")
        await tab.set_viewport_size({"width": 1280, "height": 900})
        assert [] == found

    return take


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a demo keeps, it keeps in a directory of the test's own."""
    monkeypatch.setenv("DEMO_DATA", str(tmp_path))
    for name in ("DATABASE_URL", "SESSION_SECRET"):
        monkeypatch.delenv(name, raising=False)
