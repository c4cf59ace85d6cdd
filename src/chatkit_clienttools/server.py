"""`ClientToolServer`: a `ChatKitServer` that releases queued calls, and whose stream no answer can break."""

from __future__ import annotations

import inspect
import sys
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, cast

from chatkit.agents import AgentContext
from chatkit.errors import BaseStreamError, CustomStreamError, ErrorCode
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import (
    ClientToolCallItem,
    ErrorEvent,
    LockedStatus,
    NoticeEvent,
    StreamOptionsEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadUpdatedEvent,
    is_streaming_req,
)
from typing_extensions import TypeVar

from ._protocol.decide import Answered, Resumed
from ._step.lookup import current_run, serving
from ._step.plans import with_plans
from ._step.requests import Posted, kind_of, read_request, setting, stepwise
from ._step.run import Run
from ._step.step import has_pending
from .answers import OUTCOMES, reason_in
from .errors import UsageError, printable
from .observe import in_words, logger
from .receipts import opened
from .sequencer import ClientToolSequencer
from .store import refuse_what_is_no_store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from chatkit.store import Store
    from chatkit.types import (
        NonStreamingReq,
        StreamingReq,
        Thread,
        ThreadMetadata,
        ThreadsAddClientToolOutputReq,
        ThreadsCustomActionReq,
        ThreadsGetByIdReq,
        ThreadStreamEvent,
        ThreadsUpdateReq,
    )

    from ._step.step import Outcome

TContext = TypeVar("TContext", default=Any)

NEEDED = (
    "_process_streaming",
    "_process_streaming_impl",
    "_process_non_streaming",
    "_process_events",
    "_to_thread_response",
)
"""The methods of `ChatKitServer` that this builds on, though they are private."""

SUPPORTED = "openai-chatkit>=1.4.1,<2"

SHOW_A_THREAD = {"threads.get_by_id", "threads.update"}
"""The requests that are answered with a thread as the page shows it."""

_is_locked: ContextVar[bool | None] = ContextVar("chatkit_clienttools_is_locked", default=None)
"""Whether a thread is shown as locked; None: as the request knows."""

PARAMETERS = {"respond": "thread, input_user_message, context", "action": "thread, action, sender, context"}
"""What ChatKit calls the application's methods with, by position."""


def check_chatkit(server: type) -> None:
    """Raise `ImportError` unless ChatKit's server has what this builds on."""
    if missing := [name for name in NEEDED if not hasattr(server, name)]:
        raise ImportError(
            f"This version of openai-chatkit has no ChatKitServer.{', ChatKitServer.'.join(missing)}, which "
            f"chatkit-clienttools builds on. Install {SUPPORTED}, or a newer chatkit-clienttools."
        )


check_chatkit(ChatKitServer)


class ClientToolServer(ChatKitServer[TContext], Generic[TContext]):
    """A `ChatKitServer` that releases client tool calls one by one, and takes an answer whenever it comes.

    `client_tools` is the `ClientToolSequencer` that the tools share with the server. Without one, ordinary single
    client tools are protected just as well.

    An answer completes the pending call, wherever in the thread that is; with receipts, only the call that it is for. A
    repeated or late one is ignored, and the stream closes normally. What fails before or after `respond` is one
    `ErrorEvent` with a sentence that a person can read, and one line in the log.

    To derive from instead of `ChatKitServer`, or to put before the class that a server derives from already:
    `class MyServer(ClientToolServer, TheServerIHave)`.
    """

    client_tools: ClientToolSequencer | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _check_sequencer(cls)
        for name in PARAMETERS:
            _check_method(cls, name)
        if inspect.iscoroutinefunction(cls.agent_context):
            where = f"{cls.__name__}.agent_context"
            raise UsageError(f"{where} is async, and nobody awaits it: `def agent_context(self, thread, context)`")

    # whatever store is assigned, and whenever: it keeps plans
    @property
    def store(self) -> Store[TContext]:
        """The application's store, which keeps plans: itself, or in an adapter that hides them."""
        try:
            return self._store
        except AttributeError:
            name = type(self).__name__
            raise UsageError(f"{name} has no store: call super().__init__(store) in {name}.__init__") from None

    @store.setter
    def store(self, store: Store[TContext]) -> None:
        refuse_what_is_no_store(store, f"{type(self).__name__} needs")
        self._store = with_plans(store, self._alone_on)

    def _alone_on(self, thread_id: str) -> AbstractAsyncContextManager[None]:
        return _sequencer_of(self).rules.alone_on(thread_id)

    async def process(
        self, request: str | bytes | bytearray, context: TContext
    ) -> StreamingResult | NonStreamingResult:
        """Read a request and answer it; raise `InvalidRequestError` if it is not one of ChatKit's."""
        rules = _sequencer_of(self).rules
        parsed, is_changed = read_request(request, rules.max_posted, rules.answers)
        inherited = super().process
        if getattr(inherited, "__func__", None) is not ChatKitServer.process:
            # an application's own checks are not to be passed over
            return await inherited(parsed.model_dump_json() if is_changed else request, context)
        logger.debug("request %s", parsed.type)
        if is_streaming_req(parsed):
            return StreamingResult(self._process_streaming(parsed, context))
        return NonStreamingResult(await self._process_non_streaming(parsed, context))

    async def _process_streaming_impl(
        self, request: StreamingReq, context: TContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        run = Run(_sequencer_of(self).rules, kind_of(request), getattr(request.params, "thread_id", None))
        if request.type == "threads.retry_after_item":
            run.message = request.params.item_id
        stream = stepwise(lambda: serving(run), lambda: self._events(request, run, context))
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    run.note(event)
                    yield _with_a_sentence(event)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not break the stream
            await run.give_back()
            for event in _removals(run):
                yield event
            yield _error_event(in_words(error, run.thread_id or None))
        finally:
            run.leave()

    def _events(self, request: StreamingReq, run: Run, context: TContext) -> AsyncIterator[ThreadStreamEvent]:
        match run.posted:
            case Posted.ANSWER:
                result = cast("ThreadsAddClientToolOutputReq", request).params.result
                if reason_in(result) is None:
                    result = run.rules.answers(result)
                return self._going_on(request, run, Answered(result, by=run.id), context)
            case Posted.RESUME:
                return self._going_on(request, run, Resumed(by=run.id), context)
        return super()._process_streaming_impl(request, context)

    async def _going_on(
        self,
        request: StreamingReq,
        run: Run,
        event: Answered | Resumed,
        context: TContext,
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Take an answer, or a page that was loaded, and go on where the thread stands."""
        params = cast("ThreadsAddClientToolOutputReq | ThreadsCustomActionReq", request).params
        begun = await run.begin(self.store, params.thread_id, context, event, with_thread=True)
        if begun.is_noop and isinstance(event, Answered) and not run.runs_body:
            logger.info("thread %s: %s", printable(params.thread_id), _what_became_of_it(begun))
        if run.rules.gated and isinstance(event, Answered) and opened(event.result).receipt is None:
            run.rules.warn_once(
                "thread %s: the page answers without the receipt that a call carries: posted again, such an answer is "
                "taken for the answer to the next call. Wrap its handler with `withReceipts`, or send the receipt back",
                printable(params.thread_id),
            )
        for notice in _notices(begun):
            yield notice
        thread = cast("ThreadMetadata", begun.metadata)
        async for each in self._process_events(thread, context, lambda: self.respond(thread, None, context)):
            yield each

    async def _process_events(
        self, thread: ThreadMetadata, context: TContext, stream: Callable[[], AsyncIterator[ThreadStreamEvent]]
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Take the step for what was posted, run the body if that says so, and stream the call that goes out last."""
        run = current_run()
        if run is None:  # not a request of `process`: it is ChatKit's alone
            async for event in super()._process_events(thread, context, stream):
                yield event
            return
        begun = run.begun or await run.begin(self.store, thread.id, context, run.event(), with_thread=False)
        was_locked = run.has_pending
        for event in (*_removals(run), *self._status(run, thread)):
            yield event
        ended: Outcome | None = None
        async for event in self._first_body(run, thread, context, stream):
            yield event
        while run.has_ended_well:
            ended = await run.end()
            if not run.runs_body:
                break
            body = self._next_body(run, thread, context, stream)
            async for event in super()._process_events(thread, context, body):
                if not isinstance(event, StreamOptionsEvent):  # the stream has begun with one
                    yield event
        await run.give_back()
        releases = [*_releases(begun), *_releases(ended)]
        status = await self._changed_status(run, thread, is_released=bool(releases), was_locked=was_locked)
        for event in (*_removals(run), *status, *releases):
            yield event

    def _first_body(
        self,
        run: Run,
        thread: ThreadMetadata,
        context: TContext,
        stream: Callable[[], AsyncIterator[ThreadStreamEvent]],
    ) -> AsyncIterator[ThreadStreamEvent]:
        if run.runs_body:
            return super()._process_events(thread, context, self._next_body(run, thread, context, stream))
        return self._nothing(thread, context)

    async def _nothing(self, thread: ThreadMetadata, context: TContext) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Begin the stream as ChatKit does, which would go on to look for changes of what nobody touches."""
        yield StreamOptionsEvent(stream_options=self.get_stream_options(thread, context))

    async def _changed_status(
        self, run: Run, thread: ThreadMetadata, *, is_released: bool, was_locked: bool
    ) -> list[ThreadStreamEvent]:
        """Tell the page at the end of a request whether the thread is locked, if it has heard something else."""
        is_locked = is_released or (run.locks_thread and await run.look_again())
        with setting(_is_locked, is_locked):
            return self._status(run, thread) if is_locked != was_locked else []

    def _status(self, run: Run, thread: ThreadMetadata) -> list[ThreadStreamEvent]:
        """Tell the page whether the thread is locked, if that is wanted."""
        return [ThreadUpdatedEvent(thread=self._to_thread_response(thread))] if run.locks_thread else []

    def _to_thread_response(self, thread: ThreadMetadata | Thread) -> Thread:
        """Show a thread to the page: as locked, if that is wanted and the browser has a call of it.

        That is nowhere stored. So it is never left behind, and what the application itself has set stays as it is.
        """
        shown, run, is_locked = super()._to_thread_response(thread), current_run(), _is_locked.get()
        if is_locked is None:
            is_locked = run is not None and run.locks_thread and run.has_pending
        if not is_locked or shown.status.type != "active":
            return shown
        wanted = _sequencer_of(self).rules.locks_thread
        return shown.model_copy(update={"status": LockedStatus(reason=wanted if isinstance(wanted, str) else None)})

    async def _process_non_streaming(self, request: NonStreamingReq, context: TContext) -> bytes:
        rules = _sequencer_of(self).rules
        if not (rules.locks_thread and request.type in SHOW_A_THREAD):
            return await super()._process_non_streaming(request, context)
        thread_id = cast("ThreadsGetByIdReq | ThreadsUpdateReq", request).params.thread_id
        with setting(_is_locked, await has_pending(rules, self.store, thread_id, context)):
            return await super()._process_non_streaming(request, context)

    def _next_body(
        self,
        run: Run,
        thread: ThreadMetadata,
        context: TContext,
        stream: Callable[[], AsyncIterator[ThreadStreamEvent]],
    ) -> Callable[[], AsyncIterator[ThreadStreamEvent]]:
        return run.next_body(
            thread,
            lambda: self.agent_context(thread, context),
            first=stream,
            again=lambda: self.respond(thread, None, context),
        ).stream

    def agent_context(self, thread: ThreadMetadata, context: TContext) -> AgentContext[TContext]:
        """Return the context that a waiting tool goes on with: what `respond` gives to the agent.

        To override if that is of a class of your own.
        """
        return AgentContext(thread=thread, store=self.store, request_context=context)


class _OwnSequencer(ClientToolSequencer):
    """The sequencer of a server that was given none: it takes what plain ChatKit takes."""

    def __init__(self) -> None:
        super().__init__(max_queued=sys.maxsize, max_bytes=sys.maxsize, max_answer_bytes=sys.maxsize)


_STANDS_IN = _OwnSequencer()


def _sequencer_of(server: ClientToolServer[Any]) -> ClientToolSequencer:
    sequencer = server.client_tools
    if sequencer is None:
        return _STANDS_IN
    _refuse_what_is_no_sequencer(type(server), sequencer)
    return sequencer


def _check_sequencer(server: type[ClientToolServer[Any]]) -> None:
    """Refuse a class whose sequencer is none, or that inherits two of them."""
    own = vars(server).get("client_tools")
    if own is not None:
        return _refuse_what_is_no_sequencer(server, own)
    misnamed = [name for name, value in vars(server).items() if isinstance(value, ClientToolSequencer)]
    if misnamed and server.client_tools is None:
        raise UsageError(f"{server.__name__}.{misnamed[0]} is not looked at: name it `client_tools`")
    inherited = {id(value): value for base in server.__mro__ if (value := vars(base).get("client_tools"))}
    direct = [value for base in server.__bases__ if (value := getattr(base, "client_tools", None))]
    if len({id(value) for value in direct}) > 1 and len(inherited) > 1:
        raise UsageError(
            f"{server.__name__} inherits two ClientToolSequencers: share one between all tools and servers, or say "
            "which it is, `client_tools = sequencer` in the body of the class"
        )
    return None


def _refuse_what_is_no_sequencer(server: type, value: object) -> None:
    if not isinstance(value, ClientToolSequencer):
        found = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise UsageError(
            f"{server.__name__}.client_tools is {found}; it has to be the sequencer that your tools use, "
            "`sequencer = ClientToolSequencer([...])`"
        )


def _check_method(server: type, name: str) -> None:
    """Refuse a `respond` or `action` that ChatKit could not call, or whose events it could not iterate over."""
    method = getattr(server, name)
    if method is getattr(ChatKitServer, name) or getattr(method, "__isabstractmethod__", False):
        return
    if not callable(method):  # a property: what it returns is seen when it is asked
        return
    where, wanted = f"{server.__name__}.{name}", PARAMETERS[name]
    if inspect.iscoroutinefunction(method):
        raise UsageError(f"{where} has no `yield`: ChatKit iterates over what it returns, so it yields events")
    if inspect.isgeneratorfunction(method):
        raise UsageError(f"{where} is not async: write `async def {name}(self, {wanted})`")
    try:
        takes_self = not isinstance(inspect.getattr_static(server, name), (staticmethod, classmethod))
        inspect.signature(method).bind(*[None] * (len(wanted.split(", ")) + takes_self))
    except TypeError:
        raise UsageError(
            f"{where} cannot be called as ChatKit calls it, with its arguments by position: "
            f"`async def {name}(self, {wanted})`"
        ) from None


def _what_became_of_it(begun: Outcome) -> str:
    """Say what was done about an answer that changed nothing."""
    if begun.sent_again:
        return "an answer is repeated; the call that is pending is streamed once more"
    why = "another call is pending" if begun.after.pending else "no call is pending"
    return f"an answer that is repeated or late: {why}; nothing was changed"


def _removals(run: Run) -> list[ThreadStreamEvent]:
    """Let the browser hear of each item that is gone."""
    return [ThreadItemRemovedEvent(item_id=item_id) for item_id in run.removed()]


def _notices(outcome: Outcome) -> list[ThreadStreamEvent]:
    """Tell the user of an answer that was refused."""
    calls = [write.item for write in outcome.writes if isinstance(write.item, ClientToolCallItem)]
    reasons = [reason for call in calls if (reason := reason_in(call.output)) and reason not in OUTCOMES.values()]
    return [NoticeEvent(level="warning", message=f"{reason[0].upper()}{reason[1:]}.") for reason in reasons]


def _releases(outcome: Outcome | None) -> list[ThreadStreamEvent]:
    """Stream the call that goes out: the step has stored it."""
    item = outcome.released if outcome else None
    return [ThreadItemDoneEvent(item=item)] if item else []


def _error_event(error: BaseStreamError) -> ErrorEvent:
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
