"""A page's requests: posted over a wire, and read until the response ends or is cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from ._events import refuse_incomplete, validated
from ._factory import said
from ._failures import BrokenStreamError
from ._faults import Response
from ._loop import cancelled
from ._wire import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterator

    from ._faults import Faults
    from ._limits import Limits
    from ._page import Json
    from ._transcript import Transcript
    from ._wire import Stream, Wire

Told = Callable[[], object]
"""Who is told when a request was posted."""


def unheard() -> None:
    """Tell nobody."""


@dataclass(eq=False)
class Connection:
    """What a page does with its requests; several may be under way at once."""

    wire: Wire
    faults: Faults
    time_limit: float
    limits: Limits
    transcript: Transcript
    dropped: list[Stream]
    """What the network has lost, and the server does not know of."""
    note: Callable[[str, Any], object]
    took: Callable[[Json, Response], Awaitable[object]]
    """Told of each event."""
    ended_early: Callable[[str, int], object]
    """Told of each response that was cut off: how, and after how many events."""

    async def fetch(self, request: str) -> Json:
        """Post a request that is answered at once."""
        self.note("posts", json.loads(request)["type"])
        with self._waiting():
            answer: Json = json.loads(await self.wire.fetch(request))
        return answer

    async def exchange(self, request: str, *, runs_calls: bool, posted: Told) -> list[Json]:
        """Post a request that is answered by a stream, say so, and return the events that came."""
        kind = json.loads(request)["type"]
        self.note("posts", kind)
        with self._waiting():
            stream = await self.wire.open(request)
        posted()
        response = Response(stream, runs_calls)
        with self.faults.reading(response):
            try:
                await self._read(response)
            except BaseException:
                await cancelled(response.answers)
                await self._end(stream)
                raise
        await both(*response.answers)
        if not response.cut:
            with self._holding():
                refuse_incomplete(kind, response.seen)
        return response.seen

    async def let_go(self) -> None:
        """End what was lost: nobody waits for it, and nobody is told if it fails."""
        while self.dropped:
            await self._end(self.dropped.pop())

    async def _read(self, response: Response) -> None:
        while not self.faults.cut_off(response) and (event := await self._next(response)) is not None:
            self.limits.event()
            response.seen.append(event)
            with self._holding():
                await self.took(event, response)
        if response.cut:
            self.ended_early(response.cut.how, len(response.seen))
            await self._end_early(response.stream, response.cut.how)
        else:
            await self._end(response.stream)

    async def _end_early(self, stream: Stream, how: str) -> None:
        if how == "stops":
            with self._holding():
                await stream.stop()
            await self._end(stream)
        else:
            await stream.drop()
            self.dropped.append(stream)

    async def _end(self, stream: Stream) -> None:
        """End what a server has still to do for a response."""
        try:
            with anyio.fail_after(self.time_limit):
                await stream.close()
        except Exception as error:  # noqa: BLE001  a server may fail here; the page has forgotten it
            self.note("ends", said(error))

    async def _next(self, response: Response) -> Json | None:
        data = None
        try:
            with self._waiting() as response.scope:
                data = await response.stream.next()
        finally:
            response.scope = None
        with self._holding():
            return None if data is None else validated(data)

    @contextmanager
    def _waiting(self) -> Iterator[anyio.CancelScope]:
        """Wait for the server, as long as it may take; whatever it raises breaks the stream."""
        try:
            with anyio.fail_after(self.time_limit) as scope:
                yield scope
        except TimeoutError as error:
            raise self._broken(f"nothing came for {self.time_limit:g} seconds") from error
        except Exception as error:
            raise self._broken(said(error)) from error
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise self._broken("the server has raised CancelledError, and nobody had cancelled it") from error

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold what came against what ChatKit sends."""
        try:
            yield
        except WireError as error:
            raise self._broken(said(error)) from error

    def _broken(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"The stream is broken: {what}", self.transcript)


def _is_cancelled() -> bool:
    """Whether somebody has cancelled this task, for all that can be known: Python 3.10 does not tell."""
    return bool(getattr(asyncio.current_task(), "cancelling", lambda: True)())


async def beside(response: Response, post: Callable[[Told], Coroutine[Any, Any, None]]) -> None:
    """Post an answer while a response is open, as a request of its own; once it is posted, the response is read on."""
    posted = asyncio.Event()
    answer = asyncio.create_task(post(posted.set))
    answer.add_done_callback(lambda _: posted.set())
    response.answers.append(answer)
    await posted.wait()


async def both(*posts: Awaitable[None]) -> None:
    """Let posts come to their ends, whatever becomes of the other one; then raise what one of them has raised."""
    for outcome in await asyncio.gather(*posts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
