"""What a tool that waits costs, in store operations, in time and in memory."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import Counter
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext
from chatkit.server import ChatKitServer

from chatkit_clienttools._step.replay import Replay
from chatkit_clienttools._step.run import Run
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.merak import calls, speaks
from tests.helpers.stores import PlainStore, WatchedStore
from tests.helpers.waiting import Waiting, choose, left_behind_is_done, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer

pytestmark = pytest.mark.no_cover  # what coverage costs is none of it

Ctx = RunContextWrapper[AgentContext[Any]]

ADA = {"name": "Ada"}

LIMIT = 9
"""How many operations an answer may cost that wakes a tool which asks again."""

PER_STEP = {MemoryStore: 1, PlainStore: 2}
"""How many more each new step costs: a plan in the metadata is saved with the thread, which is loaded before."""


async def found(n: int) -> str:
    return f"found {n}"


async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    return (await sequencer.ask(ctx, choose(people=["Ada"]))).name


def asking(asks: int, *, steps: int = 0) -> Callable[[ClientToolSequencer], Any]:
    """Make a tool that asks so often, and takes so many steps before each ask but the first."""

    async def asks_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        for n in range(asks):
            for step in range(steps if n else 0):
                await sequencer.step(ctx, found, step)
            await chooses(sequencer, ctx)
        return "done"

    return tool(asks_on)


async def costs(make: Callable[[], Store[Any]], asks: int, *, steps: int = 0) -> list[Counter[str]]:
    """What each answer costs after which the tool asks again."""
    store = WatchedStore(make())
    page = Waiting(store, [[calls("asks_on")], speaks("Good.")], asking(asks, steps=steps))
    await page.say()
    measured = []
    for _ in range(asks - 1):
        store.counts.clear()
        await page.answer(ADA)
        measured.append(Counter(store.counts))
    assert ["Good."] == (await page.answer(ADA)).texts
    return measured


@pytest.fixture(params=[MemoryStore, PlainStore], ids=["own key", "metadata"])
def make(request: pytest.FixtureRequest) -> Any:
    """Where the plan is kept."""
    return request.param


class TestOperations:
    async def test_an_answer_after_which_the_tool_asks_again(self, make: Any) -> None:
        """An answer after which the tool asks again costs at most nine operations of the store."""
        measured = await costs(make, 10)

        assert max(cost.total() for cost in measured) <= LIMIT

    async def test_it_does_not_grow(self, make: Any) -> None:
        """The first answer of a tool costs as much as its sixtieth."""
        measured = await costs(make, 61)

        assert measured[0].total() == measured[-1].total()
        assert {measured[0].total()} == {cost.total() for cost in measured}

    @pytest.mark.parametrize("steps", [1, 5])
    async def test_a_step(self, make: Any, steps: int) -> None:
        """Each new step costs one operation more, or two in the metadata of a thread; a replayed one costs nothing."""
        without = await costs(make, 6)
        measured = await costs(make, 6, steps=steps)

        assert {PER_STEP[make] * steps} == {
            cost.total() - plain.total() for cost, plain in zip(measured, without, strict=True)
        }

    async def test_a_step_in_the_first_run(self, make: Any) -> None:
        """A step before the first ask costs nothing: it is written with the tool that waits."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            for n in range(5):
                await sequencer.step(ctx, found, n)
            return await chooses(sequencer, ctx)

        totals = []
        for maker, name in ((tool(chooses), "chooses"), (tool(reads), "reads")):
            store = WatchedStore(make())
            await Waiting(store, [[calls(name)]], maker).say()
            totals.append(store.counts.total())

        assert totals[0] == totals[1]

    async def test_a_repeated_answer(self, make: Any) -> None:
        """A repeat of the last answer while the next ask is open costs reads only."""
        store = WatchedStore(make())
        page = Waiting(store, [[calls("asks_on")]], asking(3))
        first = await page.say()
        await page.answer(ADA)
        store.counts.clear()

        await page.answer(ADA, to=first.call_items[0])

        assert {"load_thread", "load_thread_items", "load_plan"} >= store.counts.keys()
        assert store.counts.total() <= 3

    async def test_a_tool_that_does_not_ask(self, make: Any) -> None:
        """A tool that may wait, and does not, costs as much as one of the Agents SDK itself."""

        async def quick(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "quick"

        async def plain(ctx: Ctx) -> str:
            return "quick"

        totals = []
        for maker in (tool(quick), lambda _: function_tool(plain, name_override="quick")):
            store = WatchedStore(make())
            await Waiting(store, [[calls("quick")], speaks("Good.")], maker).say()
            totals.append(store.counts)

        assert totals[0] == totals[1]


class TestTime:
    """Ratios of medians of processor time, taken in turns in one run, and counts: these machines are shared."""

    ROUNDS = 9

    @pytest.mark.long
    async def test_a_replay(self) -> None:
        """A hundred answers and steps are replayed in at most 4 times what plain ChatKit takes for a message."""
        replays: list[float] = []

        async def asks_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            began = process_time()
            for n in range(100):
                await sequencer.step(ctx, found, n)
                await chooses(sequencer, ctx)
            replays.append(process_time() - began)
            while True:
                await chooses(sequencer, ctx)

        class Silent(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                return
                yield

        page, plain = Waiting(MemoryStore(), [[calls("asks_on")]], tool(asks_on)), Conversation(Silent(PlainStore()))
        await page.say()
        for _ in range(100):
            await page.answer(ADA)
        replays.clear()
        messages: list[float] = []

        for _ in range(self.ROUNDS):
            await page.answer(ADA)
            began = process_time()
            await plain.say("hello")
            messages.append(process_time() - began)

        assert self.ROUNDS == len(replays)
        assert median(replays) <= 4 * median(messages)

    @pytest.mark.long
    async def test_an_answer_grows_with_the_replay_only(self) -> None:
        """What an answer makes Python do grows with each answer before it by the same amount: a line, and no square."""
        page = Waiting(MemoryStore(), [[calls("asks_on")]], asking(70, steps=1))
        await page.say()
        done: list[int] = []

        for _ in range(61):
            with counting() as count:
                await page.answer(ADA)
            done.append(count.total())

        assert done[60] - done[30] <= 1.05 * (done[30] - done[0])


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count the calls of functions: unlike the time, that is the same on each machine."""
    count: Counter[str] = Counter()

    def note(frame: Any, event: str, arg: Any) -> None:
        count[event] += 1

    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)


class Cargo:
    """Something that a body holds."""


class TestMemory:
    async def test_nothing_of_a_waiting_tool_stays(self, make: Any) -> None:
        """When the request has ended nothing is left of the body: no frame, no replay, no run, and no context."""
        held: list[weakref.ref[Any]] = []

        async def holds(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            cargo = Cargo()
            held.extend([weakref.ref(cargo), weakref.ref(ctx), weakref.ref(ctx.context)])
            names = [await chooses(sequencer, ctx) for _ in range(2)]
            return f"{names} {cargo}"

        page = Waiting(make(), [[calls("holds")]], tool(holds))
        gc.collect()
        before = living()

        await page.say()
        await page.answer(ADA)
        await left_behind_is_done()
        gc.collect()

        assert 6 == len(held)
        assert [None] * 6 == [each() for each in held]
        assert before == living()

    async def test_a_tool_that_has_returned(self, make: Any) -> None:
        """When the tool has returned and the model was told, nothing is left of it in memory."""
        held: list[weakref.ref[Any]] = []

        async def holds(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            cargo = Cargo()
            held.append(weakref.ref(cargo))
            return f"{await chooses(sequencer, ctx)} {cargo}"

        page = Waiting(make(), [[calls("holds")], speaks("Good.")], tool(holds))
        gc.collect()
        before = living()

        await page.say()
        await page.answer(ADA)
        await left_behind_is_done()
        gc.collect()

        assert [None] * 2 == [each() for each in held]
        assert before == living()


def living() -> Counter[str]:
    """How many runs and replays there are."""
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in {Run, Replay})
