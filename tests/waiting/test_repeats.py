"""Answers that are repeated, late, without a receipt, or that cross: each wakes a tool once, or nothing happens."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.errors import CallCancelledError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import calls, speaks
from tests.helpers.server import NOTHING, lines
from tests.helpers.stores import PlainStore, WatchedStore
from tests.helpers.waiting import Waiting, animation, chooses, tool, twice
from tests.helpers.workers import Clock, SharedLock

if TYPE_CHECKING:
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]

ADA = {"name": "Ada"}


class TestARepeatedAnswer:
    async def test_while_the_next_ask_is_open(self, store: Store[Any]) -> None:
        """A repeat of the last answer streams the ask that is pending once more, the same item, and writes nothing."""
        watched = WatchedStore(store)
        page = Waiting(watched, [[calls("twice")], speaks("Good.")], tool(twice))

        first = await page.say()
        second = await page.answer(ADA)
        watched.counts.clear()
        again = await page.answer(ADA, to=first.call_items[0])

        assert second.call_items == again.call_items
        assert 0 == sum(watched.counts[name] for name in ("save_item", "add_thread_item", "save_plan", "save_thread"))
        last = await page.answer({"name": "Grace"})
        assert ["Good."] == last.texts
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_after_the_tool_has_returned(self, store: Store[Any]) -> None:
        """A repeat of the last answer after the model has been told changes nothing, and the model does not run."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        await page.answer(ADA)
        again = await page.answer(ADA)

        assert (NOTHING, 2) == (again.types, page.server.runs)

    async def test_a_late_one(self, store: Store[Any]) -> None:
        """An answer to an ask before the last one changes nothing: it is no answer to the ask that is open."""

        async def thrice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"{await twice(sequencer, ctx)}, {await chooses(sequencer, ctx)}"

        page = Waiting(store, [[calls("thrice")], speaks("Good.")], tool(thrice))

        first = await page.say()
        await page.answer({"name": "1"})
        await page.answer({"name": "2"})
        late = await page.answer({"name": "late"}, to=first.call_items[0])
        await page.answer({"name": "3"})

        assert NOTHING == late.types
        assert ("output", "1, 2, 3") == page.seen_by_model[-1]

    async def test_another_answer_to_the_last_ask(self, store: Store[Any]) -> None:
        """A second, different answer to the last ask is a repeat: the first one counts."""
        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        first = await page.say()
        await page.answer(ADA)
        await page.answer({"name": "another"}, to=first.call_items[0])
        await page.answer({"name": "Grace"})

        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_while_the_body_runs(self, store: Store[Any]) -> None:
        """A repeat that comes while the body runs changes nothing: the body runs once, and its step too."""
        began, may_end, ran = asyncio.Event(), asyncio.Event(), []

        async def works() -> str:
            ran.append("works")
            began.set()
            await may_end.wait()
            return "worked"

        async def works_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            return f"{name} {await sequencer.step(ctx, works)}"

        page = Waiting(store, [[calls("works_on")], speaks("Good.")], tool(works_on))

        await page.say()
        answer = asyncio.create_task(page.answer(ADA))
        await began.wait()
        again = await page.answer(ADA)
        may_end.set()

        assert NOTHING == again.types
        assert ["Good."] == (await answer).texts
        assert (["works"], ("output", "Ada worked")) == (ran, page.seen_by_model[-1])


class TestCrossingAnswers:
    @staticmethod
    def pages(store: Store[Any], *, servers: int, ran: list[str]) -> tuple[Waiting, list[Waiting]]:
        """A page, and those from which one and the same answer is posted at once."""

        def looks_up() -> str:
            ran.append("step")
            return "found"

        async def shows(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            await ctx.context.stream(ProgressUpdateEvent(text="looking"))
            found = await sequencer.step(ctx, looks_up)
            await sequencer.ask(ctx, animation(state="stop"))
            return f"{name} {found}"

        watched = WatchedStore(store)
        watched.take_turns()
        page = Waiting(watched, [[calls("shows")], speaks("Good.")], tool(shows), lock=SharedLock())
        return page, [page, page.beside()] if servers == 2 else [page, page]

    @pytest.mark.parametrize("servers", [1, 2])
    async def test_the_tool_is_woken_once(self, store: Store[Any], servers: int) -> None:
        """Two equal answers at once, in one process or in two, wake the tool once: one step, one effect, one ask."""
        ran: list[str] = []
        page, others = self.pages(store, servers=servers, ran=ran)
        await page.say()
        for other in others:
            other.chat.thread_id = page.chat.thread_id

        item = page.asked
        replies = await asyncio.gather(*[each.answer(ADA, to=item) for each in others])
        last = await page.answer()

        assert ["step"] == ran
        assert 1 == sum(reply.types.count("progress_update") for reply in replies)
        assert 1 == len({item["id"] for reply in replies for item in reply.call_items})
        assert [("choose_agent", "completed"), ("run_search_animation", "completed")] == await page.chat.calls()
        assert (["Good."], 2) == (last.texts, page.server.runs)
        assert ("output", "Ada found") == page.seen_by_model[-1]

    @pytest.mark.parametrize("servers", [1, 2])
    async def test_the_model_is_told_once(self, store: Store[Any], servers: int) -> None:
        """Two equal answers at once to the last ask let the model run once, with one pair of call and output."""
        page = Waiting(WatchedStore(store), [[calls("chooses")], speaks("Good.")], tool(chooses), lock=SharedLock())
        page.store.take_turns()  # type: ignore[attr-defined]
        await page.say()
        others = [page, page.beside() if servers == 2 else page]

        replies = await asyncio.gather(*[each.answer(ADA) for each in others])

        assert ["Good."] == [text for reply in replies for text in reply.texts]
        assert 2 == page.server.runs
        assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Ada")] == page.seen_by_model

    async def test_without_a_lock(self) -> None:
        """A store that compares needs no lock: two servers without one wake the tool once."""
        ran: list[str] = []
        page, others = self.pages(MemoryStore(), servers=2, ran=ran)
        page.options["lock"] = None
        page.restart()
        await page.say()
        others = [page, page.beside()]

        item = page.asked
        await asyncio.gather(*[each.answer(ADA, to=item) for each in others])
        last = await page.answer()

        assert (["step"], ["Good."], 2) == (ran, last.texts, page.server.runs)


class TestAMessageWhileTheBodyRuns:
    @staticmethod
    def page(store: Store[Any], **options: Any) -> tuple[Waiting, asyncio.Event, asyncio.Event]:
        began, may_end = asyncio.Event(), asyncio.Event()

        async def works() -> str:
            began.set()
            await may_end.wait()
            return "worked"

        async def works_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            said = [await chooses(sequencer, ctx), await sequencer.step(ctx, works)]
            try:
                said.append(await chooses(sequencer, ctx))
            except CallCancelledError:
                said.append("cancelled")
            return ", ".join(said)

        page = Waiting(store, [[calls("works_on")], speaks("One."), speaks("Two.")], tool(works_on), **options)
        return page, began, may_end

    async def test_cancel(self, store: Store[Any]) -> None:
        """A message that comes while the body runs cancels what it asks for next; the model is told how it ended."""
        page, began, may_end = self.page(store)

        await page.say("go")
        answer = asyncio.create_task(page.answer(ADA))
        await began.wait()
        message = await page.say("never mind")
        may_end.set()
        reply = await answer

        assert (["One."], ["Two."], []) == (message.texts, reply.texts, reply.calls)
        assert ("output", "Ada, worked, cancelled") in page.seen_by_model
        assert ((), None) == ((await page.plan()).tools, (await page.plan()).body)

    async def test_keep(self, store: Store[Any]) -> None:
        """With "keep" the body asks on after a message that came while it ran."""
        page, began, may_end = self.page(store, on_user_message="keep")

        await page.say("go")
        answer = asyncio.create_task(page.answer(ADA))
        await began.wait()
        message = await page.say("what now?")
        may_end.set()
        reply = await answer
        last = await page.answer({"name": "Grace"})

        assert (["One."], ["choose_agent"]) == (message.texts, [name for name, _ in reply.calls])
        assert ["Two."] == last.texts
        assert ("output", "Ada, worked, Grace") == page.seen_by_model[-1]

    @pytest.mark.parametrize("on_user_message", ["cancel", "keep"])
    async def test_retry(self, store: Store[Any], on_user_message: str) -> None:
        """A retry that comes while the body runs forgets the tool: nothing of what the body does then is kept."""
        began, may_end = asyncio.Event(), asyncio.Event()

        async def works() -> str:
            began.set()
            await may_end.wait()
            return "worked"

        async def works_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"{await chooses(sequencer, ctx)} {await sequencer.step(ctx, works)}"

        page = Waiting(store, [[calls("works_on")], speaks("Again.")], tool(works_on), on_user_message=on_user_message)

        await page.say("go")
        answer = asyncio.create_task(page.answer(ADA))
        await began.wait()
        again = await page.retry()
        may_end.set()
        reply = await answer

        assert (["Again."], NOTHING) == (again.texts, reply.types)
        assert [("user", "go")] == page.seen_by_model
        assert ["user_message", "assistant_message"] == [item.type for item in await page.chat.items()]
        assert ((), None) == ((await page.plan()).tools, (await page.plan()).body)


@pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
class TestAnAnswerWhileTheModelRuns:
    @staticmethod
    def page(store: Store[Any], *steps: Any) -> tuple[Waiting, asyncio.Event, asyncio.Event]:
        began, may_end = asyncio.Event(), asyncio.Event()

        async def slow(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            began.set()
            await may_end.wait()
            return "slow"

        made = Waiting(
            store,
            [[calls("twice")], [calls("slow")], *steps],
            tool(twice),
            tool(slow),
            on_user_message="keep",
        )
        return made, began, may_end

    async def test_it_is_woken_at_once(self, store: Store[Any]) -> None:
        """With "keep" an answer during the run for a message wakes the tool at once, and both requests end well."""
        page, began, may_end = self.page(store, speaks("Patience."), speaks("Good."))

        await page.say("go")
        message = asyncio.create_task(page.say("what now?"))
        await began.wait()
        reply = await page.answer(ADA)
        may_end.set()
        answered = await message
        last = await page.answer({"name": "Grace"})

        assert ["choose_agent"] == [name for name, _ in reply.calls]
        assert (["Patience."], []) == (answered.texts, answered.calls)
        assert (["Good."], 4) == (last.texts, page.server.runs)
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    @pytest.mark.fails
    async def test_the_run_for_a_message_fails(self, store: Store[Any]) -> None:
        """If the run for a message fails, the tool goes on: a repeated answer brings what it asks for next."""
        page, began, may_end = self.page(store, RuntimeError("away"), speaks("Good."))

        await page.say("go")
        first = page.asked
        message = asyncio.create_task(page.say("what now?"))
        await began.wait()
        await page.answer(ADA)
        may_end.set()
        failed = await message
        second = await page.answer(ADA, to=first)
        last = await page.answer({"name": "Grace"})

        assert (1, ["choose_agent"]) == (len(failed.errors), [name for name, _ in second.calls])
        assert ["Good."] == last.texts
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]


class TestTakenOver:
    @pytest.mark.parametrize("make", [MemoryStore, PlainStore])
    async def test_by_another_process(self, make: Any) -> None:
        """A body that was taken for dead goes no further than its step, and does nothing once more."""
        clock, ran = Clock(), []
        began, may_end = asyncio.Event(), asyncio.Event()

        async def works() -> str:
            ran.append("works")
            if len(ran) == 1:
                began.set()
                await may_end.wait()
            return f"worked {len(ran)}"

        async def works_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name, worked = await chooses(sequencer, ctx), await sequencer.step(ctx, works)
            ran.append("after")
            return f"{name} {worked}"

        page = Waiting(make(), [[calls("works_on")], speaks("Good.")], tool(works_on), clock=clock, lock=SharedLock())

        await page.say()
        slow = asyncio.create_task(page.answer(ADA))
        await began.wait()
        clock.now += 121
        quick = await page.beside().answer(ADA)
        may_end.set()
        late = await slow

        assert (["Good."], NOTHING) == (quick.texts, late.types)
        assert ["works", "works", "after"] == ran
        assert ("output", "Ada worked 2") == page.seen_by_model[-1]
        assert (2, ()) == (page.server.runs, (await page.plan()).tools)


class TestWithoutAReceipt:
    async def test_an_answer(self, store: Store[Any]) -> None:
        """A page that knows nothing of receipts answers an ask all the same."""
        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        second = await page.post(ADA)
        last = await page.post({"name": "Grace"})

        assert (["choose_agent"], ["Good."]) == ([name for name, _ in second.calls], last.texts)
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_the_log_says_once_what_is_missing(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A page that does not send receipts back is warned of once: a repeated answer would answer the next ask."""
        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        await page.answer(ADA)
        assert [] == lines(log, at_least=logging.WARNING)
        await page.post(ADA)
        await page.post(ADA)

        [(_, line)] = lines(log, at_least=logging.WARNING)
        assert (
            f"thread {page.chat.thread_id}: the page answers without the receipt that a call carries: posted again, "
            "such an answer is taken for the answer to the next call. Wrap its handler with `withReceipts`, or send "
            "the receipt back"
        ) == line

    async def test_an_answer_that_finds_nothing_open(self, store: Store[Any]) -> None:
        """Without a receipt, too, an answer after the tool has returned changes nothing."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        await page.post(ADA)
        again = await page.post(ADA)

        assert (NOTHING, 2) == (again.types, page.server.runs)

    async def test_an_error_report(self, store: Store[Any]) -> None:
        """An error report without a receipt is the failure of the ask that is open."""
        page = Waiting(store, [[calls("chooses")], speaks("Sorry.")], tool(chooses))

        await page.say()
        last = await page.post({"error": "no canvas"})

        assert ["Sorry."] == last.texts
        assert [("choose_agent", "completed")] == await page.chat.calls()

    async def test_the_model_reads_no_receipt(self, store: Store[Any]) -> None:
        """What the page gets under `_receipt` is neither in the answer that is stored nor in what the model reads."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        await page.answer(ADA)

        [item] = [item for item in await page.chat.items() if item.type == "client_tool_call"]
        assert ADA == item.output
        assert "_receipt" not in str(page.server.model.calls[-1].input)
