"""A page's requests: posted over a wire, and read until the response ends or is cut off."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from ._events import validated
from ._factory import said
from ._failures import BrokenStreamError
from ._faults import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._faults import Faults
    from ._page import Json
    from ._transcript import Transcript
    from ._wire import Stream, Wire


@dataclass(eq=False)
class Connection:
    """What a page does with its requests; several may be under way at once."""

    wire: Wire
    faults: Faults
    time_limit: float
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
        try:
            with anyio.fail_after(self.time_limit):
                answer: Json = json.loads(await self.wire.fetch(request))
                return answer
        except Exception as error:
            raise self._broken(error) from error

    async def exchange(self, request: str, *, runs_calls: bool) -> list[Json]:
        """Post a request that is answered by a stream, and return the events that came."""
        self.note("posts", json.loads(request)["type"])
        try:
            with anyio.fail_after(self.time_limit):
                stream = await self.wire.open(request)
        except Exception as error:
            raise self._broken(error) from error
        response = Response(stream, runs_calls)
        with self.faults.reading(response):
            try:
                await self._read(response)
            finally:
                await stream.close()
        return response.seen

    async def let_go(self) -> None:
        """End what was lost: nobody waits for it, and nobody is told if it fails."""
        while self.dropped:
            stream = self.dropped.pop()
            try:
                with anyio.fail_after(self.time_limit):
                    await stream.let_go()
            except Exception as error:  # noqa: BLE001  a server may fail here; the page has long forgotten it
                self.note("ends", said(error))

    async def _read(self, response: Response) -> None:
        while not self.faults.cut_off(response) and (event := await self._next(response)) is not None:
            response.seen.append(event)
            await self.took(event, response)
        if response.cut:
            self.ended_early(response.cut.how, len(response.seen))
            await self._end_early(response.stream, response.cut.how)

    async def _end_early(self, stream: Stream, how: str) -> None:
        if how == "stops":
            await stream.stop()
        else:
            await stream.drop()
            self.dropped.append(stream)

    async def _next(self, response: Response) -> Json | None:
        data = None
        try:
            with anyio.fail_after(self.time_limit) as response.scope:
                data = await response.stream.next()
            return None if data is None else validated(data)
        except Exception as error:
            raise self._broken(error) from error
        finally:
            response.scope = None

    def _broken(self, error: Exception) -> BrokenStreamError:
        waited = f"nothing came for {self.time_limit:g} seconds" if isinstance(error, TimeoutError) else said(error)
        return BrokenStreamError(f"The stream is broken: {waited}", self.transcript)
