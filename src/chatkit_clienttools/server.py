"""`ClientToolServer`: a `ChatKitServer` whose stream no answer can break, whenever it comes."""

from __future__ import annotations

import sys
from contextlib import aclosing, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast

from chatkit.errors import BaseStreamError, CustomStreamError, ErrorCode
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import (
    ClientToolCallItem,
    ErrorEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    is_streaming_req,
)
from typing_extensions import TypeVar

from ._journal import PAGE, Journal
from ._requests import Posted, Request, kind_of, read_request, serving, stepwise
from ._turn import Turn
from .errors import UsageError
from .observe import in_words, logger
from .sequencer import ClientToolSequencer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from chatkit.types import (
        StreamingReq,
        ThreadItem,
        ThreadMetadata,
        ThreadsAddClientToolOutputReq,
        ThreadsCustomActionReq,
        ThreadStreamEvent,
    )

    from ._rules import Rules

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

    _sequencer_of_calls: ClassVar[ClientToolSequencer]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._sequencer_of_calls = _sequencer_of(cls)
        for name in METHODS:
            _sequence(cls, name, cls._sequencer_of_calls)

    async def process(
        self, request: str | bytes | bytearray, context: TContext
    ) -> StreamingResult | NonStreamingResult:
        """Read a request and answer it; raise `InvalidRequestError` if it is not one of ChatKit's."""
        parsed = read_request(request)
        inherited = super().process
        if getattr(inherited, "__func__", None) is not ChatKitServer.process or not _has(ChatKitServer, NEEDED):
            return await inherited(request, context)  # an application's own checks are not to be passed over
        logger.debug("request %s", parsed.type)
        if is_streaming_req(parsed):
            return StreamingResult(self._process_streaming(parsed, context))
        return NonStreamingResult(await self._process_non_streaming(parsed, context))

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: TContext
    ) -> None:
        """Keep what was said so far, as ChatKit does; but append nothing behind a call that has just gone out."""
        newest = Journal((await self.store.load_thread_items(thread.id, None, PAGE, "desc", context)).data)
        if newest.pending is None or newest.pending is not newest.newest:
            await super().handle_stream_cancelled(thread, pending_items, context)

    async def _process_streaming_impl(
        self, request: StreamingReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        here = Request(kind_of(request)) if _has(ChatKitServer, NEEDED) else None
        stream = stepwise(lambda: serving(here), lambda: self._events(request, here, context))
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    self._note_what_is_stored(event)
                    for removed in _removed(here):
                        yield removed
                    yield _with_a_sentence(event)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not break the stream
            yield _told(in_words(error, getattr(request.params, "thread_id", None)))
        for removed in _removed(here):
            yield removed

    def _events(
        self, request: StreamingReq, here: Request | None, context: TContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        if here and here.posted is Posted.ANSWER:
            return self._answered(cast("ThreadsAddClientToolOutputReq", request), context)
        if here and here.posted is Posted.RESUME:
            return self._resumed(cast("ThreadsCustomActionReq", request), context)
        return super()._process_streaming_impl(request, context)

    async def _answered(
        self, request: ThreadsAddClientToolOutputReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Record an answer, and go on."""
        thread = await self.store.load_thread(request.params.thread_id, context=context)
        goes_on = await self._turn(thread, context).take_answer(request.params.result)
        async for event in self._going_on(thread, context, goes_on=goes_on):
            yield event

    async def _resumed(
        self, request: ThreadsCustomActionReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Send a call that a page may not know of again, or go on where the thread stands."""
        thread = await self.store.load_thread(request.params.thread_id, context=context)
        goes_on = await self._turn(thread, context).withdraw()
        async for event in self._going_on(thread, context, goes_on=goes_on):
            yield event

    async def _going_on(
        self, thread: ThreadMetadata, context: TContext, *, goes_on: bool
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Let `respond` release the next call, or run; if there is nothing to go on with, end in good order."""
        stream = (lambda: self.respond(thread, None, context)) if goes_on else _nothing
        async for event in self._process_events(thread, context, stream):
            yield event

    def _note_what_is_stored(self, event: ThreadStreamEvent) -> None:
        """End the claim to a release: ChatKit has stored what it streams, and the client may leave it at that."""
        match event:
            case ThreadItemDoneEvent(item=ClientToolCallItem() as item):
                self._rules.claims.end(item.thread_id, "release", item.id)

    def _turn(self, thread: ThreadMetadata, context: TContext) -> Turn:
        return Turn(self._rules, self.store, thread, context)

    @property
    def _rules(self) -> Rules:
        # a `respond` may have been decorated and put onto the object
        sequencer: ClientToolSequencer = getattr(self.respond, MARK, self._sequencer_of_calls)
        return sequencer.rules


class _OwnSequencer(ClientToolSequencer):
    """The sequencer of a server that was given none: it takes what plain ChatKit takes."""

    def __init__(self) -> None:
        super().__init__(max_queued=sys.maxsize, max_bytes=sys.maxsize)
        self.rules.stands_in = True


def _sequencer_of(server: type) -> ClientToolSequencer:
    """Return the sequencer that a server, or one that it derives from, is decorated with, or one of its own."""
    methods = [vars(base).get(name) for base in server.__mro__ for name in METHODS]
    found = [getattr(method, MARK) for method in methods if hasattr(method, MARK)]
    given = [sequencer for sequencer in found if not isinstance(sequencer, _OwnSequencer)]
    return next(iter([*given, *found]), None) or _OwnSequencer()


def _sequence(server: type, name: str, sequencer: ClientToolSequencer) -> None:
    """Let a server's method be sequenced, by `sequencer`; what cannot be is left as it is."""
    method = getattr(server, name)
    its = getattr(method, MARK, None)
    if its is sequencer or method is getattr(ChatKitServer, name) or getattr(method, "__isabstractmethod__", False):
        return
    if its is not None and not isinstance(its, _OwnSequencer):
        raise UsageError(f"{server.__name__}: respond and action have two sequencers: share one ClientToolSequencer")
    # one within the other is one run: what is sequenced already, for want of a better one, needs no undoing
    if name not in vars(server):
        method = _inherited(server, name)
    with suppress(UsageError, TypeError):
        setattr(server, name, sequencer.sequenced(method))


def _inherited(server: type, name: str) -> Callable[..., Any]:
    """Return a method that is the next one in line, whatever class comes to stand there."""

    def method(self: Any, *arguments: Any) -> Any:
        return getattr(super(server, self), name)(*arguments)

    method.__name__, method.__qualname__ = name, f"{server.__qualname__}.{name}"
    return method


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


def _removed(request: Request | None) -> Iterator[ThreadItemRemovedEvent]:
    """Tell the browser once of each item that is gone."""
    while request and request.removed:
        yield ThreadItemRemovedEvent(item_id=request.removed.popleft())


def _told(error: BaseStreamError) -> ErrorEvent:
    if isinstance(error, CustomStreamError):
        return ErrorEvent(message=error.message, allow_retry=error.allow_retry)
    return ErrorEvent(code=getattr(error, "code", ErrorCode.STREAM_ERROR), allow_retry=error.allow_retry)


def _with_a_sentence(event: ThreadStreamEvent) -> ThreadStreamEvent:
    """Return the event; an error of which ChatKit tells only the code, with a message."""
    match event:
        case ErrorEvent(code=ErrorCode.STREAM_ERROR, message=None, allow_retry=can_be_tried_again):
            advice = "Try again." if can_be_tried_again else "Reload the page."
            return event.model_copy(update={"message": f"Something went wrong on the server. {advice}"})
    return event
