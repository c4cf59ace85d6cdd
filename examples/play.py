"""Play a demo in the terminal: its server over HTTP, and the browser that the library ships for tests."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from chatkit_clienttools.testing import FakeBrowser

from .demo import demos
from .site import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import FastAPI

WIDTH = 100
COLOURS = {"user": 1, "chat": 1, "browser": 36, "call": 32, "tool": 33}
SPOKEN = {"says": "user", "reads": "chat"}


async def play(name: str) -> None:
    """Play what a demo's user says at each of its endpoints, and print what happens."""
    demo = demos()[name]
    print(f"{demo.title}. {demo.about}\n")
    async with serving(app_of(name)) as url:
        for title, endpoint in demo.endpoints.items():
            print(title)
            timeline = Timeline()
            browser = FakeBrowser(
                f"{url}/{endpoint}", handlers=lambda tool, _: demo.answers.get(tool, {}), observer=timeline.browser
            )
            with timeline.listening():
                for text in demo.says:
                    await browser.send(text)
            print(f"=> client tools that ran: {len(browser.calls)}; answers in words: {len(browser.texts)}\n")


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application in this event loop, on a free port; the URL it has."""
    web = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1))
    # the lifespan is ours, so that what it raises is for the caller to hear, and not for a log
    async with app.router.lifespan_context(app):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            task = asyncio.create_task(web.serve(sockets=[listening]))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                web.should_exit = True
                await task


class Timeline(logging.Handler):
    """Prints what happens, with the milliseconds since it began. The steps of a call come from the library's log."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.perf_counter()
        has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colours = COLOURS if has_colours else {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to what the library logs."""
        logger = logging.getLogger("chatkit_clienttools")
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a step of a call, or what a tool that waits does."""
        step: dict[str, Any] = vars(record)
        if "waits_for" in step:
            what = f"waits for {step['waits_for']}" if step["state"] == "waiting" else f"is {step['state']}"
            self.tell("tool", f"{step['tool']} {'has returned' if step['state'] == 'returned' else what}")
        elif "call_id" in step:
            waited = f" after {step['waited_ms']} ms" if step["previous"] else ""
            change = f"{step['previous'] or 'new'} -> {step['state']}{waited}"
            self.tell(f"call {step['position'] + 1}", f"{change:<32}  {step['item_id']}  {step['tool']}")

    def browser(self, kind: str, what: Any) -> None:
        """Print what the browser does."""
        if kind in SPOKEN:
            self.tell(SPOKEN[kind], f'"{what}"')
        elif kind == "widget":
            self.tell("chat", f'a card: "{what["copy_text"]}"')
        elif kind == "gets":
            self.tell("browser", f"gets {what[0]} {json.dumps(what[1])}")
        else:
            self.tell("browser", f"{kind} {json.dumps(what)}")

    def tell(self, who: str, what: str) -> None:
        """Print a line, cut to the width of the page."""
        elapsed = (time.perf_counter() - self._began) * 1000
        line = f"{elapsed:6.0f} ms  {who:<8}  {what}"
        line = line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
        colour = self._colours.get(who.partition(" ")[0])
        print(line if colour is None else f"\033[{colour}m{line}\033[0m", flush=True)
