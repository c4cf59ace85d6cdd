"""A page that is loaded, and what is left behind when the user does something else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientToolServer, LifecycleEvent
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation
from tests.helpers.merak import animation, profiles, selection
from tests.helpers.scripted import asks, hidden, message, says, scripted
from tests.helpers.server import (
    NAMES,
    NOTHING,
    RESUME,
    THREE,
    answered_by_a_process_that_died,
    everything,
    lines,
    old_call,
)
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store


class TestResume:
    async def test_a_pending_call_is_sent_again(self, store: Store[Any]) -> None:
        """The item is removed, and the call goes out as another item, with the same call id and receipt."""
        _, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        [before] = (await chat.say("go")).call_items

        reply = await chat.act(RESUME)

        [after] = reply.call_items
        assert [before["id"]] == reply.removed
        assert f"{before['id']}-2" == after["id"]
        same = ("call_id", "name", "arguments")
        assert [before[field] for field in same] == [after[field] for field in same]
        assert [("run_search_animation", "pending")] == await chat.calls()
        for _ in range(2):
            [after] = (await chat.answer({"_receipt": after["arguments"]["_receipt"]})).call_items
        assert ["done"] == (await chat.answer({"_receipt": after["arguments"]["_receipt"]})).texts

    async def test_again_and_again(self, store: Store[Any]) -> None:
        """Each load of the page sends the call once more under a new item id; it is never there twice."""
        _, chat = scripted(store, asks(selection()), says("done"))
        [first] = (await chat.say("go")).call_items

        ids = [(await chat.act(RESUME)).call_items[0]["id"] for _ in range(4)]

        assert [f"{first['id']}-{n}" for n in (2, 3, 4, 5)] == ids
        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer(["a"])).texts

    async def test_it_is_announced_as_sent_again(self, store: Store[Any], log: Any) -> None:
        """A call that is sent again was not cancelled: it stays pending, and the event has the attempt."""
        seen: list[LifecycleEvent] = []
        _, chat = scripted(store, asks(selection()), says("done"), observers=[seen.append])
        await chat.say("go")
        seen.clear()

        await chat.act(RESUME)
        await chat.answer(["a"])

        assert [("pending", "pending", 2), ("pending", "completed", 2)] == [
            (event.previous.value if event.previous else None, event.state.value, event.attempt) for event in seen
        ]
        assert "pending -> sent again" in log.text
        assert "cancelled" not in log.text

    async def test_nothing_to_resume(self, store: Store[Any], log: Any) -> None:
        """Sent on every load, it changes nothing in a thread that waits for nothing, and nothing is logged."""
        server, chat = scripted(store, says("hello"))
        await chat.say("hi")
        before = await everything(chat)

        reply = await chat.act(RESUME)

        assert NOTHING == reply.types
        assert before == await everything(chat)
        assert 1 == server.runs
        assert [] == lines(log)

    async def test_a_thread_whose_next_call_was_never_released(self, store: Store[Any]) -> None:
        """The process died between answer and release: the load of the page releases the next call."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        await answered_by_a_process_that_died(chat)

        assert [(NAMES[1], {})] == (await chat.act(RESUME)).calls

    async def test_a_last_answer_that_the_model_has_not_seen(self, store: Store[Any]) -> None:
        """The process died between the last answer and the run: the load of the page lets the model run."""
        _, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        await answered_by_a_process_that_died(chat, ["a"])

        assert ["done"] == (await chat.act(RESUME)).texts

    async def test_a_call_far_behind(self, store: Store[Any]) -> None:
        """However many items have come since, the pending call of the plan is sent again, as the newest item."""
        _, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        for n in range(50):
            await chat.touch(hidden(chat, n))

        await chat.act(RESUME)

        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert "client_tool_call" == (await chat.items())[-1].type

    async def test_calls_that_nobody_has_planned(self) -> None:
        """A pending call from before the sequencer came is sent again too; older ones are removed."""
        _, chat = scripted(PlainStore(), says("hello"), says("done"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        reply = await chat.act(RESUME)

        assert ["old2"] == [name for name, _ in reply.calls]
        assert ["o1", "o2"] == sorted(reply.removed)
        assert ["done"] == (await chat.answer(1)).texts

    async def test_the_application_hears_nothing_of_it(self) -> None:
        """The action is ours: `action` is not called for it, and need not exist."""

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("hello", thread, "hello")

        chat = Conversation(Server(PlainStore()))
        await chat.say("hi")

        assert NOTHING == (await chat.act(RESUME)).types

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("operation", ["delete_thread_item", "save_thread", "save_plan", "add_thread_item"])
    async def test_it_can_be_repeated_whatever_fails(self, make: Any, operation: str, moment: str) -> None:
        """Whichever of its writes fails, the next one goes on, and the call is there once."""
        store = WatchedStore(make())
        _, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        failed = 0

        async def fail(name: str, _: Any) -> None:
            nonlocal failed
            if name == operation:
                failed += 1
                raise ConnectionError

        setattr(store, moment, fail)
        reply = await chat.act(RESUME)
        setattr(store, moment, None)
        assert bool(failed) == bool(reply.errors) == (operation != {PlainStore: "save_plan"}.get(make, "save_thread"))

        resumed = await chat.act(RESUME)

        assert ["get_selected_canvas_nodes"] == [name for name, _ in resumed.calls]
        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer(["a"])).texts


class TestWhatIsLeftBehind:
    async def test_a_message_cancels_what_is_open(self, store: Store[Any]) -> None:
        """The pending call is removed in the stream; the required one goes out after the new answer."""
        _, chat = scripted(store, asks(selection(), profiles(agents=[]), animation(state="stop")), says("well"))
        [item] = (await chat.say("go")).call_items

        reply = await chat.say("forget it")

        if not CHATKIT_DROPS_PENDING_ON_MESSAGE:
            assert [item["id"]] == reply.removed
        assert (["well"], [("run_search_animation", {"state": "stop"})]) == (reply.texts, reply.calls)
        assert [] == (await chat.answer()).calls

    async def test_a_retry_starts_over(self, store: Store[Any]) -> None:
        """A retried message has no trace of the old plan, the required calls included."""
        server, chat = scripted(store, asks(*THREE), asks(profiles(agents=["Bo"])))
        await chat.say("go")
        await chat.answer()
        [first] = [item.id for item in await chat.items() if item.type == "user_message"]

        reply = await chat.retry(first)
        last = await chat.answer()

        assert [("display_agent_profiles", {"agents": ["Bo"]})] == reply.calls
        assert ([], NOTHING) == (last.calls, last.types)
        assert 2 == server.runs

    async def test_an_action_leaves_the_calls_alone(self, store: Store[Any]) -> None:
        """What the action asks for goes behind the open calls."""
        _, chat = scripted(store, asks(selection()), asks(profiles(agents=[]), says="clicked"), says("done"))
        await chat.say("go")

        acted = await chat.act("click")
        replies = [await chat.answer(["a"]), await chat.answer()]

        assert (["clicked"], []) == (acted.texts, acted.calls)
        assert ["display_agent_profiles"] == [name for name, _ in replies[0].calls]
        assert ["done"] == replies[1].texts

    async def test_required_calls_wait_for_the_answer(self, store: Store[Any]) -> None:
        """While the body of the message that kept them runs, a late answer or a loaded page releases nothing."""
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("well", context.thread, "well")

        _, chat = scripted(store, asks(selection(), animation(state="stop")), slow)
        await chat.say("go")
        saying = asyncio.create_task(chat.say("forget it"))
        await begun.wait()
        late, resumed = await chat.answer(["a"]), await chat.act(RESUME)
        goes_on.set()
        reply = await saying

        assert ([], []) == (late.calls, resumed.calls)
        assert ["assistant_message", "client_tool_call"] == [item["type"] for item in reply.done][-2:]

    async def test_stop_just_when_a_call_was_sent(self, store: Store[Any]) -> None:
        """ChatKit's hidden note lands behind the pending call, and the call can still be answered."""
        server, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        thread = await server.store.load_thread(chat.thread_id or "", None)

        await server.handle_stream_cancelled(thread, [], None)

        assert "sdk_hidden_context" == (await chat.items())[-1].type
        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer(["a"])).texts

    async def test_stop_keeps_what_was_said(self, store: Store[Any]) -> None:
        """The partial message that ChatKit keeps when the user presses Stop is kept, a pending call or not."""
        server, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        thread = await server.store.load_thread(chat.thread_id or "", None)
        partial = message("half a sent", thread, "m_partial").item

        await server.handle_stream_cancelled(thread, [partial], None)

        assert "m_partial" in [item.id for item in await chat.items()]
        assert ["done"] == (await chat.answer(["a"])).texts

    @pytest.mark.parametrize("event", range(4))
    async def test_a_client_that_disconnects(self, store: Store[Any], event: int) -> None:
        """A stream that is never read on, after any of its events: the next message goes on."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        abandoned = chat.stream(chat.say_request("go"))
        for _ in range(event + 1):
            await anext(abandoned)

        reply = await chat.say("hello?")

        assert [] == reply.errors
        assert ["done"] == reply.texts or [NAMES[0]] == [name for name, _ in reply.calls]
