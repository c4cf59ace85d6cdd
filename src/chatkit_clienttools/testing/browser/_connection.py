"""A page's requests: posted over a wire, and read until the response ends or is cut off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from chatkit_clienttools.testing._factory import said
from chatkit_clienttools.testing._loop import cancelled, generators_closed

from ._failures import BrokenStreamError
from ._faults import Faults, Response
from ._page import refuse_incomplete, validated
from ._wire import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterator

    from ._page import Json
    from ._transcript import Transcript
    from ._wire import Stream, Wire

T = TypeVar("T")

TIMES = 60
"""How many times the time limit of an event an operation may take in all."""

Posted = Callable[[], object]
"""Is called when a request was posted."""


@dataclass(eq=False)
class Connection:
    """What a page does with its requests; several may be under way at once."""

    wire: Wire
    dropped: list[Stream]
    """What the network has lost, and the server does not know of."""
    transcript: Transcript
    time_limit: float
    max_calls: int
    repeats: int
    """How many times a request is posted again that was answered neither with a stream nor with a 4xx."""
    note: Callable[[str, Any], object]
    took: Callable[[Json, Response], Awaitable[object]]
    """Is given each event."""
    ended_early: Callable[[str, int], object]
    """Is called for each response that was cut off: how, and after how many events."""

    def __post_init__(self) -> None:
        self.faults = Faults(self.transcript, begins=self._begin)
        self._begin()

    def _begin(self) -> None:
        """Let an operation begin: a server that never comes to an end must not hang a test."""
        self._ends = time.monotonic() + TIMES * self.time_limit
        self._calls = 0

    def count_call(self) -> None:
        """Raise if there were too many calls for another one."""
        self._calls += 1
        if self._calls > self.max_calls:
            raise self._endless(f"the server has asked for {self._calls} calls, and max_calls is {self.max_calls}")

    async def fetch(self, request: str) -> Json:
        """Post a request that is answered at once."""
        self.note("posts", json.loads(request)["type"])
        answer: Json = json.loads(await self._in_time(self.wire.fetch(request)))
        return answer

    async def exchange(
        self, request: str, *, runs_calls: bool, is_read: bool = True, posted: Posted | None
    ) -> list[Json]:
        """Post a request that is answered by a stream, and return the events that came."""
        kind = json.loads(request)["type"]
        stream = await self._opened(request, kind)
        if posted is not None:
            posted()
        response = Response(stream, runs_calls, is_read)
        with self.faults.reading(response):
            try:
                await self._read(response)
                await self._leave(response)
            except BaseException:
                await cancelled(response.answers)
                await self._end(stream)
                raise
        await both(*response.answers)
        if response.cut is None:
            with self._checking():
                refuse_incomplete(kind, response.seen)
        elif response.cut.how == "hides":
            return await self.exchange(request, runs_calls=runs_calls, is_read=is_read, posted=None)
        return response.seen

    async def _opened(self, request: str, kind: str) -> Stream:
        """Post a request, again if need be, and return the stream that answers it."""
        left = self.repeats
        while True:
            self.note("posts", kind)
            try:
                return await self._in_time(self.wire.open(request))
            except BrokenStreamError as error:
                status = getattr(error.__cause__, "status", None) or 0
                if not left or status // 100 == 4:  # noqa: PLR2004  the server has understood, and refuses
                    raise
                left -= 1

    async def let_go(self) -> None:
        """End what was lost: nobody waits for it, and nobody hears of its errors."""
        while self.dropped:
            await self._end(self.dropped.pop())

    async def see_the_end(self) -> None:
        """Wait until nothing is open any more that the server has left to the event loop to close."""
        with anyio.move_on_after(self.time_limit):
            await generators_closed()

    async def _read(self, response: Response) -> None:
        # one scope for all events: a server may hold one of its own open from one of them to another
        with anyio.CancelScope() as scope, self._checking(), self._watched(response, scope):
            while not self.faults.cut_off(response) and (event := await self._next(response, scope)) is not None:
                if time.monotonic() > self._ends:
                    seconds = f"{TIMES * self.time_limit:g} seconds, {TIMES} times the time_limit"
                    raise self._endless(f"events still come after {seconds}")
                response.seen.append(event)
                if response.is_read:
                    await self.took(event, response)
        if scope.cancelled_caught and response.cut is None:
            raise self._silent()

    @contextmanager
    def _watched(self, response: Response, scope: anyio.CancelScope) -> Iterator[None]:
        """Give the response up if its next event takes too long: with one timer, which is set anew when it rings."""
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle

        def ring() -> None:
            nonlocal timer
            left = response.since + self.time_limit - time.monotonic() if response.waits else self.time_limit
            # soon: what has come by then is taken first
            timer = loop.call_later(left, ring) if left > 0 else loop.call_soon(give_up, len(response.seen))

        def give_up(seen: int) -> None:
            if response.waits and len(response.seen) == seen:
                scope.cancel()
            else:
                ring()

        timer = loop.call_later(self.time_limit, ring)
        try:
            yield
        finally:
            timer.cancel()

    async def _next(self, response: Response, scope: anyio.CancelScope) -> Json | None:
        response.waits, response.since = scope, time.monotonic()
        try:
            with self._served():
                data = await response.stream.next()
                return None if data is None else validated(data)
        finally:
            response.waits = None

    async def _leave(self, response: Response) -> None:
        """Close the connection at the end of a response, or where it was cut off."""
        if response.cut is None:
            await self._end(response.stream)
            return
        self.ended_early(response.cut.how, len(response.seen))
        if response.cut.how != "drops":
            with self._checking():
                await response.stream.stop()
            await self._end(response.stream)
        else:
            await response.stream.drop()
            self.dropped.append(response.stream)

    async def _end(self, stream: Stream) -> None:
        """End what a server has still to do for a response."""
        try:
            with anyio.fail_after(self.time_limit):
                await stream.close()
        except Exception as error:  # noqa: BLE001  a server may fail here; the page has forgotten it
            self.note("ends", said(error))

    async def _in_time(self, work: Awaitable[T]) -> T:
        """Wait for the server, as long as it may take."""
        try:
            with anyio.fail_after(self.time_limit), self._served():
                return await work
        except TimeoutError as error:
            raise self._silent() from error

    @contextmanager
    def _served(self) -> Iterator[None]:
        """Whatever the server raises, or sends that ChatKit does not, breaks the stream."""
        try:
            yield
        except Exception as error:
            raise self._broken(said(error)) from error
        except asyncio.CancelledError as error:
            # Python 3.10 does not say whether somebody has cancelled this task
            if getattr(asyncio.current_task(), "cancelling", lambda: True)():
                raise
            raise self._broken("the server has raised CancelledError, and nobody had cancelled it") from error

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Check what came against what ChatKit sends."""
        try:
            yield
        except WireError as error:
            raise self._broken(said(error)) from error

    def _silent(self) -> BrokenStreamError:
        return self._broken(f"nothing came for {self.time_limit:g} seconds")

    def _broken(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"The stream is broken: {what}", self.transcript)

    def _endless(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"There is no end to it: {what}", self.transcript)


async def beside(response: Response, post: Callable[[Posted], Coroutine[Any, Any, None]]) -> None:
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
