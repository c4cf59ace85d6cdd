"""One streaming request: the step for what was posted, the body that it may run, and the step that ends that.

A tool finds its run by the context it runs in (`contextvars`), not by the thread object: a store that hands out live
references gives two requests the same object. Tools run in tasks and threads that the body starts, and those inherit
the context.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent, UserMessageItem

from chatkit_clienttools._protocol.decide import Acted, Ended, FilledIn, Stopped, Wrote
from chatkit_clienttools._protocol.plan import PlannedCall
from chatkit_clienttools.errors import NotSequencedError, printable
from chatkit_clienttools.observe import log_and_return, logger, place_of
from chatkit_clienttools.receipts import new_call_id
from chatkit_clienttools.store import find_item

from .asked import Asked, Invocation, Queue, current_invocation
from .exclusion import in_background
from .requests import Posted, close, setting
from .step import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from chatkit.agents import AgentContext
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent

    from chatkit_clienttools._protocol.decide import Event

    from .rules import Rules
    from .step import Outcome

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""

PRINTABLE_ID = re.compile(r"[!-~]{1,200}")
"""Which ids of others may be those of a call: they are in the log, too."""


_current: ContextVar[Run | None] = ContextVar("chatkit_clienttools_run", default=None)


def current_run() -> Run | None:
    """Return the request that is being served here."""
    return _current.get()


class Run:
    """One streaming request: its step, the body that it may run, and the step that ends it."""

    def __init__(self, rules: Rules, posted: Posted) -> None:
        self.rules = rules
        self.posted = posted
        self.id = uuid4().hex
        self.message: str | None = None
        """The user's message, once it is stored."""
        self.thread_id: str | None = None
        self.is_open = False
        """Whether its body runs, and may ask for calls."""
        self.has_ended_well = False
        self.has_ended_early = False
        """Whether it was cut off, or has failed: what its body has started may go on for a while."""
        self.begun: Outcome | None = None
        self.queue = Queue(rules)
        self._steps: Steps | None = None
        self._store: Store[Any]
        self._thread: ThreadMetadata
        self._context: object = None
        self._may_hold_body = False
        self._turn: str | None = None

    def serving(self) -> AbstractContextManager[None]:
        """Let what runs inside find this request."""
        return setting(_current, self)

    def note(self, event: ThreadStreamEvent) -> None:
        """See which message the user has written: ChatKit stores and streams it before it calls `respond`."""
        match event:
            case ThreadItemDoneEvent(item=UserMessageItem(id=message)):
                self.message = message

    def event(self) -> Event:
        """What the request is, where nothing more has to be known of it."""
        match self.posted:
            case Posted.MESSAGE:
                return Wrote(self.message, by=self.id)
            case Posted.FORM:
                return FilledIn(by=self.id)
        return Acted()

    async def begin(
        self, store: Store[Any], thread_id: str, context: object, event: Event, *, with_thread: bool = False
    ) -> Outcome:
        """Take the step for what was posted."""
        self.thread_id, self._store, self._context = thread_id, store, context
        self._steps = Steps(self.rules, store, thread_id, context)
        self._may_hold_body = True
        try:
            self.begun = begun = await self._steps.take(event, with_thread=with_thread)
        except Exception:
            self._may_hold_body = self._steps.has_written
            raise
        plan = begun.after.at_rest
        self._may_hold_body = plan.body is not None and plan.body.by == self.id
        self.queue.open, self.queue.thread = plan.calls, self._shown
        # of a run that goes on after an answer it is the message of the calls, whatever the user has written since
        goes_on = self.posted in {Posted.ANSWER, Posted.RESUME}
        self._turn = self.message or (plan.turn if goes_on else None) or begun.after.message
        if self._turn is None and self.runs_body:
            before = plan.calls[-1].turn if plan.calls else plan.turn
            self._turn = await self._steps.newest_message() or before
        return begun

    @property
    def runs_body(self) -> bool:
        """Whether the application's `respond` or `action` has to run."""
        return self._may_hold_body or self.posted in {Posted.MESSAGE, Posted.FORM, Posted.OTHER}

    async def body(
        self, thread: ThreadMetadata, make: Callable[[], AsyncIterator[ThreadStreamEvent]]
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Yield what the body streams, but for the calls that it releases: those wait for its end."""
        self._thread = thread
        self.is_open = True
        events = make()
        try:
            async for event in events:
                if not self.queue.holds_back(event):
                    yield event
            self.queue.collect()
            self.has_ended_well = True
        finally:
            self.is_open = False
            self.has_ended_early = not self.has_ended_well
            await close(events)

    async def end(self) -> Outcome | None:
        """Take the step that ends a body, if there is anything to do in it."""
        steps, begun = cast("Steps", self._steps), cast("Outcome", self.begun)
        if not (self.queue.asked or self._may_hold_body or begun.after.next):
            return None
        calls = tuple([await self._planned(each) for each in self.queue.asked])
        # an action may do without the model
        sees = 0 if self.posted is Posted.OTHER else begun.after.answers
        outcome = await steps.take(Ended(self.id, sees=sees, calls=calls))
        self._may_hold_body = False
        return outcome

    def removed(self) -> list[str]:
        """The items that are gone, of which the browser has not heard; each is named once."""
        if self._steps is None:
            return []
        removed, self._steps.removed = self._steps.removed, []
        return removed

    async def give_back(self) -> None:
        """Say that the body is not at work any more, if others were told that it is."""
        if self._may_hold_body and self._steps is not None:
            self._may_hold_body = False
            try:
                await self._steps.take(Stopped(self.id))
            except Exception as error:  # noqa: BLE001  others may take the body for dead after a while
                why = type(error).__name__
                logger.warning("thread %s: a failed run still counts as running (%s)", self._shown, why)

    def leave(self) -> None:
        """Do the same without waiting: the request was cut off."""
        if self._may_hold_body:
            in_background(self.give_back())

    async def _planned(self, asked: Asked) -> PlannedCall:
        """Give a call the ids that it will have; the step replaces those that the thread already has."""
        tool = self.rules.tool(asked.call.name)
        self.rules.warn_about_unknown(asked.call.name)
        own_id = new_call_id()
        proposed = asked.item.call_id if asked.item else asked.tool_call_id if tool.answer_wanted else None
        return PlannedCall(
            id=own_id,
            name=asked.call.name,
            arguments=asked.call.arguments,
            base_item_id=await self._item_id(asked.item) or own_id,
            call_id=proposed if proposed and _is_usable(proposed) else own_id,
            wanted=tool.answer_wanted,
            required=tool.required,
            turn=self._turn,
            at=asked.at,
        )

    async def _item_id(self, item: ClientToolCallItem | None) -> str | None:
        if item is not None and _is_usable(item.id):
            known = await find_item(self._store, self._thread.id, item.id, self._context)
            if known is None:
                return item.id
        generated: str = self._store.generate_item_id("tool_call", self._thread, self._context)
        return generated

    @property
    def _shown(self) -> str:
        return printable(str(self.thread_id))


@contextmanager
def transaction(tool: str) -> Iterator[None]:
    """Take back what the code inside has asked for if it raises.

    The log says so, since the Agents SDK tells the model at most: the kind of the error, and not its text, which may
    quote what the user said.
    """
    invocation = Invocation(current_invocation.get())
    with setting(current_invocation, invocation):
        try:
            yield
        except BaseException as error:
            run = _current.get()
            taken_back = run.queue.take_back(invocation) if run else 0
            if taken_back or isinstance(error, Exception):
                logger.warning(
                    "thread %s: the tool %s raised %s; %d client tool calls of it are dropped%s",
                    printable(str(run and run.thread_id)),
                    tool,
                    type(error).__name__,
                    taken_back,
                    place_of(error),
                )
                logger.debug("where that was", exc_info=error)
            raise


def run_of(rules: Rules | None, context: AgentContext[Any]) -> Run:
    """Return the run that `context` belongs to, or say which line is missing."""
    run, thread_id = _current.get(), context.thread.id
    shown = printable(thread_id)
    if run is not None and run.has_ended_early:
        early = NotSequencedError(
            f"Thread {shown}: a client tool call is not queued. Its run was cut off before, by Stop or a lost "
            "connection, or has failed."
        )
        logger.info("%s", early.for_the_log)  # nobody's mistake: the SDK lets a tool go on
        raise early
    if run is not None and run.is_open and run.thread_id == thread_id and (rules is None or rules is run.rules):
        return run
    if run is None or run.thread_id is None:
        problem = (
            "No request to a ClientToolServer is being served here. Derive the server from ClientToolServer, call it "
            "through `process()`, and start threads with the context, as asyncio.to_thread does."
        )
    elif not run.is_open:
        problem = "The run has ended: a tool asks for client tools before it returns, not from a task that outlives it."
    elif run.thread_id != thread_id:
        problem = (
            f"The run that is open here is for thread {printable(run.thread_id)}: give the AgentContext the `thread` "
            "that `respond` was called with."
        )
    else:
        problem = (
            "The server has another ClientToolSequencer, or none: share one between the tools and the server, "
            "`client_tools = sequencer` in the body of the server's class."
        )
    raise log_and_return(NotSequencedError(f"Thread {shown}: a client tool call cannot be queued. {problem}"))


def _is_usable(other_id: str) -> bool:
    """Whether an id that somebody else has chosen can be that of a call."""
    return other_id not in FAKE_IDS and PRINTABLE_ID.fullmatch(other_id) is not None
