"""What is explored: plain ChatKit with a naive queue, and ChatKit with the sequencer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import chatkit.types
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    ThreadItemDoneEvent,
)

from chatkit_clienttools import ClientToolConverter, ClientToolSequencer, ClientToolServer

from .asking import Turn, tool_for
from .properties import calls_in
from .scenario import TOOLS
from .standing import EPOCH, standing_time
from .stores import durable
from .waiting import outputs_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from chatkit.store import Store

    from .gates import Request
    from .properties import Run
    from .world import World


Subject = Callable[["World", str, "Store[Any]"], ChatKitServer[Any]]


class ModelFailedError(Exception):
    """What a failing model run raises."""


class Model:
    """The model of a world: what it asks for depends on what it is run for, and on nothing else."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begins(self, request: Request, message: Any) -> Run:
        kind = request.name.rstrip("0123456789")
        kind = kind if kind in ("action", "form") else "continue" if message is None else "message"
        return self.world.monitor.run_begins(request, kind, self.world)

    def calls(self, request: Request) -> list[Any]:
        """Return what it asks for in the run that `request` begins."""
        scenario = self.world.scenario
        kind = request.name.rstrip("0123456789")
        asked = {"message": scenario.later, "action": scenario.later, "form": scenario.later, "retry": scenario.calls}
        tools = scenario.calls if request.name == "message1" else asked.get(kind, self._then())
        self.world.monitor.asked[request.name] = tools
        return [TOOLS[t](label=f"{request.name}.{n}", n=n) for n, t in enumerate(tools)]

    def tools(self, request: Request) -> dict[str, str]:
        """Return the tools that it calls in the run that `request` begins, and what each has to do."""
        is_first = request.name == "message1" or request.name.startswith("retry")
        scripts = self.world.scenario.tools if is_first else ()
        calls = {f"{request.name}.t{n}": script for n, script in enumerate(scripts)}
        self.world.monitor.bodies.calls(request, calls)
        return calls

    def _then(self) -> tuple[str, ...]:
        """Return what it asks for after the last answer: once, and not again after those answers."""
        calls = calls_in(durable(self.world.store).items)
        is_first = all(call.turn.startswith(("message", "retry", "action", "form")) for call in calls)
        return self.world.scenario.then if is_first else ()

    def ends(self, run: Run) -> None:
        failed = sum(run.failed for run in self.world.monitor.runs)
        if run.kind == "continue" and failed < self.world.scenario.failing_runs:
            run.failed = True
            raise ModelFailedError
        run.completed = True


def said(server: ChatKitServer[Any], thread: Any, request: Request) -> ThreadItemDoneEvent:
    """What the model says in each run."""
    return ThreadItemDoneEvent(
        item=AssistantMessageItem(
            id=server.store.generate_item_id("message", thread, request),
            thread_id=thread.id,
            created_at=standing_time(EPOCH),
            content=[AssistantMessageContent(text="I see.", annotations=[])],
        )
    )


def form(server: ChatKitServer[Any], thread: Any, request: Request) -> ThreadItemDoneEvent:
    """Return a form that the user can fill in."""
    return ThreadItemDoneEvent(
        item=chatkit.types.StructuredInputItem(
            id=server.store.generate_item_id("message", thread, request),
            thread_id=thread.id,
            created_at=standing_time(EPOCH),
            inputs=[],
        )
    )


class NaiveServer(ChatKitServer[Any]):
    """What one writes first: the queue in the thread's metadata, and the next call with each answer."""

    def __init__(self, world: World, name: str, store: Store[Any]) -> None:
        super().__init__(store)
        self.model = Model(world)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        if input_user_message is not None:
            run = self.model.begins(context, input_user_message)
            calls = self.model.calls(context)
            thread.metadata["queue"] = [call.model_dump() for call in calls]
            yield said(self, thread, context)
            self.model.ends(run)
        if thread.metadata.get("queue"):
            yield self._next(thread, context)
        elif input_user_message is None:
            run = self.model.begins(context, None)
            yield said(self, thread, context)
            self.model.ends(run)

    def _next(self, thread: Any, request: Request) -> ThreadItemDoneEvent:
        first, *rest = thread.metadata["queue"]
        thread.metadata = {**thread.metadata, "queue": rest}
        item_id = self.store.generate_item_id("tool_call", thread, request)
        return ThreadItemDoneEvent(
            item=ClientToolCallItem(
                id=item_id, call_id=item_id, thread_id=thread.id, created_at=standing_time(EPOCH), **first
            )
        )


def sequencer_for(world: World, name: str) -> ClientToolSequencer:
    scenario = world.scenario
    sequencer = ClientToolSequencer(
        TOOLS.values(),
        on_user_message=scenario.on_user_message,
        on_failure=scenario.on_failure,
        receipts=scenario.receipts,
        lock=world.lock if scenario.locked else None,
        clock=world.clock,
    )
    sequencer.rules.name = name  # which is random, and stands in the plan
    return sequencer


def _on_top_of(base: Any) -> Subject:
    """Return the server that people write, derived from `base`."""

    def make(world: World, name: str, store: Store[Any]) -> ChatKitServer[Any]:
        sequencer, model, scenario = sequencer_for(world, name), Model(world), world.scenario

        class Server(base):  # type: ignore[misc]
            client_tools = sequencer

            async def respond(self, thread: Any, message: Any, context: Any) -> AsyncIterator[Any]:
                run = model.begins(context, message)
                agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
                sequencer.enqueue(agent_context, *model.calls(context))
                yield said(self, thread, context)
                if scenario.forms and context.name == "message1":
                    yield form(self, thread, context)
                model.ends(run)

            async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                async for event in self.respond(thread, action, context):
                    yield event

        return Server(store)

    return make


@function_tool
async def ask(ctx: RunContextWrapper[AgentContext[Any]]) -> str:
    """Ask the browser for what the scenario says."""
    request: Request = ctx.context.request_context
    server = request.world.workers[request.worker].server
    assert isinstance(server, ClientToolServer)
    sequencer_of(server).enqueue(ctx, *Model(request.world).calls(request))
    return "asked"


def agent_server(world: World, name: str, store: Store[Any]) -> ChatKitServer[Any]:
    """Make what the guide writes: an agent of the SDK, with a server tool that asks for client tools."""
    sequencer, model = sequencer_for(world, name), Model(world)

    class Server(ClientToolServer[Any]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            run = model.begins(context, input_user_message)
            asks = function_call("ask", {}, call_id=f"call-{context.name}", item_id=f"fc-{context.name}")
            says = assistant_message("I see.", item_id=f"msg-{context.name}")
            scripted = ScriptedModel([[says]] if input_user_message is None else [[asks], [says]])
            agent = Agent[AgentContext[Any]](name="Merak", model=scripted, tools=[ask])
            agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
            result = Runner.run_streamed(agent, "hello", context=agent_context)
            async for event in stream_agent_response(agent_context, result):
                yield event
            model.ends(run)

    return Server(store)


def waiting_server(world: World, name: str, store: Store[Any]) -> ChatKitServer[Any]:
    """Make a server whose tools await the browser; it does with them what the SDK does."""
    sequencer, model, scenario = sequencer_for(world, name), Model(world), world.scenario
    tool = tool_for(sequencer)

    class Server(ClientToolServer[Any]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            run = model.begins(context, input_user_message)
            agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
            sequencer.enqueue(agent_context, *model.calls(context))
            turn = Turn(agent_context, tool, model.tools(context))
            async for event in turn.events():
                yield event
            if not turn.is_interrupted:
                yield said(self, thread, context)
            if scenario.forms and context.name == "message1":
                yield form(self, thread, context)
            model.ends(run)

        async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
            async for event in self.respond(thread, action, context):
                yield event

    return Server(store)


def waiting_agent_server(
    world: World, name: str, store: Store[Any], *, keeps_state: bool = False
) -> ChatKitServer[Any]:
    """Make what the guide writes: an agent of the SDK, with a tool that awaits the browser."""
    sequencer, model = sequencer_for(world, name), Model(world)
    tool, converter = tool_for(sequencer), ClientToolConverter(sequencer)

    class Server(ClientToolServer[Any]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            run = model.begins(context, input_user_message)
            history = await converter.load_history(self.store, thread, context)
            outputs = outputs_in(durable(world.store))
            calls = [
                function_call("works", {"of": label, "script": script}, call_id=f"call-{label}", item_id=f"fc-{label}")
                for label, script in model.tools(context).items()
            ]
            says = assistant_message("I see.", item_id=f"msg-{context.name}")
            scripted = ScriptedModel([calls, [says]] if calls else [[says]])
            agent = Agent[AgentContext[Any]](name="Merak", model=scripted, tools=[tool])
            agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
            begin = sequencer.run_streamed if keeps_state else Runner.run_streamed
            result = begin(agent, await converter.to_agent_input(history), context=agent_context)
            async for event in stream_agent_response(agent_context, result):
                yield event
            world.monitor.bodies.model_reads(context, outputs, scripted.calls[0].input)
            model.ends(run)

    return Server(store)


class HoldingServer(ClientToolServer[Any]):
    """It lets one request at a time have a thread, from its first event to its last."""

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self._alone = asyncio.Lock()

    async def _process_streaming_impl(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        async with self._alone:
            async for event in super()._process_streaming_impl(request, context):
                yield event

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        """Stand for the one that is derived."""
        raise NotImplementedError
        yield


SUBJECTS: dict[str, Subject] = {
    "naive": NaiveServer,
    "protected": _on_top_of(ClientToolServer),
    "agent": agent_server,
    "waiting": waiting_server,
    "waiting agent": waiting_agent_server,
    "taken up": partial(waiting_agent_server, keeps_state=True),
    "holding": _on_top_of(HoldingServer),
}


def sequencer_of(server: ClientToolServer[Any]) -> ClientToolSequencer:
    """Return the sequencer of a server."""
    assert server.client_tools is not None
    return server.client_tools
