"""What can go wrong, sorted by whose mistake it was.

`UsageError`: your code has to change. It is raised before anything is written. `LifecycleError`: a write would have
broken a client tool call; nothing was changed. `PlanError`: a stored queue cannot be used. `DamagedDocumentError`: an
item, thread or attachment in one of our stores cannot be read. `CallFailedError`, `CallExpiredError`,
`CallCancelledError` and `StepFailedError`: a tool that waits may catch them and go on. `InvalidRequestError`: the
request is wrong. `StoreUnavailableError` and `ThreadUnavailableError`: the database is away, restarts, or has too much
to do.

Errors carry their data as attributes, and never the arguments or the answer of a call; only `CallFailedError.report`
and `StepFailedError.text` repeat what somebody else has said, for the tool that catches them. Ids may come from the
browser: a message shows them with `printable`, so that none of them can forge a line of the log.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from chatkit.errors import CustomStreamError
from chatkit.store import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SHOWN = 200
"""How much is shown of a text that somebody else has chosen."""


def printable(text: str) -> str:
    """Return a text that somebody else has chosen, shortened and escaped so that it fits into one line."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


class ClientToolError(Exception):
    """The base class of all errors of this package."""


class UsageError(ClientToolError):
    """Your own code has to change; the message says what."""

    @property
    def for_the_log(self) -> str:
        """The message, without anything that a user may have said."""
        return str(self)


class NotSequencedError(UsageError):
    """A call was enqueued outside of a request to a `ClientToolServer`, or in one with another sequencer."""


class InvalidArgumentsError(UsageError):
    """The arguments of a client tool or effect do not fit what was declared for it."""

    def __init__(self, tool: str, problems: list[str], *, kind: str = "Client tool", kinds: Sequence[str] = ()) -> None:
        """Say which tool it is about and what is wrong with each field; `kinds` is what a log may hold of that."""
        self.tool = tool
        self.problems = problems
        self._kinds = kinds
        self._what = f"{kind} {tool!r} was called with wrong arguments"
        super().__init__(f"{self._what}: {'; '.join(problems)}")

    @property
    def for_the_log(self) -> str:
        """Only which fields, and the kind of problem: what is said of them may quote the value."""
        return f"{self._what}: {', '.join(self._kinds or [problem.split(':')[0] for problem in self.problems])}"


def not_json(tool: str, why: Mapping[str, str], *, kind: str = "Client tool") -> InvalidArgumentsError:
    """Return the error for arguments that are not JSON: why, by the name of each; a log has the names only."""
    said = [f"{name}: not JSON ({reason})" for name, reason in why.items()]
    return InvalidArgumentsError(tool, said, kind=kind, kinds=[f"{name} (not JSON)" for name in why])


class CallFailedError(ClientToolError):
    """Raised by `ask` if the browser reported an error, or its answer does not fit the declared result."""

    def __init__(self, tool: str, reason: str, report: str | None = None) -> None:
        """Name the client tool and why it failed; `report` is what the browser said, which nobody has checked."""
        self.tool = tool
        self.reason = reason
        self.report = report
        super().__init__(f"Client tool {tool!r} has failed: {reason}")


class CallExpiredError(CallFailedError):
    """Raised by `ask` if the browser has not answered in time: `ClientTool(expires_after=...)`."""

    def __init__(self, tool: str) -> None:
        """Name the client tool."""
        super().__init__(tool, "expired")


class CallCancelledError(ClientToolError):
    """Raised by `ask` if its call was cancelled, for example because the user wrote something else."""

    def __init__(self, tool: str) -> None:
        """Name the client tool."""
        self.tool = tool
        super().__init__(f"The call of client tool {tool!r} was cancelled before it was answered")


class StepFailedError(ClientToolError):
    """Raised by `step` if its function raised, now or when it was called earlier. The function is not called again."""

    def __init__(self, step: str, kind: str, text: str) -> None:
        """Name the function, the kind of its error, and what that said."""
        self.step = step
        self.kind = kind
        self.text = text
        super().__init__(f"The step {step} has raised {kind}: {text}")


class ReplayMismatchError(UsageError):
    """A waiting tool did something else when its function ran again. The tool ends, and the model is told."""

    def __init__(self, tool: str, position: int, recorded: str, does: str) -> None:
        """Name the tool, the position in its journal, what is recorded there and what the body does now."""
        self.tool = tool
        self.position = position
        self.recorded = recorded
        self.does = does
        super().__init__(
            f"The tool {tool} waited, and its body has changed: number {position + 1} of what it asks for and does in "
            f"steps was `{recorded}`, and now is `{does}`. Its code was changed, or depends on something else than its "
            "arguments, answers and steps, as the time or chance: move that into a step."
        )


class QueueFullError(UsageError):
    """A thread would hold more calls, or larger ones, than the sequencer allows."""


class SchemaVersionError(UsageError):
    """The tables of a database are missing, or of a version that this package does not know."""


class InvalidRequestError(ClientToolError, ValueError):
    """The request is not a ChatKit request. Nothing was done. Answer it with a status of 400."""

    def __init__(self, problems: list[str], *, field: str | None = None) -> None:
        """Say what is wrong with the request, and name the (first) field that it is about."""
        self.problems = problems
        self.field = field
        super().__init__(f"This is not a ChatKit request: {'; '.join(problems)}")


class LifecycleError(ClientToolError):
    """A client tool call would have changed in a way that its state does not allow."""


class IllegalTransitionError(LifecycleError):
    """The table of transitions has no such change."""

    def __init__(self, state: str, becomes: str) -> None:
        """Name the state that the call is in and the one that it cannot get from there."""
        self.state = state
        self.becomes = becomes
        super().__init__(f"A client tool call that is {state} cannot become {becomes}")


class LifecycleViolationError(LifecycleError):
    """A write to the store would have broken the pending/completed lifecycle; it was not made."""

    def __init__(self, thread_id: str, item_id: str, call_id: str, *, was: str, becomes: str, cure: str) -> None:
        """Name thread and call, the state it is in, the one it was to get, and what to do instead."""
        self.thread_id = thread_id
        self.item_id = item_id
        self.call_id = call_id
        self.was = was
        self.becomes = becomes
        self.cure = cure
        super().__init__(
            f"Thread {printable(thread_id)}, client tool call {printable(call_id)} (item {printable(item_id)}): "
            f"{was} -> {becomes} is not allowed. {cure}"
        )


class PlanError(ClientToolError, CustomStreamError):
    """A thread's queue cannot be used. ChatKit shows `message` in the chat; the text of the error is for the log."""

    def __init__(self, thread_id: str, problem: str, *, message: str | None = None) -> None:
        """Name the thread, what is wrong with its plan, and how to get the thread going again."""
        self.thread_id = thread_id
        self.problem = problem
        text = f"The queue of client tool calls of thread {printable(thread_id)} {problem}"
        CustomStreamError.__init__(self, message or text, allow_retry=False)
        self.args = (text,)


class DamagedPlanError(PlanError):
    """The stored plan is damaged, or was written in a format this version does not know."""

    def __init__(self, thread_id: str, reason: str) -> None:
        """Say what was found, and that nothing was changed."""
        self.reason = reason
        super().__init__(
            thread_id,
            f"cannot be read: {reason}. Nothing was changed. Upgrade chatkit-clienttools if a newer version wrote it; "
            f"otherwise `await sequencer.cancel(store, '{printable(thread_id)}', context)` drops it.",
            message="What the server keeps of this conversation is damaged. Its operator can repair it.",
        )


class ContendedPlanError(PlanError):
    """Other writers changed a plan again and again while one change to it was tried."""

    def __init__(self, thread_id: str, attempts: int) -> None:
        """Say how often it was tried."""
        self.attempts = attempts
        super().__init__(thread_id, f"was changed by others {attempts} times while it was to be written. Try again.")


class ThreadUnavailableError(ClientToolError, CustomStreamError):
    """A thread could not be read or written. ChatKit shows the message in the chat instead of breaking the stream."""

    def __init__(self, thread_id: str | None, error: Exception) -> None:
        """Say it to the person in front of the browser; thread and reason are for the log."""
        self.thread_id = thread_id
        # what a database says of an error may quote what was to be written
        self.reason = str(error) if isinstance(error, ClientToolError) else type(error).__name__
        self.is_refusal = isinstance(error, NotFoundError) or _is_chatkits_own(error)
        if isinstance(error, NotFoundError):
            message = "This conversation, or a part of it, does not exist (any more)."
        elif isinstance(error, LifecycleError) or self.is_refusal:
            message = "This step does not fit the conversation any more. Reload the page."
        else:
            message = "The server could not do this just now. Try again in a moment."
        is_passing = not (self.is_refusal or isinstance(error, LifecycleError))
        CustomStreamError.__init__(self, message, allow_retry=is_passing)
        self.args = (message,)


def _is_chatkits_own(error: Exception) -> bool:
    """Whether ChatKit itself has refused what was posted, as a retry of an item that is no message."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return type(error) is ValueError and bool(frames) and frames[-1][0].f_globals.get("__name__") == "chatkit.server"


class DamagedDocumentError(ClientToolError):
    """ChatKit cannot read an item, a thread or an attachment that a store holds."""

    def __init__(self, kind: str, key: str, reason: str) -> None:
        """Name what cannot be read and why, without what is in it."""
        self.kind = kind
        self.key = key
        self.reason = reason
        super().__init__(
            f"{kind} {printable(key)} is stored, but cannot be read: {printable(reason)}. Nothing was changed. "
            "Upgrade openai-chatkit if a newer version wrote it; otherwise somebody has changed the row."
        )


class ThreadExistsError(UsageError):
    """A new thread has the id of another thread. Nothing was changed."""

    def __init__(self, thread_id: str) -> None:
        """Name the thread and what to do instead."""
        self.thread_id = thread_id
        super().__init__(
            f"Thread {printable(thread_id)} is stored already, with another created_at: it is another thread, and "
            "nothing was changed. Take the id of a new thread from store.generate_thread_id(context); to change a "
            "thread, save what load_thread has returned."
        )


class StoreUnavailableError(ClientToolError):
    """A database did not answer within the time limit, or reported an error."""

    def __init__(self, tried: str, database: str, time_limit: float, reason: str) -> None:
        """Name what was tried, where (without user and password), for how long, and what came of it."""
        self.tried = tried
        self.database = database
        self.time_limit = time_limit
        self.reason = reason
        super().__init__(
            f"Could not {printable(tried)} in {database} (time limit {time_limit:g} s): {printable(reason)}. "
            "A write that was under way was made as a whole or not at all: load before you write again."
        )
