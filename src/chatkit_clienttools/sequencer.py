"""`ClientToolSequencer`: queue any number of client tool calls, release them one per run."""

from __future__ import annotations

import functools
import inspect
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from chatkit.agents import AgentContext, ClientToolCall
from typing_extensions import ParamSpec

from ._requests import stepwise
from ._rules import Rules
from ._runs import RunStream, run_for, run_of
from ._turn import Turn
from .errors import UsageError
from .observe import in_words, logger, loud
from .receipts import RECEIPT
from .tools import ClientTool, agent_context_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from agents import RunContextWrapper
    from chatkit.store import Store
    from chatkit.types import ThreadStreamEvent

    from ._decide import Decision
    from ._lifecycle import State
    from ._plan import PlannedCall
    from ._runs import Run
    from .observe import Observer

P = ParamSpec("P")
TContext = TypeVar("TContext")

RESPOND_ARGUMENTS = 4
ACTION_ARGUMENTS = 5


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


class ClientToolSequencer:
    """Queues client tool calls and releases them one per run, in order, through ChatKit's own slot.

    One sequencer is shared by the tools (`enqueue`) and the server (`@sequencer.sequenced`); it serves every thread.

    Args:
        tools: The declared tools. A call by another name is released as well; its answer, whatever it is, is wanted.
        on_user_message: What becomes of the calls still open when the user writes: "cancel" gives them up, "keep" keeps
            them, the pending one included.
        on_failure: What becomes of the calls after one that failed: "continue" releases them, "abort" gives them up but
            the required ones.
        max_queued: How many calls may be open in a thread.
        max_bytes: How large they may be, together, as JSON: they are loaded with every request.
        receipts: Let each call's params carry its id under `_receipt`, so that an answer says which call it is for. The
            frontend wraps its handler with `withReceipts`; the server is a `ClientToolServer`.
        lock: A factory of async context managers by thread id, for several workers over a store without plans of its
            own. Claims are then written into the thread, one write for each release.
        observers: Called with a `LifecycleEvent` for each step of each call.
        clock: The time in seconds since the epoch.
    """

    def __init__(
        self,
        tools: Iterable[ClientTool[...]] = (),
        *,
        on_user_message: Literal["cancel", "keep"] = "cancel",
        on_failure: Literal["continue", "abort"] = "continue",
        max_queued: int = 64,
        max_bytes: int = 256 * 1024,
        receipts: bool = False,
        lock: Callable[[str], AbstractAsyncContextManager[Any]] | None = None,
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        _one_of("on_user_message", on_user_message, ("cancel", "keep"))
        _one_of("on_failure", on_failure, ("continue", "abort"))
        if max_queued < 1:
            raise UsageError(f"max_queued must be at least 1, not {max_queued}")
        self.rules = Rules(
            tools=_by_name(tools),
            on_user_message=on_user_message,
            on_failure=on_failure,
            max_queued=max_queued,
            max_bytes=max_bytes,
            receipts=receipts,
            lock=lock,
            observers=_synchronous(observers),
            clock=clock,
        )

    @property
    def tools(self) -> tuple[ClientTool[...], ...]:
        """The declared tools, in the order in which they were given."""
        return tuple(self.rules.tools.values())

    def tool(self, name: str) -> ClientTool[...]:
        """Return the declared tool of that name, or one that takes any answer."""
        return self.rules.tool(name)

    def enqueue(self, ctx: RunContextWrapper[AgentContext[Any]] | AgentContext[Any], *calls: ClientToolCall) -> None:
        """Ask for `calls`, in order. They are released one by one once the run has ended well.

        Raises at once, with nothing queued: `NotSequencedError` outside a sequenced run, `InvalidArgumentsError` for
        arguments that are not JSON, `QueueFullError` for too many or too much.
        """
        for call in calls:
            if not isinstance(call, ClientToolCall):
                cure = "unpack it, *calls" if isinstance(call, (list, tuple)) else "call the tool, tool(field=...)"
                raise loud(UsageError(f"enqueue() takes calls, not {type(call).__name__}: {cure}"))
            if self.rules.receipts and RECEIPT in call.arguments:
                raise loud(UsageError(f"Client tool {call.name!r}: {RECEIPT!r} is where its receipt goes; rename it"))
        context = agent_context_of(ctx)
        run_of(self.rules, context).ask(context, calls, getattr(ctx, "tool_call_id", None))

    def sequenced(
        self, method: Callable[P, AsyncIterator[ThreadStreamEvent]]
    ) -> Callable[P, AsyncIterator[ThreadStreamEvent]]:
        """Make a server's `respond` or `action` release the queue.

        An answer releases the next call without running the body, so without the model. The body runs when no call is
        left and one of them wanted an answer, or when there was nothing in the queue. Calling one sequenced method from
        another for the same thread is part of the outer run.
        """
        signature, is_action = _signature(method)

        @functools.wraps(method)
        def sequenced_method(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[ThreadStreamEvent]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()

            def body() -> AsyncIterator[ThreadStreamEvent]:
                # by position, as ChatKit itself calls them: people name the second parameter as they like
                return method(*bound.args, **bound.kwargs)

            server, thread, subject = bound.args[:3]
            context = bound.args[ACTION_ARGUMENTS - 1 if is_action else RESPOND_ARGUMENTS - 1]
            if run_for(thread.id) is not None:
                return body()
            run = self.rules.new_run(thread)
            turn = Turn(self.rules, server.store, thread, context, run)
            return RunStream(run, _events(turn, run, body, subject, is_action=is_action), self.rules.clock)

        sequenced_method.__client_tool_sequencer__ = self  # type: ignore[attr-defined]  # for ClientToolServer to find
        return sequenced_method

    async def snapshot(self, store: Store[TContext], thread_id: str, context: TContext) -> tuple[CallSnapshot, ...]:
        """Tell what a thread's queue looks like: every call of its plan with its state, in order."""
        turn = await self._turn(store, thread_id, context)
        return tuple(_snapshot(call, state, since) for call, state, since in await turn.report())

    async def cancel(self, store: Store[TContext], thread_id: str, context: TContext) -> tuple[CallSnapshot, ...]:
        """Give up what is left of a thread's queue, and return it as it was.

        A pending call is removed from the store; a browser that has it hears of that with the next load, or at once if
        an `action` yields a `ThreadItemRemovedEvent` for it. Required calls stay and go out with the next run. A plan
        that cannot be read is dropped.
        """
        turn = await self._turn(store, thread_id, context)
        return tuple(_snapshot(call, state, since) for call, state, since in await turn.cancel())

    def discard(self, ctx: RunContextWrapper[AgentContext[Any]] | AgentContext[Any]) -> None:
        """Forget what the open run has asked for so far, as for an agent whose output a guardrail has rejected."""
        context = agent_context_of(ctx)
        run_of(self.rules, context).discard(context)

    async def _turn(self, store: Store[TContext], thread_id: str, context: TContext) -> Turn:
        open_run = run_for(thread_id)
        # the thread object of the run: what ChatKit saves of it at the end must have the plan as it is then
        thread = open_run.thread if open_run else await store.load_thread(thread_id, context=context)
        return Turn(self.rules, store, thread, context)


class SequencedAgentContext(AgentContext[TContext], Generic[TContext]):
    """An `AgentContext` whose slot is a queue: every `ctx.context.client_tool_call = ...` of a run is released.

    To use or to subclass, so that tools written for plain ChatKit work unchanged, however many of them run.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Queue what is assigned to the slot."""
        if name == "client_tool_call" and isinstance(value, ClientToolCall):
            run_of(None, self).ask(self, [value])
        else:
            super().__setattr__(name, value)


async def _events(
    turn: Turn, run: Run, body: Callable[[], AsyncIterator[ThreadStreamEvent]], subject: Any, *, is_action: bool
) -> AsyncGenerator[ThreadStreamEvent, None]:
    """Yield what a run streams: what it begins with, what the body yields, and the next call as the last of all."""
    if is_action:
        begun = turn.begin_action()
    elif subject is None:
        begun = turn.begin_answer()
    else:
        begun = turn.begin_message(subject)
    opening = await _or_say_why(begun, run)
    for event in opening.events:
        yield event
    if not opening.runs_body:
        return
    try:
        async with aclosing(stepwise(run.open, body)) as events:
            async for event in events:
                if not run.holds_back(event):
                    yield event
        closing = await _or_say_why(turn.conclude(), run)
    except Exception:
        await _give_back(turn, run)
        raise
    for event in closing.events:
        yield event


async def _or_say_why(step: Awaitable[Decision], run: Run) -> Decision:
    """Take a step; if the store does not let us, say so in the chat."""
    try:
        return await step
    except UsageError:
        raise
    except Exception as error:
        told = in_words(error, run.thread.id)
        if told is error:
            raise
        raise told from error


async def _give_back(turn: Turn, run: Run) -> None:
    try:
        await turn.fail()
    except Exception as error:  # noqa: BLE001  the body's own error is the one to be raised, and a claim ends with its lease
        why = type(error).__name__
        logger.warning("thread %s: what a failed run had claimed is not given back (%s)", run.thread.id, why)


def _snapshot(call: PlannedCall, state: State, since: float) -> CallSnapshot:
    return CallSnapshot(
        name=call.name,
        call_id=call.call_id,
        item_id=call.item_id,
        state=state,
        since=datetime.fromtimestamp(since, timezone.utc),
        answer_wanted=call.wanted,
        required=call.required,
    )


def _by_name(tools: Iterable[ClientTool[...]]) -> dict[str, ClientTool[...]]:
    if isinstance(tools, ClientTool):
        raise UsageError(f"The sequencer takes a list of client tools: [{tools.name}]")
    by_name: dict[str, ClientTool[...]] = {}
    for tool in tools:
        if not isinstance(tool, ClientTool):
            raise UsageError(f"The sequencer takes client tools, not {tool!r}: ClientTool(name, ...)")
        if tool.name in by_name:
            raise UsageError(f"Two client tools are named {tool.name!r}; the frontend could not tell them apart")
        by_name[tool.name] = tool
    return by_name


def _signature(method: Callable[..., Any]) -> tuple[inspect.Signature, bool]:
    """Return the signature of a `respond` or `action`, and whether it is an action; or say that it is neither."""
    if inspect.iscoroutinefunction(method):
        raise UsageError(f"{method.__qualname__} has no `yield`: ChatKit iterates over what it returns")
    signature = inspect.signature(method)
    possible = [count for count in (RESPOND_ARGUMENTS, ACTION_ARGUMENTS) if _takes(signature, count)]
    if not possible:
        raise UsageError(
            f"{method.__qualname__} is not a `respond(self, thread, message, context)` or an "
            "`action(self, thread, action, sender, context)`; only those can be sequenced"
        )
    # with optional arguments it could be either
    return signature, ACTION_ARGUMENTS in possible and (len(possible) == 1 or method.__name__ == "action")


def _takes(signature: inspect.Signature, count: int) -> bool:
    """Whether a function can be called with so many arguments, by position."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _synchronous(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    for observer in (taken := tuple(observers)):
        if inspect.iscoroutinefunction(observer):
            raise UsageError(f"The observer {observer!r} is a coroutine function; nobody would await it")
    return taken


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
