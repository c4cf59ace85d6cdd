"""A client that disconnects at a chosen point of a response, and a server that may do no cleaning up."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools import ClientToolSequencer, ClientToolServer
from chatkit_clienttools import server as server_module
from chatkit_clienttools._step import body, requests
from chatkit_clienttools._step.run import Run
from tests.helpers.merak import TOOLS, profiles, selection
from tests.helpers.scripted import message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest
    from chatkit.store import Store
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tests.helpers.stores import WatchedStore


FIND = "find"
"""The message that leads to client tools."""


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Searching(ClientToolServer[Any]):
    """Asks for three client tools when the user writes, and says something when it was told the answer."""

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.ids = itertools.count()
        self.kept: list[Any] | None = None

    async def process(self, request: Any, context: Any) -> Any:
        result = await super().process(request, context)
        if self.kept is None or not isinstance(result, StreamingResult):
            return result
        return Kept(result, self.kept)

    def says(self, text: str, thread: Any) -> Any:
        return message(text, thread, f"{thread.id} {next(self.ids)}")


def searching(store: Store[Any], clock: Clock) -> tuple[Searching, ClientToolSequencer]:
    """The server, and its sequencer."""
    sequencer = ClientToolSequencer(TOOLS, receipts=True, clock=clock)

    class Sequenced(Searching):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            await self.store.load_thread_items(thread.id, None, 10, "desc", context)  # what a model is given
            yield self.says("Wait." if input_user_message else "You chose well.", thread)
            if input_user_message and input_user_message.content[0].text == FIND:
                agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
                sequencer.enqueue(agent_context, profiles(agents=["Ada"]), selection(), profiles(agents=[]))
                yield ProgressUpdateEvent(text="searching")

    return Sequenced(store), sequencer


class Point:
    """Where the client is lost: the nth time that something is about to be done, or was done."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the server has done with the request."""
        self.gone = asyncio.Event()
        """Set when the client has gone: whatever waits for the store then goes on."""
        self._left: float = float("inf")

    def arm(self, nth: int) -> None:
        self._left = nth
        self.reached.clear()
        self.ended.clear()
        self.gone.clear()

    def disarm(self) -> None:
        self._left = float("inf")

    def is_here(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
        return self._left == 0


class Wire:
    """The application as a web server calls it, and a point where the client is lost."""

    spec_version = "2.3"

    def __init__(self, app: ASGIApp, store: WatchedStore) -> None:
        self._app = app
        self.point = Point()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message.get("more_body"):
                await self.sending()
            await send(message)

        try:
            await self._app({**scope, "asgi": {"version": "3.0", "spec_version": self.spec_version}}, receive, sent)
        finally:
            self.point.ended.set()

    async def sending(self) -> None:
        """Do what is done before an event is sent."""


class InAnAwait(Wire):
    """The client goes while the server waits for its store, before an operation or after it."""

    def __init__(self, app: ASGIApp, store: WatchedStore) -> None:
        super().__init__(app, store)
        store.before = store.after = self._waits

    async def _waits(self, _operation: str, _arguments: tuple[Any, ...]) -> None:
        if self.point.is_here():
            await self.point.gone.wait()


class AtAYield(Wire):
    """The client takes no more, and then goes: the generator rests at its `yield`."""

    async def sending(self) -> None:
        if self.point.is_here():
            await asyncio.Event().wait()


class SendFails(Wire):
    """Sending raises `OSError`, as it does in servers that speak ASGI 2.4."""

    spec_version = "2.4"

    async def sending(self) -> None:
        if self.point.is_here():
            raise OSError("the client has gone")


class Kept(StreamingResult):
    """A stream that nobody closes, and that somebody keeps: what is left in it rests there for ever."""

    def __init__(self, result: StreamingResult, kept: list[Any]) -> None:
        super().__init__(result.json_events)
        self._kept = kept

    def __aiter__(self) -> Any:
        iterator = super().__aiter__()  # type: ignore[no-untyped-call]  # ChatKit's
        self._kept.append(iterator)
        return OnlyNext(iterator)


class OnlyNext:
    """An iterator without `aclose`."""

    def __init__(self, iterator: AsyncIterator[bytes]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> OnlyNext:
        return self

    async def __anext__(self) -> bytes:
        return await self._iterator.__anext__()


def without_cleanup(server: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all away that is done when a response ends early; what is still in a generator is never finished."""

    async def nothing(*_: Any) -> None:
        pass

    server.kept = []
    monkeypatch.setattr(Run, "leave", lambda _: None)
    monkeypatch.setattr(Run, "give_back", nothing)
    monkeypatch.setattr(requests, "close", nothing)
    monkeypatch.setattr(body, "close", nothing)
    monkeypatch.setattr(server_module, "aclosing", nullcontext)
    for its in (ClientToolServer, ChatKitServer):
        monkeypatch.setattr(its, "handle_stream_cancelled", nothing)
