"""What becomes of open calls when the user writes, retries a message or presses a button."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import AssistantMessageContentPartTextDelta, ThreadItemAddedEvent, ThreadItemUpdatedEvent

from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import animation, anything, profiles, selection
from tests.helpers.scripted import Scripted, asks, fails, fill, foreign, message, says, scripted
from tests.helpers.stores import Gate, LiveStore, PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import stored_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.agents import AgentContext, ClientToolCall
    from chatkit.store import Store


@pytest.fixture(params=[PlainStore, PlansStore, LiveStore], ids=["plain", "plans", "live"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


class TestOpenCalls:
    async def test_an_action_leaves_them_and_appends(self, store: Store[Any]) -> None:
        """Calls that an action enqueues while a plan is unfinished go to its end; the pending one stays the newest."""
        server, chat = scripted(
            store, asks(anything(n=1), anything(n=2)), asks(anything(n=3), says="pressed"), says("done")
        )
        await chat.say("go")

        pressed = await chat.act("press")
        seen = (await chat.answer()).calls + (await chat.answer()).calls + (await chat.answer()).calls

        assert ([], ["pressed"]) == (pressed.calls, pressed.texts)
        assert [2, 3] == [arguments["n"] for _, arguments in seen]
        assert 3 == server.runs

    async def test_an_action_with_nothing_open_costs_no_write(self) -> None:
        """An action that enqueues nothing in a thread without a plan reads its items once and writes nothing more."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, says("hi"), says("pressed"))
        await chat.say("go")
        store.counts.clear()

        await chat.act("press")

        assert {"load_thread": 2, "load_thread_items": 1, "add_thread_item": 1} == dict(store.counts)

    async def test_keep_leaves_them_open(self, store: Store[Any]) -> None:
        """With "keep" a message is answered while the calls stay; the pending one can be answered, then the rest."""
        server, chat = scripted(
            store,
            asks(selection(), anything(n=2)),
            asks(anything(n=3), says="meanwhile"),
            says("done"),
            on_user_message="keep",
        )
        first = (await chat.say("go")).call_items

        reply = await chat.say("and?")
        open_calls = await chat.calls()
        seen = (await chat.answer([])).calls + (await chat.answer()).calls
        last = await chat.answer()

        assert (["meanwhile"], [], []) == (reply.texts, reply.removed, reply.errors)
        assert [("get_selected_canvas_nodes", "pending")] == open_calls
        assert [item["id"] for item in first] * CHATKIT_DROPS_PENDING_ON_MESSAGE == [
            item["id"] for item in reply.call_items
        ]
        assert [2, 3] == [arguments["n"] for _, arguments in seen]
        assert ["done"] == last.texts
        assert 3 == server.runs

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_a_retry_starts_the_turn_over(self, store: Store[Any], policy: Any) -> None:
        """After a retry of the message nothing of the old plan is left, not even required calls."""
        _, chat = scripted(
            store,
            asks(animation(state="start"), animation(state="stop")),
            asks(anything(n=1)),
            says("done"),
            on_user_message=policy,
        )
        await chat.say("go")
        await chat.answer()
        said = (await chat.items())[0]

        reply = await chat.retry(said.id)

        assert [("anything", {"n": 1})] == reply.calls
        assert [("anything", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer()).texts

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_a_retry_of_an_earlier_message_drops_the_later_plan(self, store: Store[Any], policy: Any) -> None:
        """When the message that a plan was made under is deleted by a retry, the plan goes with it."""
        server, chat = scripted(
            store, says("hi"), asks(animation(state="start")), says("hi again"), on_user_message=policy
        )
        await chat.say("hello")
        await chat.say("go")
        first = (await chat.items())[0]

        reply = await chat.retry(first.id)

        assert (["hi again"], []) == (reply.texts, reply.calls)
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)

    async def test_required_calls_wait_for_the_end_of_the_new_answer(self, store: Store[Any]) -> None:
        """Required calls of a cancelled plan are released after the new run's body, before that run's own calls."""
        _, chat = scripted(
            store, asks(profiles(agents=[]), animation(state="stop")), asks(anything(n=1), says="ok"), says("done")
        )
        await chat.say("go")

        reply = await chat.say("never mind")

        assert [("run_search_animation", {"state": "stop"})] == reply.calls
        assert len(reply.removed) == (not CHATKIT_DROPS_PENDING_ON_MESSAGE)
        assert [("anything", {"n": 1})] == (await chat.answer()).calls
        assert ["done"] == (await chat.answer()).texts

    async def test_a_failed_new_run_keeps_required_calls(self, store: Store[Any]) -> None:
        """Required calls survive a failing run and go out with the next one."""
        _, chat = scripted(store, asks(profiles(agents=[]), animation(state="stop")), fails(), says("ok"))
        await chat.say("go")
        await chat.say("never mind")

        reply = await chat.say("hello?")

        assert [("run_search_animation", {"state": "stop"})] == reply.calls

    async def test_a_pending_call_of_nobody_is_cancelled_too(self) -> None:
        """A message cancels a pending call that no plan knows of: it would be stuck behind the message."""
        _, chat = scripted(PlainStore(), says("hi"), says("ok"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        await chat.say("never mind")

        assert [] == await chat.calls()

    async def test_a_pending_call_of_nobody_comes_first(self, store: Store[Any]) -> None:
        """An action's calls wait behind a pending call that no plan knows of, and the model gets that one's answer."""
        _, chat = scripted(store, says("hi"), asks(animation(state="start"), says="pressed"), says("done"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        pressed = await chat.act("press")
        second, last = await chat.answer("theirs"), await chat.answer()

        assert [] == pressed.calls
        assert [("run_search_animation", {"state": "start"})] == second.calls
        assert ["done"] == last.texts

    async def test_a_pending_call_of_nobody_can_be_answered_behind_new_items(self, store: Store[Any]) -> None:
        """What an action adds behind a pending call that no plan knows of does not keep its answer out."""
        _, chat = scripted(store, says("hi"), says("pressed"), says("done"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        await chat.act("press")

        assert ["done"] == (await chat.answer("theirs")).texts


def user_message_stored(store: WatchedStore, text: str) -> Gate:
    """Stop the request of a message when ChatKit has stored it, before its run begins."""
    gate = Gate()

    async def stop(name: str, args: tuple[Any, ...]) -> None:
        if name == "add_thread_item" and args[1].type == "user_message" and args[1].content[0].text == text:
            gate.reached.set()
            await gate.open.wait()

    store.after = stop
    return gate


def waits_for(event: asyncio.Event, *wanted: ClientToolCall, started: asyncio.Event | None = None) -> Any:
    """A body that enqueues calls once something has happened."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        if started:
            started.set()
        await event.wait()
        server.sequencer.enqueue(context, *wanted)
        return
        yield

    return body


class TestUnderWhichMessageACallWasAskedFor:
    """A call belongs to the message under which its body began, whatever the user has written since."""

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_a_required_call_survives_a_message_that_was_just_stored(self, make: Any, policy: Any) -> None:
        """A required call of the run after the last answer is not lost when the next message is stored already."""
        store = WatchedStore(make())
        gate = user_message_stored(store, "never mind")
        server, chat = scripted(
            store,
            asks(selection()),
            waits_for(gate.reached, animation(state="stop")),
            says("ok"),
            on_user_message=policy,
        )
        await chat.say("go")
        answered = asyncio.create_task(chat.answer([]))
        written = asyncio.create_task(chat.say("never mind"))
        released = (await answered).calls
        gate.open.set()
        reply = await written

        assert [("run_search_animation", {"state": "stop"})] == released
        assert ["ok"] == reply.texts
        assert [("run_search_animation", "pending")] == (await chat.calls())[1:]
        assert [] == (await chat.answer()).errors
        assert () == await server.sequencer.snapshot(server.store, chat.thread_id or "", None)

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_a_retry_of_a_later_message_keeps_it(self, store: Store[Any], policy: Any) -> None:
        """What an action asked for that began before a message stays when that message is retried."""
        started, go_on = asyncio.Event(), asyncio.Event()
        server, chat = scripted(
            store,
            says("hi"),
            waits_for(go_on, animation(state="stop"), started=started),
            says("meanwhile"),
            says("meanwhile, again"),
            on_user_message=policy,
        )
        await chat.say("hello")
        action = asyncio.create_task(chat.act("press"))
        await started.wait()
        await chat.say("second")
        go_on.set()
        await action
        second = [item for item in await chat.items() if item.type == "user_message"][-1]

        reply = await chat.retry(second.id)

        assert ["meanwhile, again"] == reply.texts
        assert [("run_search_animation", {"state": "stop"})] == reply.calls
        assert [] == (await chat.answer()).errors
        assert () == await server.sequencer.snapshot(server.store, chat.thread_id or "", None)

    @pytest.mark.parametrize("since", [0, 24])
    async def test_a_button_after_two_messages(self, store: Store[Any], since: int) -> None:
        """What a button asks for belongs to the newest message, also if that is just too far back to be found."""
        steps = [asks(*[selection()] * 3), asks(selection()), asks(anything())]
        _, chat = scripted(store, *steps, on_user_message="keep")
        await chat.say("first")
        await chat.say("second")
        await chat.answer([])
        await fill(chat, since)

        await chat.act("press")

        second = [item for item in await chat.items() if item.type == "user_message"][-1]
        assert second.id == (await stored_plan(store, chat.thread_id)).calls[-1].turn

    async def test_a_button_after_a_plan_that_is_done(self, store: Store[Any]) -> None:
        """What a button asks for belongs to the newest message, whichever the last calls belonged to."""
        _, chat = scripted(store, asks(selection()), says("done"), says("hello again"), asks(anything()))
        await chat.say("first")
        await chat.answer([])
        await chat.say("second")

        await chat.act("press")

        second = [item for item in await chat.items() if item.type == "user_message"][-1]
        assert second.id == (await stored_plan(store, chat.thread_id)).calls[-1].turn

    async def test_a_retry_of_its_own_message_drops_it(self, store: Store[Any]) -> None:
        """What an action asked for that began under a message goes when that message is retried."""
        started, go_on = asyncio.Event(), asyncio.Event()
        server, chat = scripted(
            store, says("hi"), waits_for(go_on, animation(state="stop"), started=started), says("second"), says("again")
        )
        await chat.say("hello")
        action = asyncio.create_task(chat.act("press"))
        await started.wait()
        await chat.say("second")
        go_on.set()
        await action
        first = (await chat.items())[0]

        reply = await chat.retry(first.id)

        assert (["again"], []) == (reply.texts, reply.calls)
        assert () == await server.sequencer.snapshot(server.store, chat.thread_id or "", None)


class TestStop:
    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_the_partial_message_is_kept(self, store: Store[Any], policy: Any) -> None:
        """Stop keeps what the model has said so far, although an older call is pending, and that can be answered."""
        stuck = asyncio.Event()

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield ThreadItemAddedEvent(item=message("As I", context.thread, "partial").item)
            delta = AssistantMessageContentPartTextDelta(content_index=0, delta=" was saying")
            yield ThreadItemUpdatedEvent(item_id="partial", update=delta)
            stuck.set()
            await asyncio.Event().wait()

        _, chat = scripted(
            store, asks(animation(state="start"), animation(state="stop")), body, says("done"), on_user_message=policy
        )
        await chat.say("go")
        request = asyncio.create_task(chat.say("and?"))
        await stuck.wait()

        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

        said = [item.content[0].text for item in await chat.items() if item.type == "assistant_message"]
        assert ["As I was saying"] == said
        first = await chat.act("chatkit_clienttools.resume")
        last = await chat.answer()
        assert ["start", "stop"] == [arguments["state"] for _, arguments in first.calls + last.calls]
        assert [] == (await chat.answer()).calls

    async def test_the_calls_of_a_stopped_run_are_dropped(self, store: Store[Any]) -> None:
        """What a run had asked for when the user stopped it is not released, now or later."""
        stuck = asyncio.Event()

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, animation(state="stop"))
            stuck.set()
            await asyncio.Event().wait()
            yield

        server, chat = scripted(store, body, says("ok"))
        request = asyncio.create_task(chat.say("go"))
        await stuck.wait()

        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

        assert [] == (await chat.say("hello?")).calls
        assert () == await server.sequencer.snapshot(server.store, chat.thread_id or "", None)
