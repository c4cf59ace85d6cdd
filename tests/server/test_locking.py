"""The composer is locked while the browser has a call, if that is wanted: what the page is shown of a thread."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ActiveStatus, ClosedStatus, LockedStatus

from chatkit_clienttools import ClientTool, ClientToolSequencer
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation
from tests.helpers.merak import profiles, selection
from tests.helpers.scripted import Scripted, asks, fails, says, with_receipt
from tests.helpers.server import RESUME
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.agents import AgentContext
    from chatkit.store import Store

    from tests.helpers.conversation import Reply, Wire

ACTIVE, LOCKED = {"type": "active"}, {"type": "locked", "reason": "Choose on the canvas."}

pick = ClientTool("pick_a_color", result=str, expires_after=timedelta(minutes=1))


class Page:
    """A page, and a server that locks its composer."""

    def __init__(self, store: Store[Any], *bodies: Any, **options: Any) -> None:
        self.clock = Clock()
        wanted = {"locks_thread": "Choose on the canvas.", "receipts": True, "clock": self.clock, **options}
        self.server = Scripted(store, ClientToolSequencer([pick, profiles, selection], **wanted), *bodies)
        self.chat = Conversation(self.server)
        self.item: Wire = {}

    async def say(self, text: str = "go") -> Reply:
        return self._noted(await self.chat.say(text))

    async def answer(self, result: Any = "red") -> Reply:
        return self._noted(await self.chat.answer(with_receipt(self.item, result)))

    async def act(self, kind: str = "press") -> Reply:
        return self._noted(await self.chat.act(kind))

    async def loaded(self) -> Any:
        """The status of the thread as a page gets it that loads it."""
        return (await self.chat.thread())["status"]

    async def set_status(self, status: Any) -> None:
        """Set the status, as the application does."""
        thread = await self.server.store.load_thread(self.chat.thread_id or "", None)
        await self.server.store.save_thread(thread.model_copy(update={"status": status}), None)

    def _noted(self, reply: Reply) -> Reply:
        self.item = reply.call_items[-1] if reply.call_items else self.item
        return reply


def shown(reply: Reply) -> list[Any]:
    """What a response has said of the thread's status, in order."""
    return [event["thread"]["status"] for event in reply.events if event["type"] == "thread.updated"]


class TestLocking:
    async def test_from_the_release_to_the_last_answer(self, store: Store[Any]) -> None:
        """The thread is locked with the first call and active with the last answer, before the model speaks."""
        page = Page(store, asks(pick(), selection()), says("Good."))

        replies = [await page.say(), await page.answer(), await page.answer(["a"])]

        assert [[ACTIVE, LOCKED], [LOCKED], [ACTIVE]] == [shown(reply) for reply in replies]
        assert ["thread.updated", "thread.item.done"] == replies[0].types[-2:]
        assert ["thread.updated", "stream_options", "thread.item.done"] == replies[2].types

    async def test_a_page_that_loads_the_thread(self, store: Store[Any]) -> None:
        """A page that loads a thread, or renames it, is shown it as locked exactly while a call is pending."""
        page = Page(store, asks(pick()), says("Good."))
        await page.say()

        during = await page.loaded()
        await page.answer()

        assert (LOCKED, ACTIVE) == (during, await page.loaded())

    async def test_nothing_is_stored(self) -> None:
        """Locking takes no write: it follows from the plan, and the store has the application's own status."""
        stores = [WatchedStore(PlansStore()), WatchedStore(PlansStore())]
        for store, locks in zip(stores, (True, False), strict=True):
            page = Page(store, asks(pick(), selection()), says("Good."), locks_thread=locks)
            await page.say()
            stored = await store.load_thread(page.chat.thread_id or "", None)
            await page.answer()
            await page.answer(["a"])
            assert ActiveStatus() == stored.status

        assert stores[0].counts == stores[1].counts

    async def test_without_a_text(self) -> None:
        """With True the composer shows what ChatKit shows by itself."""
        page = Page(PlainStore(), asks(pick()), locks_thread=True)

        assert {"type": "locked"} == shown(await page.say())[-1]

    async def test_as_it_is_by_default(self, store: Store[Any]) -> None:
        """Without the option nobody hears of a status, and a thread is active whatever is pending."""
        page = Page(store, asks(pick()), locks_thread=False)

        assert [] == shown(await page.say())
        assert ACTIVE == await page.loaded()

    @pytest.mark.parametrize("status", [LockedStatus(reason="Closed for lunch."), ClosedStatus(reason="Over.")])
    async def test_the_applications_own_status(self, store: Store[Any], status: Any) -> None:
        """A thread that the application has locked or closed stays as it is, before and after the last answer."""
        page = Page(store, asks(pick()), says("Good."))
        await page.say()
        await page.set_status(status)

        reply = await page.answer()

        assert ([status.model_dump()], status.model_dump()) == (shown(reply), await page.loaded())

    async def test_a_title_that_is_given_meanwhile(self, store: Store[Any]) -> None:
        """When ChatKit itself tells of a change of the thread, it says the same of the status."""

        async def titled(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            context.thread.title = "Colours"
            async for event in says("Pressed.")(server, context):
                yield event

        page = Page(store, asks(pick()), titled)
        await page.say()

        assert {LOCKED["reason"]} == {status["reason"] for status in shown(await page.act())}
        stored = await page.server.store.load_thread(page.chat.thread_id or "", None)
        assert ("Colours", "active") == (stored.title, stored.status.type)


class TestNeverLeftBehind:
    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="older ChatKits delete the call before we are asked")
    async def test_a_message_that_cancels(self, store: Store[Any]) -> None:
        """A message that cancels the call, from another tab, say, takes the lock back at once."""
        page = Page(store, asks(pick()), says("I see."))
        await page.say()

        reply = await page.say("never mind")

        assert ([ACTIVE], ACTIVE) == (shown(reply), await page.loaded())

    async def test_an_application_that_cancels(self, store: Store[Any]) -> None:
        """An action in which the application cancels what is open says at its end that the thread is active."""

        async def cancels(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            await server.sequencer.cancel(server.store, context.thread.id, None)
            async for event in says("Cancelled.")(server, context):
                yield event

        page = Page(store, asks(pick()), cancels)
        await page.say()

        assert [LOCKED, ACTIVE] == shown(await page.act())
        assert ACTIVE == await page.loaded()

    async def test_a_call_whose_time_is_over(self, store: Store[Any]) -> None:
        """A page that loads a thread whose call is overdue can be written in, though nobody has ended the call yet."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        await page.say()

        page.clock.now += 60

        assert ACTIVE == await page.loaded()
        assert [ACTIVE] == shown(await page.act(RESUME))

    async def test_a_call_that_fails(self, store: Store[Any]) -> None:
        """With on_failure="abort" a failed call takes the lock with the calls behind it."""
        page = Page(store, asks(pick(), selection()), says("Well."), on_failure="abort")
        await page.say()

        reply = await page.chat.answer({"_receipt": page.item["arguments"]["_receipt"], "error": "no"})

        assert ([ACTIVE], ACTIVE) == (shown(reply), await page.loaded())

    @pytest.mark.fails
    async def test_a_run_that_fails(self, store: Store[Any]) -> None:
        """A run that fails after the last answer leaves the thread active: the user can try again."""
        page = Page(store, asks(pick()), fails())
        await page.say()

        reply = await page.answer()

        assert ([ACTIVE], 1, ACTIVE) == (shown(reply), len(reply.errors), await page.loaded())

    async def test_a_response_that_was_lost(self, store: Store[Any]) -> None:
        """A page whose last response was lost hears with the repeated answer how the thread stands."""
        page = Page(store, asks(pick()), says("Good."))
        await page.say()
        await page.answer()

        assert [ACTIVE] == shown(await page.answer())

    async def test_a_call_that_is_streamed_again(self, store: Store[Any]) -> None:
        """A page that posts an answer again, and gets the next call once more, hears that the thread is locked."""
        page = Page(store, asks(pick(), selection()))
        await page.say()
        first = page.item
        await page.answer()
        page.item = first

        reply = await page.answer()

        assert ([LOCKED], 1) == (shown(reply), len(reply.call_items))

    async def test_a_plan_that_cannot_be_read(self, caplog: pytest.LogCaptureFixture) -> None:
        """A thread whose plan is damaged can be loaded, and is not locked."""
        store = PlansStore()
        page = Page(store, asks(pick()))
        await page.say()
        plan = store.plans[page.chat.thread_id or ""]
        store.plans[page.chat.thread_id or ""] = plan._replace(document="?")

        assert ACTIVE == await page.loaded()
