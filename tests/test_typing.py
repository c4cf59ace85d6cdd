"""What type checkers say of the public names. Never run: each `ignore` is an error that mypy and pyright must find."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chatkit.agents import AgentContext, ClientToolCall, ThreadItemConverter
from chatkit.server import ChatKitServer
from chatkit.types import ClientEffectEvent, ThreadStreamEvent
from pydantic import BaseModel
from typing_extensions import assert_type

from chatkit_clienttools import (
    ClientEffect,
    ClientTool,
    ClientToolConverter,
    ClientToolError,
    ClientToolSequencer,
    LifecycleEvent,
    SequencedAgentContext,
    StoreWrapper,
    SupportsPlans,
    ValidatingStore,
    showing,
)
from chatkit_clienttools.sequencer import CallSnapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import RunContextWrapper
    from agents.tool_context import ToolContext
    from chatkit.actions import Action
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, UserMessageItem, WidgetItem

    from chatkit_clienttools._plans import StoredPlan


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
    assert_type(animation(state="start"), ClientToolCall)
    assert_type(animation(state="stop", speed=2.0), ClientToolCall)
    assert_type(anything(whatever=[1, 2]), ClientToolCall)

    animation()  # type: ignore[call-arg]
    animation(stat="start")  # type: ignore[call-arg]
    animation(state="sideways")  # type: ignore[arg-type]
    animation("start")  # type: ignore[call-arg]


def check_effects() -> None:
    """So it is with effects."""
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

    sequencer.enqueue(wrong, animation(state="start"))  # type: ignore[arg-type]
    sequencer.enqueue(in_tool, animation)  # type: ignore[arg-type]


def check_sequenced() -> None:
    """A decorated `respond` and `action` still override ChatKit's own; other methods are refused."""

    class Server(ChatKitServer[User]):
        @sequencer.sequenced
        async def respond(
            self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: User
        ) -> AsyncIterator[ThreadStreamEvent]:
            agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
            assert_type(agent_context, SequencedAgentContext[User])
            async for event in self.respond(thread, None, context):
                assert_type(event, ThreadStreamEvent)
                yield event

        @sequencer.sequenced
        async def action(
            self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: User
        ) -> AsyncIterator[ThreadStreamEvent]:
            async for event in self.respond(thread, None, context):
                yield event

        @sequencer.sequenced  # type: ignore[arg-type]
        async def title(self, thread: ThreadMetadata) -> str:
            return thread.id

    def serve(store: Store[User]) -> ChatKitServer[User]:
        return Server(ValidatingStore(store))

    serve(ValidatingStore(StoreWrapper[User](User("not a store"))))  # type: ignore[arg-type]


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


def check_options() -> None:
    """Observers are called with an event; a lock is a factory of async context managers by thread id."""

    class Metrics:
        def __call__(self, event: LifecycleEvent) -> None:
            assert_type(event.tool, str)
            assert_type(event.waited_ms, int)

    def count(event: LifecycleEvent, /) -> int:
        return event.position

    def wrong(event: str) -> None: ...

    @asynccontextmanager
    async def lock(thread_id: str) -> AsyncIterator[object]:
        yield thread_id

    ClientToolSequencer((), observers=[Metrics(), count, print], lock=lock, max_queued=3)
    ClientToolSequencer(on_user_message="keep", on_failure="abort")

    ClientToolSequencer(observers=[wrong])  # type: ignore[list-item]
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
