"""How much a tool that waits may keep, and when what it keeps is gone."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext
from chatkit.store import NotFoundError
from chatkit.types import ThreadMetadata

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._protocol.plan import Plan, WaitingTool
from chatkit_clienttools._step.queued import Invocation, Queue
from chatkit_clienttools.errors import QueueFullError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import at
from tests.helpers.merak import calls, speaks
from tests.helpers.waiting import TOOLS, Waiting, animation, choose, tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents import FunctionTool
    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]

ADA = {"name": "Ada"}

FAILED = "An error occurred while running the tool"


def text(length: int) -> str:
    return "x" * length


async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    return (await sequencer.ask(ctx, choose(people=["Ada"]))).name


def refusals(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelname == "ERROR"]


WAITS = WaitingTool(id="output_1", call_id="call_1", name="search", arguments="{}", at=0)
ITS_SIZE = len(WAITS.model_dump_json())


class TestEachByteCounts:
    @pytest.mark.parametrize(
        ("plan", "kept"),
        [
            (Plan(), 0),
            (Plan(tools=(WAITS, WAITS)), 2 * ITS_SIZE),
            (Plan(tools=(WAITS,), state="\u00e9" * 100), ITS_SIZE + 200),
            (Plan(state="x" * 600), 0),
        ],
        ids=["nothing", "two tools", "the state of their run", "the state of a run that goes on now"],
    )
    def test_of_what_is_kept(self, plan: Plan, kept: int) -> None:
        """Tools that wait count with the state of their run; once they have returned, the next one takes its place."""
        queue = Queue(ClientToolSequencer(TOOLS, max_bytes=1000).rules, plan, "thr_1")

        assert (True, False) == (queue.has_room(1000 - kept), queue.has_room(1001 - kept))

    def test_of_steps(self) -> None:
        """The steps of one run are added up, to what was kept before; a step that does not fit is not counted."""
        queue = Queue(ClientToolSequencer(TOOLS, max_bytes=1000).rules, Plan(tools=(WAITS,)), "thr_1")
        for _ in range(2):
            queue.make_room(300)
        left = 400 - ITS_SIZE
        with pytest.raises(QueueFullError):
            queue.make_room(left + 1)

        assert (True, False) == (queue.has_room(left), queue.has_room(left + 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda queue, context: queue.enqueue(context, [animation(state="stop")]),
        lambda queue, context: queue.await_answer(context, choose(people=[]), "ask_1", "output_1"),
        lambda queue, context: queue.forget("ask_1"),
        lambda queue, context: queue.make_room(1),
        lambda queue, context: queue.discard(context),
        lambda queue, context: queue.take_back(Invocation(None)),
    ],
    ids=["enqueue", "ask", "forget", "step", "discard", "take back"],
)
def test_one_change_at_a_time(change: Callable[[Queue, AgentContext[Any]], None]) -> None:
    """A tool that changes the queue in one thread waits for one that does so in another."""
    had_to_wait: list[bool] = []

    def clock() -> float:
        """Let somebody else change the queue in the middle of a change."""
        if not had_to_wait:
            had_to_wait.append(True)
            others.append(threading.Thread(target=change, args=(queue, context), daemon=True))
            others[0].start()
            others[0].join(0.05)
            had_to_wait[0] = others[0].is_alive()
        return 0

    others: list[threading.Thread] = []
    queue = Queue(ClientToolSequencer(TOOLS, clock=clock).rules, Plan(), "thr_1")
    context = AgentContext(thread=ThreadMetadata(id="thr_1", created_at=at(0)), store=MemoryStore(), request_context=0)
    queue.enqueue(context, [animation(state="start")])
    others[0].join()

    assert [True] == had_to_wait


class TestMaxBytes:
    async def test_a_step_in_the_first_run(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A step that is too large to be kept ends the tool; the log names the size, the limit and the cure."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, text, 2000)
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("reads")], speaks("Sorry.")], tool(reads), max_bytes=1000)

        reply = await page.say()

        assert (["Sorry."], []) == (reply.texts, reply.calls)
        assert page.seen_by_model[-1][1].startswith(FAILED)
        [line] = refusals(log)
        assert "would take 2," in line
        assert "at most 1,000 are allowed (ClientToolSequencer(max_bytes=...))" in line
        assert "let a step return an id, too" in line

    async def test_a_step_after_an_answer(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """Steps count together, those of earlier runs of the body included; the one that is too many ends the tool."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            names = []
            for _ in range(4):
                await sequencer.step(ctx, text, 300)
                names.append(await chooses(sequencer, ctx))
            return " ".join(names)

        page = Waiting(store, [[calls("reads")], speaks("Sorry.")], tool(reads), max_bytes=1500)

        replies = [await page.say()]
        while replies[-1].calls:
            replies.append(await page.answer(ADA))

        assert 2 < len(replies) < 5
        assert ["Sorry."] == replies[-1].texts
        assert page.seen_by_model[-1][1].startswith(FAILED)
        assert 1 == len(refusals(log))
        assert ((), 0, None) == ((await page.plan()).tools, len((await page.plan()).calls), (await page.plan()).body)

    async def test_the_body_catches_it(self, store: Store[Any]) -> None:
        """A body that catches the refusal of a step ends with it all the same: the step could not be played again."""
        ran: list[str] = []

        def large() -> str:
            ran.append("large")
            return text(2000)

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            try:
                await sequencer.step(ctx, large)
            except QueueFullError:
                ran.append("caught")
                return f"{name} in spite of it"
            return name

        page = Waiting(store, [[calls("reads")], speaks("Sorry.")], tool(reads), max_bytes=1000)

        await page.say()
        last = await page.answer(ADA)

        assert (["large", "caught"], ["Sorry."]) == (ran, last.texts)
        assert page.seen_by_model[-1][1].startswith(FAILED)

    async def test_an_ask(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """An ask that is too large beside the steps ends the tool, and says that steps count."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, text, 500)
            await chooses(sequencer, ctx)
            return (await sequencer.ask(ctx, choose(people=[text(500)]))).name

        page = Waiting(store, [[calls("reads")], speaks("Sorry.")], tool(reads), max_bytes=1000)

        await page.say()
        last = await page.answer(ADA)

        assert (["Sorry."], []) == (last.texts, last.calls)
        assert ["The client tool calls, and the steps of waiting tools, of thread"] == [
            line[: line.index(" thr_")] for line in refusals(log)
        ]

    @pytest.mark.parametrize(("length", "expected"), [(1100, (["Sorry."], 0)), (200, ([], 1))])
    async def test_what_the_model_has_called_it_with(
        self, store: Store[Any], length: int, expected: tuple[list[str], int]
    ) -> None:
        """A tool keeps its arguments while it waits: if they are too large it cannot ask, and the user is not asked."""

        def make(sequencer: ClientToolSequencer) -> FunctionTool:
            async def reads(ctx: Ctx, query: str) -> str:
                return f"{len(query)} {await chooses(sequencer, ctx)}"

            return sequencer.function_tool(reads)

        page = Waiting(store, [[calls("reads", {"query": text(length)})], speaks("Sorry.")], make, max_bytes=1000)

        reply = await page.say()

        assert expected == (reply.texts, len(reply.calls))

    async def test_many_asks(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A tool that asks so often that its journal alone is too large ends with an error, and nothing is stuck."""

        async def asks_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            while True:
                await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("asks_on")], speaks("Sorry."), speaks("Hello.")], tool(asks_on), max_bytes=1000)

        reply = await page.say()
        while reply.calls:
            reply = await page.answer(ADA)

        assert (["Sorry."], [], 1) == (reply.texts, reply.errors, len(refusals(log)))
        assert ["Hello."] == (await page.say("hello?")).texts

    async def test_what_other_tools_enqueue(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """The steps of a tool that waits count for what other tools of the thread enqueue meanwhile."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, text, 800)
            return await chooses(sequencer, ctx)

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, choose(people=[text(300)]))
            return "left"

        page = Waiting(
            store,
            [[calls("reads")], [calls("leaves")], speaks("Sorry.")],
            tool(reads),
            tool(leaves),
            max_bytes=1100,
            on_user_message="keep",
        )

        await page.say()
        reply = await page.say("and now?")

        assert (["Sorry."], 1) == (reply.texts, len(refusals(log)))
        assert page.seen_by_model[-1][1].startswith(FAILED)


class TestMaxQueued:
    async def test_one_after_the_other(self, store: Store[Any]) -> None:
        """Asks that are answered do not count: a tool may ask any number of times with room for one call."""

        async def asks_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return " ".join([await chooses(sequencer, ctx) for _ in range(5)])

        page = Waiting(store, [[calls("asks_on")], speaks("Good.")], tool(asks_on), max_queued=1)

        await page.say()
        replies = [await page.answer(ADA) for _ in range(5)]

        assert ["Good."] == replies[-1].texts

    async def test_two_tools(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A tool that asks when there is no room for its call ends with an error; the one before goes on waiting."""
        page = Waiting(store, [[calls("chooses"), calls("chooses")], speaks("Good.")], tool(chooses), max_queued=1)

        first = await page.say()
        last = await page.answer(ADA)

        assert (1, ["Good."], 2) == (len(first.calls), last.texts, page.server.runs)
        outputs = [each[1] for each in page.seen_by_model if each[0] == "output"]
        assert 1 == outputs.count("Ada")
        assert 1 == sum(each.startswith(FAILED) for each in outputs)
        assert 1 == len(refusals(log))

    async def test_enqueue_beside_an_ask(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """What a tool has enqueued before it asks counts, too: there is no room for its ask then."""

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("leaves")], speaks("Sorry.")], tool(leaves), max_queued=1)

        reply = await page.say()

        assert (["Sorry."], [], 1) == (reply.texts, reply.calls, len(refusals(log)))


class TestTheJournal:
    FOUND = "what a step has found"

    @classmethod
    def page(cls, store: Store[Any], *steps: Any) -> Waiting:
        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, lambda: cls.FOUND)
            return await chooses(sequencer, ctx)

        return Waiting(store, [[calls("reads")], *steps], tool(reads))

    async def is_kept(self, page: Waiting) -> bool:
        """Whether the store holds what the step has found, anywhere."""
        plan = await page.plan()
        thread = await page.store.load_thread(page.chat.thread_id or "", None)
        items = await page.chat.items()
        return self.FOUND in plan.to_text() + thread.model_dump_json() + "".join(i.model_dump_json() for i in items)

    async def test_while_it_waits(self, store: Store[Any]) -> None:
        """The steps of a tool that waits are in the plan; neither the page nor an item of the thread has them."""
        page = self.page(store)

        reply = await page.say()

        assert self.FOUND in (await page.plan()).to_text()
        assert self.FOUND not in json.dumps([await page.chat.thread(), await page.chat.threads(), reply.events])
        assert all(self.FOUND not in item.model_dump_json() for item in await page.chat.items())

    async def test_when_it_has_returned(self, store: Store[Any]) -> None:
        """A tool that has returned leaves nothing of its journal, only its output."""
        page = self.page(store, speaks("Good."))

        await page.say()
        await page.answer(ADA)

        assert not await self.is_kept(page)
        assert ["user_message", "client_tool_call", "sdk_hidden_context", "assistant_message"] == [
            item.type for item in await page.chat.items()
        ]

    async def test_with_a_retry(self, store: Store[Any]) -> None:
        """A retry of the message leaves nothing of the journal."""
        page = self.page(store, speaks("Good."))

        await page.say()
        await page.retry()

        assert not await self.is_kept(page)

    async def test_with_a_message(self, store: Store[Any]) -> None:
        """A message that cancels what the tool waits for leaves nothing of the journal."""
        page = self.page(store, speaks("Good."))

        await page.say()
        await page.say("never mind")

        assert not await self.is_kept(page)

    async def test_when_the_application_cancels(self, store: Store[Any]) -> None:
        """`cancel` leaves nothing of the journal."""
        page = self.page(store)

        await page.say()
        await page.sequencer.cancel(page.server.store, page.chat.thread_id or "", None)

        assert not await self.is_kept(page)

    async def test_with_the_thread(self, store: Store[Any]) -> None:
        """The journal goes with its thread, and an answer that comes then is told that there is none."""
        page = self.page(store)

        await page.say()
        request = json.dumps({"type": "threads.delete", "params": {"thread_id": page.chat.thread_id}})
        await page.server.process(request, None)
        late = await page.answer(ADA)

        try:
            tools = (await page.plan()).tools
        except NotFoundError:  # it was in the thread
            tools = ()
        assert () == tools
        assert ["This conversation, or a part of it, does not exist (any more)."] == [
            error["message"] for error in late.errors
        ]

    async def test_an_answered_ask_is_small(self, store: Store[Any]) -> None:
        """Of an ask that is answered the plan keeps neither the arguments nor the answer: those are in its item."""

        async def twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, choose(people=["a long list of people"]))
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("twice")]], tool(twice))

        await page.say()
        await page.answer({"name": "a person of the list"})

        plan = (await page.plan()).to_text()
        assert "a long list of people" not in plan
        assert "a person of the list" not in plan
