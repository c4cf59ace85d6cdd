"""What can be watched: one event for each step of each call, in the log and for observers.

Neither ever carries the arguments or the answer of a call: a log is read by people who may not see the chat.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from chatkit.errors import BaseStreamError

from .errors import ClientToolError, ThreadUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chatkit.types import ClientToolCallItem

    from ._protocol.plan import PlannedCall, Trace
    from ._protocol.states import State
    from .errors import UsageError

ErrorT = TypeVar("ErrorT", bound="UsageError")

EventT = TypeVar("EventT")

HERE = Path(__file__).parent
LIBRARY = Path(traceback.__file__).parent

logger = logging.getLogger("chatkit_clienttools")


@dataclass(frozen=True)
class LifecycleEvent:
    """One step in the life of one call."""

    thread_id: str
    call_id: str
    item_id: str
    tool: str
    position: int
    """Its place in the plan, from 0."""
    attempt: int
    """How often it has been sent, this time included; more than once if it was withdrawn or sent again."""
    previous: State | None
    """None for a call that has just been queued."""
    state: State
    waited_ms: int
    """How long it was in its previous state."""
    reason: str | None = None
    """Why it has failed."""


ToolState = Literal["waiting", "woken", "returned"]


@dataclass(frozen=True)
class ToolEvent:
    """A tool waits for the browser, is woken by an answer, or has returned."""

    thread_id: str
    call_id: str
    """The model's id of its call of the tool."""
    tool: str
    state: ToolState
    waits_for: str
    """The client tool that it has asked last."""
    waited_ms: int
    """How long ago the model called it."""


class Observer(Protocol):
    """Anything that can be called with an event. It must not block: it is called on the event loop."""

    def __call__(self, event: LifecycleEvent, /) -> None:
        """Take note of the event."""
        ...


class ToolObserver(Protocol):
    """Anything that can be called with an event of a tool that waits. It must not block either."""

    def __call__(self, event: ToolEvent, /) -> None:
        """Take note of the event."""
        ...


class Tracer(Protocol):
    """What makes spans: besides the events it gets what an observer does not, the contents of a call among it."""

    def here(self) -> str | None:
        """The request that is under way, as a W3C traceparent; None if nobody traces it."""
        ...

    def of_call(
        self, call: PlannedCall, item: ClientToolCallItem | None, trace: Trace | None, /
    ) -> Callable[[LifecycleEvent], None]:
        """Return what is told of a step of a call."""
        ...

    def of_tool(self, trace: Trace | None, /) -> Callable[[ToolEvent], None]:
        """Return what is told of a tool that has returned."""
        ...

    def of_plan(self, thread_id: str, /) -> Callable[[Trace], None]:
        """Return what is told of a plan in which no call is open any more, and no tool waits."""
        ...


def announce(event: LifecycleEvent, observers: Iterable[Observer]) -> None:
    """Log the event as one line, and tell the observers; one that raises does no harm."""
    level = logging.WARNING if event.reason else logging.INFO
    if logger.isEnabledFor(level):
        _log(event, level)
    tell(event, observers)


def _log(event: LifecycleEvent, level: int) -> None:
    fields: dict[str, Any] = {
        **vars(event),
        "previous": event.previous.value if event.previous else None,
        "state": event.state.value,
    }
    is_again = event.previous is event.state
    logger.log(
        level,
        "client tool call %s: %s -> %s%s (thread %s, item %s, tool %s, position %d, after %d ms)",
        printable(event.call_id),
        fields["previous"] or "new",
        "sent again" if is_again else fields["state"],
        f", {event.reason}" if event.reason else "",
        printable(event.thread_id),
        printable(event.item_id),
        event.tool,
        event.position,
        event.waited_ms,
        extra=fields,
    )


def announce_tool(event: ToolEvent, observers: Iterable[ToolObserver]) -> None:
    """Log what a tool does as one line, and tell the observers."""
    logger.info(
        "tool %s: %s (thread %s, call %s, last asked %s, %d ms after it was called)",
        event.tool,
        event.state,
        printable(event.thread_id),
        printable(event.call_id),
        event.waits_for,
        event.waited_ms,
        extra=vars(event),
    )
    tell(event, observers)


def tell(event: EventT, observers: Iterable[Callable[[EventT], None]]) -> None:
    """Tell the observers; one that raises does no harm."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            logger.exception("observer %r failed; the call goes on", observer)


def log_and_return(error: ErrorT) -> ErrorT:
    """Log a mistake in the backend's code that is about to be raised, and return it.

    It is raised in a function tool, and the Agents SDK turns what a tool raises into a text for the model: without the
    log nobody else would hear of it.
    """
    logger.error("%s", error.for_the_log)
    return error


def in_words(error: Exception, thread_id: str | None) -> BaseStreamError:
    """Return an error as one that ChatKit shows in the chat, and log it as one line.

    The line names the kind of the error and its place, and not what it says: that may quote what was to be written.
    """
    shown = printable(thread_id or "(new)")
    if isinstance(error, BaseStreamError):
        text = str(error) if isinstance(error, ClientToolError) else getattr(error, "message", None)
        logger.warning("thread %s: %s", shown, text or type(error).__name__)
        return error
    told = ThreadUnavailableError(thread_id, error)
    level = logging.WARNING if told.is_refusal else logging.ERROR
    logger.log(
        level,
        "thread %s: the request could not be carried out: %s%s; set this logger to DEBUG for the traceback",
        shown,
        told.reason,
        place_of(error),
    )
    logger.debug("thread %s: where that was", shown, exc_info=error)
    return told


def place_of(error: BaseException) -> str:
    """Say in which line of the application an error was raised, or came past last, in brackets.

    If it came past none, that is a line of a library; and nothing for an error of ours, which says what to do, or one
    that was never raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if HERE not in Path(frame.filename).parents]
    own = [frame for frame in theirs if not _is_in_library(frame.filename)]
    if isinstance(error, ClientToolError) and not own:
        return ""
    last = (own or theirs or frames)[-1:]
    return "".join(f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})" for frame in last)


def _is_in_library(filename: str) -> bool:
    """Whether a file is of Python or was installed, as a rule not by the application."""
    path = Path(filename)
    return LIBRARY in path.parents or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
