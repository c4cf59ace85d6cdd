"""What of a thread the model reads: the newest items that concern it, with each output where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    EndOfTurnItem,
    HiddenContextItem,
    Page,
    SDKHiddenContextItem,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
)

from chatkit_clienttools import ClientToolConverter, ClientToolSequencer, StoreWrapper
from chatkit_clienttools._protocol.outputs import Output, item_of
from tests.helpers.conversation import at
from tests.helpers.merak import calls, speaks
from tests.helpers.stores import PlainStore
from tests.helpers.waiting import TOOLS, WithOptions, animation, tool

if TYPE_CHECKING:
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer as Sequencer
    from tests.helpers.waiting import Ctx

CONVERTER = ClientToolConverter(ClientToolSequencer(TOOLS))
THREAD = ThreadMetadata(id="thr_1", created_at=at(0))


def user(name: str) -> UserMessageItem:
    content: Any = [{"type": "input_text", "text": name}]
    options: Any = {}
    return UserMessageItem(
        id=name, thread_id="thr_1", created_at=at(1), content=content, attachments=[], inference_options=options
    )


def assistant(name: str) -> AssistantMessageItem:
    content: Any = [{"text": name, "annotations": []}]
    return AssistantMessageItem(id=name, thread_id="thr_1", created_at=at(1), content=content)


def call(name: str, of: str = "choose_agent", status: Any = "completed", call_id: str = "") -> ClientToolCallItem:
    return ClientToolCallItem(
        id=name,
        thread_id="thr_1",
        created_at=at(1),
        call_id=call_id or name,
        name=of,
        arguments={},
        status=status,
        output={"name": "Ada"},
    )


def output(name: str, before: str | None = None) -> SDKHiddenContextItem:
    return item_of(f"output_{name}", Output(f"call_{name}", name, "{}", f"{name}!", before), "thr_1", at(1))


def hidden(name: str) -> HiddenContextItem:
    return HiddenContextItem(id=name, thread_id="thr_1", created_at=at(1), content=name)


async def stored(*items: ThreadItem, store: Store[Any] | None = None) -> Store[Any]:
    store = store or PlainStore()
    await store.save_thread(THREAD, None)
    for item in items:
        await store.add_thread_item("thr_1", item, None)
    return store


async def loaded(store: Store[Any], **options: Any) -> list[str]:
    """The ids of what is loaded."""
    return [item.id for item in await CONVERTER.load_history(store, THREAD, None, **options)]


class TestLoadHistory:
    async def test_the_newest_oldest_first(self) -> None:
        """The newest items are loaded, as many as are asked for, oldest first."""
        store = await stored(*[user(f"m{n}") for n in range(10)])

        assert ["m7", "m8", "m9"] == await loaded(store, limit=3)
        assert [f"m{n}" for n in range(10)] == await loaded(store)

    @pytest.mark.parametrize(
        "unread",
        [
            call("x", of="run_search_animation"),
            call("x", status="pending"),
            call("x", call_id="ask_1"),
            EndOfTurnItem(id="x", thread_id="thr_1", created_at=at(1)),
        ],
        ids=["no answer wanted", "pending", "awaited by a tool", "end of turn"],
    )
    async def test_what_the_model_does_not_read_does_not_count(self, unread: ThreadItem) -> None:
        """Calls that the model does not see push nothing out of sight, however many there are."""
        many = [unread.model_copy(update={"id": f"x{n}"}) for n in range(100)]
        store = await stored(user("question"), call("answer"), *many, assistant("text"))

        assert ["question", "answer", "text"] == await loaded(store, limit=3)
        assert ["answer", "text"] == await loaded(store, limit=2)

    @pytest.mark.parametrize("read", [call("x"), call("x", of="undeclared"), output("x"), hidden("x"), user("x")])
    async def test_what_the_model_reads_counts(self, read: ThreadItem) -> None:
        """Answers, outputs of tools, messages, and hidden items that a converter may show count."""
        store = await stored(user("question"), read)

        assert [read.id] == await loaded(store, limit=1)
        assert ["question", read.id] == await loaded(store, limit=2)

    async def test_it_reads_no_further_than_it_has_to(self) -> None:
        """One page is read if that is enough, whatever the length of the thread."""
        pages: list[int] = []

        class Counted(StoreWrapper[Any]):
            async def load_thread_items(self, thread_id: str, after: Any, limit: int, order: str, context: Any) -> Any:
                pages.append(limit)
                return await super().load_thread_items(thread_id, after, limit, order, context)

        store = Counted(await stored(*[user(f"m{n}") for n in range(1000)]))

        await loaded(store, limit=30)

        assert [30] == pages

    async def test_an_empty_thread(self) -> None:
        """A thread without items has no history."""
        assert [] == await loaded(await stored())

    async def test_a_store_whose_cursor_starts_over(self) -> None:
        """A store that gives its first page again, instead of the next one, ends the search."""

        class StartsOver(StoreWrapper[Any]):
            async def load_thread_items(self, thread_id: str, after: Any, limit: int, order: str, context: Any) -> Any:
                page = await super().load_thread_items(thread_id, None, limit, order, context)
                return Page(data=page.data, has_more=True, after="somewhere")

        unread = [call(f"x{n}", of="run_search_animation") for n in range(10)]
        store = StartsOver(await stored(user("question"), *unread, assistant("text")))

        assert ["text"] == await loaded(store, limit=3)

    async def test_a_page_that_overlaps(self) -> None:
        """An item that a store gives on two pages is loaded once."""

        class Overlaps(StoreWrapper[Any]):
            async def load_thread_items(self, thread_id: str, after: Any, limit: int, order: str, context: Any) -> Any:
                page = await super().load_thread_items(thread_id, after, limit, order, context)
                kept = page.data[-2].id if page.has_more and len(page.data) > 1 else page.after
                return Page(data=page.data, has_more=page.has_more, after=kept)

        many = [call(f"x{n}", of="run_search_animation") for n in range(10)]
        store = Overlaps(await stored(user("question"), *many, call("a"), call("b")))

        assert ["question", "a", "b"] == await loaded(store, limit=3)


async def read(*items: ThreadItem) -> list[Any]:
    """What the model reads, in short."""
    return [_in_short(item) for item in await CONVERTER.to_agent_input(items)]


def _in_short(item: Any) -> Any:
    match item:
        case {"type": "function_call", "name": name, "call_id": call_id}:
            return ("call", name, call_id)
        case {"type": "function_call_output", "output": output, "call_id": call_id}:
            return ("output", output, call_id)
        case {"content": [{"text": text}, *_]}:
            return (item["role"], text)
    return item


class TestOrder:
    async def test_an_output(self) -> None:
        """The hidden item of a tool that has returned is read as the model's call and its output."""
        assert [("user", "go"), ("call", "search", "call_search"), ("output", "search!", "call_search")] == await read(
            user("go"), output("search")
        )

    async def test_an_output_that_came_after_the_message(self) -> None:
        """What a tool has returned because the user wrote is read before what the user wrote."""
        pair = [("call", "search", "call_search"), ("output", "search!", "call_search")]

        assert [("user", "go"), *pair, ("user", "stop")] == await read(
            user("go"), user("stop"), output("search", before="stop")
        )

    async def test_two_of_them(self) -> None:
        """Several tools that have returned because the user wrote keep their order."""
        short = await read(user("go"), user("stop"), output("one", before="stop"), output("two", before="stop"))

        assert ["go", "call_one", "call_one", "call_two", "call_two", "stop"] == [each[-1] for each in short]

    @pytest.mark.parametrize("before", ["elsewhere", None])
    async def test_a_message_that_is_not_there(self, before: str | None) -> None:
        """An output whose message is out of sight, or gone, stays where it is."""
        short = await read(user("go"), output("search", before=before), assistant("text"))

        assert ["go", "call_search", "call_search", "text"] == [each[-1] for each in short]

    async def test_one_item(self) -> None:
        """A single item can be converted, as ChatKit's converter allows."""
        converted = await CONVERTER.to_agent_input(user("go"))

        assert [("user", "go")] == [_in_short(item) for item in converted]

    async def test_a_hidden_item_of_chatkit(self) -> None:
        """What ChatKit itself hides in a thread is read as ChatKit would have it read."""
        item = SDKHiddenContextItem(id="sdk_1", thread_id="thr_1", created_at=at(1), content="The user pressed Stop.")

        [converted] = await CONVERTER.to_agent_input([item])

        assert "The user pressed Stop." in str(converted)

    async def test_the_items_are_left_alone(self) -> None:
        """The list that is converted is not changed."""
        items: list[ThreadItem] = [user("go"), user("stop"), output("search", before="stop")]

        await CONVERTER.to_agent_input(items)

        assert ["go", "stop", "output_search"] == [item.id for item in items]


class TestConversation:
    async def test_many_questions_of_a_tool(self) -> None:
        """The user's own question is read again after a tool has asked the browser fifty times."""

        async def asks(sequencer: Sequencer, ctx: Ctx) -> str:
            for _ in range(50):
                await sequencer.ask(ctx, animation(state="start"))
            return "done"

        page = WithOptions(PlainStore(), [[calls("asks")], speaks("Good.")], tool(asks))

        await page.say("Which poets are there?")
        for _ in range(50):
            await page.answer()

        assert [("user", "Which poets are there?"), ("call", "asks", "{}"), ("output", "done")] == page.seen_by_model
