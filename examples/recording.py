"""What happens when a demo is played without a page: each of its endpoints, by the browser that the library ships."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable  # noqa: TC003  KINDS has it
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from chatkit_clienttools.testing import FakeBrowser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .demo import Demo

PERSON_SECONDS = 1.6
"""How long the user takes to answer what the page asks."""

Kind = Literal["says", "calls", "answers", "reads", "card", "waits", "woken", "returned"]
TOOL_KINDS: dict[str, Kind] = {"waiting": "waits", "woken": "woken", "returned": "returned"}


class Moment(BaseModel):
    """Something that has happened."""

    at: int
    """Milliseconds since the beginning."""
    kind: Kind
    """The user says something; the page gets a call, answers it, shows words or a card; a tool waits, goes on, ends."""
    name: str = ""
    """Of the client tool or the tool."""
    what: Any = None
    """The words; or the arguments, or the answer, of the call."""


async def record(url: str, demo: Demo, tell: Callable[[int, Moment], None]) -> None:
    """Play a demo at all its endpoints at once; tell what happens, with the number of the endpoint."""
    began = time.perf_counter()

    async def play(number: int, endpoint: str) -> None:
        def note(kind: Kind, name: str, what: Any) -> None:
            at = round((time.perf_counter() - began) * 1000)
            tell(number, Moment(at=at, kind=kind, name=name, what=what))

        def observed(kind: str, what: Any) -> None:
            if kind in KINDS and (seen := KINDS[kind][1](what)):
                note(KINDS[kind][0], *seen)

        async def answered(tool: str, _params: Any) -> Any:
            if tool in demo.answers:
                await asyncio.sleep(PERSON_SECONDS)
            return demo.answers.get(tool, {})

        browser = FakeBrowser(f"{url}/{endpoint}", handlers=answered, observer=observed)

        def noticed(thread_id: str, kind: Kind, tool: str, waits_for: str) -> None:
            if thread_id == browser.thread_id:
                note(kind, tool, waits_for)

        with _tools(noticed):
            for text in demo.says:
                await browser.send(text)

    await asyncio.gather(*[play(number, endpoint) for number, endpoint in enumerate(demo.endpoints.values())])


def _answer(what: Any) -> tuple[str, Any] | None:
    result = what.get("result", {}) if "_receipt" in what else what
    return ("", result) if result else None  # nobody waits for an empty one


def _call(what: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    return what[0], {key: value for key, value in what[1].items() if key != "_receipt"}


KINDS: dict[str, tuple[Kind, Callable[[Any], tuple[str, Any] | None]]] = {
    "says": ("says", lambda what: ("", what)),
    "gets": ("calls", _call),
    "answers": ("answers", _answer),
    "reads": ("reads", lambda what: ("", what)),
    "widget": ("card", lambda what: ("", what["copy_text"])),
}
"""What the browser tells, and what is taken of it: a name and what was said, or nothing."""


@contextmanager
def _tools(tell: Callable[[str, Kind, str, str], None]) -> Iterator[None]:
    """Tell what tools that wait do, as the library logs it."""
    logger = logging.getLogger("chatkit_clienttools")
    level = logger.level
    handler = logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        logged = vars(record)
        if "waits_for" in logged:
            tell(logged["thread_id"], TOOL_KINDS[logged["state"]], logged["tool"], logged["waits_for"])

    handler.emit = emit  # type: ignore[method-assign]
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
