"""The body of a tool that waits for the browser: it runs again from the top after each answer.

A tool of the Agents SDK cannot be suspended, and a process may end while the browser takes its time. So the body runs
as far as its first `ask` that has no answer, and unwinds. The answer wakes it, in whatever process it arrives: the body
begins again, and each `ask` and `step` that is in its journal returns at once what it returned before. What the body
streams on the way was streamed before, and is not streamed again.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import json
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from chatkit_clienttools._protocol.plan import Entry, WaitingTool
from chatkit_clienttools.answers import has_expired
from chatkit_clienttools.errors import (
    CallCancelledError,
    CallExpiredError,
    CallFailedError,
    ClientToolError,
    QueueFullError,
    ReplayMismatchError,
    StepFailedError,
    UsageError,
)
from chatkit_clienttools.observe import log_and_return, logger
from chatkit_clienttools.receipts import answer_of, new_ask_id

from .functions import run_function, type_of_result
from .queued import transaction
from .suspension import Suspended, failures_as_exceptions, is_suspension

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from chatkit.agents import AgentContext, ClientToolCall
    from chatkit.types import ClientToolCallItem

    from .body import RunningBody
    from .gated import GatedTool

T = TypeVar("T")

CODE_HAS_CHANGED = "The code of this tool has changed while it waited."
"""What the model is told of a tool whose body does something else on replay."""

MAX_CANCELLED = 100
"""How often a body may ask for something that is cancelled at once, because the user has written."""

current_replay: ContextVar[Replay | None] = ContextVar("chatkit_clienttools_replay", default=None)


class Replay:
    """One run of the body of a tool: from the top, with what its journal holds."""

    def __init__(
        self,
        tool: GatedTool,
        within: RunningBody,
        waiting: WaitingTool,
        answers: Mapping[str, ClientToolCallItem] | None = None,
        *,
        is_nested: bool = False,
    ) -> None:
        self.tool = tool
        self.rules = within.rules
        self.waiting = waiting
        self.is_waiting = False
        """Whether the body waits for an answer."""
        self.has_run = False
        self.has_ended = False
        """Whether the body has returned or raised."""
        self.output: str | None = None
        """What the model gets to read, as JSON."""
        self.context: AgentContext[Any] | None = None
        """The context that it runs with."""
        self.failure: Exception | None = None
        """Why a step could not be recorded: the request fails, and not the tool."""
        self._within = within
        self._answers = answers or {}
        self._is_nested = is_nested
        self._journal = list(waiting.journal)
        self._position = 0
        self._called: deque[tuple[str, Coroutine[Any, Any, Any]]] = deque()
        """Each `ask(...)` and `step(...)` of the body, which has to await it."""
        self._is_busy = False
        self._is_cut_off = False
        self._cancelled = 0
        self._result: Any = None
        self._error: Exception | None = None

    @property
    def is_silent(self) -> bool:
        """Whether what the body streams was streamed before, or is streamed on its way out."""
        return self.is_waiting or self._position < len(self.waiting.journal)

    @property
    def as_it_waits(self) -> WaitingTool:
        """The tool with all that it has done so far."""
        return self.waiting.but(journal=tuple(self._journal))

    def begin(self, context: AgentContext[Any]) -> None:
        """Begin with a context; what stands in its slot by now is of another tool, and not taken back with this one."""
        self.context = context
        self._within.queue.enqueue(context, ())

    async def go(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function; return or raise what came of it if it has come to its end before."""
        if self.has_ended:
            if self._error is not None:
                raise self._error
            return self._result
        self.has_run = True
        try:
            with transaction(self.tool.name, self._within.queue), failures_as_exceptions():
                self._result = await self.tool.call(args, kwargs)
                self._check_that_it_may_return()
        except Exception as error:  # noqa: BLE001  it is raised again where the Agents SDK expects it
            forgotten = self._unawaited()
            if forgotten and not isinstance(error, ClientToolError):  # a coroutine was taken for an answer, it seems
                self._error = self._error or self._without_await(forgotten[0])
            self._error = self._error or error
        except BaseException as error:
            self._unawaited()
            if not is_suspension(error):
                raise
            if self._error is None:
                return None
        self._come_to_the_end()
        return None

    def to_be_awaited(self, name: str, called: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return an `ask(...)` or `step(...)` as it is, and see at the end that the body has awaited it."""
        self._called.append((name, called))
        return called

    def _check_that_it_may_return(self) -> None:
        """Raise if the body has returned though it waits, or has asked for less than before, or was refused."""
        if self._error is not None:
            raise self._error
        if forgotten := self._unawaited():
            raise self._without_await(forgotten[0])
        if self.is_waiting:
            raise log_and_return(UsageError(f"The tool {self.tool.name} {_SWALLOWED}"))
        if self._position < len(self.waiting.journal):
            raise self._mismatch("return")

    def _unawaited(self) -> list[str]:
        """Close each `ask(...)` and `step(...)` that nobody has awaited; what was called later may be yet."""
        names = []
        while self._called and (state := inspect.getcoroutinestate(self._called[0][1])) != inspect.CORO_RUNNING:
            name, called = self._called.popleft()
            if state == inspect.CORO_CREATED:
                called.close()
                names.append(name)
        return names

    def _without_await(self, name: str) -> UsageError:
        problem = f"has called {name} without waiting: write `await` before it"
        return log_and_return(UsageError(f"The tool {self.tool.name} {problem}"))

    def _come_to_the_end(self) -> None:
        """Note what has come of the body."""
        if self.is_waiting:
            self._within.queue.forget(self._journal.pop().call)
        self.is_waiting, self.has_ended = False, True
        if isinstance(self._error, ReplayMismatchError):
            self._result, self._error = CODE_HAS_CHANGED, None

    async def ask(self, ctx: object, context: AgentContext[Any], call: ClientToolCall) -> Any:
        """Return the answer to a call, or wait for it."""
        with self._alone(ctx, "ask()"):
            taken = self._within.queue.measured(call)
            key = hashlib.sha256(json.dumps(taken.arguments, sort_keys=True).encode()).hexdigest()[:16]
            entry = self._next("ask", taken.name, key)
            if entry is None and self.waiting.is_cancelled and not self.rules.tool(call.name).required:
                self._check_that_it_gives_up()
                entry = self._add(Entry(kind="ask", name=call.name, key=key, is_cancelled=True))
            if entry is None:
                self._check_that_it_can_wait(context)
                self._make_room_for_the_tool()
                ask_id = new_ask_id()
                self._within.queue.await_answer(context, taken, ask_id, self.waiting.id)
                self._add(Entry(kind="ask", name=call.name, key=key, call=ask_id))
                self.is_waiting = True
                raise Suspended
            return self._answer_to(entry)

    def _answer_to(self, entry: Entry) -> Any:
        """Return an answer as its tool's type, or raise that the call has failed, has expired or was cancelled."""
        if entry.item_id is None:
            raise CallCancelledError(entry.name)
        item = self._answers.get(entry.item_id)
        if item is None:
            thread, name = self._within.queue.thread, self.tool.name
            logger.warning("thread %s: an answer that %s has had is gone, and counts as cancelled", thread, name)
            raise CallCancelledError(entry.name)
        tool, answer = self.rules.tool(item.name), answer_of(item)
        if has_expired(answer):
            raise CallExpiredError(item.name)
        if problem := tool.problem_with(answer):
            raise CallFailedError(item.name, problem, tool.report_in(answer))
        return tool.read(answer)

    async def step(
        self, ctx: object, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the result of a function that runs once, whatever happens to the body."""
        if not callable(function):
            what = "a coroutine" if inspect.iscoroutine(function) else type(function).__name__
            if inspect.iscoroutine(function):
                function.close()
            raise log_and_return(
                UsageError(f"step() takes a function, not {what}: step(ctx, function, argument), without calling it")
            )
        with self._alone(ctx, "step()"):
            target = function.func if isinstance(function, functools.partial) else function
            name = getattr(target, "__qualname__", type(target).__qualname__)
            adapter = type_of_result(name, target)
            cause: Exception | None = None
            entry = self._next("step", name)
            if entry is None:
                try:
                    entry, cause = await run_function(name, function, args, kwargs, adapter)
                except UsageError as error:
                    self._refuse(error)  # it was taken, and is in no journal
                self._make_room_for(entry)
                self._add(entry)
                await self._record()
            if entry.error is not None:
                raise StepFailedError(name, *entry.error) from cause
            return self._result_in(entry, adapter)

    def _make_room_for_the_tool(self) -> None:
        """Count what the model has called a tool with, before it asks for the first time."""
        if not self.waiting.journal:
            self._within.queue.make_room(len(self.waiting.arguments.encode()))

    def _make_room_for(self, entry: Entry) -> None:
        """Count a step for the limits; one that is too large ends the tool, since it could not be played again."""
        try:
            self._within.queue.make_room(len(entry.model_dump_json().encode()))
        except QueueFullError as error:
            self._refuse(error)

    def _result_in(self, entry: Entry, adapter: TypeAdapter[Any]) -> Any:
        """Return the result of a step as its declared type."""
        try:
            return adapter.validate_json(cast("str", entry.result))  # one that has not raised has returned
        except ValidationError:
            self._position -= 1
            self._refuse(self._mismatch(f"step {entry.name} with another type of result"))

    def cut_off(self) -> None:
        """Let nothing more be asked or done: what the body does from here on is on its way out."""
        self._is_cut_off = True

    def raise_failure(self) -> None:
        """Raise what has kept the store from recording a step, if anything has."""
        if self.failure is not None:
            raise self.failure

    async def _record(self) -> None:
        """Record the step that was taken; the body ends here if it must not go on with it."""
        try:
            is_recorded = await self._within.record(self)
        except Exception as error:  # noqa: BLE001  it is no error of the body, which may catch it
            self.failure, is_recorded = error, False
        if not is_recorded:
            raise Suspended

    def refuse_inside_a_step(self, what: str) -> None:
        """Refuse what would not happen again when the body does, since the step does not."""
        if self._is_busy:
            self._refuse(log_and_return(UsageError(f"{what} in the tool {self.tool.name}: not inside a step")))

    @contextmanager
    def _alone(self, ctx: object, what: str) -> Iterator[None]:
        """Refuse what cannot be replayed: two things at once, on the way out, and from a tool inside this one."""
        if getattr(ctx, "tool_call_id", self.waiting.call_id) != self.waiting.call_id:
            raise log_and_return(
                UsageError(
                    f"{what} was called with the context of another tool than {self.tool.name}: give it the `ctx` that "
                    "the body itself gets"
                )
            )
        if self._is_cut_off:
            cut_off = UsageError(f"{what} in the tool {self.tool.name} {_CUT_OFF}")
            logger.info("%s", cut_off.for_the_log)  # after Stop it is nobody's mistake
            self._refuse(cut_off)
        if self._is_busy or self.is_waiting:
            self._refuse(log_and_return(UsageError(f"{what} in the tool {self.tool.name} {_NOT_ALONE}")))
        if forgotten := self._unawaited():
            self._refuse(self._without_await(forgotten[0]))
        self._is_busy = True
        try:
            yield
        except asyncio.CancelledError:
            self.cut_off()
            raise
        finally:
            self._is_busy = False

    def _next(self, kind: str, name: str, key: str = "") -> Entry | None:
        """Return the next line of the journal if this is what it says; None if the journal is at its end."""
        if self._position == len(self._journal):
            return None
        entry = self._journal[self._position]
        if (entry.kind, entry.name, entry.key) != (kind, name, key):
            what = " with other arguments" if (entry.kind, entry.name) == (kind, name) else ""
            self._refuse(self._mismatch(f"{kind} {name}{what}"))
        self._position += 1
        return entry

    def _add(self, entry: Entry) -> Entry:
        self._journal.append(entry)
        self._position += 1
        return entry

    def _mismatch(self, does: str) -> ReplayMismatchError:
        entry = self._journal[self._position]
        error = ReplayMismatchError(self.tool.name, self._position, f"{entry.kind} {entry.name}", does)
        return log_and_return(error)

    def _refuse(self, error: Exception) -> NoReturn:
        """End the tool with an error, also if its body catches this."""
        self._error = self._error or error
        raise error

    def _check_that_it_gives_up(self) -> None:
        """End a body that asks for ever, though whatever it asks for is cancelled."""
        self._cancelled += 1
        if self._cancelled > MAX_CANCELLED:
            self._error = self._error or log_and_return(UsageError(f"The tool {self.tool.name} {_NEVER_GIVES_UP}"))
            raise Suspended

    def _check_that_it_can_wait(self, context: AgentContext[Any]) -> None:
        name, problem = self.tool.name, self._within.problem_with(context)
        if self._is_nested:
            problem = (
                "is part of an agent that is used as a tool, whose run would not be there any more: run the outer "
                "agent with `sequencer.run_streamed(agent, history, context=...)`, in the place of "
                "`Runner.run_streamed`"
            )
        elif self.rules.gated.get(name) is not self.tool:
            problem = (
                "is not the only one of that name: give it another one, name_override=..., and define it once, not in "
                "a function that is called for each request"
            )
        if problem:
            raise log_and_return(UsageError(f"The tool {name} cannot wait for the browser. It {problem}"))


_NOT_ALONE = (
    "was called while another ask() or step() is under way: call one after the other, not in asyncio.gather, not "
    "inside a step, and not in a `finally` once the tool waits. What is to run at once can be one step."
)
_CUT_OFF = (
    "was called after an ask() or step() before it was cut off, by Stop, by a lost connection, or by a timeout around "
    "it. Nothing more is asked or done in this run of the body. A timeout belongs inside the function of a step."
)
_SWALLOWED = (
    "has caught what ends its body while it waits. Nothing may catch BaseException around ask(), as a bare `except:` "
    "does, or a `return` in a `finally`, and ask() may not run in a task of its own."
)
_NEVER_GIVES_UP = (
    f"has asked {MAX_CANCELLED} times more after the user has written. Whatever it asks for then is cancelled: it has "
    "to come to its end when it catches CallCancelledError."
)
