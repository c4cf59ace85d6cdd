"""What it costs, in store operations and in time."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import ClientToolCallItem, HiddenContextItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientToolSequencer, ClientToolServer
from tests.helpers.conversation import Conversation, at
from tests.helpers.guarded import guarded
from tests.helpers.merak import TOOLS, PlainServer, anything
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.test_sequencer import Scripted, asks, foreign, says

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Callable


async def plain_acknowledgement(*, emits: bool) -> Counter[str]:
    """What an acknowledgement costs plain ChatKit, with a `respond` that does nothing, or only emits the next call."""

    class Server(PlainServer):
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            if emits:
                item = ClientToolCallItem(
                    id="tc_2", thread_id=thread.id, created_at=at(2), call_id="c", name="x", arguments={}
                )
                yield ThreadItemDoneEvent(item=item)

    store = WatchedStore(PlainStore())
    chat = Conversation(Server(store))
    await chat.say("go")
    await chat.touch(foreign(chat))
    store.counts.clear()
    await chat.answer()
    return store.counts


async def intermediate_acknowledgement(make: Callable[[], Any], *, calls: int, items: int = 0) -> Counter[str]:
    """What an acknowledgement costs that only releases the next call."""
    store = WatchedStore(make())
    server = Scripted(store, ClientToolSequencer(TOOLS), says("hi"), asks(*[anything(n=n) for n in range(calls)]))
    chat = Conversation(server)
    await chat.say("hello")
    for n in range(items):
        await chat.touch(HiddenContextItem(id=f"h{n}", thread_id=chat.thread_id or "", created_at=at(1), content="x"))
    await chat.say("go")
    store.counts.clear()
    reply = await chat.answer()
    assert [("anything", {"n": 1})] == reply.calls
    assert 2 == server.runs
    return store.counts


async def test_an_intermediate_acknowledgement_costs_three_operations_more() -> None:
    """Than plain ChatKit's own, the one that stores the released call included; no thread is written."""
    plain = await plain_acknowledgement(emits=False)

    ours = await intermediate_acknowledgement(PlainStore, calls=3)

    assert {"load_thread": 1, "load_thread_items": 1, "add_thread_item": 1} == dict(ours - plain)


async def test_with_plans_of_its_own_three_more_than_one_that_emits_a_call() -> None:
    """A store that keeps plans is read and written once for each release: that is the claim."""
    plain = await plain_acknowledgement(emits=True)

    ours = await intermediate_acknowledgement(PlansStore, calls=3)

    assert {"load_plan": 1, "load_thread_items": 1, "save_plan": 1} == dict(ours - plain)


@pytest.mark.parametrize("make", [PlainStore, PlansStore])
async def test_the_cost_depends_on_neither_plan_nor_thread(make: Callable[[], Any]) -> None:
    """The same number of operations for 3 and 60 calls, and for 10 and 10,000 items."""
    small = await intermediate_acknowledgement(make, calls=3, items=10)

    assert small == await intermediate_acknowledgement(make, calls=60, items=10)
    assert small == await intermediate_acknowledgement(make, calls=3, items=10_000)


@pytest.mark.parametrize("calls", [1, 3, 60])
async def test_a_plan_in_the_metadata_writes_the_thread_twice(calls: int) -> None:
    """Once when the calls are asked for and once when they are done with, however many they are."""
    store = WatchedStore(PlainStore())
    server = Scripted(store, ClientToolSequencer(TOOLS), says("hi"), asks(*[anything()] * calls), says("done"))
    chat = Conversation(server)
    await chat.say("hello")
    store.counts.clear()

    await chat.say("go")
    replies = [await chat.answer() for _ in range(calls)]

    assert ["done"] == replies[-1].texts
    assert 2 == store.counts["save_thread"]


async def test_a_message_costs_four_reads() -> None:
    """A message in a thread without a plan costs two reads before its body and two after it, and no write."""

    class Plain(Scripted):
        def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            return self._run_respond(thread, input_user_message, context)

    async def message_to(kind: type[Scripted]) -> Counter[str]:
        store = WatchedStore(PlainStore())
        chat = Conversation(kind(store, ClientToolSequencer(TOOLS), says("hi"), says("hi again")))
        await chat.say("hello")
        store.counts.clear()
        await chat.say("hello again")
        return store.counts

    plain, ours = await message_to(Plain), await message_to(Scripted)

    assert {"load_thread": 2, "load_thread_items": 2} == dict(ours - plain)


class TestTime:
    """Ratios of medians, taken in turns in one run: these machines are shared."""

    ROUNDS = 40

    @staticmethod
    async def seconds(chat: Conversation, request: str) -> float:
        began = perf_counter()
        result = await chat.server.process(request, None)
        if isinstance(result, StreamingResult):
            async for _ in result:
                pass
        return perf_counter() - began

    @staticmethod
    def silent(base: type[Any]) -> Conversation:
        class Silent(base):  # type: ignore[misc]
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

        return Conversation(Silent(PlainStore()))

    async def test_a_request_costs_less_than_half(self) -> None:
        """The request parser is built once: the same request costs at most 0.4 of plain ChatKit."""
        plain, ours = self.silent(ChatKitServer), self.silent(ClientToolServer)
        times: dict[Conversation, list[float]] = {plain: [], ours: []}

        for _ in range(self.ROUNDS):
            for chat, taken in times.items():
                taken.append(await self.seconds(chat, chat.say_request("hello")))

        assert median(times[ours]) <= 0.4 * median(times[plain])

    async def test_a_release_costs_less_than_a_third(self) -> None:
        """An answer that releases the next call: at most 0.3 of plain ChatKit's with a `respond` that does nothing."""
        plain = self.silent(ChatKitServer)
        await plain.say("hello")
        times: dict[str, list[float]] = {"plain": [], "ours": []}

        for n in range(self.ROUNDS):
            item = ClientToolCallItem(
                id=f"tc_{n}", thread_id=plain.thread_id or "", created_at=at(1), call_id="c", name="x", arguments={}
            )
            await plain.touch(item)
            times["plain"].append(await self.seconds(plain, plain.answer_request()))
            _, ours = guarded(PlainStore(), asks(anything(n=1), anything(n=2)))
            await ours.say("go")
            times["ours"].append(await self.seconds(ours, ours.answer_request()))
            assert [("anything", "completed"), ("anything", "pending")] == await ours.calls()

        assert median(times["ours"]) <= 0.3 * median(times["plain"])
