"""What a store is asked: only in the name of the user whose request it is, and only of the thread that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ThreadItemDoneEvent

from chatkit_clienttools import ClientTool, ClientToolSequencer, StoreWrapper
from chatkit_clienttools._step.plans import keeper
from chatkit_clienttools.content import MediaStore
from chatkit_clienttools.media import ClientImage
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.keeping import Keeping
from tests.helpers.merak import anything, calls, selection, speaks
from tests.helpers.scripted import Scripted, asks, fill, foreign, move_behind, says, scripted
from tests.helpers.server import RESUME
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.waiting import TOOLS, Ctx, Waiting, animation, choose, tool
from tests.helpers.workers import stored_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chatkit.agents import AgentContext

    from tests.helpers.conversation import Conversation

ANN = "ann"
IMAGE = {"data_url": "data:image/png;base64," + "iVBORw0KGgo" * 20}


@pytest.fixture(params=[PlainStore, PlansStore], ids=["metadata", "own key"])
def store(request: pytest.FixtureRequest) -> WatchedStore:
    """A store that notes what it is asked."""
    return WatchedStore(request.param())


@pytest.fixture(autouse=True)
def _everything_is_asked_rightly(request: pytest.FixtureRequest) -> Iterator[None]:
    """At the end of each test here, see whose data of which thread was asked for."""
    store: WatchedStore = request.getfixturevalue("store")
    yield
    assert ({ANN}, 1) == (store.contexts, len(store.threads))
    assert store.orders <= {"asc", "desc"}


def ids(chat: Conversation) -> tuple[str, str]:
    """The thread of a conversation and whose it is, as a sequencer is told."""
    return chat.thread_id or "", ANN


class TestByQueuedCalls:
    async def test_of_answers_and_a_reload(self, store: WatchedStore) -> None:
        """Answers, a page that is loaded again, a button and a retry ask only for what is the user's."""
        server, chat = scripted(store, asks(selection(), anything()), asks(selection()), says("hi"), says("again"))
        chat.context = ANN

        await chat.say("go")
        await chat.act(RESUME)
        await chat.act("more")
        for _ in range(3):
            await chat.answer([])
        [message, *_] = await chat.items()
        await chat.retry(message.id)

        assert 4 == server.runs

    async def test_of_a_thread_that_is_shown_as_locked(self, store: WatchedStore) -> None:
        """Whether a thread is locked is asked in the name of the user who looks at it."""
        _, chat = scripted(store, asks(selection()), locks_thread=True)
        chat.context = ANN
        await chat.say("go")

        assert "locked" == (await chat.thread())["status"]["type"]

    async def test_of_what_the_application_asks_for(self, store: WatchedStore) -> None:
        """A sequencer that is asked about a thread, or has to change it, acts for the user whom it is told."""
        server, chat = scripted(store, asks(selection(), anything()))
        chat.context = ANN
        await chat.say("go")
        sequencer = server.sequencer

        assert 2 == len(await sequencer.snapshot(store, *ids(chat)))
        assert () == await sequencer.waiting_tools(store, *ids(chat))
        assert () == await sequencer.expire(store, *ids(chat))
        assert 2 == len(await sequencer.cancel(store, *ids(chat)))

    async def test_of_what_the_application_does_through_the_servers_store(self, store: WatchedStore) -> None:
        """What an application does through `server.store`, or a wrapper around that, is done for its user."""
        server, chat = scripted(store, asks(selection(), anything()))
        chat.context = ANN
        await chat.say("go")
        around: Any = StoreWrapper(server.store)

        assert 2 == len(await server.sequencer.cancel(around, *ids(chat)))
        thread = await around.load_thread(*ids(chat))
        await around.save_thread(thread, ANN)
        await around.delete_thread(*ids(chat))

        assert 1 == store.counts["delete_thread"]

    async def test_of_a_damaged_plan(self, store: WatchedStore) -> None:
        """A damaged plan is dropped in the name of the user for whom it is cancelled, and no other one with it."""
        server, chat = scripted(store, asks(selection()), says("fine"))
        chat.context = ANN
        await chat.say("go")
        plans = keeper(store, *ids(chat))
        await plans.load()
        await plans.save("{")

        await server.sequencer.cancel(store, *ids(chat))

        assert ["fine"] == (await chat.say("hello")).texts

    async def test_of_a_call_that_a_body_streams_itself(self, store: WatchedStore) -> None:
        """Whether the id of an item that a body streams is taken already is asked in the name of the user."""

        async def streams(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield ThreadItemDoneEvent(item=foreign(chat))

        _, chat = scripted(store, says("hi"), streams)
        chat.context = ANN
        await chat.say("hello")

        reply = await chat.say("go")

        assert ["tc_foreign"] == [item["id"] for item in reply.call_items]

    async def test_of_a_message_that_is_far_back(self, store: WatchedStore) -> None:
        """What a button asks for belongs to the newest message, also if more items follow it than a step reads."""
        _, chat = scripted(store, says("hi"), says("hi again"), asks(anything()), says("as you like"))
        chat.context = ANN
        await chat.say("hello")
        await chat.say("there")
        await fill(chat, 8)

        await chat.act("more")

        [*_, newest] = [item.id for item in await chat.items() if item.type == "user_message"]
        [planned] = (await stored_plan(store, chat.thread_id, ANN)).calls
        assert newest == planned.turn
        assert ["as you like"] == (await chat.say("never mind")).texts

    async def test_of_the_id_of_an_item(self, store: WatchedStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """The store makes the id of a call's item, and is told which thread and user that is for."""
        monkeypatch.setattr(store, "generate_item_id", lambda kind, thread, context: f"{kind} {thread.id} {context}")
        _, chat = scripted(store, asks(selection()))
        chat.context = ANN
        await chat.say("go")

        assert f"tool_call {chat.thread_id} ann" == (await chat.items())[-1].id


class TestByToolsThatWait:
    @staticmethod
    async def chooses_twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        """Take a step, and ask twice."""
        await sequencer.step(ctx, len, "abc")
        first = await sequencer.ask(ctx, choose(people=["Ada"]))
        second = await sequencer.ask(ctx, choose(people=["Grace"]))
        return f"{first.name}, {second.name}"

    async def test_of_answers_that_wake_a_tool(self, store: WatchedStore) -> None:
        """What a woken tool has asked before is read in the name of the user, also by another process."""
        page = Waiting(store, [[calls("chooses_twice")], speaks("Done.")], tool(self.chooses_twice))
        page.chat.context = ANN

        await page.say()
        await page.answer({"name": "Ada"})
        page.restart()
        reply = await page.answer({"name": "Grace"})

        assert ["Done."] == reply.texts
        assert ("output", "Ada, Grace") in page.seen_by_model

    async def test_of_an_answer_that_is_far_back(self, store: WatchedStore) -> None:
        """The first answer of a tool is found however many items have come between it and the last one."""
        returned: list[str] = []

        async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> None:
            returned.append(await self.chooses_twice(sequencer, ctx))

        page = Waiting(store, [[calls("chooses")], speaks("Done.")], tool(chooses))
        page.chat.context = ANN
        await page.say()
        await page.answer({"name": "Ada"})
        await move_behind(page.chat, 150)

        await page.answer({"name": "Grace"})

        assert ["Ada, Grace"] == returned

    async def test_of_a_run_that_is_taken_up_again(self, store: WatchedStore) -> None:
        """A run that goes on where it was reads the outputs of its tools in the name of the user."""
        page = Keeping(store, [[calls("chooses_twice")], speaks("Done.")], tool(self.chooses_twice), where="response")
        page.chat.context, page.server.keeps_state = ANN, True

        await page.say()
        await page.answer({"name": "Ada"})
        reply = await page.answer({"name": "Grace"})

        assert ([], ["Done."]) == (reply.errors, reply.texts)


class TestWithImages:
    @pytest.fixture
    def store(self) -> WatchedStore:
        """A store that keeps contents as well."""
        return WatchedStore(MemoryStore[Any]())

    async def test_of_an_image(self, store: WatchedStore) -> None:
        """An image in an answer is kept, read and deleted in the name of the user, as its item is."""
        picture = ClientTool("picture", result=ClientImage)

        async def looks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            image = await sequencer.ask(ctx, picture())
            await sequencer.ask(ctx, animation(state="stop"))
            return str(image.media_type)

        tools: list[ClientTool[..., Any]] = [*TOOLS, picture]
        kept_apart = MediaStore(store, ClientToolSequencer(tools), min_bytes=10)
        page = Waiting(kept_apart, [[calls("looks")], speaks("Done.")], tool(looks), tools=tools)
        page.chat.context = ANN

        await page.say()
        await page.answer(IMAGE)
        reply = await page.answer()
        await page.server.store.delete_thread(*ids(page.chat))

        assert ["Done."] == reply.texts
        assert {"save_content", "load_content", "delete_contents"} <= store.counts.keys()
