"""Make the pictures that README, docs and the front page show, from the running demos: `make screenshots`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from base64 import b64encode
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import FloatRect, async_playwright, expect

from . import chromium, npm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser, Page

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
FRAME = {"width": 440, "height": 590}
FRAME_SCALE = 0.95
CARD = {"width": 880, "height": 700}
CARD_SCALE = 0.8
MARGIN = 14
"""Around what a card shows, in pixels."""

FRONT = {"width": 1180, "height": 1120}
SCHEMES = ("light", "dark")
SLOWLY = {"DEMO_SEARCH_SECONDS": "6"}
"""So that a picture can be taken while it searches."""

FONT = "@fontsource/jetbrains-mono@5.3.0"
FONT_SHA512 = "fqDfB5I9f1p1TV486aUgB9t8zP84P0O1FtQR5Ol9vjwPy+S+EIGlVYm1cvj2W5shcZMTg2nZFdVMoH5wFu8a1A=="
"""For code: the Chromium of `make chromium` has no font in which all letters are equally wide."""

CODE = """@font-face {{ font-family: Code; src: url(data:font/woff2;base64,{font}); }}
code, pre, .code, .install {{ font-family: Code !important; font-variant-ligatures: none; }}"""
WITHOUT = "#ours > h2, .which, .timeline { display: none } body { min-height: 120vh }"
CLOSE = """.demo-head, .controls label, #ours > h2, .timeline { display: none }
.suggestions, .plain-button, .composer, .which { display: none }
.demo { padding: 14px } .side .chat { min-height: 0 } .server span { display: block; padding-top: 6px }"""
"""What Merak's film leaves out, so that the rest is large enough to be read."""

STRIP = """<!doctype html><style>
body {{ display: grid; grid-template-columns: 1fr 1fr; gap: 18px; margin: 0; padding: 18px; background: {back};
  color: {text}; font: 600 17px/1.4 system-ui, sans-serif; }}
figure {{ margin: 0; }} img {{ display: block; width: 100%; border: 1px solid #8888; border-radius: 12px; }}
figcaption {{ padding: 2px 2px 8px; }}</style>{frames}"""
COLOURS = {"light": ("#ffffff", "#1a1d2b"), "dark": ("#0d1117", "#e8eaf4")}


async def merak(page: Page) -> None:
    """Let it wait for the user's choice."""
    await say(page, "Who knows about maritime law?")
    await expect(page.get_by_role("button", name="Choose Dara")).to_be_visible()


async def facts(page: Page) -> None:
    """Let both tools run; the theme that is asked for is the one of the picture."""
    is_dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    await page.get_by_role("button", name="Make it dark." if is_dark else "Light, please.").click()
    await expect(page.locator(".step.completed")).to_have_count(2)


async def canvas(page: Page) -> None:
    """Let it wait for a selection, and select."""
    await say(page, "Which of these is the largest?")
    await expect(page.get_by_role("button", name="Done")).to_be_visible()
    for name in ("blue square", "teal circle"):
        await page.get_by_role("checkbox", name=name).check()


async def drawing(page: Page) -> None:
    """Draw a house by keyboard, and ask what it is."""
    paper = page.get_by_role("application", name="Paper")
    for colour, shape, keys in (
        ("blue", "square", "ArrowDown ArrowDown Space"),
        ("red", "triangle", "ArrowUp ArrowUp ArrowUp ArrowUp Space"),
        ("orange", "circle", "ArrowRight " * 7 + "ArrowUp " * 2 + "Space"),
        ("green", "pen", "ArrowDown " * 9 + "ArrowRight " * 3 + "Shift+ArrowLeft " * 18),
    ):
        for name in (colour, shape):
            await page.get_by_role("radio", name=name).check()
        await paper.focus()
        for key in keys.split():
            await page.keyboard.press(key)
    await say(page, "What have I drawn?")
    await expect(page.locator(".assistant_message")).to_contain_text("Most of what you have drawn is")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def todo(page: Page) -> None:
    """Add tasks, and finish one."""
    for text in ("add buy milk", "add water the plants", "finish milk"):
        await say(page, text)
        await expect(page.locator(".user_message").last).to_contain_text(text)
        await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(page.locator(".task.is-done")).to_have_count(1)


DEMOS: dict[str, Callable[[Page], Awaitable[None]]] = {
    "merak_search": merak,
    "theme_switcher": facts,
    "canvas_selection": canvas,
    "drawing": drawing,
    "todo": todo,
}


async def say(page: Page, text: str) -> None:
    """Send a message."""
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def opened(browser: Browser, url: str, scheme: str, size: dict[str, int], scale: float) -> Page:
    """Open a page in a scheme and a size, with a font for its code."""
    context = await browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        device_scale_factor=scale,
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = await context.new_page()
    await page.emulate_media(reduced_motion="reduce")
    await page.goto(url)
    await page.add_style_tag(content=CODE.format(font=b64encode(font()).decode()))
    await page.evaluate("document.fonts.load('1em Code')")
    return page


@cache
def font() -> bytes:
    """Return the font for code."""
    with tempfile.TemporaryDirectory() as directory:
        files = npm.unpacked(FONT, FONT_SHA512, Path(directory)) / "files"
        return (files / "jetbrains-mono-latin-400-normal.woff2").read_bytes()


async def film(browser: Browser, url: str, scheme: str) -> None:
    """Take Merak's story in four pictures: it searches, the user may choose, the server is killed, it goes on."""
    page = await opened(browser, f"{url}/merak_search/?chatkit=small", scheme, FRAME, FRAME_SCALE)
    await page.add_style_tag(content=CLOSE)
    frames: list[str] = []

    async def frame(caption: str) -> None:
        picture = b64encode(await page.screenshot()).decode()
        frames.append(f'<figure><figcaption>{caption}</figcaption><img src="data:image/png;base64,{picture}"></figure>')

    await page.evaluate("document.querySelector('.suggestions button').click()")
    await expect(page.locator("#ours .so-far")).to_contain_text("3 of 6")
    await frame("1. The tool searches; an animation turns.")
    await expect(page.get_by_role("button", name="Choose Dara")).to_be_visible()
    await frame("2. It waits for your choice.")
    await page.get_by_role("button", name="Kill the server").click()
    await expect(page.locator(".server")).to_contain_text("has taken over.")
    await frame("3. Its server is killed. Another one takes over.")
    await page.get_by_role("button", name="Choose Dara").click()
    await expect(page.locator("#ours .score")).to_contain_text("3 of 3 client tools have reached the page; 1 answer")
    await frame("4. You choose, and the tool goes on there.")

    back, text = COLOURS[scheme]
    strip = await browser.new_page(viewport={"width": 2 * 418 + 3 * 18, "height": 100})
    await strip.set_content(STRIP.format(back=back, text=text, frames="".join(frames)))
    await strip.screenshot(path=PICTURES / f"merak-{scheme}.png", full_page=True)


async def main() -> None:
    """Serve the demos, with a place of their own for what they keep, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "DEMO_DATA": data, "OPENAI_API_KEY": "", "DATABASE_URL": "", **SLOWLY}
        command = ["-m", "examples", "--port=0"]
        server = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdout  # noqa: S101
        url = (await server.stdout.readline()).decode().split()[4]
        try:
            await take(url)
        finally:
            server.terminate()
            await server.wait()


async def take(url: str) -> None:
    """Take the pictures of the demos that are served there."""
    expect.set_options(timeout=90_000)
    async with async_playwright() as playwright:
        here = chromium.EXECUTABLE.exists()
        browser = await playwright.chromium.launch(
            executable_path=str(chromium.EXECUTABLE) if here else os.environ.get("CHROMIUM"),
            env={**os.environ, **(chromium.ENVIRONMENT if here else {})},
            args=["--font-render-hinting=none"],  # letters stand where they belong, at each scale
        )
        for scheme in SCHEMES:
            for name, play in DEMOS.items():
                page = await opened(browser, f"{url}/{name}/?chatkit=small", scheme, CARD, CARD_SCALE)
                await play(page)
                await page.add_style_tag(content=WITHOUT)
                box = await page.locator("#ours, .panels").first.bounding_box()
                assert box  # noqa: S101
                width = box["width"] + 2 * MARGIN
                clip = FloatRect(x=box["x"] - MARGIN, y=box["y"] - MARGIN, width=width, height=width * 5 / 8)
                await page.screenshot(path=PICTURES / f"{name}-{scheme}.png", clip=clip, full_page=True)
            await film(browser, url, scheme)
        for scheme in SCHEMES:  # after the others: it shows them
            page = await opened(browser, url, scheme, FRONT, 0.9)
            await page.screenshot(path=PICTURES / f"front-{scheme}.png")
        await browser.close()
    (PICTURES / "made.txt").write_text(f"{datetime.now(timezone.utc).date()}, by `make screenshots`\n", "utf-8")
    sizes = [file.stat().st_size for file in PICTURES.glob("*.png")]
    print(f"{len(sizes)} pictures in {PICTURES}: {sum(sizes) // 1024} KiB")


if __name__ == "__main__":
    asyncio.run(main())
