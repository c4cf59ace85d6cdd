"""A backend whose tool awaits the browser, and a page that answers it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper, Runner
from chatkit.agents import AgentContext, stream_agent_response
from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools._step.exclusion import left_behind
from chatkit_clienttools.testing._loop import generators_closed
from tests.helpers.conversation import Conversation, Reply, Wire
from tests.helpers.merak import Animation, SequencedServer
from tests.helpers.workers import stored_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from agents import FunctionTool
    from chatkit.store import Store

    from chatkit_clienttools._protocol.plan import Plan

Ctx = RunContextWrapper[AgentContext[Any]]


class People(BaseModel):
    people: list[str]


class Choice(BaseModel):
    name: str


animation = ClientTool("run_search_animation", Animation, result=None)
choose = ClientTool("choose_agent", People, result=Choice)
stop = ClientTool("stop_everything", result=None, required=True)
TOOLS = (animation, choose, stop)


async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The body of a tool that asks once."""
    return (await sequencer.ask(ctx, choose(people=["Ada", "Grace"]))).name


async def twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The body of a tool that asks twice."""
    return f"{await chooses(sequencer, ctx)}, {await chooses(sequencer, ctx)}"


def tool(
    body: Callable[[ClientToolSequencer, Ctx], Awaitable[Any]], **options: Any
) -> Callable[[ClientToolSequencer], FunctionTool]:
    """Make a tool without arguments of a function that gets the sequencer; it has the function's name."""

    def make(sequencer: ClientToolSequencer) -> FunctionTool:
        async def function(ctx: Ctx) -> Any:
            return await body(sequencer, ctx)

        return sequencer.function_tool(**{"name_override": body.__name__, **options})(function)

    return make


async def left_behind_is_done() -> None:
    """Wait for what is still done for requests that were cut off."""
    await generators_closed()
    if steps := left_behind():
        await asyncio.wait(steps)


class Waiting:
    """A server with tools that wait, and a page that answers with receipts."""

    kind: type[SequencedServer] = SequencedServer

    def __init__(
        self,
        store: Store[Any],
        steps: Iterable[Any],
        *makers: Callable[[ClientToolSequencer], FunctionTool],
        **options: Any,
    ) -> None:
        self.store, self.makers, self.options = store, makers, options
        self.sequencer = ClientToolSequencer(**{"tools": TOOLS, **options})
        self.server = self.kind(store, steps, [make(self.sequencer) for make in makers], sequencer=self.sequencer)
        self.chat = Conversation(self.server)
        self.replies: list[Reply] = []

    async def say(self, text: str = "go") -> Reply:
        return self._noted(await self.chat.say(text))

    async def answer(self, result: Any = None, *, to: Wire | None = None) -> Reply:
        """Answer the call that reached the page last, or another one."""
        receipt = (to or self.asked)["arguments"].get("_receipt")
        return await self.post(result if receipt is None else {"_receipt": receipt, "result": result})

    async def post(self, result: Any) -> Reply:
        """Post an answer as it is."""
        return self._noted(await self.chat.answer(result))

    async def fail(self, error: str = "it is away") -> Reply:
        """Report an error as the answer to the call that reached the page last."""
        return await self.post({"_receipt": self.asked["arguments"]["_receipt"], "error": error})

    async def retry(self) -> Reply:
        """Let the newest message be answered again."""
        message = [item for item in await self.chat.items() if item.type == "user_message"][-1]
        return self._noted(await self.chat.retry(message.id))

    async def reload(self) -> Reply:
        """Load the page once more."""
        return self._noted(await self.chat.act("chatkit_clienttools.resume"))

    async def act(self, kind: str) -> Reply:
        """Press a button."""
        return self._noted(await self.chat.act(kind))

    def restart(self, *makers: Callable[[ClientToolSequencer], FunctionTool], **options: Any) -> None:
        """Go on in a new process, of which the code may be newer: only the store is left of the one before."""
        other = self.beside(*makers, **options)
        self.server, self.sequencer, self.chat.server = other.server, other.sequencer, other.server

    def beside(self, *makers: Callable[[ClientToolSequencer], FunctionTool], **options: Any) -> Waiting:
        """Return another server on the store, and a page that shows the conversation; they share the model."""
        other = type(self)(self.store, [], *(makers or self.makers), **{**self.options, **options})
        other.server.model = other.server.agent.model = self.server.model
        other.chat.thread_id, other.replies = self.chat.thread_id, self.replies
        return other

    async def plan(self) -> Plan:
        """The plan of the thread as it is stored."""
        return await stored_plan(self.store, self.chat.thread_id)

    @property
    def asked(self) -> Wire:
        """The call that reached the page last."""
        return [item for reply in self.replies for item in reply.call_items][-1]

    @property
    def seen_by_model(self) -> list[Any]:
        """What the model got to read in its last run: the text of messages, calls, and outputs."""
        return [_in_short(item) for item in self.server.model.calls[-1].input]

    def _noted(self, reply: Reply) -> Reply:
        self.replies.append(reply)
        return reply


class RunsWithOptions(SequencedServer):
    """A server that gives options to `Runner.run_streamed`, and keeps what that returns."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.results: list[Any] = []
        self.run_options: dict[str, Any] = {}

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.streamed(thread, input_user_message, self.agent_context(thread, context)):
            yield event

    async def streamed(self, thread: Any, message: Any, context: AgentContext[Any]) -> AsyncIterator[Any]:
        """Run the agent with a context."""
        result = await self.begun(thread, message, context)
        self.results.append(result)
        async for event in stream_agent_response(context, result):
            yield event

    async def begun(self, thread: Any, message: Any, context: AgentContext[Any]) -> Any:
        """Begin a run."""
        history = await self.converter.load_history(self.store, thread, context.request_context)
        read = await self.converter.to_agent_input(history)
        return Runner.run_streamed(self.agent, read, context=context, **self.run_options)


class WithOptions(Waiting):
    """A page of such a server."""

    kind = RunsWithOptions
    server: RunsWithOptions


def _in_short(item: Any) -> Any:
    match item:
        case {"type": "function_call"}:
            return ("call", item["name"], item["arguments"])
        case {"type": "function_call_output"}:
            return ("output", item["output"])
        case {"content": [{"text": str(text)}, *_]}:
            return (item["role"], text)
    return item
