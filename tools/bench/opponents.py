"""The same conversation with pydantic-ai and LangGraph, as their documentation shows it, with their test models."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ExternalToolset, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

from .conversations import ANSWER, CALLS
from .timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .figures import Cost

# pyright: reportMissingImports=false

_numbers = itertools.count(1)

# pydantic-ai: a tool that is run elsewhere ends the run, and the next run goes on with the results


def _replies(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("show", {"number": number}) for number in range(CALLS)])
    return ModelResponse(parts=[TextPart("There they are.")])


async def _streamed(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    if len(messages) == 1:
        yield {number: DeltaToolCall("show", json.dumps({"number": number})) for number in range(CALLS)}
    else:
        yield "There they are."


_schema = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
_show = ToolDefinition(name="show", parameters_json_schema=_schema, description="Show one thing.")
deferring = Agent(
    FunctionModel(_replies, stream_function=_streamed),
    output_type=[str, DeferredToolRequests],
    toolsets=[ExternalToolset([_show])],
)


class PydanticAI:
    """A backend that keeps the messages of each conversation as JSON, since the answers come with another request."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}

    async def talk(self) -> str:
        """Hold a conversation: one message, and one request with all answers."""
        key = next(_numbers)
        result = await deferring.run("Show me three things.")
        self.kept[key] = result.all_messages_json()
        if not isinstance(result.output, DeferredToolRequests):
            raise TypeError("the model was to call a tool")
        results = DeferredToolResults()
        for call in result.output.calls:
            results.calls[call.tool_call_id] = ANSWER
        history = ModelMessagesTypeAdapter.validate_json(self.kept[key])
        last = await deferring.run(message_history=history, deferred_tool_results=results)
        self.kept[key] = last.all_messages_json()
        return str(last.output)


class PydanticAIPage:
    """The same agent behind the adapter for pages that pydantic-ai ships: requests are JSON, and events are streamed.

    The page keeps the messages, and posts them with its answers.
    """

    async def talk(self) -> Cost:
        """Hold a conversation: one message, and one request with all answers; say what the server takes."""
        served, number = Stopwatch(), next(_numbers)
        messages: list[dict[str, Any]] = [
            {"id": f"u_{number}", "role": "user", "parts": [{"type": "text", "text": "Show me three things."}]}
        ]
        calls = self._read(await self._exchange(messages, served), "tool-input-available")
        parts = [
            {
                "type": "tool-show",
                "toolCallId": call["toolCallId"],
                "state": "output-available",
                "input": call["input"],
                "output": ANSWER,
            }
            for call in calls
        ]
        messages.append({"id": f"a_{number}", "role": "assistant", "parts": parts})
        said = self._read(await self._exchange(messages, served), "text-delta")
        if len(calls) != CALLS or not said:
            raise RuntimeError("the conversation went another way")
        return served.cost

    async def _exchange(self, messages: list[dict[str, Any]], served: Stopwatch) -> list[str]:
        body = json.dumps({"trigger": "submit-message", "id": "chat", "messages": messages}).encode()
        with served.running():
            adapter = VercelAIAdapter(deferring, VercelAIAdapter.build_run_input(body), accept="text/event-stream")
            return [chunk async for chunk in adapter.encode_stream(adapter.run_stream())]

    def _read(self, chunks: list[str], kind: str) -> list[dict[str, Any]]:
        events = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks if "[DONE]" not in chunk]
        return [event for event in events if event["type"] == kind]


# LangGraph: an interrupt ends the run, and the next run goes on from the beginning of the node


class State(TypedDict):
    """What the graph knows."""

    messages: Annotated[list[AnyMessage], add_messages]


class LangGraph:
    """A graph with a node for the model, one that asks the browser three times, and its memory saver.

    A node for each call was tried too: it takes as long.
    """

    def __init__(self, *, with_step: bool) -> None:
        self.graph = _graph(with_step=with_step)

    async def talk(self) -> str:
        """Hold a conversation: one message, and one request for each answer."""
        config: Any = {"configurable": {"thread_id": f"thread_{next(_numbers)}"}}
        state = await self.graph.ainvoke({"messages": [HumanMessage("Show me three things.")]}, config)
        while "__interrupt__" in state:
            state = await self.graph.ainvoke(Command(resume=ANSWER), config)
        return str(state["messages"][-1].content)


def _model() -> Any:
    return GenericFakeChatModel(messages=itertools.cycle([_calls, AIMessage("There they are.")]))


_calls = AIMessage("", tool_calls=[{"name": "show_three", "args": {}, "id": "call_1", "type": "tool_call"}])


def _with_model(builder: Any) -> None:
    model = _model()

    async def speak(state: State) -> dict[str, Any]:
        # a conversation has two runs of the model, and several may be under way
        reply = await model.ainvoke(state["messages"])
        return {"messages": [reply.model_copy(update={"id": f"msg_{next(_numbers)}"})]}

    def wants_tool(state: State) -> str:
        return "ask" if getattr(state["messages"][-1], "tool_calls", None) else END

    builder.add_node("model", speak)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", wants_tool, ["ask", END])


def _graph(*, with_step: bool) -> Any:
    async def ask(_state: State) -> dict[str, Any]:
        answers = [interrupt({"name": "show", "number": 0})]
        found = await look_up("something") if with_step else None
        answers += [interrupt({"name": "show", "number": number, "found": found}) for number in (1, 2)]
        return {"messages": [ToolMessage(f"{len(answers)} were shown.", tool_call_id="call_1")]}

    builder: Any = StateGraph(State)
    _with_model(builder)
    builder.add_node("ask", ask)
    builder.add_edge("ask", "model")
    return builder.compile(checkpointer=InMemorySaver())


@task  # type: ignore[untyped-decorator, unused-ignore]  # typed where langgraph is installed
async def look_up(query: str) -> list[str]:
    """What a step does: nothing that takes any time. A task's result is kept, so that it runs once."""
    return [query, query.upper()]
