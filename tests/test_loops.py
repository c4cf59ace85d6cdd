"""One sequencer and one store in two event loops of one process, each in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, anything, selection
from tests.helpers.scripted import Scripted, asks, says, with_receipt
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import clock_that_waits  # noqa: F401  the fixture `clock`

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.helpers.workers import Clock


def in_two_loops(*coroutines: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run each in a thread and an event loop of its own, and return what they return."""
    with ThreadPoolExecutor(len(coroutines)) as pool:
        return [job.result(timeout=60) for job in [pool.submit(asyncio.run, each()) for each in coroutines]]


@pytest.mark.parametrize("make", [PlansStore, MemoryStore, PlainStore], ids=["plans", "memory", "plain"])
def test_each_loop_has_its_conversations(make: Any) -> None:
    """Conversations in two event loops of one process, with one sequencer and one store, go on undisturbed."""
    store, sequencer = make(), ClientToolSequencer(TOOLS)

    async def conversations() -> list[Any]:
        seen = []
        for _ in range(20):
            bodies = [asks(anything(n=1), selection()), says("done")]
            chat = Conversation(Scripted(store, sequencer, *bodies))
            replies = [await chat.say("go"), await chat.answer("ok"), await chat.answer([])]
            seen.append([*([name for name, _ in reply.calls] or reply.texts for reply in replies)])
        return seen

    expected = [[["anything"], ["get_selected_canvas_nodes"], ["done"]]] * 20
    assert [expected, expected] == in_two_loops(conversations, conversations)


@pytest.mark.parametrize("make", [PlansStore, MemoryStore], ids=["plans", "memory"])
def test_steps_on_one_thread_are_kept_apart(make: Any, clock: Clock) -> None:
    """A request in one loop waits for the step of another loop on the same thread, as for another worker's."""
    inner, sequencer = make(), ClientToolSequencer(TOOLS, receipts=True, clock=clock)
    is_writing, go_on, has_ended = threading.Event(), threading.Event(), threading.Event()
    slow = WatchedStore(inner)
    first = Conversation(Scripted(slow, sequencer, asks(anything(n=1), anything(n=2))))
    item = asyncio.run(first.say("go")).call_items[0]
    answer = with_receipt(item, "ok")

    async def stop(name: str, args: tuple[Any, ...]) -> None:
        if name == "save_item":
            is_writing.set()
            await asyncio.to_thread(go_on.wait)

    def let_it_end() -> None:
        go_on.set()
        has_ended.wait(timeout=60)

    async def writes() -> Any:
        slow.before = stop
        reply = await first.answer(answer)
        has_ended.set()
        return reply

    async def repeats() -> Any:
        await asyncio.to_thread(is_writing.wait)
        clock.on_wait = let_it_end
        try:
            return await Conversation(Scripted(inner, sequencer), thread_id=first.thread_id).answer(answer)
        finally:
            go_on.set()

    replies = in_two_loops(writes, repeats)

    assert 0 < clock.waited
    assert [[{"n": 2}], [{"n": 2}]] == [[{"n": call["n"]} for _, call in reply.calls] for reply in replies]
    assert replies[0].call_items[0]["id"] == replies[1].call_items[0]["id"]
    assert [("anything", "completed"), ("anything", "pending")] == asyncio.run(first.calls())
