"""What a step reads before it decides, and what it holds while it does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._step.plans import keeper
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.merak import animation, anything
from tests.helpers.scripted import asks, foreign, hidden, says, scripted
from tests.helpers.server import answered_by_a_process_that_died, lines
from tests.helpers.stores import PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store


@pytest.fixture(params=[PlainStore, PlansStore, MemoryStore], ids=["plain", "plans", "memory"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


class TestACallThatNobodyPlanned:
    async def test_an_answer_finds_it_behind_other_items(self, store: Store[Any]) -> None:
        """An answer is looked for a call among the twenty newest items, more than other requests read."""
        _, chat = scripted(store, says("hi"), says("thanks"))
        await chat.say("hello")
        await chat.touch(foreign(chat))
        for n in range(12):
            await chat.touch(hidden(chat, n))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert [("theirs", "completed")] == await chat.calls()

    async def test_one_that_a_body_writes_comes_first(self, store: Store[Any]) -> None:
        """A call that a body writes into the store itself is pending: what the body enqueues waits behind it."""

        async def body(server: Any, context: Any) -> AsyncIterator[Any]:
            await chat.touch(foreign(chat))
            server.sequencer.enqueue(context, anything())
            return
            yield

        _, chat = scripted(store, says("hi"), body, says("done"))
        await chat.say("hello")

        assert [] == (await chat.say("go")).calls
        assert [("anything", {})] == (await chat.answer(1)).calls

    async def test_one_out_of_sight(self, caplog: pytest.LogCaptureFixture) -> None:
        """If a store refuses a call because another is pending, the step reads back until it finds that one."""
        _, chat = scripted(MemoryStore(), says("hi"), asks(anything()), says("done"))
        await chat.say("hello")
        await chat.touch(foreign(chat))
        for n in range(60):
            await chat.touch(hidden(chat, n))

        with caplog.at_level("INFO", "chatkit_clienttools"):
            reply = await chat.act("more")

        assert ([], []) == (reply.errors, reply.calls)
        [(_, line)] = lines(caplog)
        assert line.startswith(f"thread {chat.thread_id}: somebody else was quicker: Thread {chat.thread_id}, client ")
        assert [("anything", {})] == (await chat.answer(1)).calls


async def test_a_thread_is_held_by_its_id(store: Store[Any]) -> None:
    """Every step holds the lock of its thread, and so does what drops a damaged plan between two steps."""
    held: list[str] = []

    @asynccontextmanager
    async def lock(thread_id: str) -> AsyncIterator[None]:
        held.append(thread_id)
        yield

    server, chat = scripted(store, asks(anything()), lock=lock)
    await chat.say("go")
    thread_id = chat.thread_id or ""
    plans = keeper(store, thread_id, None)
    await plans.load(with_thread=False)
    await plans.save("{")
    held.clear()

    await server.sequencer.cancel(store, thread_id, None)

    assert [thread_id] * 3 == held


async def test_an_answer_that_only_ends_the_plan(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """An answer after which the plan has come to its end has changed something, though it writes no item."""
    _, chat = scripted(store, asks(animation(state="start")))
    await chat.say("go")
    await answered_by_a_process_that_died(chat)

    await chat.answer()

    assert [] == lines(caplog)
