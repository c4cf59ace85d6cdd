"""Stop and lost connections: where a response is to end before its time.

A test sets one cut at a time, for one operation of the page: for `send()`, say, with all the requests that it makes. A
number counts the events of one response; an event is waited for in all of them. A cut that was not reached when the
operation has ended fails the test: it did not try what it was written for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing._factory import said

from ._failures import FaultError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    import anyio

    from ._page import Json
    from ._transcript import Transcript
    from ._wire import Stream

At = Union[int, str, Callable[[dict[str, Any]], bool]]  # noqa: UP007  # needed at run time on 3.10
"""Where in a response: after so many of its events, after the first event of a type, or after one that is true of."""


@dataclass
class Cut:
    """An end of a response before its time."""

    how: Literal["stops", "drops", "hides"]
    at: At
    if_reached: bool
    """Whether it is as well if the cut is never reached."""
    response: Response | None = None
    """The one whose events are counted, if they are."""

    def __str__(self) -> str:
        at = getattr(self.at, "__name__", repr(self.at))
        return {"stops": f"stop(at={at})", "drops": f"drop(after={at})", "hides": f"hide(at={at})"}[self.how]

    def is_due(self, response: Response) -> bool:
        """Whether the response has come to where it is to end."""
        if isinstance(self.at, int):
            return response is self.response and len(response.seen) >= self.at
        if isinstance(self.at, str):
            return bool(response.seen) and response.seen[-1]["type"] == self.at
        return bool(response.seen) and bool(self.at(response.seen[-1]))


@dataclass(eq=False)
class Response:
    """A response that is being read."""

    stream: Stream
    runs_calls: bool
    is_read: bool = True
    """Whether the page looks at its events."""
    seen: list[Json] = field(default_factory=list)
    waits: anyio.CancelScope | None = None
    """What waits for its next event, while it does."""
    since: float = 0.0
    """Since when it waits."""
    cut: Cut | None = None
    """What has ended it before its time."""
    answers: list[asyncio.Task[None]] = field(default_factory=list)
    """What was posted while it was being read."""


class Faults:
    """What is to go wrong on one page."""

    def __init__(self, transcript: Transcript, *, begins: Callable[[], object]) -> None:
        self._transcript = transcript
        self._begins = begins
        self._cut: Cut | None = None
        self._operations = 0
        self._responses: list[Response] = []
        self._read: list[Response] = []

    def set(self, cut: Cut) -> None:
        """Cut off the response that is being read, or else one that is to come."""
        if self._cut is not None:
            raise UsageError(f"{cut} cannot be: {self._cut} is still to happen, and there is one at a time")
        self._cut = cut
        if self._responses:
            response = cut.response = self._responses[-1]
            if self.cut_off(response) and response.waits:
                response.waits.cancel()

    @contextmanager
    def operation(self) -> Iterator[None]:
        """See that a cut happens in what the page does, or in what it does at the same time."""
        if not self._operations:
            self._read = []
            self._begins()
        self._operations += 1
        missed = None
        try:
            yield
        finally:
            self._operations -= 1
            if not self._operations:
                missed, self._cut = self._cut, None
        if missed and not missed.if_reached:
            raise FaultError(f"{missed} was never reached: {self._events()}", self._transcript)

    def check_none_is_left(self) -> None:
        """Fail the test if a cut was set after its last operation."""
        if self._cut is not None and not self._cut.if_reached:
            raise FaultError(f"{self._cut} was never reached: nothing was done after it", self._transcript)

    @contextmanager
    def reading(self, response: Response) -> Iterator[None]:
        """See that a response is cut off, if it is the one."""
        if self._cut is not None and self._cut.response is None:
            self._cut.response = response
        self._responses.append(response)
        self._read.append(response)
        try:
            yield
        finally:
            self._responses.remove(response)

    def cut_off(self, response: Response) -> bool:
        """Whether the response is to end here; no other one is then."""
        if self._cut is not None and self._is_due(self._cut, response):
            response.cut, self._cut = self._cut, None
        return response.cut is not None

    def _is_due(self, cut: Cut, response: Response) -> bool:
        try:
            return cut.is_due(response)
        except Exception as error:
            what = f"The function of {cut} has raised {said(error)}, of the event {json.dumps(response.seen[-1])}"
            raise FaultError(what, self._transcript) from error

    def _events(self) -> str:
        responses = "; and ".join(_types(response.seen) for response in self._read)
        return f"the responses had these events: {responses}"


def _types(events: list[Json]) -> str:
    groups = [(kind, len(list(same))) for kind, same in itertools.groupby(event["type"] for event in events)]
    named = ", ".join(f"{kind} (x{times})" if times > 1 else kind for kind, times in groups)
    return f"{len(events)} ({named})" if events else "none"
