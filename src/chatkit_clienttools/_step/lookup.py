"""Where a tool finds the request that is being served: by the context it runs in (`contextvars`).

Not by the thread object: a store that hands out live references gives two requests the same one. Tools run in tasks and
threads that the body starts, and those inherit the context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext

from chatkit_clienttools.errors import NotSequencedError, printable
from chatkit_clienttools.observe import log_and_return, logger

from .requests import setting

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .body import RunningBody
    from .queued import Queue
    from .rules import Rules
    from .run import Run

_current: ContextVar[Run | None] = ContextVar("chatkit_clienttools_run", default=None)


def serving(run: Run) -> AbstractContextManager[None]:
    """Let what runs inside find this request."""
    return setting(_current, run)


def current_run() -> Run | None:
    """Return the request that is being served here."""
    return _current.get()


def current_body() -> RunningBody | None:
    """Return the body that runs here, or that has run last in this request."""
    run = _current.get()
    return run.body if run else None


def current_queue() -> Queue | None:
    """Return the calls that the body has asked for so far."""
    body = current_body()
    return body.queue if body else None


def open_body(rules: Rules, context: object) -> RunningBody | None:
    """Return the running body that `context` belongs to; None if a tool is used without a server."""
    body = current_body()
    is_served = body is not None and isinstance(context, AgentContext) and body.serves(rules, context.thread.id)
    return body if is_served else None


def body_of(rules: Rules | None, context: AgentContext[Any]) -> RunningBody:
    """Return the running body that `context` belongs to, or say which line is missing."""
    body, thread_id = current_body(), context.thread.id
    shown = printable(thread_id)
    if body is not None and body.has_ended_early:
        early = NotSequencedError(
            f"Thread {shown}: a client tool call is not queued. Its run was cut off before, by Stop or a lost "
            "connection, or has failed."
        )
        logger.info("%s", early.for_the_log)  # nobody's mistake: the SDK lets a tool go on
        raise early
    if body is not None and body.serves(rules, thread_id):
        return body
    if body is None:
        problem = (
            "No request to a ClientToolServer is being served here. Derive the server from ClientToolServer, call it "
            "through `process()`, and start threads with the context, as asyncio.to_thread does."
        )
    elif not body.is_open:
        problem = "The run has ended: a tool asks for client tools before it returns, not from a task that outlives it."
    elif body.run.thread_id != thread_id:
        problem = (
            f"The run that is open here is for thread {body.run.shown}: give the AgentContext the `thread` that "
            "`respond` was called with."
        )
    else:
        problem = (
            "The server has another ClientToolSequencer, or none: share one between the tools and the server, "
            "`client_tools = sequencer` in the body of the server's class."
        )
    raise log_and_return(NotSequencedError(f"Thread {shown}: a client tool call cannot be queued. {problem}"))
