"""`@sequencer.function_tool`: a tool that raises takes back what it has asked for, and the log says so."""

from __future__ import annotations

import asyncio
import functools
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    RunContextWrapper,
    Runner,
    ToolGuardrailFunctionOutput,
    function_tool,
    tool_input_guardrail,
)
from agents.testing import ScriptedModel
from chatkit.agents import AgentContext

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._step.lookup import current_body
from chatkit_clienttools._step.queued import transaction
from chatkit_clienttools._step.suspension import Suspended
from chatkit_clienttools.errors import UsageError
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, SequencedServer, anything, calls, speaks
from tests.helpers.scripted import Scripted, scripted
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Ctx = RunContextWrapper[AgentContext[Any]]
Make = "Callable[[ClientToolSequencer], FunctionTool]"


def talking_to(sequencer: ClientToolSequencer, steps: list[Any], *tools: Any) -> Conversation:
    """A page that talks to a server whose agent has these tools and takes these steps."""
    return Conversation(SequencedServer(PlainStore(), [*steps, speaks("done")], list(tools), sequencer=sequencer))


async def released(chat: Conversation) -> list[int]:
    """Let the agent run, answer everything, and return what has reached the browser, in order."""
    reply = await chat.say("go")
    seen = []
    while reply.calls:
        seen += [arguments["n"] for _, arguments in reply.calls]
        reply = await chat.answer()
    assert [] == reply.errors
    return seen


def flaky(sequencer: ClientToolSequencer, **options: Any) -> FunctionTool:
    """A tool that asks for two calls, and fails the first time it is called."""
    attempts = []

    @sequencer.function_tool(**options)
    async def search(ctx: Ctx) -> str:
        """Search."""
        attempts.append(1)
        sequencer.enqueue(ctx, anything(n=1))
        if len(attempts) == 1:
            raise RuntimeError("s3cret")
        sequencer.enqueue(ctx, anything(n=2))
        return "found"

    return search


def flaky_in_a_thread(sequencer: ClientToolSequencer) -> FunctionTool:
    """A synchronous tool, which the SDK runs in a thread, that does the same."""
    attempts = []

    @sequencer.function_tool
    def search(ctx: Ctx) -> str:
        """Search."""
        attempts.append(1)
        sequencer.enqueue(ctx, anything(n=1))
        if len(attempts) == 1:
            raise RuntimeError("s3cret")
        sequencer.enqueue(ctx, anything(n=2))
        return "found"

    return search


class Grouped(BaseException):
    """What a task group raises, in versions of Python that have none, too."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__()
        self.exceptions = exceptions


@tool_input_guardrail
def lets_in(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow()


def flaky_with_a_guardrail(sequencer: ClientToolSequencer) -> FunctionTool:
    """A tool that cannot wait for the browser, and does the same."""
    return flaky(sequencer, tool_input_guardrails=[lets_in])


FLAKY = pytest.mark.parametrize(
    "make", [flaky, flaky_in_a_thread, flaky_with_a_guardrail], ids=["async", "sync", "guarded"]
)


class TestAToolThatRaises:
    @FLAKY
    async def test_a_retry_by_the_model_doubles_nothing(self, make: Callable[[ClientToolSequencer], Any]) -> None:
        """When the model calls a tool again that has raised, what the first call asked for is gone."""
        sequencer = ClientToolSequencer(TOOLS)
        steps = [[calls("search")], [calls("search")], speaks("found")]
        chat = talking_to(sequencer, steps, make(sequencer))

        assert [1, 2] == await released(chat)

    @FLAKY
    async def test_nothing_of_it_is_released(
        self, make: Callable[[ClientToolSequencer], Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a tool asked for before it raised is not released, and one warning names tool, error and place."""
        sequencer = ClientToolSequencer(TOOLS)
        chat = talking_to(sequencer, [[calls("search")], speaks("sorry")], make(sequencer))

        with caplog.at_level(logging.WARNING, "chatkit_clienttools"):
            assert [] == await released(chat)

        [said] = [record for record in caplog.records if record.name == "chatkit_clienttools"]
        begin = f"thread {chat.thread_id}: the tool search raised RuntimeError; what it has enqueued is dropped (1)"
        assert ("WARNING", begin) == (said.levelname, said.getMessage()[: len(begin)])
        assert "test_transactions.py, line" in said.getMessage()
        assert "s3cret" not in caplog.text

    async def test_one_that_awaits_what_is_not_awaited(self, caplog: pytest.LogCaptureFixture) -> None:
        """`await sequencer.enqueue(...)` raises a TypeError, and the log says that it is not awaited."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        async def search(ctx: Ctx) -> None:
            """Await what is not awaited."""
            await sequencer.enqueue(ctx, anything())  # type: ignore[func-returns-value, misc]  # pyright: ignore[reportGeneralTypeIssues]

        await released(talking_to(sequencer, [[calls("search")], speaks("sorry")], search))

        [logged] = [record for record in caplog.records if "raised" in record.getMessage()]
        said = "the tool search raised TypeError; leave out `await` before `enqueue` and `discard`; what it"
        assert (logging.ERROR, True) == (logged.levelno, said in logged.getMessage())

    @pytest.mark.parametrize(
        "words", ["object NoneType can't be used in 'await' expression", "'NoneType' object can't be awaited"]
    )
    async def test_whatever_python_says_of_that(self, words: str, caplog: pytest.LogCaptureFixture) -> None:
        """The log says that `enqueue` is not awaited in each version of Python, whose words for it differ."""
        with pytest.raises(TypeError), transaction("search", None):
            raise TypeError(words)

        assert "the tool search raised TypeError; leave out `await` before `enqueue` and `discard` (" in caplog.text

    async def test_where_it_was(self, caplog: pytest.LogCaptureFixture) -> None:
        """At the level DEBUG, which may show what users say, the log has the error itself, with its traceback."""
        caplog.set_level("DEBUG", "chatkit_clienttools")
        error = RuntimeError("s3cret")

        with pytest.raises(RuntimeError), transaction("search", None):
            raise error

        [shown] = [record for record in caplog.records if record.levelname == "DEBUG"]
        assert "where that was" == shown.getMessage()
        assert shown.exc_info is not None
        assert error is shown.exc_info[1]

    @pytest.mark.parametrize(
        ("error", "dropped"),
        [
            (asyncio.CancelledError(), 1),
            (KeyboardInterrupt(), 1),
            (Suspended(), 0),
            (Grouped(Suspended(), Grouped(Suspended())), 0),
            (Grouped(Suspended(), asyncio.CancelledError()), 1),
            (Grouped(), 1),
        ],
        ids=["cancelled", "interrupted", "waits", "waits in a group", "a group with another error", "an empty group"],
    )
    async def test_what_is_dropped_without_an_error(
        self, error: BaseException, dropped: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A tool that is cut off drops its calls, and the log says so; one that waits asks for them again later."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            running = current_body()
            assert running
            with suppress(BaseException), transaction("search", running.queue):
                server.sequencer.enqueue(context, anything(n=1))
                raise error
            return
            yield

        _, chat = scripted(PlainStore(), body)

        assert [] == (await chat.say("go")).calls
        assert dropped == caplog.text.count("; what it has enqueued is dropped (1)")

    async def test_a_tool_that_was_cancelled_before_it_asked_is_not_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A tool that is cancelled and had enqueued nothing leaves no warning: nothing was dropped."""
        with pytest.raises(asyncio.CancelledError), transaction("search", None):
            raise asyncio.CancelledError

        assert [] == caplog.records

    async def test_outside_of_a_server_no_thread_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        """The line about a tool that raises where no request is served begins with the tool."""
        with pytest.raises(RuntimeError), transaction("search", None):
            raise RuntimeError

        assert caplog.messages[0].startswith("the tool search raised RuntimeError (test_transactions.py, line ")

    async def test_one_that_is_not_async_cannot_ask(self, caplog: pytest.LogCaptureFixture) -> None:
        """A function that is not async and returns `ask(...)` is refused, since nobody would await that."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        def search(ctx: Ctx) -> Any:
            """Ask, and forget to wait."""
            return sequencer.ask(ctx, anything(n=1))

        chat = talking_to(sequencer, [[calls("search")], speaks("sorry")], search)

        assert [] == await released(chat)
        assert caplog.messages[0].startswith(
            "The tool search cannot wait for the browser: it is not async. ask() and step() work in the"
        )

    async def test_one_that_raises_stop_iteration(self) -> None:
        """A tool in a thread that raises StopIteration has failed, where asyncio would wait for it for ever."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        def search(ctx: Ctx) -> str:
            """Look for somebody who is not there."""
            sequencer.enqueue(ctx, anything(n=1))
            return next(iter(()))

        chat = talking_to(sequencer, [[calls("search")], speaks("sorry")], search)

        assert [] == await asyncio.wait_for(released(chat), 10)

    async def test_an_async_one_under_a_decorator_that_is_not(self, caplog: pytest.LogCaptureFixture) -> None:
        """An async function under a decorator that is not async is refused: nobody would await it."""
        sequencer = ClientToolSequencer(TOOLS)

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return function(*args, **kwargs)

            return wrapper

        @sequencer.function_tool
        @timed
        async def search(ctx: Ctx) -> str:
            """Ask for something."""
            sequencer.enqueue(ctx, anything(n=1))
            return "found"

        chat = talking_to(sequencer, [[calls("search")], speaks("sorry")], search)

        assert [] == await released(chat)
        assert caplog.messages[0] == (
            "The tool search is not async, and returns a coroutine: the decorator of an async function has to be async"
        )

    async def test_beyond_the_limit_nothing_is_half_queued(self) -> None:
        """A tool that enqueues in a loop, and runs into `max_queued`, leaves none of its calls."""
        sequencer = ClientToolSequencer(TOOLS, max_queued=3)

        @sequencer.function_tool
        async def first(ctx: Ctx) -> str:
            """Ask once."""
            sequencer.enqueue(ctx, anything(n=0))
            return "ok"

        @sequencer.function_tool
        async def greedy(ctx: Ctx) -> str:
            """Ask for too much."""
            for n in range(1, 10):
                sequencer.enqueue(ctx, anything(n=n))
            return "ok"

        chat = talking_to(sequencer, [[calls("first")], [calls("greedy")], speaks("sorry")], first, greedy)

        assert [0] == await released(chat)

    async def test_a_tool_that_handles_its_error_keeps_its_calls(self) -> None:
        """An error that the tool itself has caught takes nothing back."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        async def careful(ctx: Ctx) -> str:
            """Ask, and fail in a harmless way."""
            sequencer.enqueue(ctx, anything(n=1))
            with suppress(LookupError):
                raise LookupError
            return "ok"

        chat = talking_to(sequencer, [[calls("careful")], speaks("ok")], careful)

        assert [1] == await released(chat)

    async def test_under_a_plain_function_tool_the_calls_stay(self) -> None:
        """What a plain `@function_tool` asked for before it raised is released: its error cannot be seen."""
        sequencer = ClientToolSequencer(TOOLS)

        @function_tool
        async def plain(ctx: Ctx) -> str:
            """Ask, and fail."""
            sequencer.enqueue(ctx, anything(n=1))
            raise RuntimeError

        chat = talking_to(sequencer, [[calls("plain")], speaks("sorry")], plain)

        assert [1] == await released(chat)

    async def test_what_it_put_into_the_slot_is_taken_back_too(self) -> None:
        """After a tool has raised, ChatKit's slot holds what others have asked for, or nothing."""
        sequencer = ClientToolSequencer(TOOLS)
        slots: list[Any] = []

        @sequencer.function_tool
        async def fail(ctx: Ctx) -> str:
            """Ask, and fail."""
            sequencer.enqueue(ctx, anything(n=1))
            slots.append(ctx.context.client_tool_call)
            raise RuntimeError

        @function_tool
        async def look(ctx: Ctx) -> str:
            """Look into the slot, as before this package."""
            slots.append(ctx.context.client_tool_call)
            return "ok"

        chat = talking_to(sequencer, [[calls("fail")], [calls("look")], speaks("ok")], fail, look)

        assert [] == await released(chat)
        assert [anything(n=1), None] == slots


class TestSeveralTools:
    async def test_of_parallel_tools_only_the_one_that_raises_loses_its_calls(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When one of several parallel tools raises, the calls of the others are released, in their order."""
        sequencer = ClientToolSequencer(TOOLS)
        both_asked = Meeting(2)

        @sequencer.function_tool
        async def works(ctx: Ctx) -> str:
            """Ask."""
            sequencer.enqueue(ctx, anything(n=1))
            await both_asked.wait()
            sequencer.enqueue(ctx, anything(n=2))
            return "ok"

        @sequencer.function_tool
        async def fails(ctx: Ctx) -> str:
            """Ask, and fail."""
            sequencer.enqueue(ctx, anything(n=3))
            await both_asked.wait()
            sequencer.enqueue(ctx, anything(n=4))
            raise RuntimeError

        chat = talking_to(sequencer, [[calls("works"), calls("fails")], speaks("ok")], works, fails)

        assert [1, 2] == await released(chat)
        assert "the tool fails raised RuntimeError; what it has enqueued is dropped (2)" in caplog.text

    @pytest.mark.parametrize(("is_caught", "expected"), [(True, [1, 3]), (False, [])])
    async def test_a_tool_inside_a_tool(self, is_caught: bool, expected: list[int]) -> None:
        """An agent used as a tool runs inside its caller: what its tool takes back is that tool's alone."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool(failure_error_function=None)
        async def inner(ctx: Ctx) -> str:
            """Ask, and fail."""
            sequencer.enqueue(ctx, anything(n=2))
            raise RuntimeError

        @sequencer.function_tool
        async def outer(ctx: Ctx) -> str:
            """Ask before and after."""
            sequencer.enqueue(ctx, anything(n=1))
            agent = Agent[Any](name="inner", model=ScriptedModel([[calls("inner")]]), tools=[inner])
            try:
                await Runner.run(agent, "go", context=ctx.context)
            except Exception:
                if not is_caught:
                    raise
            sequencer.enqueue(ctx, anything(n=3))
            return "ok"

        chat = talking_to(sequencer, [[calls("outer")], speaks("ok")], outer)

        assert expected == await released(chat)

    async def test_a_caller_takes_back_what_its_inner_tools_have_asked_for(self) -> None:
        """When the outer tool raises in the end, the calls of the tools that ran inside it are dropped with its own."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        async def inner(ctx: Ctx) -> str:
            """Ask."""
            sequencer.enqueue(ctx, anything(n=2))
            return "ok"

        @sequencer.function_tool
        async def outer(ctx: Ctx) -> str:
            """Let another agent ask, and fail."""
            agent = Agent[Any](name="inner", model=ScriptedModel([[calls("inner")], speaks("ok")]), tools=[inner])
            await Runner.run(agent, "go", context=ctx.context)
            raise RuntimeError

        chat = talking_to(sequencer, [[calls("outer")], speaks("ok")], outer)

        assert [] == await released(chat)


class Meeting:
    """A place where so many tasks wait for one another."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.everybody = asyncio.Event()

    async def wait(self) -> None:
        self.number -= 1
        if not self.number:
            self.everybody.set()
        await self.everybody.wait()


class TestAsADecorator:
    def test_it_makes_the_tool_that_the_sdk_makes(self) -> None:
        """The tool has the name, description and parameters that `agents.function_tool` would have given it."""

        def look_up(ctx: Ctx, name: str, limit: int = 3) -> str:
            """Look somebody up.

            Args:
                ctx: The context.
                name: Who it is.
                limit: How many at most.
            """
            return f"{name} {limit}"

        ours, theirs = ClientToolSequencer().function_tool(look_up), function_tool(look_up)

        assert FunctionTool is type(ours)
        assert (theirs.name, theirs.description) == (ours.name, ours.description)
        assert theirs.params_json_schema == ours.params_json_schema

    def test_it_takes_the_sdks_options(self) -> None:
        """The options of `agents.function_tool` are passed on."""

        async def look_up(ctx: Ctx) -> str:
            """Look somebody up."""
            return "Ada"

        tool = ClientToolSequencer().function_tool(name_override="find", description_override="Find.")(look_up)

        assert ("find", "Find.") == (tool.name, tool.description)

    @pytest.mark.parametrize(("name", "first"), [("search", "ctx"), ("find", "context"), ("partial", "context")])
    def test_a_context_without_a_type(self, name: str, first: str) -> None:
        """A `ctx` without a type would be an argument that the model fills in: the error says what to write."""

        async def search(ctx, query: str) -> str:  # type: ignore[no-untyped-def]
            return "found"

        def find(context, query: str) -> str:  # type: ignore[no-untyped-def]
            return "found"

        functions: dict[str, Any] = {"search": search, "find": find, "partial": functools.partial(find)}
        with pytest.raises(UsageError) as raised:
            ClientToolSequencer().function_tool(functions[name])

        assert (
            f"{name}: `{first}` has no type, and the model would have to fill it in: "
            f"`{first}: RunContextWrapper[AgentContext]`"
        ) == str(raised.value)

    def test_on_a_tool(self) -> None:
        """On what is a tool already, the error says which line to change."""

        @function_tool
        async def search(ctx: Ctx) -> str:
            """Search."""
            return "found"

        with pytest.raises(UsageError) as raised:
            ClientToolSequencer().function_tool(search)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

        assert "search is a tool already: put `@sequencer.function_tool` in the place of `@function_tool`" == str(
            raised.value
        )

    async def test_a_run_without_a_context(self, caplog: pytest.LogCaptureFixture) -> None:
        """A tool in a nested run that was given no context is told to pass it on."""
        sequencer = ClientToolSequencer(TOOLS)

        @sequencer.function_tool
        async def inner(ctx: Ctx) -> str:
            """Ask."""
            sequencer.enqueue(ctx, anything(n=2))
            return "ok"

        @sequencer.function_tool
        async def outer(ctx: Ctx) -> str:
            """Let another agent ask, and forget the context."""
            agent = Agent[Any](name="inner", model=ScriptedModel([[calls("inner")], speaks("ok")]), tools=[inner])
            await Runner.run(agent, "go")
            return "ok"

        chat = talking_to(sequencer, [[calls("outer")], speaks("ok")], outer)

        assert [] == await released(chat)
        assert "ToolContext" not in caplog.text
        assert "Runner.run(agent, ..., context=ctx.context)" in caplog.text


async def test_a_call_that_another_tool_has_put_into_the_slot_stays() -> None:
    """What a tool that raises takes back is its own: a call that stands in ChatKit's slot meanwhile is released."""

    async def body(server: Scripted, given: AgentContext[Any]) -> AsyncIterator[Any]:
        context = AgentContext(thread=given.thread, store=given.store, request_context=None)
        body = current_body()
        assert body
        with suppress(ValueError), transaction("search", body.queue):
            server.sequencer.enqueue(context, anything(n=1))
            context.client_tool_call = anything(n=2)
            raise ValueError
        return
        yield

    _, chat = scripted(PlainStore(), body)

    assert [("anything", {"n": 2})] == (await chat.say("go")).calls
