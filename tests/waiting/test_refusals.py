"""What cannot wait for the browser: each is refused with a sentence, in the log and where it was asked."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, FunctionTool, RunContextWrapper, ToolGuardrailFunctionOutput, function_tool
from agents.tool_guardrails import tool_input_guardrail, tool_output_guardrail
from chatkit.agents import AgentContext

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools.errors import UsageError
from tests.helpers.conversation import Conversation
from tests.helpers.merak import PlainServer, SequencedServer, calls, speaks
from tests.helpers.stores import PlainStore
from tests.helpers.waiting import Waiting, animation, choose, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Ctx = RunContextWrapper[AgentContext[Any]]

CAN_WAIT = (
    "ask() and step() work in the body of an async function that is a tool by `@sequencer.function_tool` of the same "
    "sequencer, without needs_approval=, timeout= and guardrails: the function runs in parts, and each part would need "
    "an approval, or have the time, of its own"
)
NOT_ALONE = (
    "ask() in the tool asks was called while another ask() or step() is under way: call one after the other, not in "
    "asyncio.gather, not inside a step, and not in a `finally` once the tool waits. What is to run at once can be one "
    "step."
)
SWALLOWED = (
    "The tool asks has caught what ends its body while it waits. Nothing may catch BaseException around ask(), as a "
    "bare `except:` does, or a `return` in a `finally`, and ask() may not run in a task of its own."
)
TWO_OF_ONE_NAME = (
    "The tool asks cannot wait for the browser. It is not the only one of that name: give it another one, "
    "name_override=..., and define it once, not in a function that is called for each request"
)
NESTED = (
    "The tool asks cannot wait for the browser. It is part of an agent that is used as a tool, whose run would not be "
    "there any more: run the outer agent with `sequencer.run_streamed(agent, history, context=...)`, in the place of "
    "`Runner.run_streamed`"
)
ANOTHER_SEQUENCER = (
    "a client tool call cannot be queued. The server has another ClientToolSequencer, or none: share one between the "
    "tools and the server, `client_tools = sequencer` in the body of the server's class."
)
NO_SERVER = (
    "a client tool call cannot be queued. No request to a ClientToolServer is being served here. Derive the server "
    "from ClientToolServer, call it through `process()`, and start threads with the context, as asyncio.to_thread does."
)


def cannot_wait(problem: str) -> str:
    return f"The tool asks cannot wait for the browser: it {problem}. {CAN_WAIT}"


async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    await sequencer.ask(ctx, animation(state="start"))
    return "done"


def page_with(*makers: Any) -> Waiting:
    return Waiting(PlainStore(), [[calls("asks")], speaks("Sorry.")], *makers)


async def refusal_on(page: Waiting, log: pytest.LogCaptureFixture) -> str:
    """Let a tool ask where it cannot; the model reads that it has failed, and the log has one sentence."""
    reply = await page.say()

    assert ([], [], ["Sorry."]) == (reply.calls, reply.errors, reply.texts)
    assert "An error occurred while running the tool" in page.seen_by_model[-1][1]
    assert () == (await page.plan()).tools
    return refusal_in(log)


def refusal_in(log: pytest.LogCaptureFixture) -> str:
    [refusal] = [record.getMessage() for record in log.records if record.levelno == logging.ERROR]
    return refusal


@tool_input_guardrail
def lets_in(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow()


@tool_output_guardrail
def lets_out(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow()


async def never(ctx: Any, params: Any, call_id: str) -> bool:
    return False


OPTIONS: dict[str, Any] = {
    "needs_approval": never,
    "tool_input_guardrails": [lets_in],
    "tool_output_guardrails": [lets_out],
    "timeout": 60.0,
}
"""The last one is not known to every version of openai-agents."""


class TestTools:
    async def test_a_plain_function_tool(self, log: pytest.LogCaptureFixture) -> None:
        """The body of a plain function tool cannot ask: nothing would run it again."""

        def make(sequencer: ClientToolSequencer) -> FunctionTool:
            @function_tool
            async def asks(ctx: Ctx) -> str:
                await sequencer.ask(ctx, animation(state="start"))
                return "done"

            return asks

        assert cannot_wait("is not made by `@sequencer.function_tool` of this sequencer") == await refusal_on(
            page_with(make), log
        )

    @pytest.mark.parametrize("what", ["ask", "step"])
    async def test_a_synchronous_tool(self, log: pytest.LogCaptureFixture, what: str) -> None:
        """A tool that is not async cannot ask or take steps, even with an event loop of its own."""

        def make(sequencer: ClientToolSequencer) -> FunctionTool:
            @sequencer.function_tool(name_override="asks")
            def synchronous(ctx: Ctx) -> str:
                asked: Any = sequencer.ask(ctx, animation(state="start")) if what == "ask" else sequencer.step(ctx, str)
                asyncio.run(asked)
                return "done"

            return synchronous

        assert cannot_wait("is not async") == await refusal_on(page_with(make), log)

    @pytest.mark.parametrize(
        "option", [name for name in OPTIONS if name in inspect.signature(function_tool).parameters]
    )
    async def test_options_that_see_the_body_in_parts(self, log: pytest.LogCaptureFixture, option: str) -> None:
        """A tool with an approval, a time limit or a guardrail of its own cannot ask: each would see parts of it."""
        page = page_with(tool(asks, **{option: OPTIONS[option]}))

        assert cannot_wait(f"has {option}=") == await refusal_on(page, log)

    async def test_two_such_options(self, log: pytest.LogCaptureFixture) -> None:
        """If a tool has two options that keep it from asking, both are named."""
        options = {name: OPTIONS[name] for name in ("tool_input_guardrails", "tool_output_guardrails")}

        refusal = await refusal_on(page_with(tool(asks, **options)), log)

        assert cannot_wait("has tool_input_guardrails= and tool_output_guardrails=") == refusal

    @pytest.mark.fails
    async def test_outside_of_a_tool(self, log: pytest.LogCaptureFixture) -> None:
        """A `respond` that asks itself is told that there is no tool, and the user that it went wrong."""

        class Asks(SequencedServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                assert self.client_tools
                await self.client_tools.ask(self.agent_context(thread, context), animation(state="start"))
                yield

        class Page(Waiting):
            kind = Asks

        reply = await Page(PlainStore(), []).say()

        assert ([], 1) == (reply.calls, len(reply.errors))
        assert f"ask() or step() was called outside of a tool. {CAN_WAIT}" == log.records[0].getMessage()

    async def test_a_tool_that_cannot_ask_needs_no_receipts(self) -> None:
        """A tool that cannot ask does not turn receipts on: the params of what it enqueues have no `_receipt`."""

        async def enqueues(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            return "done"

        page = Waiting(
            PlainStore(), [[calls("enqueues")], speaks("Good.")], tool(enqueues, tool_input_guardrails=[lets_in])
        )

        reply = await page.say()

        assert [("run_search_animation", {"state": "start"})] == reply.calls

    async def test_two_of_one_name(self, log: pytest.LogCaptureFixture) -> None:
        """An answer finds its tool by name, so neither of two tools of one name can ask."""
        page = page_with(tool(asks), tool(asks))
        page.server.agent.tools.pop()

        assert TWO_OF_ONE_NAME == await refusal_on(page, log)

    async def test_one_that_is_defined_for_each_request(self, log: pytest.LogCaptureFixture) -> None:
        """A tool that a function defines anew for each request is warned of once, and refused from the second on."""
        page = page_with(tool(asks))

        page.server.agent.tools = [tool(asks)(page.sequencer)]
        tool(asks)(page.sequencer)

        [record] = log.records
        assert (
            "the tool asks is defined a second time (tests.helpers.waiting.tool.<locals>.make.<locals>.function), and "
            "can wait for the browser no more: define it once, at import, not in a function that is called for each "
            "request"
        ) == record.getMessage()
        log.clear()
        assert TWO_OF_ONE_NAME == await refusal_on(page, log)

    async def test_an_agent_as_a_tool(self, log: pytest.LogCaptureFixture) -> None:
        """A tool of an agent that is used as a tool cannot ask: that agent reads an error, and the log has the cure."""
        steps = [[calls("helper", {"input": "help"})], [calls("asks")], speaks("I cannot."), speaks("Sorry.")]
        page = Waiting(PlainStore(), steps, tool(asks))
        inner = Agent[AgentContext[Any]](name="inner", model=page.server.model, tools=page.server.agent.tools)
        page.server.agent.tools = [inner.as_tool("helper", "It helps.")]

        reply = await page.say()

        assert ([], [], ["Sorry."]) == (reply.calls, reply.errors, reply.texts)
        assert ("output", "I cannot.") == page.seen_by_model[-1]
        assert NESTED == refusal_in(log)


class TestBodies:
    @pytest.mark.parametrize("waits_before", [False, True])
    @pytest.mark.parametrize("forgotten", ["ask", "step"])
    async def test_a_forgotten_await(
        self, forgotten: str, log: pytest.LogCaptureFixture, *, waits_before: bool
    ) -> None:
        """A function that returns `ask(...)` or `step(...)` without `await` is told so, and nothing goes out for it."""
        returned: list[Any] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            if waits_before:
                await sequencer.ask(ctx, animation(state="stop"))
            if forgotten == "ask":
                returned.append(sequencer.ask(ctx, animation(state="start")))
            else:
                returned.append(sequencer.step(ctx, asyncio.sleep, 0))
            return returned[-1]

        page = page_with(tool(asks))
        reply = await page.say()
        if waits_before:
            reply = await page.answer()

        assert f"The tool asks returns a coroutine: write `await` before {forgotten}(...)" == refusal_in(log)
        assert ([], [inspect.CORO_CLOSED]) == (reply.calls, [inspect.getcoroutinestate(each) for each in returned])

    @pytest.mark.parametrize("forgotten", ["ask", "step"])
    async def test_a_forgotten_await_in_the_middle(self, forgotten: str, log: pytest.LogCaptureFixture) -> None:
        """A function that goes on after `ask(...)` or `step(...)` without `await` is told so, and nothing is done."""
        done: list[str] = []
        called: list[Any] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            if forgotten == "ask":
                called.append(sequencer.ask(ctx, animation(state="start")))
            else:
                called.append(sequencer.step(ctx, done.append, "step"))
            return "ok"

        page = page_with(tool(asks))
        reply = await page.say()

        assert f"The tool asks has called {forgotten}(...) without waiting: write `await` before it" == refusal_in(log)
        assert ([], []) == (reply.calls, done)
        assert [inspect.CORO_CLOSED] == [inspect.getcoroutinestate(each) for each in called]

    @pytest.mark.parametrize("forgotten", ["ask", "step"])
    async def test_a_forgotten_await_whose_result_is_used(self, forgotten: str, log: pytest.LogCaptureFixture) -> None:
        """A function that works on with the coroutine, and raises for that, is told of the `await` that is missing."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            choice: Any = sequencer.ask(ctx, choose(people=[])) if forgotten == "ask" else sequencer.step(ctx, dict)
            return choice.name

        page = page_with(tool(asks))
        reply = await page.say()

        assert f"The tool asks has called {forgotten}(...) without waiting: write `await` before it" == refusal_in(log)
        assert [] == reply.calls

    async def test_a_forgotten_await_before_another_call(self, log: pytest.LogCaptureFixture) -> None:
        """A step that nobody awaits is refused before the next call: its coroutine may stand in the arguments."""
        done: list[str] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            found = sequencer.step(ctx, done.append, "step")
            return (await sequencer.ask(ctx, choose(people=[f"{found}"]))).name

        page = page_with(tool(asks))
        reply = await page.say()

        assert "The tool asks has called step(...) without waiting: write `await` before it" == refusal_in(log)
        assert ([], []) == (reply.calls, done)

    async def test_calls_that_are_made_first_and_awaited_later(self) -> None:
        """Two coroutines that are made at once may be awaited one after the other."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            first, second = (sequencer.ask(ctx, choose(people=[name])) for name in ("Ada", "Grace"))
            return f"{(await first).name}, {(await second).name}"

        page = Waiting(PlainStore(), [[calls("asks")], speaks("Good.")], tool(asks))
        await page.say()
        await page.answer({"name": "Ada"})
        await page.answer({"name": "Grace"})

        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_a_forgotten_await_on_the_way_out(self, log: pytest.LogCaptureFixture) -> None:
        """A step without `await` in a `finally` is closed while the body waits, and refused when it ends."""
        called: list[Any] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.ask(ctx, animation(state="start"))
            finally:
                called.append(sequencer.step(ctx, str))
            return "done"

        page = page_with(tool(asks))
        await page.say()
        while_it_waits = [inspect.getcoroutinestate(each) for each in called]
        await page.answer()

        assert [inspect.CORO_CLOSED] == while_it_waits
        assert "The tool asks has called step(...) without waiting: write `await` before it" == refusal_in(log)

    async def test_an_error_of_the_page_is_not_taken_for_a_forgotten_await(self, log: pytest.LogCaptureFixture) -> None:
        """A call that fails ends a body that does not catch that, also if another coroutine was not awaited yet."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            first, second = (sequencer.ask(ctx, choose(people=[name])) for name in ("Ada", "Grace"))
            return f"{(await first).name}, {(await second).name}"

        page = Waiting(PlainStore(), [[calls("asks")], speaks("Sorry.")], tool(asks))
        await page.say()
        await page.fail()

        assert "the tool asks raised CallFailedError" in log.text
        assert [] == [record for record in log.records if record.levelno == logging.ERROR]

    async def test_a_client_tool_that_is_not_in_the_list(self, log: pytest.LogCaptureFixture) -> None:
        """A client tool that the sequencer was not given cannot be asked: nothing would check its answer."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            return await sequencer.ask(ctx, ClientTool("forgotten", result=int)())

        assert (
            "ask(): client tool 'forgotten' is not in the list that the ClientToolSequencer was given: add it, so that "
            "its answer is checked"
        ) == await refusal_on(page_with(tool(asks)), log)

    async def test_two_at_once(self, log: pytest.LogCaptureFixture) -> None:
        """Two asks at once are refused: which of them comes first would be another thing each time."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            both = [sequencer.ask(ctx, animation(state=state)) for state in ("start", "stop")]
            await asyncio.gather(*both)
            return "done"

        assert NOT_ALONE == await refusal_on(page_with(tool(asks)), log)

    async def test_two_steps_at_once(self, log: pytest.LogCaptureFixture) -> None:
        """Two steps at once are refused, and the second does not run."""
        ran: list[str] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await asyncio.gather(sequencer.step(ctx, asyncio.sleep, 0), sequencer.step(ctx, ran.append, "second"))
            return "done"

        assert NOT_ALONE.replace("ask()", "step()", 1) == await refusal_on(page_with(tool(asks)), log)
        assert [] == ran

    async def test_a_step_beside_an_ask(self, log: pytest.LogCaptureFixture) -> None:
        """An ask while a step runs is refused."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await asyncio.gather(sequencer.step(ctx, asyncio.sleep, 0), sequencer.ask(ctx, animation(state="start")))
            return "done"

        assert NOT_ALONE == await refusal_on(page_with(tool(asks)), log)

    async def test_after_a_timeout_around_a_step(self, log: pytest.LogCaptureFixture) -> None:
        """A body that asks on after something of its own has cut a step off is refused: replay would not do that."""
        began = asyncio.Event()
        cut_off: list[Any] = []

        async def slow() -> None:
            began.set()
            await asyncio.Event().wait()

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            step = asyncio.create_task(sequencer.step(ctx, slow))
            await began.wait()
            step.cancel()
            cut_off.extend(await asyncio.gather(step, return_exceptions=True))
            try:
                await sequencer.ask(ctx, animation(state="start"))
            except UsageError as error:
                cut_off.append(error)
            return "done"

        page = page_with(tool(asks))
        await page.say()

        assert [asyncio.CancelledError, UsageError] == [type(error) for error in cut_off]
        [refusal] = [record.getMessage() for record in log.records if "cut off" in record.getMessage()]
        assert refusal == (
            "ask() in the tool asks was called after an ask() or step() before it was cut off, by Stop, by a lost "
            "connection, or by a timeout around it. Nothing more is asked or done in this run of the body. A timeout "
            "belongs inside the function of a step."
        )
        assert "An error occurred while running the tool" in page.seen_by_model[-1][1]

    async def test_on_the_way_out(self, log: pytest.LogCaptureFixture) -> None:
        """A `finally` that asks, when the body ends because it waits, is refused."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.ask(ctx, animation(state="start"))
            finally:
                await sequencer.ask(ctx, animation(state="stop"))
            return "done"

        assert NOT_ALONE == await refusal_on(page_with(tool(asks)), log)

    async def test_a_bare_except(self, log: pytest.LogCaptureFixture) -> None:
        """A body that catches what ends it while it waits, and returns, is refused."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.ask(ctx, animation(state="start"))
            except:  # noqa: E722
                return "whatever"
            return "done"

        assert SWALLOWED == await refusal_on(page_with(tool(asks)), log)

    async def test_a_bare_except_after_an_answer(self, log: pytest.LogCaptureFixture) -> None:
        """A body that swallows its second wait ends there, and the model reads that it has failed."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            try:
                await sequencer.ask(ctx, animation(state="stop"))
            except:  # noqa: E722
                return "whatever"
            return "done"

        page = page_with(tool(asks))

        await page.say()
        reply = await page.answer()

        assert ([], ["Sorry."]) == (reply.calls, reply.texts)
        assert "An error occurred while running the tool" in page.seen_by_model[-1][1]
        assert SWALLOWED == refusal_in(log)

    async def test_except_exception(self) -> None:
        """A body that catches every `Exception` waits like any other."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.ask(ctx, animation(state="start"))
            except Exception:  # noqa: BLE001
                return "whatever"
            return "done"

        page = page_with(tool(asks))

        await page.say()
        await page.answer()

        assert ("output", "done") == page.seen_by_model[-1]

    @pytest.mark.parametrize("what", ["ask", "step"])
    async def test_the_context_of_another_tool(self, what: str, log: pytest.LogCaptureFixture) -> None:
        """A body that asks or takes a step with the context of another tool is told to use its own."""
        contexts: list[Ctx] = []

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            contexts.append(ctx)
            return "done"

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            if what == "ask":
                await sequencer.ask(contexts[0], animation(state="start"))
            await sequencer.step(contexts[0], str)
            return "done"

        page = Waiting(PlainStore(), [[calls("other")], [calls("asks")], speaks("Sorry.")], tool(other), tool(asks))

        assert (
            f"{what}() was called with the context of another tool than asks: give it the `ctx` that the body itself "
            "gets" == await refusal_on(page, log)
        )

    async def test_what_is_no_call(self, log: pytest.LogCaptureFixture) -> None:
        """A body that asks with a client tool instead of a call of it is told to call it."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            wrong: Any = animation
            await sequencer.ask(ctx, wrong)
            return "done"

        assert "ask() takes calls, not ClientTool: call the tool, tool(field=...)" == await refusal_on(
            page_with(tool(asks)), log
        )


class TestServers:
    @pytest.mark.parametrize("body", ["of theirs", "of ours"])
    async def test_another_sequencer(self, log: pytest.LogCaptureFixture, body: str) -> None:
        """A body asks through the sequencer of the server that runs it, and of no other."""
        other = ClientToolSequencer([animation])

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await other.ask(ctx, animation(state="start"))
            return "done"

        made: Callable[[Any], FunctionTool] = tool(asks)
        page = page_with(made if body == "of ours" else lambda _: made(other))

        refusal = await refusal_on(page, log)
        assert f"Thread {page.chat.thread_id}: {ANOTHER_SEQUENCER}" == refusal

    async def test_a_plain_server(self, log: pytest.LogCaptureFixture) -> None:
        """A body that a plain ChatKitServer runs cannot ask; the model reads that it has failed."""
        tools = page_with(tool(asks)).server.agent.tools
        server = PlainServer(PlainStore(), [[calls("asks")], speaks("Sorry.")], tools)
        chat = Conversation(server)

        reply = await chat.say("go")

        assert ([], ["Sorry."]) == (reply.calls, reply.texts)
        assert f"Thread {chat.thread_id}: {NO_SERVER}" == refusal_in(log)

    async def test_another_task(self, log: pytest.LogCaptureFixture) -> None:
        """A task that a body leaves behind cannot ask when the body has returned."""
        ended, tasks = asyncio.Event(), []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            async def later() -> None:
                await ended.wait()
                await sequencer.ask(ctx, animation(state="start"))

            tasks.append(asyncio.create_task(later()))
            return "done"

        page = page_with(tool(asks))
        reply = await page.say()
        ended.set()
        [raised] = await asyncio.gather(*tasks, return_exceptions=True)

        assert ["Sorry."] == reply.texts
        assert (
            f"Thread {page.chat.thread_id}: a client tool call cannot be queued. The run has ended: a tool asks for "
            "client tools before it returns, not from a task that outlives it." == str(raised) == refusal_in(log)
        )
