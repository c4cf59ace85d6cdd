"""Rows in one process: answers, whole conversations, messages, and the browser of tests."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem, HiddenContextItem, ThreadMetadata

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser

from .bench import Bench, Row
from .conversations import ANSWER, TEXT, Ours, OursAsks, OursTalks, OursWaits, Page, Plain, PlainSilent, PlainTalks
from .timing import Stopwatch, in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkit.server import ChatKitServer
    from chatkit.store import Store

    from .figures import Cost, Pair


async def an_answer(bench: Bench, *, calls: int, items: int) -> list[Pair]:
    """An answer that releases the next call, and plain ChatKit's answer with a `respond` that does nothing."""
    releasing, alone = Releasing(calls), Alone()
    for side in (releasing, alone):
        await side.fill(items)
    return await in_turns(
        releasing.second_answer, alone.second_answer, bench.times(100), warm_up=min(3, bench.times(3))
    )


async def the_longest(bench: Bench) -> list[Pair]:
    """An answer in a plan of 60 calls and a thread of 10,000 items, and one in a plan of 3 and a thread of 10."""
    longest, shortest = Releasing(60), Releasing(3)
    await longest.fill(10_000)
    await shortest.fill(10)
    return await in_turns(
        longest.second_answer, shortest.second_answer, bench.times(200), warm_up=min(3, bench.times(3))
    )


class Side:
    """A page with a thread that has items in it already."""

    def __init__(self, server: ChatKitServer[Any], store: Store[Any]) -> None:
        self.store = store
        self.page = Page(server)
        self.page.thread_id = "thread_1"

    async def fill(self, items: int) -> None:
        """Make the thread, with so many items."""
        await self.store.save_thread(ThreadMetadata(id="thread_1", created_at=datetime.now()), None)  # noqa: DTZ005
        for n in range(items):
            item = HiddenContextItem(id=f"h_{n}", thread_id="thread_1", created_at=datetime.now(), content="x")  # noqa: DTZ005
            await self.store.add_thread_item("thread_1", item, None)

    async def answer(self) -> Cost:
        """Answer a call."""
        raise NotImplementedError

    async def second_answer(self) -> Cost:
        """Answer two calls, and say what the second one took: both sides then come from their own work.

        Otherwise ours, which is short, would mostly pay for the caches of the processor that the other side has filled.
        """
        await self.answer()
        return await self.answer()

    async def exchanged(self) -> Cost:
        """Answer the pending call."""
        self.page.served = watch = Stopwatch()
        await self.page.answer()
        self.page.served = Stopwatch()  # what comes between two answers is not measured
        return watch.cost


class Releasing(Side):
    """Our side: each answer but the last of a plan releases a call."""

    def __init__(self, calls: int) -> None:
        store = MemoryStore()
        super().__init__(OursAsks(store, calls), store)
        self._calls = calls
        self._left = 0

    async def answer(self) -> Cost:
        """Answer a call that is not the last one."""
        if not self._left:
            if self.page.asked:  # the last call of the plan before
                await self.page.answer()
            await self.page.say()
            self._left = self._calls - 1
        self._left -= 1
        return await self.exchanged()


class Alone(Side):
    """Plain ChatKit's side: each answer is to the only call there is."""

    def __init__(self) -> None:
        store = MemoryStore()
        super().__init__(PlainSilent(store), store)
        self._answers = 0

    async def answer(self) -> Cost:
        """Answer a call."""
        self._answers += 1
        call = ClientToolCallItem(
            id=f"tc_{self._answers}",
            thread_id="thread_1",
            created_at=datetime.now(),  # noqa: DTZ005  as ChatKit writes it
            call_id=f"call_{self._answers}",
            name="show",
            arguments={"number": 1},
        )
        await self.store.add_thread_item("thread_1", call, None)
        return await self.exchanged()


def talks(server: ChatKitServer[Any]) -> Any:
    """Return a side that holds a whole conversation in a new thread, and says what the server takes."""
    return partial(_served, server, Page.talk)


async def _served(server: ChatKitServer[Any], do: Callable[[Page], Awaitable[None]]) -> Cost:
    page = Page(server)
    await do(page)
    return page.served.cost


async def against_plain(bench: Bench) -> list[Pair]:
    """A conversation with three calls, and plain ChatKit, which runs the model for each."""
    return await in_turns(talks(Ours(MemoryStore())), talks(Plain(MemoryStore())), bench.times(100))


async def against_pydantic_ai(bench: Bench) -> list[Pair]:
    """The same, and pydantic-ai's deferred tools."""
    from .opponents import PydanticAI  # noqa: PLC0415  they are dependencies of the bench alone

    other = PydanticAI()
    return await in_turns(talks(Ours(MemoryStore())), lambda: timed(other.talk()), bench.times(150))


async def against_pydantic_ai_with_a_page(bench: Bench) -> list[Pair]:
    """The same, and pydantic-ai's deferred tools behind its adapter for pages, which reads requests and streams."""
    from .opponents import PydanticAIPage  # noqa: PLC0415

    other = PydanticAIPage()
    return await in_turns(talks(Ours(MemoryStore())), other.talk, bench.times(150))


async def against_langgraph(bench: Bench) -> list[Pair]:
    """The same, and LangGraph with an interrupt for each call."""
    from .opponents import LangGraph  # noqa: PLC0415

    other = LangGraph(with_step=False)
    return await in_turns(talks(Ours(MemoryStore())), lambda: timed(other.talk()), bench.times(150))


async def waiting_against_langgraph(bench: Bench) -> list[Pair]:
    """A tool that waits, and LangGraph's interrupts in one node, with a step in both."""
    from .opponents import LangGraph  # noqa: PLC0415

    other = LangGraph(with_step=True)
    return await in_turns(talks(OursWaits(MemoryStore())), lambda: timed(other.talk()), bench.times(150))


async def a_message(bench: Bench) -> list[Pair]:
    """A message that the model answers with words, and the same with plain ChatKit."""
    ours, plain = OursTalks(MemoryStore()), PlainTalks(MemoryStore())
    return await in_turns(partial(_served, ours, Page.say), partial(_served, plain, Page.say), bench.times(150))


async def fake_browser(bench: Bench) -> list[Pair]:
    """A test of three calls with `FakeBrowser`, and the same over bare `process()`."""
    server = Ours(MemoryStore())

    async def test() -> None:
        async with FakeBrowser(server, handlers={"show": lambda _: ANSWER}) as browser:
            await browser.send(TEXT)

    # a test over bare `process()` has to do the page's work, too
    return await in_turns(lambda: timed(test()), lambda: timed(Page(server).talk()), bench.times(150))


ROWS = [
    *[
        Row(
            f"an answer that releases the next call: plan of {calls}, thread of {items:,} items",
            "plain ChatKit's answer with a `respond` that does nothing",
            0.20,
            partial(an_answer, calls=calls, items=items),
        )
        for items in (10, 10_000)
        for calls in (3, 20, 60)
    ],
    Row(
        "an answer that releases the next call: plan of 60, thread of 10,000 items",
        "the same: plan of 3, thread of 10 items",
        1.2,
        the_longest,
    ),
    Row("a conversation with 3 calls", "plain ChatKit, a model run for each call", 0.30, against_plain),
    Row("the same", "pydantic-ai's deferred tools, all 3 in one round trip, without a page", 1.0, against_pydantic_ai),
    Row(
        "the same",
        "pydantic-ai's deferred tools, served to a page by its own adapter",
        1.0,
        against_pydantic_ai_with_a_page,
    ),
    Row("the same", "LangGraph's interrupt, memory saver", 1.5, against_langgraph),
    Row("a tool that waits: 3 asks and a step", "LangGraph's interrupts in one node", 2.0, waiting_against_langgraph),
    Row("a message that asks for nothing", "plain ChatKit", 1.05, a_message),
    Row("`FakeBrowser`, a test of 3 calls", "the same over bare `process()`", 1.2, fake_browser),
]
