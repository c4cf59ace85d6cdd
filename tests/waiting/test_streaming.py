"""What a tool that waits streams: each thing once, although its body runs again from the top after each answer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper, Runner
from chatkit.agents import AgentContext
from chatkit.types import CustomTask, ProgressUpdateEvent, Workflow
from chatkit.widgets import Card, Text
from openai.types.responses import ResponseReasoningItem
from openai.types.responses.response_reasoning_item import Summary

from chatkit_clienttools import ClientEffect, showing
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.scripted import message
from tests.helpers.stores import ClockStore, PlainStore
from tests.helpers.waiting import Waiting, animation, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit_clienttools import ClientToolSequencer
    from tests.helpers.conversation import Reply

Ctx = RunContextWrapper[AgentContext[Any]]

spark = ClientEffect("spark")


def streamed(reply: Reply) -> list[Any]:
    """What a response brings besides calls and messages, in short."""
    return [short for event in reply.events if (short := _in_short(event))]


def _in_short(event: Any) -> Any:  # noqa: PLR0911  one for each kind
    match event:
        case {"type": "client_effect", "data": {"n": n}}:
            return n
        case {"type": "progress_update", "text": text}:
            return text
        case {"type": "thread.item.done", "item": {"type": "widget", "widget": {"children": [{"value": value}]}}}:
            return ("widget", value)
        case {"type": "thread.item.done", "item": {"type": "client_tool_call", "name": name}}:
            return ("call", name)
        case {"type": "thread.item.done", "item": {"type": "assistant_message", "content": [{"text": text}]}}:
            return ("text", text)
        case {"type": str(kind), "item": {"type": "workflow", "workflow": {"type": "reasoning"}}}:
            return (kind, "reasoning")
        case {"type": str(kind), "item": {"type": "workflow", "workflow": {"tasks": tasks}}}:
            return (kind, [task["title"] for task in tasks])
        case {"type": "thread.item.updated", "update": {"type": str(kind), "task": {"title": title}}}:
            return (kind, title)
    return None


async def three(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    await ctx.context.stream(spark(n=1))
    await ctx.context.stream(ProgressUpdateEvent(text="Looking"))
    await sequencer.ask(ctx, animation(state="start"))
    await ctx.context.stream(spark(n=2))
    await ctx.context.stream_widget(Card(children=[Text(value="Ada")]))
    await sequencer.ask(ctx, animation(state="stop"))
    await ctx.context.stream(ProgressUpdateEvent(text="Done"))
    return "done"


class TestOrder:
    async def test_a_call_after_an_item_of_the_tool(self) -> None:
        """A call that a woken tool asks for is newer than what the tool has streamed, whatever clock dated that."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            ahead = message("later", ctx.context.thread, "msg_later")
            ahead.item.created_at = datetime(2100, 1, 1)  # noqa: DTZ001  naive, as ChatKit itself writes it
            await ctx.context.stream(ahead)
            await sequencer.ask(ctx, animation(state="stop"))
            return "done"

        page = Waiting(ClockStore(), [[calls("works")], speaks("Good.")], tool(works))
        await page.say()
        await page.answer()

        assert ["assistant_message", "client_tool_call"] == [item.type for item in await page.chat.items()][-2:]


class TestOnce:
    async def test_before_between_and_after(self) -> None:
        """Effects, progress and widgets reach the page once, each before the call that follows it in the body."""
        page = Waiting(PlainStore(), [[calls("three")], speaks("Good.")], tool(three))

        replies = [await page.say(), await page.answer(), await page.answer()]

        assert [
            [1, "Looking", ("call", "run_search_animation")],
            [2, ("widget", "Ada"), ("call", "run_search_animation")],
            ["Done", ("text", "Good.")],
        ] == [streamed(reply) for reply in replies]
        assert 1 == [item.type for item in await page.chat.items()].count("widget")

    async def test_showing_around_an_ask(self) -> None:
        """An indicator that a body shows around an ask begins before the call and ends after the answer, once each."""

        async def shows(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            async with showing(ctx, spark(n=1), spark(n=2)):
                await sequencer.ask(ctx, animation(state="start"))
                await sequencer.ask(ctx, animation(state="stop"))
            return "done"

        page = Waiting(PlainStore(), [[calls("shows")], speaks("Good.")], tool(shows))

        replies = [await page.say(), await page.answer(), await page.answer()]

        call = ("call", "run_search_animation")
        assert [[1, call], [call], [2, ("text", "Good.")]] == [streamed(reply) for reply in replies]

    async def test_in_a_finally(self) -> None:
        """What a `finally` streams is streamed when the body ends, and not when it waits."""

        async def cleans_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.ask(ctx, animation(state="start"))
            finally:
                await ctx.context.stream(spark(n=1))
            return "done"

        page = Waiting(PlainStore(), [[calls("cleans_up")], speaks("Good.")], tool(cleans_up))

        replies = [await page.say(), await page.answer()]

        assert [[("call", "run_search_animation")], [1, ("text", "Good.")]] == [streamed(reply) for reply in replies]

    async def test_of_two_tools_at_once(self) -> None:
        """A tool that waits does not silence another one that runs beside it."""

        async def flickers(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            for n in range(1, 4):
                await ctx.context.stream(spark(n=n))
            return "done"

        page = Waiting(PlainStore(), [[calls("three"), calls("flickers")]], tool(three), tool(flickers))

        reply = await page.say()

        assert {1, 2, 3, "Looking", ("call", "run_search_animation")} == {*streamed(reply)}
        assert 6 == len(streamed(reply))


def reasoning(*texts: str) -> Any:
    """A model step's item: think."""
    summary = [Summary(text=text, type="summary_text") for text in texts]
    return ResponseReasoningItem(id="rs_1", type="reasoning", summary=summary)


class TestWorkflows:
    async def test_one_that_is_closed_before_the_ask(self) -> None:
        """A workflow that the body has closed before it asks is shown once."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await ctx.context.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Search")]))
            await ctx.context.end_workflow()
            await sequencer.ask(ctx, animation(state="start"))
            await ctx.context.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Show")]))
            await ctx.context.end_workflow()
            return "done"

        page = Waiting(PlainStore(), [[calls("works")], speaks("Good.")], tool(works))

        replies = [await page.say(), await page.answer()]

        assert [
            [("thread.item.added", ["Search"]), ("thread.item.done", ["Search"]), ("call", "run_search_animation")],
            [("thread.item.added", ["Show"]), ("thread.item.done", ["Show"]), ("text", "Good.")],
        ] == [streamed(reply) for reply in replies]
        assert [["Search"], ["Show"]] == await stored_workflows(page)

    async def test_one_that_is_left_open(self) -> None:
        """A workflow that is open when the body waits is closed for the page; the body goes on with one of its own."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await ctx.context.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Search")]))
            await sequencer.ask(ctx, animation(state="start"))
            await ctx.context.add_workflow_task(CustomTask(title="Show"))
            await ctx.context.add_workflow_task(CustomTask(title="Hide"))
            await ctx.context.end_workflow()
            return "done"

        page = Waiting(PlainStore(), [[calls("works")], speaks("Good.")], tool(works))

        replies = [await page.say(), await page.answer()]

        assert [
            [("thread.item.added", ["Search"]), ("thread.item.done", ["Search"]), ("call", "run_search_animation")],
            [
                ("thread.item.added", ["Search", "Show"]),
                ("workflow.task.added", "Hide"),
                ("thread.item.done", ["Search", "Show", "Hide"]),
                ("text", "Good."),
            ],
        ] == [streamed(reply) for reply in replies]
        assert [["Search"], ["Search", "Show", "Hide"]] == await stored_workflows(page)

    async def test_one_that_is_never_closed(self) -> None:
        """A workflow that the body leaves open when it returns is closed then."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await ctx.context.add_workflow_task(CustomTask(title="Show"))
            return "done"

        page = Waiting(PlainStore(), [[calls("works")], speaks("Good.")], tool(works))

        await page.say()
        reply = await page.answer()

        assert [
            ("thread.item.added", ["Show"]),
            ("thread.item.done", ["Show"]),
            ("text", "Good."),
        ] == streamed(reply)

    async def test_one_without_tasks(self) -> None:
        """A workflow without tasks, which the page has never seen, is not shown because the body waits."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await ctx.context.start_workflow(Workflow(type="custom", tasks=[]))
            await sequencer.ask(ctx, animation(state="start"))
            return "done"

        page = Waiting(PlainStore(), [[calls("works")], speaks("Good.")], tool(works))

        replies = [await page.say(), await page.answer()]

        assert [[("call", "run_search_animation")], [("text", "Good.")]] == [streamed(reply) for reply in replies]

    async def test_what_the_model_thinks(self) -> None:
        """What the model has thought before it called a tool that waits is closed when the tool waits."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            return "done"

        steps = [[reasoning("Hm"), calls("works")], [reasoning("Ho"), *speaks("Good.")]]
        page = Waiting(PlainStore(), steps, tool(works))

        replies = [await page.say(), await page.answer()]

        thinks = [("thread.item.added", "reasoning"), ("thread.item.done", "reasoning")]
        assert [[*thinks, ("call", "run_search_animation")], [*thinks, ("text", "Good.")]] == [
            streamed(reply) for reply in replies
        ]
        assert [True, True] == [
            item.workflow.summary is not None for item in await page.chat.items() if item.type == "workflow"
        ]

    async def test_what_the_model_does_not_tell(self) -> None:
        """What the model has thought without a summary is closed as well when a tool waits: the page has seen it."""

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            return "done"

        page = Waiting(PlainStore(), [[reasoning(), calls("works")]], tool(works))

        thinks = [("thread.item.added", "reasoning"), ("thread.item.done", "reasoning")]
        assert [*thinks, ("call", "run_search_animation")] == streamed(await page.say())

    async def test_one_that_is_left_open_in_a_run_that_does_not_wait(self) -> None:
        """A workflow that a tool leaves open in a run of which nothing is streamed is not shown at its end either."""

        class Unstreamed(SequencedServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                await Runner.run(self.agent, "go", context=self.agent_context(thread, context))
                yield message("Good.", thread, "msg_1")

        class Page(Waiting):
            kind = Unstreamed

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await ctx.context.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Search")]))
            return "done"

        page = Page(PlainStore(), [[calls("works")], speaks("Good.")], tool(works))

        assert [("text", "Good.")] == streamed(await page.say())


async def stored_workflows(page: Waiting) -> list[list[str]]:
    return [[task.title for task in item.workflow.tasks] for item in await page.chat.items() if item.type == "workflow"]
