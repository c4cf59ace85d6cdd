"""What type checkers say of the public names. Each `ignore` is an error that mypy and pyright must find."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents import Agent, FunctionTool, RunContextWrapper, Runner, function_tool
from agents.tool_context import ToolContext  # noqa: TC002  the Agents SDK reads the annotations of a tool
from chatkit.agents import AgentContext, ClientToolCall, ThreadItemConverter, stream_agent_response
from chatkit.store import Store
from chatkit.types import ClientEffectEvent, ThreadStreamEvent
from pydantic import BaseModel
from typing_extensions import assert_type

from chatkit_clienttools import (
    ClientEffect,
    ClientTool,
    ClientToolConverter,
    ClientToolError,
    ClientToolSequencer,
    ClientToolServer,
    LifecycleEvent,
    SequencedAgentContext,
    StoreWrapper,
    SupportsPlans,
    ValidatingStore,
    showing,
)
from chatkit_clienttools.observe import ToolEvent  # noqa: TC001  beside the others
from chatkit_clienttools.sequencer import CallSnapshot, ToolSnapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.actions import Action
    from chatkit.server import ChatKitServer
    from chatkit.types import ThreadMetadata, UserMessageItem, WidgetItem

    from chatkit_clienttools._step.plans import StoredPlan
    from chatkit_clienttools.tools import Call  # noqa: F401  in quotes below


@dataclass
class User:
    name: str


class Animation(BaseModel):
    state: Literal["start", "stop"]
    speed: float = 1.0


animation = ClientTool("animation", Animation, result=None, required=True)
anything = ClientTool("anything")
spinner = ClientEffect("spinner", Animation)
sequencer = ClientToolSequencer([animation, anything])


def check_calls() -> None:
    """A tool with a model takes the model's fields, by name; one without takes anything."""
    assert_type(animation(state="stop", speed=2.0), "Call[None]")
    assert_type(anything(whatever=[1, 2]), "Call[Any]")
    several: list[ClientToolCall] = [animation(state="start"), anything()]
    assert_type(several, list[ClientToolCall])

    animation()  # type: ignore[call-arg]
    animation(stat="start")  # type: ignore[call-arg]
    animation(state="sideways")  # type: ignore[arg-type]
    animation("start")  # type: ignore[call-arg]


def check_effects() -> None:
    """An effect with a model takes the model's fields, by name; one without takes anything."""
    assert_type(spinner(state="start"), ClientEffectEvent)
    assert_type(ClientEffect("confetti")(colour="red"), ClientEffectEvent)

    spinner(stat="start")  # type: ignore[call-arg]


async def check_showing(ctx: RunContextWrapper[AgentContext[User]]) -> None:
    """`showing` takes what a tool has, and effects."""
    async with showing(ctx, spinner(state="start"), spinner(state="stop")):
        pass
    async with showing(ctx.context, spinner(state="start"), spinner(state="stop")):
        pass

    showing(ctx, animation(state="start"), spinner(state="stop"))  # type: ignore[arg-type]


def check_declarations() -> None:
    """What a tool takes is a pydantic model, and nothing else."""
    ClientTool("plain", dict)  # type: ignore[arg-type]


def check_enqueue(
    in_tool: RunContextWrapper[AgentContext[User]],
    in_tool_context: ToolContext[AgentContext[User]],
    in_body: AgentContext[User],
    sequenced: SequencedAgentContext[User],
    wrong: RunContextWrapper[User],
) -> None:
    """`enqueue` takes whatever carries an AgentContext, and calls."""
    sequencer.enqueue(in_tool, animation(state="start"), anything())
    sequencer.enqueue(in_tool_context, animation(state="start"))
    sequencer.enqueue(in_body, ClientToolCall(name="by_hand", arguments={}))
    sequencer.enqueue(sequenced)

    sequencer.enqueue(wrong, animation(state="start"))  # type: ignore[type-var]
    sequencer.enqueue(in_tool, animation)  # type: ignore[arg-type]


@dataclass
class RequestContext:
    """What a stranger's backend knows of a request."""

    user_id: str


class MyContext(AgentContext[RequestContext]):
    """A context of a stranger's own: `RunContextWrapper` is invariant, so it is not one of `AgentContext`."""

    found: list[str] = []  # noqa: RUF012  as pydantic models are written


class Filter(BaseModel):
    kind: Literal["person", "team"]


filtered = ClientTool("filter", Filter, result=list[str])


@function_tool
async def plain_tool(ctx: RunContextWrapper[MyContext], query: str) -> str:
    """A tool as the Agents SDK makes it: everything that takes a context takes that of a subclass."""
    sequencer.enqueue(ctx, filtered(kind="team"), anything(query=query))
    sequencer.discard(ctx)
    async with showing(ctx, spinner(state="start"), spinner(state="stop")):
        ctx.context.found.append(ctx.context.request_context.user_id)

    sequencer.enqueue(ctx, filtered(kind="teams"))  # type: ignore[arg-type]
    sequencer.enqueue(ctx, filtered(sort="team"))  # type: ignore[call-arg]
    sequencer.enqueue(ctx, filtered("team"))  # type: ignore[call-arg]
    sequencer.enqueue(ctx, [filtered(kind="team")])  # type: ignore[arg-type]
    sequencer.enqueue(filtered(kind="team"))  # type: ignore[arg-type]
    return ctx.context.found[0]


@sequencer.function_tool
async def transaction(ctx: RunContextWrapper[MyContext], query: str) -> str:
    """A tool that takes back what it has asked for if it raises is declared in the same way."""
    sequencer.enqueue(ctx, filtered(kind="person"))
    sequencer.enqueue(ctx.context, filtered(kind="person"))
    return query


@sequencer.function_tool(name_override="look")
def synchronous(ctx: ToolContext[MyContext]) -> str:
    """A synchronous tool, with an option of the Agents SDK, and the context that the SDK really hands over."""
    sequencer.enqueue(ctx, filtered(kind="person"))
    return ctx.tool_call_id


class Choice(BaseModel):
    name: str


choose = ClientTool("choose", Filter, result=Choice)


async def search(query: str, limit: int = 10) -> list[str]:
    """A step that is async."""
    return [query][:limit]


def count(found: list[str]) -> int:
    """A step that is not."""
    return len(found)


class Index:
    async def find(self, query: str) -> Choice | None:
        return Choice(name=query)


@sequencer.function_tool
async def waits(ctx: RunContextWrapper[MyContext], query: str) -> str:
    """`ask` returns what the client tool's result says, and `step` what its function says, async or not."""
    assert_type(await sequencer.ask(ctx, choose(kind="team")), Choice)
    assert_type(await sequencer.ask(ctx.context, choose(kind="team")), Choice)
    assert_type(await sequencer.ask(ctx, filtered(kind="team")), list[str])
    assert_type(await sequencer.ask(ctx, animation(state="start")), None)
    assert_type(await sequencer.ask(ctx, anything(whatever=1)), Any)
    assert_type(await sequencer.step(ctx, search, query, limit=3), list[str])
    assert_type(await sequencer.step(ctx, count, [query]), int)
    assert_type(await sequencer.step(ctx.context, Index().find, query), Choice | None)
    assert_type(await sequencer.step(ctx, asyncio.sleep, 0), None)

    await sequencer.ask(ctx, ClientToolCall(name="by_hand", arguments={}))  # type: ignore[arg-type]
    await sequencer.ask(ctx, choose)  # type: ignore[arg-type]
    await sequencer.ask(ctx, choose(kind="teams"))  # type: ignore[arg-type]
    await sequencer.ask(choose(kind="team"))  # type: ignore[call-arg, arg-type]
    wrong: int = await sequencer.ask(ctx, choose(kind="team"))  # type: ignore[arg-type]
    await sequencer.step(ctx, search, 3)  # type: ignore[call-overload]
    await sequencer.step(ctx, search, wrong=3)  # type: ignore[call-overload]
    await sequencer.step(ctx, search(query))  # type: ignore[call-overload]
    name: int = (await sequencer.ask(ctx, choose(kind="team"))).name  # type: ignore[assignment]
    return str(name) + str(wrong)


@sequencer.function_tool
async def returns_another_type(ctx: RunContextWrapper[MyContext]) -> str:
    """The type of an answer is checked where it is returned, too."""
    return await sequencer.ask(ctx, choose(kind="team"))  # type: ignore[arg-type]


assert_type(waits, FunctionTool)
assert_type(plain_tool, FunctionTool)
assert_type(transaction, FunctionTool)
assert_type(synchronous, FunctionTool)


class MyServer(ClientToolServer[RequestContext]):
    """A stranger's server: `respond` and `action` keep ChatKit's types, inside and for their callers."""

    client_tools = sequencer

    def agent_context(self, thread: ThreadMetadata, context: RequestContext) -> MyContext:
        return MyContext(thread=thread, store=self.store, request_context=context)

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        assert_type(self.store, Store[RequestContext])
        converter = ClientToolConverter(sequencer)
        history = await converter.load_history(self.store, thread, context, limit=30)
        agent_context = self.agent_context(thread, context)
        agent = Agent[MyContext](name="Mine", tools=[plain_tool, transaction, synchronous, waits])
        model_input = await converter.to_agent_input(history)
        result = Runner.run_streamed(agent, model_input, context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        async for event in self.respond(thread, None, context):
            assert_type(event, ThreadStreamEvent)
            yield event


if TYPE_CHECKING:  # it would raise as it is made

    class Mistaken(ClientToolServer[RequestContext]):
        """What does not fit ChatKit's own methods is an error, as it is for a `ChatKitServer`."""

        client_tools = ClientToolSequencer  # type: ignore[assignment]

        async def respond(  # type: ignore[override]
            self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: str
        ) -> AsyncIterator[ThreadStreamEvent]:
            raise NotImplementedError
            yield


async def check_server(store: Store[RequestContext], other: Store[int]) -> None:
    """A server takes the store of its context, and is a `ChatKitServer` of it."""
    server: ChatKitServer[RequestContext] = MyServer(ValidatingStore(store))
    await server.process(b"{}", RequestContext("ada"))
    MyServer(store).store = ValidatingStore(store)

    await server.process(b"{}", "ada")  # type: ignore[arg-type]
    MyServer(other)  # type: ignore[arg-type]
    MyServer(ValidatingStore(StoreWrapper[User](User("not a store"))))  # type: ignore[arg-type]
    MyServer(store).store = other  # type: ignore[assignment]
    ClientToolServer()  # type: ignore[abstract, call-arg]


def check_stores(store: Store[User], other: Store[int]) -> None:
    """A wrapped store is a store for the same context."""
    assert_type(ValidatingStore(store), ValidatingStore[User])
    wrapped: Store[User] = ValidatingStore(StoreWrapper(store), mode="observe")
    assert_type(wrapped.generate_thread_id(User("ada")), str)

    ValidatingStore(store, mode="loose")  # type: ignore[arg-type]
    wrapped = ValidatingStore(other)  # type: ignore[arg-type]


async def check_support(store: Store[User]) -> None:
    """A thread's queue is asked for with the context that its store takes."""
    assert_type(await sequencer.snapshot(store, "thr_1", User("ada")), tuple[CallSnapshot, ...])
    assert_type(await sequencer.cancel(store, "thr_1", User("ada")), tuple[CallSnapshot, ...])
    assert_type(await sequencer.waiting_tools(store, "thr_1", User("ada")), tuple[ToolSnapshot, ...])


def check_options() -> None:
    """Observers are called with an event; a lock is a factory of async context managers by thread id."""

    class Metrics:
        def __call__(self, event: LifecycleEvent) -> None:
            assert_type(event.tool, str)
            assert_type(event.waited_ms, int)

    def count(event: LifecycleEvent, /) -> None: ...

    def answers(event: LifecycleEvent) -> int:
        return event.position

    async def nobody_awaits(event: LifecycleEvent) -> None: ...

    def wrong(event: str) -> None: ...

    @asynccontextmanager
    async def lock(thread_id: str) -> AsyncIterator[object]:
        yield thread_id

    def tells(event: ToolEvent) -> None:
        assert_type(event.state, Literal["waiting", "woken", "returned"])

    ClientToolSequencer((), observers=[Metrics(), count, print], lock=lock, max_queued=3)
    ClientToolSequencer(tool_observers=[tells, print])
    ClientToolSequencer(on_user_message="keep", on_failure="abort")

    ClientToolSequencer(observers=[wrong])  # type: ignore[list-item]
    ClientToolSequencer(observers=[tells])  # type: ignore[list-item]
    ClientToolSequencer(tool_observers=[count])  # type: ignore[list-item]
    ClientToolSequencer(observers=[nobody_awaits])  # type: ignore[list-item]
    ClientToolSequencer(observers=[answers])  # type: ignore[list-item]
    ClientToolSequencer(lock=count)  # type: ignore[arg-type]
    ClientToolSequencer(on_user_message="ignore")  # type: ignore[arg-type]
    ClientToolSequencer(["animation"])  # type: ignore[list-item]


def check_plans() -> None:
    """A store keeps plans when it has the two methods; it need not inherit anything."""

    class Plans:
        async def load_plan(self, thread_id: str, context: User) -> StoredPlan | None: ...

        async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: User) -> bool:
            return plan.revision == expected + 1 and bool(plan.document)

    class Half:
        async def load_plan(self, thread_id: str, context: User) -> StoredPlan | None: ...

    plans: SupportsPlans[User] = Plans()
    half: SupportsPlans[User] = Half()  # type: ignore[assignment]
    assert plans is not half


def check_converter() -> None:
    """The converter stands before one of the application's own."""

    class Theirs(ThreadItemConverter):
        def __init__(self, language: str) -> None:
            self.language = language

    class Both(ClientToolConverter, Theirs): ...

    assert_type(Both(sequencer, "de").language, str)
    assert_type(ClientToolConverter(sequencer), ClientToolConverter)
    Both("de")  # type: ignore[arg-type]


def check_errors(error: ClientToolError) -> Exception:
    """Everything the package raises has one root."""
    return error
