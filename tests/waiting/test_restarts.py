"""A tool waits while processes end: whatever a new one finds in the store is enough to go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from agents import AgentHooks, RunContextWrapper
from agents.testing import ScriptedModel
from chatkit.agents import AgentContext
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.errors import CallCancelledError, NotSequencedError
from tests.helpers.merak import calls, speaks
from tests.helpers.server import NOTHING, answered_by_a_process_that_died
from tests.helpers.stores import WatchedStore
from tests.helpers.waiting import Waiting, animation, chooses, left_behind_is_done, tool, twice
from tests.helpers.workers import Clock, Died, abandon, clock_that_waits  # noqa: F401  the fixture `clock`

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer
    from tests.helpers.conversation import Wire

Ctx = RunContextWrapper[AgentContext[Any]]

ADA, GRACE = {"name": "Ada"}, {"name": "Grace"}


class TestARestartAfterEveryRequest:
    async def test_a_whole_conversation(self, store: Store[Any]) -> None:
        """A tool with three asks and two steps plays the same in new processes: each step runs once."""
        ran: list[str] = []

        def looks_up(what: str) -> str:
            ran.append(what)
            return f"<{what}>"

        async def guides(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            first = await sequencer.step(ctx, looks_up, "a")
            name = await chooses(sequencer, ctx)
            second = await sequencer.step(ctx, looks_up, name)
            await sequencer.ask(ctx, animation(state="stop"))
            return f"{first} {name} {second}"

        page = Waiting(store, [[calls("guides")], speaks("Good.")], tool(guides))

        replies = [await page.say()]
        for result in (None, ADA, None):
            page.restart()
            replies.append(await page.answer(result))

        assert [["run_search_animation"], ["choose_agent"], ["run_search_animation"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert (["a", "Ada"], ["Good."], 2) == (ran, replies[-1].texts, page.server.runs)
        assert ("output", "<a> Ada <Ada>") == page.seen_by_model[-1]

    async def test_two_tools(self, store: Store[Any]) -> None:
        """Two tools that wait at once get their own answers in new processes, too."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"other {await twice(sequencer, ctx)}"

        page = Waiting(store, [[calls("other"), calls("chooses")], speaks("Good.")], tool(chooses), tool(other))

        await page.say()
        for name in ("1", "2", "3"):
            page.restart()
            await page.answer({"name": name})

        assert [("output", "2"), ("output", "other 1, 3")] == [
            each for each in page.seen_by_model if each[0] == "output"
        ]

    async def test_a_message(self, store: Store[Any]) -> None:
        """A message in a new process cancels what a tool of the old one waits for."""

        async def gives_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return await chooses(sequencer, ctx)
            except CallCancelledError:
                return "cancelled"

        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say("go")
        page.restart()
        reply = await page.say("never mind")

        assert ["Good."] == reply.texts
        assert [("output", "cancelled"), ("user", "never mind")] == page.seen_by_model[-2:]


class TestReload:
    async def test_while_a_tool_waits(self, store: Store[Any]) -> None:
        """A page that is loaded gets the ask as a new item; its answer wakes the tool, which does not run before."""
        ran: list[str] = []

        async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            ran.append("body")
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("counts")], speaks("Good.")], tool(counts))

        first = await page.say()
        again = await page.reload()
        between = [*ran]
        last = await page.answer(ADA)

        assert [first.call_items[0]["id"]] == again.removed
        assert [("choose_agent", first.call_items[0]["arguments"])] == again.calls
        assert (1, ["Good."]) == (len(between), last.texts)
        assert [("choose_agent", "completed")] == await page.chat.calls()

    async def test_the_answer_of_another_tab(self, store: Store[Any]) -> None:
        """The answer to the item from before the reload counts: it is one call, and one receipt."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        first = await page.say()
        await page.reload()
        last = await page.answer(ADA, to=first.call_items[0])

        assert ["Good."] == last.texts
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_twice_between_two_asks(self, store: Store[Any]) -> None:
        """Reloads before and after an answer do not change which answer belongs to which ask."""
        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        await page.reload()
        await page.reload()
        await page.answer(ADA)
        page.restart()
        await page.reload()
        last = await page.answer(GRACE)

        assert ["Good."] == last.texts
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_after_the_tool_has_returned(self, store: Store[Any]) -> None:
        """A reload after the tool has returned and the model was told brings nothing."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        await page.answer(ADA)

        assert (NOTHING, 2) == ((await page.reload()).types, page.server.runs)


class TestDeathBetweenTheAnswerAndTheWaking:
    @pytest.mark.parametrize("how", ["repeat", "reload"])
    async def test_the_tool_is_woken_later(self, store: Store[Any], how: str) -> None:
        """An answer that was written by a process that died then wakes the tool with the next repeat or reload."""
        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        await answered_by_a_process_that_died(page.chat, ADA)
        page.restart()
        second = await (page.answer(ADA) if how == "repeat" else page.reload())
        last = await page.answer(GRACE)

        assert (["choose_agent"], ["Good."]) == ([name for name, _ in second.calls], last.texts)
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]

    async def test_a_message(self, store: Store[Any]) -> None:
        """A message then leaves the tool the answer that it has, and cancels what it asks for next."""

        async def gives_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            try:
                return f"{name}, {await chooses(sequencer, ctx)}"
            except CallCancelledError:
                return f"{name}, cancelled"

        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say("go")
        await answered_by_a_process_that_died(page.chat, ADA)
        page.restart()
        reply = await page.say("never mind")

        assert ["Good."] == reply.texts
        assert [("output", "Ada, cancelled"), ("user", "never mind")] == page.seen_by_model[-2:]

    @pytest.mark.fails
    async def test_a_message_with_keep(self, store: Store[Any]) -> None:
        """With "keep" a message wakes a tool that a dead worker did not wake, and the model answers it meanwhile."""
        page = Waiting(
            store, [[calls("twice")], speaks("Patience."), speaks("Good.")], tool(twice), on_user_message="keep"
        )

        await page.say("go")
        await answered_by_a_process_that_died(page.chat, ADA)
        page.restart()
        reply = await page.say("what now?")
        last = await page.answer(GRACE)

        assert (["Patience."], ["choose_agent"]) == (reply.texts, [name for name, _ in reply.calls])
        assert ["Good."] == last.texts
        assert ("output", "Ada, Grace") == page.seen_by_model[-1]


class TestDeathAnywhere:
    @pytest.mark.parametrize("how", ["repeat", "reload"])
    async def test_in_an_answer(self, store: Store[Any], how: str, clock: Clock) -> None:
        """Wherever a process dies with an answer, a repeat or a reload later goes on: each ask is answered once."""
        deaths = 0
        for nth in range(1, 20):
            page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice), clock=clock)
            await page.say()
            item = page.asked
            if not await dies(page, nth, page.chat.answer_request({"_receipt": receipt(item), "result": ADA})):
                break
            deaths += 1
            clock.now += 121
            page.restart()
            between = await (page.answer(ADA, to=item) if how == "repeat" else page.reload())
            if between.call_items and between.call_items[-1]["arguments"] == item["arguments"]:
                between = await page.answer(ADA)
            last = await page.answer(GRACE)

            assert ["choose_agent"] == [name for name, _ in between.calls]
            assert (["Good."], 2) == (last.texts, page.server.runs)
            assert ("output", "Ada, Grace") == page.seen_by_model[-1]
            assert ((), 0) == ((await page.plan()).tools, len((await page.plan()).calls))
        assert 5 <= deaths < 19

    @pytest.mark.parametrize("how", ["repeat", "reload"])
    async def test_in_the_last_answer(self, store: Store[Any], how: str, clock: Clock) -> None:
        """Wherever a process dies with the last answer, a repeat or a reload later tells the model, with one pair."""
        deaths = 0
        for nth in range(1, 30):
            page = Waiting(store, [[calls("chooses")], *[speaks("Good.")] * 2], tool(chooses), clock=clock)
            await page.say()
            item = page.asked
            if not await dies(page, nth, page.chat.answer_request({"_receipt": receipt(item), "result": ADA})):
                break
            deaths += 1
            clock.now += 121
            page.restart()
            again = await (page.answer(ADA, to=item) if how == "repeat" else page.reload())
            if again.call_items:
                await page.answer(ADA)

            assert "assistant_message" in [each.type for each in await page.chat.items()]
            assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Ada")] == page.seen_by_model[:3]
            assert ((), 0) == ((await page.plan()).tools, len((await page.plan()).calls))
        assert 8 <= deaths < 29


def receipt(item: Wire) -> str:
    found: str = item["arguments"]["_receipt"]
    return found


async def dies(page: Waiting, nth: int, request: str) -> bool:
    """Post a request to a process that dies at its nth store operation; say whether there were so many."""
    other = page.beside()
    store = WatchedStore(page.store)
    other.server.store = store
    reached, seen = asyncio.Event(), 0

    async def die(name: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += 1
        if seen > nth:
            raise Died
        if seen == nth:
            reached.set()
            await asyncio.Event().wait()

    store.before = die

    async def post() -> None:
        async for _ in other.chat.stream(request):
            pass

    task = asyncio.create_task(post())
    dead = asyncio.create_task(reached.wait())
    await asyncio.wait([task, dead], return_when=asyncio.FIRST_COMPLETED)
    await abandon(task, dead)
    return reached.is_set()


async def test_a_retry_after_a_death_in_a_step(store: Store[Any]) -> None:
    """After a worker has died in a step of a tool a retry starts over at once: nobody waits for the dead one."""
    began, ran = asyncio.Event(), []

    async def slow() -> str:
        ran.append("slow")
        if len(ran) == 1:
            began.set()
            await asyncio.Event().wait()
        return "slow"

    async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return f"{await chooses(sequencer, ctx)} {await sequencer.step(ctx, slow)}"

    page = Waiting(store, [[calls("works")], [calls("works")], speaks("Good.")], tool(works))
    await page.say()
    dead = asyncio.create_task(page.beside().answer(ADA))
    await began.wait()

    asked = await page.retry()
    last = await page.answer(ADA)
    await abandon(dead)

    assert (["choose_agent"], ["Good."]) == ([name for name, _ in asked.calls], last.texts)
    assert ("output", "Ada slow") == page.seen_by_model[-1]


class TestStop:
    """The user presses Stop: the web server closes the stream."""

    @staticmethod
    async def stopped(page: Waiting, request: str, began: asyncio.Event) -> set[asyncio.Task[Any]]:
        """Post a request, and cut it off while the body of the tool runs; return what the SDK leaves running."""

        async def post() -> None:
            async for _ in page.chat.stream(request):
                pass

        others, task = asyncio.all_tasks(), asyncio.create_task(post())
        await began.wait()
        running = asyncio.all_tasks() - others - {task}
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return running

    async def test_while_a_step_runs(self, store: Store[Any]) -> None:
        """Stop while a step runs ends it: a repeated answer runs that step again, and those that had ended not."""
        began, ran = asyncio.Event(), []

        def quick() -> str:
            ran.append("quick")
            return "quick"

        async def slow() -> str:
            ran.append("slow")
            if len(ran) == 2:
                began.set()
                await asyncio.Event().wait()
            return "slow"

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            said = [await chooses(sequencer, ctx), await sequencer.step(ctx, quick), await sequencer.step(ctx, slow)]
            return " ".join(said)

        page = Waiting(store, [[calls("works")], speaks("Good.")], tool(works))

        await page.say()
        await self.stopped(page, page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA}), began)
        await left_behind_is_done()
        body = (await page.plan()).body
        last = await page.answer(ADA)

        assert (["quick", "slow", "slow"], None, ["Good."]) == (ran, body, last.texts)
        assert ("output", "Ada quick slow") == page.seen_by_model[-1]

    async def test_a_message_goes_on(self, store: Store[Any]) -> None:
        """After Stop in a woken body a message wakes it again: its steps go on, and what it asks for is cancelled."""
        began, ran = asyncio.Event(), []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            said = [await chooses(sequencer, ctx)]
            if not began.is_set():
                began.set()
                await asyncio.Event().wait()
            said.append(await sequencer.step(ctx, slow))
            try:
                said.append(await chooses(sequencer, ctx))
            except CallCancelledError:
                said.append("cancelled")
            return " ".join(said)

        async def slow() -> str:
            ran.append("slow")
            return "slow"

        page = Waiting(store, [[calls("works")], speaks("Good.")], tool(works))

        await page.say("go")
        await self.stopped(page, page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA}), began)
        await left_behind_is_done()
        last = await page.say("never mind")

        assert (["Good."], ["slow"]) == (last.texts, ran)
        assert [("output", "Ada slow cancelled"), ("user", "never mind")] == page.seen_by_model[-2:]

    async def test_cleaning_up_after_it(self, store: Store[Any]) -> None:
        """A step that cleans up after Stop in the function's own work does not run: it would be out of its order."""
        began = asyncio.Event()
        ran: list[str] = []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            try:
                if not began.is_set():
                    began.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                await sequencer.step(ctx, ran.append, "released")
                raise
            await sequencer.step(ctx, ran.append, "worked")
            return name

        page = Waiting(store, [[calls("works")], speaks("Good.")], tool(works))

        await page.say()
        await self.stopped(page, page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA}), began)
        await left_behind_is_done()
        last = await page.answer(ADA)

        assert (["worked"], ["Good."]) == (ran, last.texts)
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_the_function_ends_first(self, store: Store[Any]) -> None:
        """A request that is cut off while a woken tool works ends after the tool's function has cleaned up."""
        began, ended = asyncio.Event(), []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append("works")
            return "never"

        page = Waiting(store, [[calls("works")]], tool(works))

        await page.say()
        await self.stopped(page, page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA}), began)

        assert ["works"] == ended
        await left_behind_is_done()

    async def test_nothing_is_asked_on_the_way_out(self, store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
        """A step in a `finally` does not run when Stop has cut a step off: it would be recorded out of its order."""
        began, ran = asyncio.Event(), []

        async def slow() -> str:
            ran.append("slow")
            if len(ran) == 1:
                began.set()
                await asyncio.Event().wait()
            return "slow"

        def tidy() -> None:
            ran.append("tidy")

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            try:
                return f"{name} {await sequencer.step(ctx, slow)}"
            finally:
                await sequencer.step(ctx, tidy)

        page = Waiting(store, [[calls("works")], speaks("Good.")], tool(works))

        await page.say()
        await self.stopped(page, page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA}), began)
        await left_behind_is_done()
        last = await page.answer(ADA)

        assert (["slow", "slow", "tidy"], ["Good."]) == (ran, last.texts)
        assert ("output", "Ada slow") == page.seen_by_model[-1]
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_in_the_first_run(self, store: Store[Any]) -> None:
        """Stop before the first ask leaves nothing of the tool, though its body goes on: a message starts over."""
        began, may_go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        errors: list[Exception] = []

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            if began.is_set():
                return await chooses(sequencer, ctx)
            began.set()
            await may_go_on.wait()
            try:
                return await chooses(sequencer, ctx)
            except Exception as error:
                errors.append(error)
                raise
            finally:
                ended.set()

        steps = [speaks("Hello."), [calls("works")], speaks("Nobody hears this: some SDKs run the model all the same.")]
        page = Waiting(store, steps, tool(works))

        await page.say("hello")
        running = await self.stopped(page, page.chat.say_request("go"), began)
        may_go_on.set()
        await ended.wait()
        await left_behind_is_done()
        await abandon(*running)
        plan, items = await page.plan(), await page.chat.calls()
        page.restart()
        page.server.model = page.server.agent.model = ScriptedModel([[calls("works")], speaks("Good.")])
        again = await page.say("again")
        last = await page.answer(ADA)

        assert ((), 0, None, []) == (plan.tools, len(plan.calls), plan.body, items)
        assert [NotSequencedError] == [type(error) for error in errors]
        assert (["choose_agent"], ["Good."]) == ([name for name, _ in again.calls], last.texts)

    async def test_a_tool_that_does_not_ask(self, store: Store[Any]) -> None:
        """Stop while the body of a tool runs in its first run does not make the body run twice."""
        began, may_go_on, ran = asyncio.Event(), asyncio.Event(), []
        returned = asyncio.Event()

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            ran.append("began")
            began.set()
            await may_go_on.wait()
            return "worked"

        class Hooks(AgentHooks[Any]):
            async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
                returned.set()

        page = Waiting(store, [speaks("Hello."), [calls("works")], speaks("Good.")], tool(works))
        page.server.agent.hooks = Hooks()

        await page.say("hello")
        running = await self.stopped(page, page.chat.say_request("go"), began)
        may_go_on.set()
        await returned.wait()
        await abandon(*running)

        assert ["began"] == ran

    async def test_when_the_ask_has_been_streamed(self, store: Store[Any]) -> None:
        """A stream that is closed at its last event, the ask, has lost nothing: the answer wakes the tool."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        events: AsyncGenerator[Wire, None] = page.chat.stream(page.chat.say_request("go"))  # type: ignore[assignment]
        asked: Wire | None = None
        async for event in events:
            if event["type"] == "thread.item.done" and event["item"]["type"] == "client_tool_call":
                asked = event["item"]
                break
        await events.aclose()
        last = await page.answer(ADA, to=asked)

        assert ["Good."] == last.texts
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_what_it_streams_reaches_the_page_before(self, store: Store[Any]) -> None:
        """A woken body streams at once, not at its end: the page sees progress while a step still runs."""
        may_end = asyncio.Event()

        async def slow() -> None:
            await may_end.wait()

        async def works(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            await ctx.context.stream(ProgressUpdateEvent(text="working"))
            await sequencer.step(ctx, slow)
            return name

        page = Waiting(store, [[calls("works")], speaks("Good.")], tool(works))

        await page.say()
        seen = []
        async for event in page.chat.stream(page.chat.answer_request({"_receipt": receipt(page.asked), "result": ADA})):
            seen.append(event["type"])
            if event["type"] == "progress_update":
                may_end.set()

        assert 1 == seen.count("progress_update")
        assert ("output", "Ada") == page.seen_by_model[-1]
