"""What it costs, in store operations and in time."""

from __future__ import annotations

from collections import Counter
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import ThreadItemDoneEvent

from chatkit_clienttools import ClientToolServer
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation
from tests.helpers.merak import anything
from tests.helpers.scripted import asks, foreign, hidden, says, scripted
from tests.helpers.server import RESUME
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store

pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage

LIMITS = {PlainStore: 5, PlansStore: 7}
"""How many operations an answer may cost that releases the next call: without and with plans of the store's own."""

HANDFUL = 5
"""How many items such an answer may read."""

READS = {PlainStore: "load_thread", PlansStore: "load_plan"}


class Costs:
    """A server on a store that counts, in a conversation that is as long as the test wants it."""

    def __init__(self, make: Callable[[], Store[Any]], *bodies: Any) -> None:
        self.store = WatchedStore(make())
        self.server, self.chat = scripted(self.store, *bodies)
        self.limits: list[int] = []

        async def note(name: str, args: tuple[Any, ...]) -> None:
            if name == "load_thread_items":
                self.limits.append(args[2])

        self.store.before = note

    async def fill(self, items: int) -> None:
        """Put items into the thread, behind everything that is there."""
        for n in range(items):
            await self.store.inner.add_thread_item(self.chat.thread_id or "", hidden(self.chat, n), None)

    async def of(self, request: Any) -> Counter[str]:
        """What one request costs."""
        self.store.counts.clear()
        self.limits.clear()
        await request
        return Counter(self.store.counts)


@pytest.fixture(params=[PlainStore, PlansStore], ids=["metadata", "own key"])
def make(request: pytest.FixtureRequest) -> Any:
    """Where the plan is kept."""
    return request.param


async def answers(make: Callable[[], Store[Any]], *, calls: int, items: int) -> list[tuple[Counter[str], list[int]]]:
    """What each answer costs that releases the next call, and how many items it asks for."""
    costs = Costs(make, says("hi"), asks(*[anything(n=n) for n in range(calls)]), says("done"))
    await costs.chat.say("hello")
    await costs.fill(items)
    await costs.chat.say("go")
    return [(await costs.of(costs.chat.answer(n)), [*costs.limits]) for n in range(calls - 1)]


class TestAnAnswerThatReleasesTheNextCall:
    @pytest.mark.parametrize("items", [10, 10_000])
    @pytest.mark.parametrize("calls", [3, 20, 60])
    async def test_its_operations_are_few(self, make: Any, calls: int, items: int) -> None:
        """Every call of a plan costs at most 7 operations with SupportsPlans, and at most 5 otherwise, all counted."""
        measured = await answers(make, calls=calls, items=items)

        assert calls - 1 == len(measured)
        assert max(cost.total() for cost, _ in measured) <= LIMITS[make]

    @pytest.mark.parametrize("items", [10, 10_000])
    async def test_it_does_not_grow(self, make: Any, items: int) -> None:
        """The first call of a plan of 3 and the last of one of 60 cost exactly the same, in a thread of any length."""
        [(first, _), *_] = await answers(make, calls=3, items=10)

        for calls in (3, 20, 60):
            assert {frozenset(first.items())} == {
                frozenset(cost.items()) for cost, _ in await answers(make, calls=calls, items=items)
            }

    @pytest.mark.parametrize("items", [10, 10_000])
    async def test_it_reads_a_handful_of_items(self, make: Any, items: int) -> None:
        """The pending call is the newest item: five items are read, once, however long the thread is."""
        measured = await answers(make, calls=20, items=items)

        assert [[HANDFUL]] * 19 == [limits for _, limits in measured]

    async def test_which_they_are(self, make: Any) -> None:
        """Thread, plan and items are read once; one item is completed, the next one added, the plan saved."""
        [(cost, _), *_] = await answers(make, calls=3, items=10)

        assert {
            PlainStore: {
                "load_thread": 1,
                "load_thread_items": 1,
                "save_item": 1,
                "add_thread_item": 1,
                "save_thread": 1,
            },
            PlansStore: {
                "load_thread": 1,
                "load_plan": 1,
                "load_thread_items": 1,
                "save_plan": 2,
                "save_item": 1,
                "add_thread_item": 1,
            },
        }[make] == dict(cost)

    async def test_plain_chatkit(self, make: Any) -> None:
        """Plain ChatKit's answer with a `respond` that emits the next call costs 5 operations as well."""

        class Plain(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                item = foreign(chat).model_copy(update={"id": f"tc_{bool(input_user_message)}", "thread_id": thread.id})
                yield ThreadItemDoneEvent(item=item)

        store = WatchedStore(make())
        chat = Conversation(Plain(store))
        await chat.say("go")
        store.counts.clear()

        await chat.answer()

        assert 5 == store.counts.total()


class TestOtherRequests:
    @staticmethod
    async def beyond_plain(make: Callable[[], Store[Any]], request: Callable[[Conversation], Any]) -> dict[str, int]:
        """What a request costs beyond what it costs plain ChatKit, in a thread without a plan."""

        class Plain(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

            action: Any = respond

        class Ours(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

            async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

        counted = []
        for server in (Plain, Ours):
            store = WatchedStore(make())
            chat = Conversation(server(store))
            await chat.say("hello")
            store.counts.clear()
            await request(chat)
            counted.append(Counter(store.counts))
        return dict(counted[1] - counted[0])

    async def test_a_message_that_asks_for_nothing(self, make: Any) -> None:
        """A message in a thread without a plan costs two reads more than plain ChatKit, and no write."""
        cost = await self.beyond_plain(make, lambda chat: chat.say("hello again"))

        assert {READS[make]: 1, "load_thread_items": 1} == cost

    async def test_a_first_message_that_asks_for_nothing(self, make: Any) -> None:
        """A message that makes its thread reads nothing more than plain ChatKit; the adapter looks before a save."""

        async def say(chat: Conversation) -> None:
            chat.thread_id = None
            await chat.say("hello")

        cost = await self.beyond_plain(make, say)

        assert {PlainStore: {"load_thread": 1}, PlansStore: {}}[make] == cost

    async def test_a_page_that_is_loaded(self, make: Any) -> None:
        """A page that says that it was loaded, in a thread that waits for nothing, costs reads only."""
        costs = Costs(make, says("hello"))
        await costs.chat.say("hi")

        cost = await costs.of(costs.chat.act(RESUME))

        assert {"load_thread": 1, READS[make]: 1, "load_thread_items": 1} == dict(cost)

    @pytest.mark.parametrize("items", [50, 10_000])
    async def test_an_answer_that_is_late(self, make: Any, items: int) -> None:
        """An answer that finds nothing to do costs reads only: it looks through the newest 20 items."""
        costs = Costs(make, says("hello"))
        await costs.chat.say("hi")
        await costs.fill(items)

        cost = await costs.of(costs.chat.answer())

        assert {"load_thread": 1, READS[make]: 1, "load_thread_items": 2} == dict(cost)
        assert [HANDFUL, 20] == costs.limits

    @pytest.mark.parametrize("items", [10, 10_000])
    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    async def test_a_message_in_a_long_thread(self, make: Any, items: int) -> None:
        """What a message costs does not grow with the thread."""
        costs = Costs(make, says("hello"), says("hello again"))
        await costs.chat.say("hi")
        await costs.fill(items)

        cost = await costs.of(costs.chat.say("hi again"))

        assert 1 == cost["load_thread_items"]
        assert [HANDFUL] == costs.limits

    async def test_a_whole_plan(self, make: Any) -> None:
        """A plan of 60 calls costs 57 answers more than one of 3, and nothing else."""

        async def whole(calls: int) -> int:
            costs = Costs(make, says("hi"), asks(*[anything()] * calls), says("done"))
            await costs.chat.say("hello")
            costs.store.counts.clear()
            await costs.chat.say("go")
            for _ in range(calls):
                await costs.chat.answer()
            return costs.store.counts.total()

        assert 57 * LIMITS[make] == await whole(60) - await whole(3)


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
            item = foreign(plain).model_copy(update={"id": f"tc_{n}"})
            await plain.touch(item)
            times["plain"].append(await self.seconds(plain, plain.answer_request()))
            _, ours = scripted(PlainStore(), asks(anything(n=1), anything(n=2)))
            await ours.say("go")
            times["ours"].append(await self.seconds(ours, ours.answer_request()))
            assert [("anything", "completed"), ("anything", "pending")] == await ours.calls()

        assert median(times["ours"]) <= 0.3 * median(times["plain"])
