"""A tool that awaits the browser, beside other tools, handoffs, sessions, approvals, hooks and traces."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import agents
import pytest
from agents import Agent, RunContextWrapper, RunHooks, Runner, SQLiteSession, StopAtTools, function_tool, handoff
from agents.run_state import RunState
from agents.tool_context import ToolContext  # noqa: TC002  read at run time
from agents.tracing import TracingProcessor
from chatkit.agents import AgentContext, stream_agent_response
from pydantic import BaseModel

from tests.helpers.merak import calls, speaks
from tests.helpers.stores import PlainStore
from tests.helpers.waiting import Choice, RunsWithOptions, Waiting, WithOptions, animation, choose, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agents import FunctionTool

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]


async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    choice: Choice = await sequencer.ask(ctx, choose(people=["Ada", "Grace"]))
    return choice.name


async def weather(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    return "It rains."


async def raises(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    raise RuntimeError("no")


def plain(name: str, ran: list[str]) -> FunctionTool:
    @function_tool(name_override=name)
    def looks() -> str:
        """A tool that the sequencer does not know of."""
        ran.append(name)
        return "It snows."

    return looks


def at(page: Waiting, **changes: Any) -> None:
    """Change the agent of the server."""
    page.server.agent = page.server.agent.clone(**changes)


class TestOtherTools:
    async def test_one_beside_it_that_returns(self) -> None:
        """The model reads what a tool of the sequencer has returned beside one that waits, each with its own call."""
        steps = [[calls("weather", call_id="call_a"), calls("chooses", call_id="call_b")], speaks("Ada, and rain.")]
        page = Waiting(PlainStore(), steps, tool(weather), tool(chooses))

        await page.say()
        await page.answer({"name": "Ada"})

        assert [
            ("user", "go"),
            ("call", "weather", "{}"),
            ("output", "It rains."),
            ("call", "chooses", "{}"),
            ("output", "Ada"),
        ] == page.seen_by_model
        assert ["call_a", "call_a", "call_b", "call_b"] == [
            item["call_id"] for item in page.server.model.calls[-1].input if "call_id" in item
        ]

    async def test_a_plain_function_tool_beside_it(self) -> None:
        """A plain function tool beside one that waits runs once, and the model does not read what it has returned."""
        ran: list[str] = []
        page = Waiting(PlainStore(), [[calls("looks"), calls("chooses")], speaks("Ada.")], tool(chooses))
        at(page, tools=[*page.server.agent.tools, plain("looks", ran)])

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["looks"], ["Ada."]) == (ran, last.texts)
        assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Ada")] == page.seen_by_model

    @pytest.mark.fails
    async def test_one_beside_it_that_raises(self) -> None:
        """A tool that raises beside one that waits keeps its error for the model, and the other one goes on."""
        page = Waiting(PlainStore(), [[calls("raises"), calls("chooses")], speaks("Ada.")], tool(raises), tool(chooses))

        await page.say()
        await page.answer({"name": "Ada"})

        assert ["raises", "chooses"] == [each[1] for each in page.seen_by_model if each[0] == "call"]
        errors = [each[1] for each in page.seen_by_model if each[0] == "output"]
        assert ("An error occurred while running the tool", "Ada") == (errors[0][:40], errors[1])

    async def test_several_turns_before_it(self) -> None:
        """What tools of the sequencer have returned in the turns before one that waits is read again, in order."""
        steps = [[calls("weather")], [calls("weather")], [calls("chooses")], speaks("Ada, and rain.")]
        page = Waiting(PlainStore(), steps, tool(weather), tool(chooses))

        await page.say()
        await page.answer({"name": "Ada"})

        assert [
            ("user", "go"),
            *[("call", "weather", "{}"), ("output", "It rains.")] * 2,
            ("call", "chooses", "{}"),
            ("output", "Ada"),
        ] == page.seen_by_model
        assert 4 == page.server.runs

    async def test_the_run_stops_at_another_tool(self) -> None:
        """A tool at which the run has to stop does not end one that waits beside it."""
        steps = [[calls("weather"), calls("chooses")], speaks("Ada, and rain.")]
        page = Waiting(PlainStore(), steps, tool(weather), tool(chooses))
        at(page, tool_use_behavior=StopAtTools(stop_at_tool_names=["weather"]))

        first = await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], []) == ([name for name, _ in first.calls], first.errors)
        assert ["Ada, and rain."] == last.texts

    async def test_the_run_stops_at_the_tool_itself(self) -> None:
        """A tool at which the run has to stop, and that returns without waiting, ends the run without more text."""
        page = Waiting(PlainStore(), [[calls("weather")]], tool(weather), tool(chooses))
        at(page, tool_use_behavior=StopAtTools(stop_at_tool_names=["weather", "chooses"]))

        reply = await page.say()

        assert (1, [], []) == (page.server.runs, reply.texts, reply.errors)


class Query(BaseModel):
    text: str
    limit: int = 3


def typed(sequencer: ClientToolSequencer) -> FunctionTool:
    @sequencer.function_tool(strict_mode=False)
    async def typed(ctx: Ctx, query: Query, top: int = 5) -> str:
        await sequencer.ask(ctx, animation(state="start"))
        return f"{query.text} {query.limit} {top}"

    return typed


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "output"),
        [
            ({"query": {"text": "poets", "limit": 1}, "top": 2}, "poets 1 2"),
            ({"query": {"text": "poets"}}, "poets 3 5"),
        ],
        ids=["all", "defaults"],
    )
    async def test_models_and_defaults(self, arguments: dict[str, Any], output: str) -> None:
        """A tool that takes a pydantic model, and has defaults, waits and is woken with the same arguments."""
        page = Waiting(PlainStore(), [[calls("typed", arguments)], speaks("Good.")], typed)

        first = await page.say()
        await page.answer()

        assert ["run_search_animation"] == [name for name, _ in first.calls]
        assert [("user", "go"), ("call", "typed", json.dumps(arguments)), ("output", output)] == page.seen_by_model

    @pytest.mark.parametrize("arguments", [{}, {"query": {"text": 3}}, {"query": "poets"}])
    async def test_wrong_arguments(self, arguments: dict[str, Any]) -> None:
        """A tool that the model calls with wrong arguments is not run, and the model reads the SDK's own error."""
        page = Waiting(PlainStore(), [[calls("typed", arguments)], speaks("Sorry.")], typed)

        reply = await page.say()

        assert ([], [], ["Sorry."]) == (reply.calls, reply.errors, reply.texts)
        assert "An error occurred while running the tool" in page.seen_by_model[-1][1]
        assert () == (await page.plan()).tools

    async def test_keywords(self) -> None:
        """A tool whose arguments are keywords gets them, the first time and when it is woken."""

        def keyed(sequencer: ClientToolSequencer) -> FunctionTool:
            @sequencer.function_tool
            async def keyed(ctx: Ctx, *, query: str) -> str:
                await sequencer.ask(ctx, animation(state="start"))
                return query

            return keyed

        page = Waiting(PlainStore(), [[calls("keyed", {"query": "poets"})], speaks("Good.")], keyed)

        await page.say()
        await page.answer()

        assert ("output", "poets") == page.seen_by_model[-1]

    async def test_the_call_that_a_tool_serves(self) -> None:
        """The context of a tool names the model's call, and does so still when the tool is woken."""
        seen: list[Any] = []

        def named(sequencer: ClientToolSequencer) -> FunctionTool:
            @sequencer.function_tool
            async def named(ctx: ToolContext[AgentContext[Any]], query: str) -> str:
                seen.append((ctx.tool_name, ctx.tool_call_id, ctx.tool_arguments))
                await sequencer.ask(ctx, animation(state="start"))
                return query

            return named

        page = Waiting(PlainStore(), [[calls("named", {"query": "a"}, call_id="call_n")], speaks("Good.")], named)

        await page.say()
        await page.answer()

        assert [("named", "call_n", '{"query": "a"}')] * 2 == seen


class TestHandoffs:
    async def test_a_tool_that_waits_after_a_handoff(self) -> None:
        """A tool of an agent that has taken over is woken; the first agent goes on with its call and its output."""
        steps = [[calls("transfer_to_guide")], [calls("chooses")], speaks("Ada it is.")]
        page = Waiting(PlainStore(), steps, tool(chooses))
        guide = Agent[AgentContext[Any]](name="guide", model=page.server.model, tools=page.server.agent.tools)
        at(page, tools=[], handoffs=[handoff(guide)])

        first = await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], ["Ada it is."]) == ([name for name, _ in first.calls], last.texts)
        assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Ada")] == page.seen_by_model

    async def test_a_handoff_beside_it(self) -> None:
        """A handoff in the turn in which a tool waits is not made; the model may hand over when it goes on."""
        steps = [
            [calls("chooses"), calls("transfer_to_guide")],
            [calls("transfer_to_guide")],
            speaks("The guide is here."),
        ]
        page = Waiting(PlainStore(), steps, tool(chooses))
        guide = Agent[AgentContext[Any]](name="guide", model=page.server.model)
        at(page, handoffs=[handoff(guide)])

        first = await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], 3) == ([name for name, _ in first.calls], page.server.runs)
        assert ["The guide is here."] == last.texts


class Notes(RunHooks[Any]):
    """Which tools have begun and ended, as hooks of a run see it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.seen.append(("start", tool.name))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.seen.append(("end", tool.name))


class TestHooks:
    async def test_hooks_of_a_tool_that_waits(self) -> None:
        """Hooks hear of tools that return within their run, and never of one that waits: it does not end in a run."""
        page = WithOptions(
            PlainStore(), [[calls("weather"), calls("chooses")], speaks("Ada.")], tool(weather), tool(chooses)
        )
        hooks = page.server.run_options["hooks"] = Notes()

        await page.say()
        await page.answer({"name": "Ada"})

        assert [("start", "weather"), ("end", "weather")] == hooks.seen


class Spans(TracingProcessor):
    """The spans of tools, as a trace shows them."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Any]] = []

    def on_trace_start(self, trace: Any) -> None: ...
    def on_trace_end(self, trace: Any) -> None: ...
    def on_span_start(self, span: Any) -> None: ...
    def on_span_end(self, span: Any) -> None:
        if span.span_data.type == "function":
            self.ended.append((span.span_data.name, span.span_data.output))

    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    agents.set_trace_processors([spans])
    agents.set_tracing_disabled(False)
    yield spans
    agents.set_tracing_disabled(True)
    agents.set_trace_processors([])


async def three(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    await sequencer.ask(ctx, animation(state="start"))
    await sequencer.ask(ctx, animation(state="stop"))
    return await chooses(sequencer, ctx)


class TestTraces:
    async def test_one_tool_in_the_trace(self, spans: Spans, log: pytest.LogCaptureFixture) -> None:
        """A tool that asks three times is one tool in the trace of its run, and its wake-ups are no errors there."""
        page = Waiting(PlainStore(), [[calls("three")], speaks("Ada.")], tool(three))

        await page.say()
        await page.answer()
        await page.answer()
        await page.answer({"name": "Ada"})

        assert ["three"] == [name for name, _ in spans.ended]
        assert [] == [record for record in log.records if record.levelno > logging.INFO]

    async def test_a_trace_around_each_request(self, spans: Spans) -> None:
        """In traces of the application's own the tool is there as it is called, and with its output in the end."""
        page = Waiting(PlainStore(), [[calls("three")], speaks("Ada.")], tool(three))

        with agents.trace("say"):
            await page.say()
        for answer in (None, None, {"name": "Ada"}):
            with agents.trace("answer"):
                await page.answer(answer)

        assert ["three", "three"] == [name for name, _ in spans.ended]
        assert "Ada" == spans.ended[-1][1]


async def count(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    begun.append("count")
    return await chooses(sequencer, ctx)


begun: list[str] = []


@function_tool(needs_approval=True)
def pay() -> str:
    """A tool for which the application itself asks a person."""
    begun.append("pay")
    return "Paid."


class Approving(RunsWithOptions):
    """A server that goes on from the state of the first run when the user presses a button."""

    async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        agent_context = self.agent_context(thread, context)
        text = self.results[0].to_state().to_string(context_serializer=lambda _: {})
        state = await RunState.from_string(self.agent, text, context_override=RunContextWrapper(agent_context))
        for interruption in state.get_interruptions():
            if _call_id(interruption) in action.payload["call_ids"]:
                state.approve(interruption)
        result = Runner.run_streamed(self.agent, state)
        self.results.append(result)
        async for event in stream_agent_response(agent_context, result):
            yield event


def _call_id(interruption: Any) -> str:
    item = interruption.raw_item
    return str(item["call_id"] if isinstance(item, dict) else item.call_id)


class ApprovingPage(WithOptions):
    kind = Approving


def paying(*steps: Any) -> ApprovingPage:
    begun.clear()
    page = ApprovingPage(
        PlainStore(), [[calls("count", call_id="call_w"), calls("pay", call_id="call_p")], *steps], tool(count)
    )
    at(page, tools=[*page.server.agent.tools, pay])
    return page


class TestApprovals:
    async def test_an_approval_of_the_applications_own(self) -> None:
        """The interruptions of a run are the tools that wait and those that the application approves, in order."""
        page = paying()

        await page.say()
        [result] = page.server.results

        assert ["call_w", "call_p"] == [_call_id(each) for each in result.interruptions]
        assert ["count"] == begun

    async def test_only_its_own_is_approved(self) -> None:
        """A run that goes on after an approval ends with the tool that still waits, and is not run for that."""
        page = paying(speaks("Paid, and Ada."))

        await page.say()
        approved = await page.chat.act("approve", call_ids=["call_p"])
        last = await page.answer({"name": "Ada"})

        assert ["stream_options"] == approved.types
        assert ["count", "pay", "count"] == begun
        assert ["call_w"] == [_call_id(each) for each in page.server.results[1].interruptions]
        assert ["Paid, and Ada."] == last.texts
        assert [("user", "go"), ("call", "count", "{}"), ("output", "Ada")] == page.seen_by_model

    async def test_everything_is_approved(self, log: pytest.LogCaptureFixture) -> None:
        """A tool that is approved while it waits is not run: the model and the log hear that it still waits."""
        page = paying(speaks("Paid."), speaks("And Ada."))

        await page.say()
        approved = await page.chat.act("approve", call_ids=["call_p", "call_w"])
        seen = page.seen_by_model
        last = await page.answer({"name": "Ada"})

        assert (["Paid."], ["And Ada."]) == (approved.texts, last.texts)
        assert ["This tool still waits for the browser.", "Paid."] == [each[1] for each in seen if each[0] == "output"]
        assert ["count", "pay", "count"] == begun
        assert ("output", "Ada") in page.seen_by_model
        [refusal] = [record.getMessage() for record in log.records if record.levelno == logging.ERROR]
        assert (
            "The tool count was approved while it waits for the browser, and its body was not run. "
            "`result.interruptions` holds the tools that wait, beside those that your application has to approve: "
            "leave them out." == refusal
        )

    async def test_it_is_approved_at_once(self, log: pytest.LogCaptureFixture) -> None:
        """A tool that is approved in the request in which it begins to wait is not run for that, and waits on."""
        page = PageApprovingAtOnce(PlainStore(), [[calls("chooses")], speaks("Wait."), speaks("Ada.")], tool(chooses))

        first = await page.say()
        seen = page.seen_by_model
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], ["Ada."]) == ([name for name, _ in first.calls], last.texts)
        assert ("output", "This tool still waits for the browser.") == seen[-1]
        assert ["The tool chooses was approved while it waits for the browser"] == [
            record.getMessage().split(",")[0] for record in log.records if record.levelno == logging.ERROR
        ]


class ApprovingAtOnce(RunsWithOptions):
    """A server that approves whatever a run has left open, in the same request."""

    async def streamed(self, thread: Any, message: Any, context: AgentContext[Any]) -> AsyncIterator[Any]:
        async for event in super().streamed(thread, message, context):
            yield event
        if interruptions := self.results[-1].interruptions:
            state = self.results[-1].to_state()
            for interruption in interruptions:
                state.approve(interruption)
            async for event in stream_agent_response(context, Runner.run_streamed(self.agent, state)):
                yield event


class PageApprovingAtOnce(WithOptions):
    kind = ApprovingAtOnce


class InSession(RunsWithOptions):
    """A server that keeps what the model reads in a session: a run gets the message, or what tools have returned."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session = SQLiteSession("thread")

    async def begun(self, thread: Any, message: Any, context: AgentContext[Any]) -> Any:
        history = await self.converter.load_history(self.store, thread, context.request_context, limit=10)
        read = await self.converter.to_agent_input(history[-1:] if message else history)
        if message is None:
            known = [_answered(item) for item in await self.session.get_items()]
            await self.session.add_items([item for item in read if _answered(item) and _answered(item) not in known])
            read = []
        return Runner.run_streamed(self.agent, read, context=context, session=self.session)


def _answered(item: Any) -> str | None:
    """The call that an item is the output of."""
    call_id: str | None = item["call_id"] if item.get("type") == "function_call_output" else None
    return call_id


class PageInSession(Waiting):
    kind = InSession
    server: InSession


class TestSessions:
    async def test_a_session(self) -> None:
        """A session holds the call of a tool that waits; its output, added when it is there, completes it for good."""
        steps = [[calls("weather"), calls("chooses")], speaks("Ada."), speaks("Yes.")]
        page = PageInSession(PlainStore(), steps, tool(weather), tool(chooses))

        await page.say()
        last = await page.answer({"name": "Ada"})
        seen = page.seen_by_model
        await page.say("Really?")
        page.server.session.close()

        assert ["Ada."] == last.texts
        assert [
            ("user", "go"),
            ("call", "weather", "{}"),
            ("call", "chooses", "{}"),
            ("output", "It rains."),
            ("output", "Ada"),
        ] == seen
        assert [*seen, ("assistant", "Ada."), ("user", "Really?")] == page.seen_by_model
