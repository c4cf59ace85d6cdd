"""A search that wants three client tools from one run."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, ClientToolCall, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer
from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, ClientToolServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem


class Animation(BaseModel):
    state: Literal["start", "stop"]


class Profiles(BaseModel):
    agents: list[str]


animation = ClientTool("run_search_animation", Animation, result=None, required=True)
profiles = ClientTool("display_agent_profiles", Profiles, result=None)
selection = ClientTool("get_selected_canvas_nodes", result=list[str])
anything = ClientTool("anything")
TOOLS = (animation, profiles, selection, anything)

THREE: list[tuple[str, dict[str, Any]]] = [
    ("run_search_animation", {"state": "start"}),
    ("display_agent_profiles", {"agents": ["Ada"]}),
    ("run_search_animation", {"state": "stop"}),
]

_ids = itertools.count(1)


def speaks(text: str) -> list[Any]:
    """A model step: say something, under an id of its own."""
    return [assistant_message(text, item_id=f"msg_{next(_ids)}")]


def calls(name: str, arguments: dict[str, Any] | None = None, *, call_id: str | None = None) -> Any:
    """A model step's item: call a server tool."""
    n = next(_ids)
    return function_call(name, arguments or {}, call_id=call_id or f"call_{n}", item_id=f"fc_{n}")


class PlainServer(ChatKitServer[Any]):
    """The server people have: `respond` as the ChatKit guide writes it."""

    def __init__(self, store: Store[Any], steps: Iterable[Any] = (), tools: Iterable[Any] = ()) -> None:
        super().__init__(store)
        self.model = ScriptedModel(steps)
        self.agent = Agent[AgentContext[Any]](name="Merak", model=self.model, tools=list(tools))

    @property
    def runs(self) -> int:
        """How often the model was called."""
        return len(self.model.calls)

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        page = await self.store.load_thread_items(thread.id, None, 50, "asc", context)
        result = Runner.run_streamed(self.agent, await self.to_input(page.data), context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event

    async def to_input(self, items: list[Any]) -> Any:
        return await simple_to_agent_input(items)


class SequencedServer(ClientToolServer[Any], PlainServer):
    """`PlainServer` with the changes that the README makes to a server."""

    def __init__(
        self,
        store: Store[Any],
        steps: Iterable[Any] = (),
        tools: Iterable[Any] = (),
        *,
        sequencer: ClientToolSequencer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(store, steps, tools)
        self.client_tools = self.sequencer = sequencer or ClientToolSequencer(TOOLS, **options)
        self.converter = ClientToolConverter(self.sequencer)

    async def to_input(self, items: list[Any]) -> Any:
        return await self.converter.to_agent_input(items)


@function_tool
async def plain_search(ctx: RunContextWrapper[AgentContext[Any]], query: str) -> str:
    """Search agents, and set the slot three times."""
    for name, arguments in THREE:
        ctx.context.client_tool_call = ClientToolCall(name=name, arguments=arguments)
    return "1 agent is on screen."
