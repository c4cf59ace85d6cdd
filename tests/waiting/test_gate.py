"""How the Agents SDK asks whether a tool has to wait: once for each call, and by older versions again later."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._step.lookup import current_body
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.scripted import Scripted
from tests.helpers.waiting import TOOLS, choose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Ctx = RunContextWrapper[AgentContext[Any]]


class Asked:
    """A tool that waits, and a conversation in which it is asked by hand whether it has to."""

    def __init__(self, *bodies: Any, **options: Any) -> None:
        self.ran = 0
        sequencer = ClientToolSequencer(TOOLS, **options)

        @sequencer.function_tool
        async def pick(ctx: Ctx) -> str:
            """Let the user pick somebody."""
            self.ran += 1
            return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

        self.tool = pick
        self.chat = Conversation(Scripted(MemoryStore(), sequencer, *(self.body(each) for each in bodies)))

    def body(self, what: Any) -> Any:
        """Return a body in which the tool is asked."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            context = server.agent_context(context.thread, None)
            await what(self, RunContextWrapper(context))
            return
            yield

        return body

    async def has_to_wait(self, ctx: Ctx) -> bool:
        gate: Any = self.tool.needs_approval
        answer: bool = await gate(ctx, {}, "call_1")
        return answer


async def test_asked_again_in_one_run() -> None:
    """Asked twice about one call, the tool says the same, and its body has run once."""
    said: list[bool] = []

    async def twice(asked: Asked, ctx: Ctx) -> None:
        said.extend([await asked.has_to_wait(ctx), await asked.has_to_wait(ctx)])

    asked = Asked(twice)
    await asked.chat.say("go")

    assert ([True, True], 1) == (said, asked.ran)


async def test_asked_again_in_a_later_run() -> None:
    """Asked in a later run about a call that still waits, the tool says so, and its body does not run again."""
    said: list[bool] = []

    async def once(asked: Asked, ctx: Ctx) -> None:
        said.append(await asked.has_to_wait(ctx))

    asked = Asked(once, once, on_user_message="keep")
    await asked.chat.say("go")
    await asked.chat.act("pressed")

    assert ([True, True], 1) == (said, asked.ran)


async def test_asked_about_what_it_has_returned() -> None:
    """In a run that is taken up again the tool need not wait for what it has returned already."""
    said: list[bool] = []

    async def returned(asked: Asked, ctx: Ctx) -> None:
        body = current_body()
        assert body
        body.returned = {"call_1": "Ada"}
        said.append(await asked.has_to_wait(ctx))

    asked = Asked(returned)
    await asked.chat.say("go")

    assert ([False], 0) == (said, asked.ran)


async def test_invoked_after_its_run_was_cut_off() -> None:
    """A tool that has returned before is not run again when the SDK invokes it after Stop."""
    ended, said = asyncio.Event(), []
    tasks: list[asyncio.Task[None]] = []

    async def returned(asked: Asked, ctx: Ctx) -> None:
        body = current_body()
        assert body
        body.returned = {"call_1": "Ada"}

        async def late() -> None:
            await ended.wait()
            made = ToolContext(context=ctx.context, tool_name="works", tool_call_id="call_1", tool_arguments="{}")
            said.append(await asked.tool.on_invoke_tool(made, "{}"))

        tasks.append(asyncio.create_task(late()))

    asked = Asked(returned)
    await asked.chat.say("go")
    ended.set()
    await tasks[0]

    assert (["Ada"], 0) == (said, asked.ran)


async def test_a_provider_that_repeats_its_ids() -> None:
    """A call with the id of one whose output the model has read is another call: the body runs for it."""
    sequencer = ClientToolSequencer(TOOLS)
    searched: list[str] = []

    @sequencer.function_tool
    async def search(ctx: Ctx, query: str) -> str:
        """Search."""
        searched.append(query)
        return f"found {query}"

    async def twice(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        ctx, told = RunContextWrapper(context), []
        for query in ("a", "b"):
            gate: Any = search.needs_approval
            assert not await gate(ctx, {"query": query}, "call_0")
            arguments = json.dumps({"query": query})
            made = ToolContext(context=context, tool_name="search", tool_call_id="call_0", tool_arguments=arguments)
            told.append(await search.on_invoke_tool(made, arguments))
        assert ["found a", "found b"] == told
        return
        yield

    await Conversation(Scripted(MemoryStore(), sequencer, twice)).say("go")

    assert ["a", "b"] == searched
