"""`ClientToolServer`: a `ChatKitServer` whose stream no answer can break, whenever it comes."""

from __future__ import annotations

import sys
from contextlib import aclosing
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, cast

from chatkit.errors import ErrorCode
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import ErrorEvent, ThreadItemRemovedEvent, is_streaming_req
from typing_extensions import TypeVar

from ._journal import PAGE, Journal
from ._requests import Posted, kind_of, read_request, stepwise, telling
from ._turn import Turn
from .errors import UsageError
from .observe import in_words, logger
from .sequencer import ClientToolSequencer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from chatkit.types import (
        StreamingReq,
        ThreadItem,
        ThreadMetadata,
        ThreadsAddClientToolOutputReq,
        ThreadsCustomActionReq,
        ThreadStreamEvent,
    )

TContext = TypeVar("TContext", default=Any)

NEEDED = ("_process_streaming", "_process_streaming_impl", "_process_non_streaming", "_process_events")
"""The methods of `ChatKitServer` that this builds on. Without them it is a `ChatKitServer`, and says so."""

METHODS = ("respond", "action")
"""What of a server is sequenced."""

MARK = "__client_tool_sequencer__"
"""The attribute of a sequenced method that holds its sequencer."""


class ClientToolServer(ChatKitServer[TContext], Generic[TContext]):
    """A `ChatKitServer` that takes an answer whenever it comes.

    An answer completes the pending call, wherever in the thread that is; with receipts, only the call that it is for. A
    repeated or late one changes nothing and ends its stream in good order. What fails before or after `respond` is one
    `ErrorEvent` with a sentence that a person can read, and one line in the log.

    `respond` and `action` are sequenced: by the `ClientToolSequencer` that one of them is decorated with, or else by
    one of the server's own, so that a backend with single client tools is protected just as well.

    To derive from instead of `ChatKitServer`, or to put before the class that a server derives from already:
    `class MyServer(ClientToolServer, TheServerIHave)`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        sequencer = _sequencer_of(cls)
        for name in METHODS:
            method = getattr(cls, name)
            if isinstance(getattr(method, MARK, None), _OwnSequencer):
                method = method.__wrapped__  # it was sequenced so for want of a better one
            if method is not getattr(ChatKitServer, name):
                setattr(cls, name, _sequenced(cls, method, sequencer))

    async def process(
        self, request: str | bytes | bytearray, context: TContext
    ) -> StreamingResult | NonStreamingResult:
        """Read a request and answer it; raise `InvalidRequestError` if it is not one of ChatKit's."""
        parsed = read_request(request)
        if not _has(ChatKitServer, NEEDED):
            return await super().process(request, context)
        logger.debug("request %s", parsed.type)
        if is_streaming_req(parsed):
            return StreamingResult(self._process_streaming(parsed, context))
        return NonStreamingResult(await self._process_non_streaming(parsed, context))

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: TContext
    ) -> None:
        """Keep what was said so far, as ChatKit does, but append nothing behind a call that is pending."""
        newest = await self.store.load_thread_items(thread.id, None, PAGE, "desc", context)
        if Journal(newest.data).pending is None:
            await super().handle_stream_cancelled(thread, pending_items, context)

    async def _process_streaming_impl(
        self, request: StreamingReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        posted = kind_of(request) if _has(ChatKitServer, NEEDED) else None
        try:
            async with aclosing(
                stepwise(lambda: telling(posted), lambda: self._events(request, posted, context))
            ) as events:
                async for event in events:
                    yield _with_a_sentence(event)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not break the stream
            told = in_words(error, getattr(request.params, "thread_id", None))
            yield ErrorEvent(message=told.message, allow_retry=told.allow_retry)

    def _events(
        self, request: StreamingReq, posted: Posted | None, context: TContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        if posted is Posted.ANSWER:
            return self._answered(cast("ThreadsAddClientToolOutputReq", request), context)
        if posted is Posted.RESUME:
            return self._resumed(cast("ThreadsCustomActionReq", request), context)
        return super()._process_streaming_impl(request, context)

    async def _answered(
        self, request: ThreadsAddClientToolOutputReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Record an answer, and go on."""
        thread = await self.store.load_thread(request.params.thread_id, context=context)
        goes_on = await self._turn(thread, context).take_answer(request.params.result)
        async for event in self._going_on(thread, context, Posted.ANSWER if goes_on else None):
            yield event

    async def _resumed(
        self, request: ThreadsCustomActionReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Send a call that a page may not know of again, or go on where the thread stands."""
        thread = await self.store.load_thread(request.params.thread_id, context=context)
        withdrawn = await self._turn(thread, context).withdraw()
        for item_id in withdrawn or ():
            yield ThreadItemRemovedEvent(item_id=item_id)
        # with nothing withdrawn it goes on where an answer would: what was done about the last one is not known
        after = Posted.RESUME if withdrawn else Posted.ANSWER
        async for event in self._going_on(thread, context, None if withdrawn is None else after):
            yield event

    async def _going_on(
        self, thread: ThreadMetadata, context: TContext, after: Posted | None
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Let `respond` release the next call, or run; after nothing, end in good order."""

        def stream() -> AsyncIterator[ThreadStreamEvent]:
            if after is None:
                return _nothing()
            with telling(after):
                return self.respond(thread, None, context)

        async for event in self._process_events(thread, context, stream):
            yield event

    def _turn(self, thread: ThreadMetadata, context: TContext) -> Turn:
        sequencer: ClientToolSequencer = getattr(self.respond, MARK, None) or getattr(type(self).respond, MARK)
        return Turn(sequencer.rules, self.store, thread, context)


class _OwnSequencer(ClientToolSequencer):
    """The sequencer of a server that was given none: it takes what plain ChatKit takes."""

    def __init__(self) -> None:
        super().__init__(max_queued=sys.maxsize, max_bytes=sys.maxsize)


def _sequencer_of(server: type) -> ClientToolSequencer:
    """Return the sequencer that a server, or one that it derives from, is decorated with, or one of its own."""
    methods = [vars(base).get(name) for base in server.__mro__ for name in METHODS]
    found = [getattr(method, MARK) for method in methods if hasattr(method, MARK)]
    given = [sequencer for sequencer in found if not isinstance(sequencer, _OwnSequencer)]
    return next(iter([*given, *found]), None) or _OwnSequencer()


def _sequenced(server: type, method: Any, sequencer: ClientToolSequencer) -> Any:
    its = getattr(method, MARK, sequencer)
    if its is not sequencer:
        raise UsageError(f"{server.__name__}: respond and action have two sequencers: share one ClientToolSequencer")
    return method if hasattr(method, MARK) else sequencer.sequenced(method)


@cache
def _has(server: type, names: tuple[str, ...]) -> bool:
    missing = [name for name in names if not hasattr(server, name)]
    if missing:
        logger.warning(
            "this version of openai-chatkit has no %s: ClientToolServer does what ChatKitServer does, and an answer at "
            "the wrong moment can break its stream. Upgrade chatkit-clienttools.",
            ", ".join(missing),
        )
    return not missing


async def _nothing() -> AsyncGenerator[ThreadStreamEvent, None]:
    return
    yield


def _with_a_sentence(event: ThreadStreamEvent) -> ThreadStreamEvent:
    """Return the event; an error of which ChatKit tells only the code, with a message."""
    match event:
        case ErrorEvent(code=ErrorCode.STREAM_ERROR, message=None):
            return event.model_copy(update={"message": "Something went wrong on the server. Try again."})
    return event
