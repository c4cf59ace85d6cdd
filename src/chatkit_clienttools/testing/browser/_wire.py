"""How a fake browser reaches a server: in process, or over HTTP and server-sent events."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from chatkit.server import NonStreamingResult, StreamingResult

from chatkit_clienttools._step.exclusion import left_behind
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing._loop import generators_closed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from chatkit.server import ChatKitServer

EVENT_STREAM = "text/event-stream"


class WireError(Exception):
    """What came is not what ChatKit sends."""

    def __init__(self, what: str, status: int | None = None) -> None:
        super().__init__(what)
        self.status = status


class Frames:
    """Takes the bytes of server-sent events apart."""

    def __init__(self) -> None:
        self._rest = b""

    def fed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes; raise if it is something else."""
        *whole, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        return [data for frame in whole if (data := _data(frame)) is not None]

    def end(self) -> None:
        """Raise if the stream ends in the middle of an event."""
        if self._rest.strip():
            raise WireError(f"the stream ends in the middle of an event: {self._rest[-80:]!r}")


def _data(frame: bytes) -> str | None:
    """Return the data of an event; None if the frame is made of comments, as those that keep a connection alive."""
    lines = [line for line in frame.decode().split("\n") if line and not line.startswith(":")]
    data = [line[len("data:") :].strip() for line in lines if line.startswith("data:")]
    if lines and not data:
        raise WireError(f"something without data came, where ChatKit sends events: {frame[:500]!r}")
    return "\n".join(data) if data else None


class Stream(ABC):
    """The events of one response, one at a time."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._frames = Frames()
        self._ready: deque[str] = deque()
        self.has_ended = False
        """Whether it has ended as it should: the server has come to its end, too."""

    async def next(self) -> str | None:
        """Return the next event, or None when the stream has ended as it should."""
        while not self._ready:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._frames.end()
                self.has_ended = True
                return None
            self._ready += self._frames.fed(chunk)
        return self._ready.popleft()

    @abstractmethod
    async def stop(self) -> None:
        """Close the connection while the server works on the next event; raise if it takes no notice."""

    @abstractmethod
    async def drop(self) -> None:
        """Lose the connection while the server waits for the last event to be taken."""

    @abstractmethod
    async def close(self) -> None:
        """Release what the stream holds, and end what the server has still to do for it."""


def wire_to(
    server: object,
    *,
    context: Any,
    headers: Mapping[str, str] | None,
    cookies: Mapping[str, str] | None,
    time_limit: float,
) -> Wire:
    """Return the way to a server, in process or over HTTP; raise if it would not use what it is given."""
    if isinstance(server, str):
        if context is not None:
            raise UsageError("Over HTTP the endpoint makes the context itself: give headers= or cookies=, no context=")
        return OverHttp(server, headers or {}, cookies or {}, time_limit)
    if headers is not None or cookies is not None:
        raise UsageError("In process there are neither headers nor cookies: give what is made of them, context=")
    return InProcess(cast("ChatKitServer[Any]", server), context, time_limit)


class Wire(Protocol):
    """A way to a server."""

    server: Any
    """The server, or its URL."""

    async def fetch(self, request: str) -> bytes:
        """Post a request that is answered at once."""
        ...

    async def open(self, request: str) -> Stream:
        """Post a request that is answered by a stream."""
        ...


class InProcess:
    """A server in this process."""

    def __init__(self, server: ChatKitServer[Any], context: Any, time_limit: float) -> None:
        self.server = server
        self.context = context
        self._time_limit = time_limit

    async def fetch(self, request: str) -> bytes:
        """Post a request that is answered at once."""
        result = await self.server.process(request, self.context)
        if not isinstance(result, NonStreamingResult):
            raise WireError(f"a stream came where an answer was expected: {request}")
        return result.json

    async def open(self, request: str) -> Stream:
        """Post a request that is answered by a stream."""
        result = await self.server.process(request, self.context)
        if not isinstance(result, StreamingResult):
            raise WireError("no stream came, but an answer: fetch() it")
        return _InProcessStream(result, self._time_limit)


class _InProcessStream(Stream):
    def __init__(self, result: StreamingResult, time_limit: float) -> None:
        self._generators = [aiter(result), result.json_events]
        super().__init__(self._generators[0])
        self._time_limit = time_limit

    async def stop(self) -> None:
        # As a web server does: the task that iterates is cancelled where it waits, and at every later wait too.
        ends = time.monotonic() + self._time_limit
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            while await anext(self._chunks, None) is not None:
                _refuse_after(ends)

    async def drop(self) -> None:
        # A generator that rests at its `yield` hears nothing of it: it stays there for as long as anybody refers to it.
        return

    async def close(self) -> None:
        if not self.has_ended:
            for generator in self._generators:
                await generator.aclose()
            await generators_closed()
        # a step that has begun comes to its end, whatever becomes of its request
        if steps := left_behind():
            await asyncio.wait(steps)


def _refuse_after(ends: float) -> None:
    if time.monotonic() > ends:
        raise WireError("the server goes on after Stop was pressed: it has to let CancelledError pass")


class OverHttp:
    """A server behind a URL. Headers and cookies go with every request; cookies that the server sets are kept."""

    def __init__(self, url: str, headers: Mapping[str, str], cookies: Mapping[str, str], time_limit: float) -> None:
        import httpx2  # noqa: PLC0415  only who talks over HTTP needs it

        self._httpx = httpx2
        self.server = url
        self._headers = {"content-type": "application/json", **headers}
        self._cookies = httpx2.Cookies(dict(cookies))
        self._time_limit = time_limit

    async def fetch(self, request: str) -> bytes:
        """Post a request that is answered at once."""
        async with self._client() as client:
            response = await client.post(self.server, content=request)
        self._cookies.extract_cookies(response)
        if response.is_error:
            raise WireError(f"HTTP {response.status_code}: {response.text[:500]}")
        content: bytes = response.content
        return content

    async def open(self, request: str) -> Stream:
        """Post a request that is answered by a stream."""
        client = self._client()
        try:
            response = await client.send(client.build_request("POST", self.server, content=request), stream=True)
        except BaseException:
            await client.aclose()
            raise
        self._cookies.extract_cookies(response)
        stream = _HttpStream(client, response)
        kind = response.headers.get("content-type", "nothing")
        if response.is_error or not kind.startswith(EVENT_STREAM):
            said = (await response.aread()).decode(errors="replace")
            await stream.close()
            status = response.status_code
            raise WireError(f"HTTP {status} with {kind}, not {EVENT_STREAM}: {said[:500]}", status)
        return stream

    def _client(self) -> Any:
        # one for each request: a client belongs to an event loop, a browser does not
        return self._httpx.AsyncClient(
            headers=self._headers, cookies=self._cookies, timeout=self._time_limit, verify=_trusted()
        )


class _HttpStream(Stream):
    def __init__(self, client: Any, response: Any) -> None:
        self._response_chunks: AsyncGenerator[bytes, None] = response.aiter_bytes()
        super().__init__(self._response_chunks)
        self._client = client
        self._response = response

    async def stop(self) -> None:
        await self.close()

    async def drop(self) -> None:
        await self.close()

    async def close(self) -> None:
        await self._response_chunks.aclose()
        await self._response.aclose()
        await self._client.aclose()


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whom to trust; making it takes longer than most requests."""
    return ssl.create_default_context()
