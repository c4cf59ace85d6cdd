"""`ClientToolSequencer`: queue any number of client tool calls, release them one by one, and let tools await them."""

from __future__ import annotations

import functools
import inspect
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

import agents
from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientToolCallItem
from typing_extensions import ParamSpec

from ._protocol.decide import Cancelled, Expired
from ._protocol.states import State
from ._step.gated import GatedTool
from ._step.lookup import body_of, current_queue
from ._step.queued import transaction
from ._step.replay import current_replay
from ._step.rules import Rules
from ._step.step import Steps
from ._step.streamed import StreamedRun
from ._step.suspension import without_stop_iteration
from .errors import DamagedPlanError, UsageError, printable
from .observe import log_and_return, logger
from .receipts import STAMPS
from .tools import Call, ClientTool, agent_context_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from contextlib import AbstractAsyncContextManager

    from agents import Agent, RunContextWrapper, RunResultStreaming
    from agents.tool import ToolFunction
    from chatkit.store import Store

    from ._protocol.plan import PlannedCall, WaitingTool
    from ._step.replay import Replay
    from ._step.step import Outcome
    from .observe import Observer, ToolObserver

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
TContext = TypeVar("TContext")
TAgentContext = TypeVar("TAgentContext", bound=AgentContext[Any])
"""A context of any subclass: `RunContextWrapper` is invariant, so `RunContextWrapper[AgentContext]` would refuse it."""

MIN_ANSWER_BYTES = 1024
"""How small the limit of an answer may be."""


@dataclass(frozen=True)
class CallSnapshot:
    """One call of a thread's plan, as a support page shows it: without its arguments and its answer."""

    name: str
    call_id: str
    item_id: str
    state: State
    since: datetime
    """When it was released if it is pending, or asked for if it waits (UTC)."""
    answer_wanted: bool
    required: bool
    awaited_by: str | None = None
    """The tool that awaits its answer: its call of the model, as in `ToolSnapshot.call_id`."""
    expires_at: datetime | None = None
    """When its time is over (UTC), once it was sent, if its tool says `expires_after`."""


@dataclass(frozen=True)
class ToolSnapshot:
    """One tool that waits for the browser, as a support page shows it: without its arguments and its steps."""

    name: str
    call_id: str
    """The model's id of its call of the tool."""
    since: datetime
    """When the model called it (UTC)."""
    waits_for: str | None
    """The client tool whose answer it awaits; None if it can go on, or goes on at this moment."""
    asked: int
    """How many client tools it has asked for so far."""
    steps: int
    """How many steps it has taken so far."""


class ClientToolSequencer:
    """Queues client tool calls and releases them one per run, in order, through ChatKit's own slot.

    The tools (`enqueue`) and the server (`client_tools = sequencer`) share one sequencer. It serves every thread.

    Args:
        tools: The declared tools. A call by another name is released as well, and its answer goes to the model.
        on_user_message: What happens to open calls when the user writes: "cancel" cancels them, except the required
            ones; "keep" keeps them, the pending one included.
        on_failure: What happens to the calls after one that failed: "continue" releases them, "abort" cancels them,
            except the required ones.
        max_queued: How many calls may be open in a thread.
        max_bytes: How large they may be, together, as JSON: they are loaded with every request.
        max_answer_bytes: How large the request may be in which the browser answers. The call of a larger one has
            failed, and as a rule no more than its beginning is read.
        max_media_bytes: How much larger it may be for a tool whose result has a `ClientImage` or `ClientFile`.
        receipts: Whether each call's params carry a receipt under `_receipt`, so that an answer says which call it is
            for. The frontend wraps its handler with `withReceipts`. An async tool made with `function_tool` turns them
            on: it may ask, and a repeated answer must not be taken for the next one.
        locks_thread: Whether the page shows a thread as locked, so that the user cannot write, while the browser has a
            call of it; or the text that the composer shows meanwhile. Use it with `ClientTool(expires_after=...)`.
        lock: A function that takes a thread id and returns an async context manager: a lock that all workers share, for
            a store without plans of its own. It is held for a moment for each step and for each save of a thread; do
            not hold it yourself while you save a thread.
        answers: Makes an answer of what the page has posted, for pages that wrap it. An error is `{"error": "..."}`.
        observers: Called with a `LifecycleEvent` for each step of each call.
        tool_observers: Called with a `ToolEvent` when a tool waits for the browser, is woken, and has returned.
        clock: The time in seconds since the epoch.
    """

    def __init__(
        self,
        tools: Iterable[ClientTool[..., Any]] = (),
        *,
        on_user_message: Literal["cancel", "keep"] = "cancel",
        on_failure: Literal["continue", "abort"] = "continue",
        max_queued: int = 64,
        max_bytes: int = 256 * 1024,
        max_answer_bytes: int = 1024 * 1024,
        max_media_bytes: int = 8 * 1024 * 1024,
        receipts: bool = False,
        locks_thread: bool | str = False,
        lock: Callable[[str], AbstractAsyncContextManager[Any]] | None = None,
        answers: Callable[[Any], Any] = lambda result: result,
        observers: Iterable[Observer] = (),
        tool_observers: Iterable[ToolObserver] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        _one_of("on_user_message", on_user_message, ("cancel", "keep"))
        _one_of("on_failure", on_failure, ("continue", "abort"))
        if max_queued < 1:
            raise UsageError(f"max_queued must be at least 1, not {max_queued}")
        if max_answer_bytes < MIN_ANSWER_BYTES:
            raise UsageError(
                f"max_answer_bytes must be at least {MIN_ANSWER_BYTES}, not {max_answer_bytes}: an empty answer takes "
                "that with its request"
            )
        self.rules = Rules(
            tools=_by_name(tools),
            on_user_message=on_user_message,
            on_failure=on_failure,
            max_queued=max_queued,
            max_bytes=max_bytes,
            max_answer_bytes=max_answer_bytes,
            max_media_bytes=max_media_bytes,
            receipts=receipts,
            locks_thread=locks_thread,
            answers=answers,
            lock=_factory_of_locks(lock),
            observers=_synchronous("observers", observers),
            tool_observers=_synchronous("tool_observers", tool_observers),
            clock=clock,
        )

    @property
    def tools(self) -> tuple[ClientTool[..., Any], ...]:
        """The declared tools, in the order in which they were given."""
        return tuple(self.rules.tools.values())

    def tool(self, name: str) -> ClientTool[..., Any]:
        """Return the declared tool of that name, or one that takes any answer."""
        return self.rules.tool(name)

    def enqueue(self, ctx: RunContextWrapper[TAgentContext] | AgentContext[Any], *calls: ClientToolCall) -> None:
        """Ask for `calls`, in order. They are released one by one once the run has ended well.

        Raises at once, with nothing queued: `NotSequencedError` where no request to a `ClientToolServer` is being
        served, `InvalidArgumentsError` for arguments that are not JSON, `QueueFullError` for too many or too much.
        """
        for call in calls:
            self._check("enqueue()", call)
        if running := current_replay.get():
            running.refuse_inside_a_step("enqueue()")
        context = agent_context_of(ctx)
        body_of(self.rules, context).queue.enqueue(context, calls, getattr(ctx, "tool_call_id", None))

    @overload
    def function_tool(self, function: ToolFunction[...], /) -> FunctionTool: ...
    @overload
    def function_tool(self, /, **options: Any) -> Callable[[ToolFunction[...]], FunctionTool]: ...
    def function_tool(
        self, function: ToolFunction[...] | None = None, /, **options: Any
    ) -> FunctionTool | Callable[[ToolFunction[...]], FunctionTool]:
        """Make a tool of a function, as `agents.function_tool` does and with its options: a tool that is a transaction.

        If the function raises, what it has enqueued is dropped, and the log says so. The model is told to try again by
        the Agents SDK, and the retry would otherwise ask for everything twice.
        """

        def decorate(function: ToolFunction[...]) -> FunctionTool:
            _refuse_context_without_type(function)
            if not inspect.iscoroutinefunction(function):
                tool = agents.function_tool(_as_transaction(function), **options)
                self.rules.cannot_wait[tool.name] = "is not async"
                return tool
            return GatedTool(self.rules, function, options).tool

        if isinstance(function, FunctionTool):
            raise UsageError(
                f"{function.name} is a tool already: put `@sequencer.function_tool` in the place of `@function_tool`"
            )
        return decorate if function is None else decorate(function)

    # no `async def`: a coroutine that nobody awaits is found when the tool returns
    def ask(self, ctx: RunContextWrapper[TAgentContext] | AgentContext[Any], call: Call[R]) -> Coroutine[Any, Any, R]:
        """Ask the browser, and wait for its answer: return it as the tool's result type.

        The body of the tool ends here if there is no answer yet, and begins again from the top when it has come, in
        whatever process. Then everything up to here runs once more, except what is inside `step`.

        Raises `CallFailedError` if the browser reports an error or an answer that does not fit, `CallExpiredError`,
        which is one, if it has not answered in time, and `CallCancelledError` if the user has written meanwhile. The
        body may catch them.
        """
        context = agent_context_of(ctx)
        self._check("ask()", call)
        if call.name not in self.rules.tools:
            problem = "is not in the list that the ClientToolSequencer was given: add it, so that its answer is checked"
            raise log_and_return(UsageError(f"ask(): client tool {printable(call.name)!r} {problem}"))
        running = self._replay(ctx, context)
        return running.to_be_awaited("ask(...)", running.ask(ctx, context, call))

    @overload
    def step(
        self,
        ctx: RunContextWrapper[TAgentContext] | AgentContext[Any],
        function: Callable[P, Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        ctx: RunContextWrapper[TAgentContext] | AgentContext[Any],
        function: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, T]: ...
    def step(
        self,
        ctx: RunContextWrapper[TAgentContext] | AgentContext[Any],
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a function once, however often the body of the tool runs, and return its result.

        The result is kept as JSON, by the type that the function says it returns: also the first time, so that you see
        at once what comes back. A function that is not async runs in a thread. If it raises, `step` raises
        `StepFailedError`, each time.
        """
        running = self._replay(ctx, agent_context_of(ctx))
        return running.to_be_awaited("step(...)", running.step(ctx, function, args, kwargs))

    def run_streamed(
        self, agent: Agent[TAgentContext], history: Any, *, context: TAgentContext, **options: Any
    ) -> RunResultStreaming:
        """Run an agent as `Runner.run_streamed` does, and keep the state of the run while its tools wait.

        For `stream_agent_response(context, result)`. With it an agent that is used as a tool may ask the browser; after
        a handoff the agent goes on that had taken over; and the model reads what other tools have returned beside the
        one that waited. The state counts for `max_bytes`.
        """
        # what it streams is all that ChatKit looks at, and it has what a result has once it has begun
        return cast("RunResultStreaming", StreamedRun(self.rules, agent, history, context, options))

    async def snapshot(self, store: Store[TContext], thread_id: str, context: TContext) -> tuple[CallSnapshot, ...]:
        """Tell what a thread's queue looks like: every call of its plan with its state, in order.

        A call whose time is over is ended first, as by `expire`.
        """
        return await self._report(self._steps(store, thread_id, context))

    async def waiting_tools(
        self, store: Store[TContext], thread_id: str, context: TContext
    ) -> tuple[ToolSnapshot, ...]:
        """Tell which tools of a thread wait for the browser, since when, and for what."""
        thread, _ = await self._steps(store, thread_id, context).look()
        return tuple(_tool_snapshot(tool) for tool in thread.tools)

    async def cancel(
        self, store: Store[TContext], thread_id: str, context: TContext, *, required: bool = False
    ) -> tuple[CallSnapshot, ...]:
        """Cancel what is open in a thread, and return those calls as they were.

        A pending call is removed from the store; a browser that has it hears of that with the next load, or at once if
        an `action` yields a `ThreadItemRemovedEvent` for it. Required calls stay and go out with the next run, unless
        `required` says that they are cancelled as well. A plan that cannot be read is dropped.
        """
        steps = self._steps(store, thread_id, context)
        try:
            outcome = await steps.take(Cancelled(required))
        except DamagedPlanError as error:
            logger.warning("thread %s: its unreadable plan is dropped (%s)", printable(thread_id), error.reason)
            await steps.drop_damaged()
            outcome = await steps.take(Cancelled(required))
        before = outcome.before
        stays = {call.id for call in outcome.after.at_rest.calls if call.attempt == 1 or call in before.plan.calls}
        return self._ended(outcome, stays)

    async def expire(self, store: Store[TContext], thread_id: str, context: TContext) -> tuple[CallSnapshot, ...]:
        """End the call of a thread that the browser has had for too long, and return what has ended, as it was.

        To be called from time to time for threads that nobody may come back to; every request on a thread does the same
        first. The call has failed, and with `on_failure="abort"` those behind it are cancelled. Nobody is there to go
        on: the next call, a tool that waits and the model get their turn with the next request on the thread.
        """
        outcome = await self._steps(store, thread_id, context).take(Expired())
        return self._ended(outcome, {call.id for call in outcome.after.at_rest.calls})

    def _ended(self, outcome: Outcome, stays: set[str]) -> tuple[CallSnapshot, ...]:
        """Show the open calls that have ended in a step, as they were."""
        before, has_failed = outcome.before, self.rules.policy.has_failed
        return tuple(
            _snapshot(call, before.state_at(n, has_failed), before.since(call))
            for n, call in enumerate(before.plan.calls)
            if n >= before.settled and call.id not in stays
        )

    def discard(self, ctx: RunContextWrapper[TAgentContext] | AgentContext[Any]) -> None:
        """Forget what the open run has asked for so far, as for an agent whose output a guardrail has rejected."""
        context = agent_context_of(ctx)
        body_of(self.rules, context).queue.discard(context)

    def _replay(self, ctx: object, context: AgentContext[Any]) -> Replay:
        """Return the run of the tool's body that goes on here, or say what is missing."""
        body_of(self.rules, context)
        running = current_replay.get()
        if running is None or running.rules is not self.rules:
            raise log_and_return(UsageError(f"{self._why_not(ctx)}. {_CANNOT_WAIT}"))
        return running

    def _why_not(self, ctx: object) -> str:
        """Say why what has this context cannot wait."""
        if not isinstance(ctx, ToolContext):
            return "ask() or step() was called outside of a tool"
        name = ctx.tool_name
        problem = self.rules.cannot_wait.get(name, "is not made by `@sequencer.function_tool` of this sequencer")
        return f"The tool {name} cannot wait for the browser: it {problem}"

    def _check(self, method: str, call: object) -> None:
        if not isinstance(call, ClientToolCall):
            cure = "unpack it, *calls" if isinstance(call, (list, tuple)) else "call the tool, tool(field=...)"
            raise log_and_return(UsageError(f"{method} takes calls, not {type(call).__name__}: {cure}"))
        if self.rules.receipts and (taken := STAMPS & call.arguments.keys()):
            what = " and ".join(map(repr, sorted(taken)))
            problem = f"Client tool {call.name!r}: {what} is where its receipt goes, or its time; rename the argument"
            raise log_and_return(UsageError(problem))

    def _steps(self, store: Store[TContext], thread_id: str, context: TContext) -> Steps:
        return Steps(self.rules, store, thread_id, context)

    async def _report(self, steps: Steps) -> tuple[CallSnapshot, ...]:
        thread, items = await steps.look(whole=True)
        if thread.overdue:
            await steps.take(Expired())
            thread, items = await steps.look(whole=True)
        done = [item for item in items if isinstance(item, ClientToolCallItem) and item.status == "completed"]
        planned = {call.item_id for call in thread.plan.calls}
        finished = [item for item in done if item.id not in planned][: thread.plan.finished]
        has_failed = self.rules.policy.has_failed
        return (
            *(self._finished(item) for item in reversed(finished)),
            *(
                _snapshot(c, thread.state_at(n, has_failed), thread.since(c), thread.plan.tool(c.awaited_by))
                for n, c in enumerate(thread.plan.calls)
            ),
        )

    def _finished(self, item: ClientToolCallItem) -> CallSnapshot:
        """Show a call that has left the plan: its item and its tool say everything."""
        tool = self.tool(item.name)
        return CallSnapshot(
            name=item.name,
            call_id=item.call_id,
            item_id=item.id,
            state=State.FAILED if self.rules.policy.has_failed(item) else State.COMPLETED,
            since=datetime.fromtimestamp(item.created_at.timestamp(), timezone.utc),
            answer_wanted=tool.answer_wanted,
            required=tool.required,
        )


_CANNOT_WAIT = (
    "ask() and step() work in the body of an async function that is a tool by `@sequencer.function_tool` of the same "
    "sequencer, without needs_approval=, timeout= and guardrails: the function runs in parts, and each part would need "
    "an approval, or have the time, of its own"
)


class SequencedAgentContext(AgentContext[TContext], Generic[TContext]):
    """An `AgentContext` whose slot is a queue: every `ctx.context.client_tool_call = ...` of a run is released.

    To use or to subclass, so that tools written for plain ChatKit work unchanged, however many of them run.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Queue what is assigned to the slot."""
        if name == "client_tool_call" and isinstance(value, ClientToolCall):
            body_of(None, self).queue.enqueue(self, [value])
        else:
            super().__setattr__(name, value)


def _snapshot(call: PlannedCall, state: State, since: float, awaited_by: WaitingTool | None = None) -> CallSnapshot:
    return CallSnapshot(
        name=call.name,
        call_id=call.call_id,
        item_id=call.item_id,
        state=state,
        since=datetime.fromtimestamp(since, timezone.utc),
        answer_wanted=call.wanted,
        required=call.required,
        awaited_by=awaited_by.call_id if awaited_by else None,
        expires_at=None if call.expires_at is None else datetime.fromtimestamp(call.expires_at, timezone.utc),
    )


def _tool_snapshot(tool: WaitingTool) -> ToolSnapshot:
    return ToolSnapshot(
        name=tool.name,
        call_id=tool.call_id,
        since=datetime.fromtimestamp(tool.at, timezone.utc),
        waits_for=next((entry.name for entry in tool.journal if entry.is_open), None),
        asked=sum(entry.kind == "ask" for entry in tool.journal),
        steps=sum(entry.kind == "step" for entry in tool.journal),
    )


def _by_name(tools: Iterable[ClientTool[..., Any]]) -> dict[str, ClientTool[..., Any]]:
    if isinstance(tools, ClientTool):
        raise UsageError(f"The sequencer takes a list of client tools: [{tools.name}]")
    by_name: dict[str, ClientTool[..., Any]] = {}
    for tool in tools:
        if not isinstance(tool, ClientTool):
            raise UsageError(f"The sequencer takes client tools, not {tool!r}: ClientTool(name, ...)")
        if tool.name in by_name:
            raise UsageError(f"Two client tools are named {tool.name!r}; the frontend could not tell them apart")
        by_name[tool.name] = tool
    return by_name


def _refuse_context_without_type(function: ToolFunction[...]) -> None:
    """Refuse a context that the Agents SDK would take for an argument, and ask the model for."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first and first.name in ("ctx", "context") and first.annotation is first.empty:
        raise UsageError(
            f"{_name_of(function)}: `{first.name}` has no type, and the model would have to fill it in: "
            f"`{first.name}: RunContextWrapper[AgentContext]`"
        )


def _as_transaction(function: ToolFunction[...]) -> ToolFunction[...]:
    """Wrap a function that is not async so that what it has enqueued is dropped if it raises."""
    name = _name_of(function)

    @functools.wraps(function)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        with transaction(name, current_queue()):
            result = without_stop_iteration(function, args, kwargs)
            if inspect.iscoroutine(result):
                result.close()
                problem = "is not async, and returns a coroutine: the decorator of an async function has to be async"
                raise log_and_return(UsageError(f"The tool {name} {problem}"))
            return result

    return synchronous


def _name_of(function: ToolFunction[...]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _factory_of_locks(lock: Any) -> Any:
    """Return `lock`, or say that it does not make locks."""
    if lock is None:
        return None
    problem = "cannot be called" if not callable(lock) else "is async" if _is_async(lock) else None
    try:
        takes_thread_id = problem is None and bool(inspect.signature(lock).bind(""))
    except TypeError:
        problem, takes_thread_id = "does not take a thread id", False
    except ValueError:  # a callable without a signature
        takes_thread_id = True
    if not takes_thread_id:
        raise UsageError(
            f"lock={lock!r} {problem}: it has to be a function that takes a thread id and returns an async context "
            "manager, as `store.thread_lock` does"
        )
    return lock


def _synchronous(option: str, observers: Iterable[T]) -> tuple[T, ...]:
    for observer in (taken := tuple(observers)):
        if _is_async(observer):
            raise UsageError(f"{option}: {observer!r} is async; nobody would await it: give one that is not")
    return taken


def _is_async(given: object) -> bool:
    """Whether a function is async, or an object that is called like one."""
    call = getattr(type(given), "__call__", None)  # noqa: B004  it is not asked whether there is one
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(call)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
