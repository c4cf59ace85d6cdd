"""Draw the trace of a conversation into docs/guides/traces.md, from the spans that it exports.

A search asks the page to animate, searches, lets the user choose somebody, and stops the animation. The time is set by
the conversation, so the picture is the same each time. Run it with `make docs`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import Agent, RunContextWrapper, Runner
from chatkit.agents import AgentContext, stream_agent_response
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, ClientToolServer
from chatkit_clienttools.otel import instrument
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import scripted_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "traces.md"
BEGIN = "<!-- drawn by tools/trace_picture.py: begin -->\n"
END = "<!-- drawn by tools/trace_picture.py: end -->\n"

NAME, WIDTH = 38, 48
"""How many characters a name has, and the time."""

MESSAGE = "POST /chatkit (message)"
ANSWERS = {
    "run_search_animation": (0.2, {}),
    "choose_agent": (9.0, {"name": "Ada"}),
}
"""How long the page takes to answer a call, and what it answers."""


class Conversation:
    """One conversation, and the seconds that have passed in it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.server = _server(self)
        self._tracer = self.provider.get_tracer("application")
        self._thread_id: str | None = None

    def now(self) -> float:
        """The time, as the sequencer hears it."""
        return 1_800_000_000 + self.seconds

    async def spans(self) -> list[ReadableSpan]:
        """Hold the conversation, and return what it exports."""
        content = {"content": [{"type": "input_text", "text": "Who knows the law?"}], "attachments": []}
        call = await self._request(MESSAGE, "threads.create", input={**content, "inference_options": {}})
        number = 0
        while call is not None:
            number += 1
            seconds, result = ANSWERS[call["name"]]
            self.seconds += seconds
            answer = {"_receipt": call["arguments"]["_receipt"], "result": result}
            call = await self._request(
                f"POST /chatkit (answer {number})",
                "threads.add_client_tool_output",
                thread_id=self._thread_id,
                result=answer,
            )
        self.provider.shutdown()
        return list(self.exporter.get_finished_spans())

    async def _request(self, name: str, kind: str, **params: Any) -> Any:
        """Post a request within a span, as the instrumentation of a web framework makes one; return the call."""
        call = None
        start = round(self.now() * 1e9)
        with self._tracer.start_as_current_span(name, start_time=start, end_on_exit=False) as span:
            result: Any = await self.server.process(json.dumps({"type": kind, "params": params}), None)
            async for chunk in result:
                event = json.loads(chunk.removeprefix(b"data: "))
                self._thread_id = event["thread"]["id"] if event["type"] == "thread.created" else self._thread_id
                item = event.get("item", {})
                call = item if item.get("type") == "client_tool_call" else call
        self.seconds += 0.3
        span.end(round(self.now() * 1e9))
        return call


def _server(conversation: Conversation) -> ClientToolServer[Any]:
    """Return a server whose search asks the page three times."""
    animation, choose = ClientTool("run_search_animation", result=None), ClientTool("choose_agent")
    sequencer = ClientToolSequencer([animation, choose], clock=conversation.now)
    instrument(sequencer, tracer_provider=conversation.provider)
    converter = ClientToolConverter(sequencer)

    def find() -> list[str]:
        conversation.seconds += 1.5
        return ["Ada", "Grace"]

    @sequencer.function_tool
    async def search_agents(ctx: RunContextWrapper[AgentContext[Any]]) -> str:
        """Find people, and let the user choose one."""
        await sequencer.ask(ctx, animation(state="start"))
        found = await sequencer.step(ctx, find)
        choice = await sequencer.ask(ctx, choose(agents=found))
        await sequencer.ask(ctx, animation(state="stop"))
        return f"The user chose {choice['name']}."

    model = scripted_model(("search_agents", {}), "Ada will call you.")
    agent = Agent[AgentContext[Any]](name="Merak", model=model, tools=[search_agents])

    class Server(ClientToolServer[Any]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
            agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
            history = await converter.to_agent_input(await converter.load_history(self.store, thread, context))
            result = Runner.run_streamed(agent, history, context=agent_context)
            async for event in stream_agent_response(agent_context, result):
                yield event

    return Server(MemoryStore())


def drawn(spans: list[ReadableSpan]) -> str:
    """Draw spans as lines: the name, a bar for the time, and the requests that a span is linked to."""
    times = {id(span): ((span.start_time or 0) / 1e9, (span.end_time or 0) / 1e9) for span in spans}
    begin, end = min(start for start, _ in times.values()), max(end for _, end in times.values())
    names = {span.context.span_id: span.name for span in spans if span.context}
    lines = []
    for span in sorted(spans, key=lambda span: (times[id(span)][0], not span.name.startswith("POST"), span.name)):
        first, last = (round((at - begin) / (end - begin) * WIDTH) for at in times[id(span)])
        bar = " " * min(first, WIDTH - 1) + "█" * max(1, last - first)
        seconds = times[id(span)][1] - times[id(span)][0]
        lines.append(f"{span.name:<{NAME}}│{bar:<{WIDTH}}│{seconds:5.1f} s")
        for link in span.links:
            kind: Any = (link.attributes or {})["chatkit_clienttools.link"]
            lines.append(f"{f'  {kind} by {names[link.context.span_id]}':<{NAME}}│{' ' * WIDTH}│")
    return "\n".join(lines)


async def current(page: str) -> str:
    """Return `page` with the picture as it has to be now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    picture = drawn(await Conversation().spans())
    return f"{before}{BEGIN}\n```\n{picture}\n```\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(asyncio.run(current(PAGE.read_text("utf-8"))), "utf-8")
