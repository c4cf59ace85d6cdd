"""The conversations that are measured: the servers, and a page that does as little as a page can."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from agents import Agent, RunContextWrapper, Runner, StopAtTools, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, ClientToolCall, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer, StreamingResult
from pydantic_core import from_json

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, ClientToolServer

from .timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store

Wire = dict[str, Any]
Context = RunContextWrapper[AgentContext[Any]]

CALLS = 3
"""How many client tool calls a conversation has."""

TEXT = "Show me three things."
"""What the user writes."""

ANSWER = {"is": "shown"}
"""What the page answers."""

set_tracing_disabled(disabled=True)

_numbers = itertools.count(1)


class Page:
    """Posts requests, reads their events, and answers each client tool call."""

    def __init__(self, server: ChatKitServer[Any]) -> None:
        self._server = server
        self.served = Stopwatch()
        """What the server takes. The page's own work is not its: it writes requests and reads events."""
        self.thread_id: str | None = None
        self.requests = 0
        self.asked: Wire | None = None
        """The call that is to be answered."""

    async def say(self, text: str = TEXT) -> None:
        """Write a message."""
        message = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
        kind = "threads.add_user_message" if self.thread_id else "threads.create"
        self.read(await self.exchange(self.request(kind, input=message)))

    async def answer(self) -> None:
        """Answer the call that has arrived last."""
        self.read(await self.exchange(self.answering()))

    def answering(self) -> str:
        """Return the request that answers the call that has arrived last."""
        receipt = self.asked and self.asked["arguments"].get("_receipt")
        result = {"_receipt": receipt, "result": ANSWER} if receipt else ANSWER
        return self.request("threads.add_client_tool_output", result=result)

    async def talk(self, text: str = TEXT) -> None:
        """Write a message, and answer for as long as the server asks."""
        await self.say(text)
        while self.asked:
            await self.answer()

    def request(self, kind: str, **params: Any) -> str:
        """Return a request as it is posted."""
        if self.thread_id:
            params["thread_id"] = self.thread_id
        return json.dumps({"type": kind, "params": params})

    async def exchange(self, request: str) -> list[bytes]:
        """Post a request, and take what comes back."""
        self.requests += 1
        with self.served.running():
            result = await self._server.process(request, None)
            return [chunk async for chunk in result] if isinstance(result, StreamingResult) else []

    def read(self, chunks: list[bytes]) -> None:
        """Look for a call among the events that have come."""
        self.asked = None
        for chunk in chunks:
            match from_json(chunk.removeprefix(b"data: ")):  # what the other frameworks read their JSON with
                case {"type": "thread.created", "thread": {"id": thread_id}}:
                    self.thread_id = thread_id
                case {"type": "thread.item.done", "item": {"type": "client_tool_call"} as item}:
                    self.asked = item
                case {"type": "error"} as event:
                    raise RuntimeError(f"the chat shows an error: {event}")


def uses(tool: str, **arguments: Any) -> list[Any]:
    """A reply of the model: it calls a tool."""
    n = next(_numbers)
    return [function_call(tool, arguments, call_id=f"call_{n}", item_id=f"fc_{n}")]


def speaks(text: str = "There they are.") -> list[Any]:
    """A reply of the model: it says something."""
    return [assistant_message(text, item_id=f"msg_{next(_numbers)}")]


# ours

show = ClientTool("show")
sequencer = ClientToolSequencer([show])
converter = ClientToolConverter(sequencer)

waiting = ClientToolSequencer([show])
waiting_converter = ClientToolConverter(waiting)


@sequencer.function_tool
async def show_three(ctx: Context) -> str:
    """Show three things; the model gets the answers."""
    sequencer.enqueue(ctx, *[show(number=number) for number in range(CALLS)])
    return "They are on their way."


@waiting.function_tool
async def ask_three(ctx: Context) -> str:
    """Ask three times, each time with the answer, and take a step in between."""
    answers = [await waiting.ask(ctx, show(number=0))]
    found = await waiting.step(ctx, look_up, "something")
    answers += [await waiting.ask(ctx, show(number=number, found=found)) for number in (1, 2)]
    return f"{len(answers)} were shown."


async def look_up(query: str) -> list[str]:
    """What a step does: nothing that takes any time."""
    return [query, query.upper()]


class Ours(ClientToolServer[Any]):
    """A backend with this library, as the README writes it."""

    client_tools = sequencer
    history = converter
    agent = Agent[AgentContext[Any]](name="Ours", tools=[show_three], tool_use_behavior="stop_on_first_tool")
    replies: Callable[[], list[list[Any]]] = staticmethod(lambda: [uses("show_three"), speaks()])

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.model, self._agent = scripted(self.agent)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        """Let the model run."""
        if input_user_message:
            self.model.extend(self.replies())
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await self.history.load_history(self.store, thread, context)
        history = await self.history.to_agent_input(newest)
        result = Runner.run_streamed(self._agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()


class OursWaits(Ours):
    """The same with a tool that waits."""

    client_tools = waiting
    history = waiting_converter
    agent = Agent[AgentContext[Any]](name="Waits", tools=[ask_three])
    replies = staticmethod(lambda: [uses("ask_three"), speaks()])


class OursTalks(Ours):
    """The same where the model only speaks."""

    replies = staticmethod(lambda: [speaks()])


# plain ChatKit


@function_tool
async def show_one(ctx: Context, number: int) -> str:
    """Show one thing, in the one slot that a run has."""
    ctx.context.client_tool_call = ClientToolCall(name="show", arguments={"number": number})
    return "It is on its way."


class Plain(ChatKitServer[Any]):
    """The same backend without this library: the model has to run for each call."""

    agent = Agent[AgentContext[Any]](
        name="Plain", tools=[show_one], tool_use_behavior=StopAtTools(stop_at_tool_names=["show_one"])
    )
    replies: Callable[[], list[list[Any]]] = staticmethod(
        lambda: [*[uses("show_one", number=number) for number in range(CALLS)], speaks()]
    )

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.model, self._agent = scripted(self.agent)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        """Let the model run."""
        if input_user_message:
            self.model.extend(self.replies())
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await self.store.load_thread_items(thread.id, None, 30, "desc", context)
        history = await simple_to_agent_input(newest.data[::-1])
        result = Runner.run_streamed(self._agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()


class PlainTalks(Plain):
    """The same where the model only speaks."""

    replies = staticmethod(lambda: [speaks()])


def scripted(agent: Agent[AgentContext[Any]]) -> tuple[ScriptedModel, Agent[AgentContext[Any]]]:
    """Return a model, and a copy of the agent that uses it."""
    model = ScriptedModel()
    return model, agent.clone(model=model)


# without a model

asking = ClientToolSequencer([ClientTool("show", result=None)])


class OursAsks(ClientToolServer[Any]):
    """A backend whose `respond` asks for a number of calls and does nothing else."""

    client_tools = asking

    def __init__(self, store: Store[Any], calls: int = CALLS) -> None:
        super().__init__(store)
        self.calls = calls

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        """Ask."""
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        asking.enqueue(agent_context, *[show(number=number) for number in range(self.calls)])
        return
        yield


class PlainSilent(ChatKitServer[Any]):
    """A backend that does nothing at all."""

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        """Do nothing."""
        return
        yield
