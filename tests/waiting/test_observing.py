"""What can be watched of tools that wait: a line and an event for all that happens, and which tool waits for what."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext, ThreadItemConverter
from chatkit.types import (
    CustomTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
)

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools.errors import CallCancelledError, UsageError
from chatkit_clienttools.observe import ToolEvent, ToolState
from chatkit_clienttools.sequencer import ToolSnapshot
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import at
from tests.helpers.keeping import Keeping
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.waiting import Waiting, animation, choose, chooses, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolConverter

Ctx = RunContextWrapper[AgentContext[Any]]

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did


async def secrets(query: str) -> list[str]:
    return [SECRET]


async def search(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    people = await sequencer.step(ctx, secrets, SECRET)
    choice = await sequencer.ask(ctx, choose(people=people))
    await sequencer.ask(ctx, animation(state="stop"))
    return f"{choice.name} {SECRET}"


class Clock:
    """Seconds that pass when the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def searched(store: Store[Any], **options: Any) -> Waiting:
    """A tool that is called, woken after 2 and after 3 more seconds, and returns."""
    clock = Clock()
    page = Waiting(store, [[calls("search", call_id="call_1")], speaks("Good.")], tool(search), clock=clock, **options)
    await page.say(SECRET)
    clock.now += 2
    await page.answer({"name": SECRET})
    clock.now += 3
    await page.answer()
    return page


THINGS: list[tuple[ToolState, str, int]] = [
    ("waiting", "choose_agent", 0),
    ("woken", "choose_agent", 2000),
    ("waiting", "run_search_animation", 2000),
    ("woken", "run_search_animation", 5000),
    ("returned", "run_search_animation", 5000),
]


def lines_of_tools(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in log.records if record.getMessage().startswith("tool ")]


class TestEvents:
    async def test_one_for_each_thing_that_happens(self, store: Store[Any]) -> None:
        """Observers hear of each time that a tool waits, is woken and returns, and how long ago it was called."""
        events: list[ToolEvent] = []

        page = await searched(store, tool_observers=[events.append])

        assert [
            ToolEvent(
                thread_id=str(page.chat.thread_id),
                call_id="call_1",
                tool="search",
                state=state,
                waits_for=waits_for,
                waited_ms=waited_ms,
            )
            for state, waits_for, waited_ms in THINGS
        ] == events

    async def test_steps(self, store: Store[Any]) -> None:
        """A step is no event: the function of a woken tool goes on after it, and is not woken once more."""
        states: list[str] = []
        runs: list[str] = []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            runs.append("works")
            await chooses(sequencer, ctx)
            for _ in range(2):
                await sequencer.step(ctx, secrets, SECRET)
            return "done"

        page = Waiting(
            store,
            [[calls("works")], speaks("Good.")],
            tool(works),
            tool_observers=[lambda event: states.append(event.state)],
        )
        await page.say()
        await page.answer({"name": "Ada"})

        assert (["waiting", "woken", "returned"], ["works"] * 2) == (states, runs)

    async def test_a_tool_that_does_not_wait(self, store: Store[Any]) -> None:
        """A tool that returns without asking is no event."""
        events: list[ToolEvent] = []

        async def returns(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "done"

        page = Waiting(store, [[calls("returns")], speaks("Good.")], tool(returns), tool_observers=[events.append])
        await page.say()

        assert [] == events

    async def test_a_repeated_answer(self, store: Store[Any]) -> None:
        """A repeated answer is no event: nothing is woken by it."""
        events: list[ToolEvent] = []
        page = await searched(store, tool_observers=[events.append])

        await page.answer()

        assert len(THINGS) == len(events)

    @pytest.mark.parametrize("in_step", [True, False], ids=["in a step", "after its steps"])
    async def test_a_tool_that_a_retry_has_dropped(self, store: Store[Any], in_step: bool) -> None:
        """A tool that returns after a retry of its message has dropped it is no event: nobody gets what it returns."""
        began, may_end = asyncio.Event(), asyncio.Event()
        events: list[ToolEvent] = []

        async def slow() -> None:
            began.set()
            await may_end.wait()

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            await (sequencer.step(ctx, slow) if in_step else slow())
            return "worked"

        steps = [[calls("works")], speaks("Once more."), speaks("Never said.")]
        page = Waiting(store, steps, tool(works), tool_observers=[events.append])
        await page.say()
        woken = asyncio.create_task(page.answer({"name": "Ada"}))
        await began.wait()
        again = await page.retry()
        may_end.set()
        late = await woken

        assert (["Once more."], []) == (again.texts, late.texts)
        assert ["waiting", "woken"] == [event.state for event in events]

    async def test_a_tool_that_another_request_has_taken_over(self, store: Store[Any]) -> None:
        """A request that has lost its tool to another one announces nothing of what it does with it."""
        clock, began, may_end, runs = Clock(), asyncio.Event(), asyncio.Event(), []
        events: list[ToolEvent] = []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            first = await chooses(sequencer, ctx)
            runs.append(first)
            if len(runs) == 1:
                began.set()
                await may_end.wait()
            return f"{first}, {await chooses(sequencer, ctx)}"

        page = Waiting(store, [[calls("works")]], tool(works), tool_observers=[events.append], clock=clock)
        await page.say()
        first = page.asked
        slow = asyncio.create_task(page.answer({"name": "Ada"}))
        await began.wait()
        clock.now += 200
        await page.beside().answer({"name": "Ada"}, to=first)
        may_end.set()
        await slow

        assert ["waiting", "woken", "woken", "waiting"] == [event.state for event in events]

    @pytest.mark.fails
    async def test_an_observer_that_fails(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """An observer that raises is logged, and neither the tool nor the next observer suffers from it."""
        events: list[ToolEvent] = []

        def fails(event: ToolEvent) -> None:
            raise RuntimeError("no")

        page = await searched(store, tool_observers=[fails, events.append])

        assert (len(THINGS), 2) == (len(events), page.server.runs)
        assert len(THINGS) == len(
            [record for record in log.records if "failed; the call goes on" in record.getMessage()]
        )

    def test_one_that_is_async(self) -> None:
        """An observer that is a coroutine function is refused: nobody would await it."""

        async def observes(event: ToolEvent) -> None: ...

        wrong: Any = [observes]
        with pytest.raises(UsageError, match="is async; nobody would await it"):
            ClientToolSequencer(tool_observers=wrong)


class TestLog:
    async def test_one_line_for_each_thing_that_happens(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """The log has a line at INFO for each time that a tool waits, is woken and returns, with the event's fields."""
        page = await searched(store)

        lines = lines_of_tools(log)
        assert [
            f"tool search: {state} (thread {page.chat.thread_id}, call call_1, last asked {waits_for}, "
            f"{waited_ms} ms after it was called)"
            for state, waits_for, waited_ms in THINGS
        ] == [line.getMessage() for line in lines]
        assert {("chatkit_clienttools", logging.INFO)} == {(line.name, line.levelno) for line in lines}
        assert THINGS == [
            (line.__dict__["state"], line.__dict__["waits_for"], line.__dict__["waited_ms"]) for line in lines
        ]

    async def test_no_content(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """No line holds what the user wrote, what a tool took or returned, a step's result, or an answer."""
        log.set_level(logging.DEBUG, "chatkit_clienttools")

        await searched(store)

        ours = [record for record in log.records if record.name == "chatkit_clienttools"]
        assert len(ours) > len(THINGS)
        assert [] == [record for record in ours if SECRET in json.dumps(vars(record), default=str)]


class TestWarnings:
    """What would be lost without anybody noticing is in the log once."""

    async def test_a_history_without_outputs(self, log: pytest.LogCaptureFixture) -> None:
        """A model that does not read what a tool has returned: once for all conversations, with the cure."""

        class Unconverted(SequencedServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                self.converter = cast("ClientToolConverter", ThreadItemConverter())
                async for event in super().respond(thread, input_user_message, context):
                    yield event

        class Page(Waiting):
            kind = Unconverted

        page = Page(MemoryStore(), [[calls("chooses")], speaks("Good.")] * 2, tool(chooses))
        for _ in range(2):
            await page.say()
            await page.answer({"name": "Ada"})

        [warning] = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
        assert (
            f"thread {page.chat.thread_id}: the tool chooses has returned, and the history of the run that followed "
            "did not come through ClientToolConverter: the model does not know what the tool has returned, and may "
            "call it again. In `respond`: "
            "`await converter.to_agent_input(await converter.load_history(self.store, thread, context))`"
        ) == warning

    async def test_a_history_with_outputs(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """Nothing is said if the history came through `ClientToolConverter`."""
        await searched(store)

        assert [] == [record.getMessage() for record in log.records if record.levelname == "WARNING"]

    async def test_a_run_without_an_answer(self, log: pytest.LogCaptureFixture) -> None:
        """A run that ends without a word, a call or a tool that waits: once, with what may have happened."""

        class Silent(SequencedServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                workflow = Workflow(type="custom", tasks=[CustomTask(title="Think")])
                item = WorkflowItem(id=f"wf_{self.runs}", thread_id=thread.id, created_at=at(0), workflow=workflow)
                task = WorkflowTaskAdded(task_index=0, task=workflow.tasks[0])
                yield ThreadItemAddedEvent(item=item)
                yield ThreadItemUpdatedEvent(item_id=item.id, update=task)
                yield ThreadItemDoneEvent(item=item)

        class Page(Waiting):
            kind = Silent

        page = Page(MemoryStore(), [], tool(chooses))

        replies = [await page.say(), await page.say()]

        assert [[], []] == [reply.texts for reply in replies]
        [warning] = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
        assert (
            f"thread {page.chat.thread_id}: a run has ended without an answer. Perhaps `respond` returns if there is "
            "no user message: after an answer of the browser it is called without one, and runs the agent. Or the "
            "model has called a tool that may wait with arguments that are no JSON object, which ends a run since "
            "openai-agents 0.19: then use `sequencer.run_streamed(agent, history, context=...)` in the place of "
            "`Runner.run_streamed`"
        ) == warning

    async def test_no_run_after_a_tool_has_returned(self, log: pytest.LogCaptureFixture) -> None:
        """A `respond` that returns without a user message gets that warning alone: no run followed with a history."""

        class Returns(SequencedServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                if input_user_message is not None:
                    async for event in super().respond(thread, input_user_message, context):
                        yield event

        class Page(Waiting):
            kind = Returns

        page = Page(MemoryStore(), [[calls("chooses")]], tool(chooses))
        await page.say()
        reply = await page.answer({"name": "Ada"})

        assert ([], []) == (reply.texts, reply.errors)
        [warning] = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
        assert "a run has ended without an answer. Perhaps `respond` returns if there is no user message" in warning

    @pytest.mark.parametrize("keeps_state", [False, True])
    async def test_a_run_that_is_not_kept(self, log: pytest.LogCaptureFixture, *, keeps_state: bool) -> None:
        """A run that waits and is not of `sequencer.run_streamed` forgets what other tools returned: a line says so."""
        page = Keeping(MemoryStore(), [[calls("chooses")], speaks("Good.")], tool(chooses), where="response")
        page.server.keeps_state = keeps_state

        await page.say()
        await page.answer({"name": "Ada"})

        said = (
            f"thread {page.chat.thread_id}: a tool waits, and its run is not kept: after the answer the model does not "
            "read what other tools have returned in it. With `sequencer.run_streamed(agent, history, context=...)` it "
            "does"
        )
        assert ([] if keeps_state else ["INFO"]) == [
            record.levelname for record in log.records if record.getMessage() == said
        ]

    async def test_an_action_without_an_answer(self, log: pytest.LogCaptureFixture) -> None:
        """An action may end without a word: nothing is said."""

        class Acts(SequencedServer):
            async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

        class Page(Waiting):
            kind = Acts

        page = Page(MemoryStore(), [speaks("Hello.")], tool(chooses))
        await page.say()

        reply = await page.act("pressed")

        assert [] == reply.errors
        assert [] == [record.getMessage() for record in log.records if record.levelname == "WARNING"]

    async def test_an_answer_that_is_gone(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """An answer that somebody has deleted from the store is cancelled for the tool, and the log says so."""

        async def asks_twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                first = await chooses(sequencer, ctx)
            except CallCancelledError as error:
                first = f"{error.tool} is cancelled"
            return f"{first}, {await chooses(sequencer, ctx)}"

        page = Waiting(store, [[calls("asks_twice")], speaks("Good.")], tool(asks_twice))
        await page.say()
        first = page.asked
        await page.answer({"name": "Ada"})
        await page.server.store.delete_thread_item(str(page.chat.thread_id), first["id"], context=None)
        await page.answer({"name": "Bela"})

        line = f"thread {page.chat.thread_id}: an answer that asks_twice has had is gone, and counts as cancelled"
        assert [line] == [record.getMessage() for record in log.records if record.levelname == "WARNING"]
        assert ("output", "choose_agent is cancelled, Bela") == page.seen_by_model[-1]


class TestSnapshots:
    async def test_a_tool_that_waits(self, store: Store[Any]) -> None:
        """A support page sees which tool waits, since when, for what, and how much it has done."""
        clock = Clock()
        page = Waiting(store, [[calls("search", call_id="call_1")], speaks("Good.")], tool(search), clock=clock)

        async def waiting() -> tuple[ToolSnapshot, ...]:
            return await page.sequencer.waiting_tools(store, str(page.chat.thread_id), None)

        await page.say()
        first = await waiting()
        clock.now += 2
        await page.answer({"name": "Ada"})
        second = await waiting()
        await page.answer()

        since = datetime.fromtimestamp(1_800_000_000, timezone.utc)
        named: dict[str, Any] = {"name": "search", "call_id": "call_1", "since": since, "steps": 1}
        assert (ToolSnapshot(**named, waits_for="choose_agent", asked=1),) == first
        assert (ToolSnapshot(**named, waits_for="run_search_animation", asked=2),) == second
        assert () == await waiting()

    async def test_two_tools(self, store: Store[Any]) -> None:
        """Tools that wait are there in the order in which the model has called them."""
        page = Waiting(store, [[calls("search"), calls("search")]], tool(search))

        await page.say()

        assert ["choose_agent", "choose_agent"] == [
            each.waits_for for each in await page.sequencer.waiting_tools(store, str(page.chat.thread_id), None)
        ]

    async def test_the_calls(self, store: Store[Any]) -> None:
        """A call whose answer a tool awaits names that tool's call of the model; one that a tool enqueued does not."""

        async def both(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            await sequencer.ask(ctx, choose(people=[]))
            sequencer.enqueue(ctx, animation(state="stop"))
            return "done"

        page = Waiting(store, [[calls("both", call_id="call_1")], speaks("Good.")], tool(both))

        await page.say()
        first = await page.sequencer.snapshot(store, str(page.chat.thread_id), None)
        await page.answer({"name": "Ada"})
        last = await page.sequencer.snapshot(store, str(page.chat.thread_id), None)

        assert [("choose_agent", "pending", "call_1")] == shown(first)
        assert [
            ("choose_agent", "completed", None),
            ("run_search_animation", "pending", None),
            ("run_search_animation", "queued", None),
        ] == shown(last)


def shown(snapshot: tuple[Any, ...]) -> list[tuple[str, str, str | None]]:
    return [(call.name, call.state.value, call.awaited_by) for call in snapshot]
