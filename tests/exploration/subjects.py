"""What is explored: plain ChatKit with a naive queue, and ChatKit with the sequencer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    ThreadItemDoneEvent,
)

from chatkit_clienttools import ClientToolSequencer

from .scenario import TOOLS
from .standing import EPOCH, standing_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store

    from .gates import Request
    from .properties import Run
    from .world import World


class ModelFailedError(Exception):
    """What a failing model run raises."""


class Model:
    """The model of a world: what it asks for depends on what it is run for, and on nothing else."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begins(self, request: Request, message: Any) -> Run:
        kind = "continue" if message is None else "action" if request.name.startswith("action") else "message"
        return self.world.monitor.run_begins(request, kind, self.world)

    def calls(self, request: Request) -> list[Any]:
        """Return what it asks for in the run that `request` begins."""
        tools = self.world.scenario.asked_by(request.name)
        self.world.monitor.asked[request.name] = tools
        return [TOOLS[t](label=f"{request.name}.{n}", n=n) for n, t in enumerate(tools)]

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
        lock=world.lock if scenario.locked else None,
        clock=world.clock,
    )
    sequencer._rules._name = name
    return sequencer


class SequencedServer(ChatKitServer[Any]):
    """A plain ChatKitServer whose runs are sequenced."""

    def __init__(self, world: World, name: str, store: Store[Any]) -> None:
        super().__init__(store)
        self.model = Model(world)
        self.sequencer = sequencer_for(world, name)
        self.respond = self.sequencer.sequenced(SequencedServer.run).__get__(self)  # type: ignore[method-assign]
        self.action = self.sequencer.sequenced(SequencedServer.press).__get__(self)  # type: ignore[method-assign]

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        """Stand in for the decorated one, which every worker makes for itself."""
        raise NotImplementedError
        yield

    async def run(self, thread: Any, message: Any, context: Any) -> AsyncIterator[Any]:
        run = self.model.begins(context, message)
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        self.sequencer.enqueue(agent_context, *self.model.calls(context))
        yield said(self, thread, context)
        self.model.ends(run)

    async def press(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.run(thread, action, context):
            yield event


SUBJECTS: dict[str, Callable[[World, str, Store[Any]], ChatKitServer[Any]]] = {
    "naive": NaiveServer,
    "sequenced": SequencedServer,
}


def memory_of(server: ChatKitServer[Any]) -> tuple[Any, ...]:
    """Return what a worker remembers between requests: who has claimed what."""
    sequencer = getattr(server, "sequencer", None)
    if sequencer is None:
        return ()
    holders = sequencer._rules.claims._holders.items()
    return tuple(sorted((what, stream._busy_until) for (_, what), stream in holders))
