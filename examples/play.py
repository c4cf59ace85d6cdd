"""Play a demo in the terminal: its server over HTTP, and the browser that the library ships for tests."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import textwrap
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import uvicorn

from .demo import demos
from .recording import Moment, record
from .site import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fastapi import FastAPI

WIDTH = 100
TIME = "{:>6}  "
GAP = "   "
INDENT = 10
COLOURS = {"says": "1", "calls": "36", "answers": "36", "reads": "1;32", "card": "1", "title": "1"}
SHORT_WAIT_MS = 500
"""A page that needs less is no person: that the tool goes on is not worth a line."""

WHO = {"says": "you", "calls": "page <-", "answers": "page ->", "reads": "assistant", "card": "assistant"}


async def play(name: str) -> None:
    """Play what a demo's user says at all of its endpoints at once, and print what happens, side by side."""
    demo = demos()[name]
    columns = Columns([*demo.endpoints])
    print(textwrap.fill(f"{demo.title}. {demo.about}", WIDTH), end="\n\n")
    async with serving(app_of(name)) as url:
        columns.titles()
        await record(url, demo, columns.tell)
    columns.sums()


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


class Columns:
    """Prints what happens at each endpoint in a column of its own, in the order of time."""

    def __init__(self, titles: list[str]) -> None:
        self._titles = titles
        self._width = (WIDTH - len(TIME.format("")) - len(GAP) * (len(titles) - 1)) // len(titles)
        self._moments: list[list[Moment]] = [[] for _ in titles]
        self._asked: list[Moment] = []
        has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colours = COLOURS if has_colours else {}

    def titles(self) -> None:
        """Print the titles, and what a tool does there."""
        heads, rests = zip(*[title.partition(": ")[::2] for title in self._titles], strict=True)
        self._print("", [textwrap.wrap(head, self._width) for head in heads], "title")
        self._print("", [textwrap.wrap(rest, self._width) for rest in rests])
        self._print("", [["-" * self._width] for _ in self._titles])

    def tell(self, column: int, moment: Moment) -> None:
        """Print a moment, in its column."""
        before = self._moments[column]
        before.append(moment)
        if len(before) == 1:  # all of them begin with the same question: one line
            self._asked.append(moment)
            if len(self._asked) == len(self._titles):
                self._row(moment, range(len(self._titles)))
        elif is_told(moment, before):
            self._row(moment, [column])

    def sums(self) -> None:
        """Print what has come of it."""
        self._print("", [["-" * self._width] for _ in self._titles])
        self._print("", [[summed(moments)] for moments in self._moments], "title")

    def _row(self, moment: Moment, columns: Sequence[int]) -> None:
        lines = textwrap.wrap(
            f"{WHO.get(moment.kind, 'tool'):<{INDENT}}{told(moment)}", self._width, subsequent_indent=" " * INDENT
        )
        cells = [lines if number in columns else [] for number in range(len(self._titles))]
        self._print(f"{moment.at / 1000:.1f} s", cells, moment.kind)

    def _print(self, time: str, cells: list[list[str]], kind: str = "") -> None:
        colour = self._colours.get(kind)
        for row in zip_longest(*cells, fillvalue=""):
            padded = [f"{cell:<{self._width}}" for cell in row]
            shown = [f"\033[{colour}m{cell}\033[0m" if colour and cell.strip() else cell for cell in padded]
            print((TIME.format(time) + GAP.join(shown)).rstrip(), flush=True)
            time = ""


def is_told(moment: Moment, moments: list[Moment]) -> bool:
    """Whether a moment gets a line. That a tool goes on does if it has waited for a person."""
    if moment.kind == "woken":
        return moment.at - max(other.at for other in moments if other.kind == "waits") > SHORT_WAIT_MS
    return moment.kind in WHO


def told(moment: Moment) -> str:
    """Return a moment in words."""
    words = {
        "says": f'"{moment.what}"',
        "reads": f'"{moment.what}"',
        "card": f'a card: "{moment.what}"',
        "calls": f"{moment.name} {brief(moment.what)}",
        "answers": brief(moment.what),
        "woken": "goes on with the answer",
    }
    return words[moment.kind]


def brief(value: Any) -> str:
    """Return what JSON holds, without its keys: of a list of objects the first value of each."""
    if isinstance(value, list):
        return ", ".join(brief(next(iter(each.values()))) if isinstance(each, dict) else brief(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(map(brief, value.values()))
    text = str(value)
    return f"{text.partition(';')[0].removeprefix('data:')} ({len(text)} bytes)" if text.startswith("data:") else text


def summed(moments: list[Moment]) -> str:
    """Say how many client tools have run, and how often the assistant has answered."""
    kinds = [moment.kind for moment in moments]
    return f"=> client tools: {kinds.count('calls')}; replies: {kinds.count('reads')}"
