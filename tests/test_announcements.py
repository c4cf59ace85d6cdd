"""What observers and the log hear of a call: each change once, under its true name, and nothing after its end."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._protocol.states import State
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Reply
from tests.helpers.merak import animation, anything, selection
from tests.helpers.scripted import asks, fails, says, scripted
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import Clock, fail_once

if TYPE_CHECKING:
    from chatkit_clienttools import LifecycleEvent
    from tests.helpers.conversation import Conversation
    from tests.helpers.scripted import Scripted

RESUME = "chatkit_clienttools.resume"


def heard(events: list[LifecycleEvent]) -> list[tuple[str, str | None, str, int]]:
    """What was announced: tool, previous state, state, attempt."""
    return [(e.tool, e.previous.value if e.previous else None, e.state.value, e.attempt) for e in events]


class TestAnotherAttempt:
    async def test_a_resumed_call_is_sent_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """A call that goes out once more for a page that was loaded stays pending, and is never cancelled."""
        events: list[LifecycleEvent] = []
        _, chat = scripted(PlansStore(), asks(anything()), says("done"), observers=[events.append])
        await chat.say("go")

        with caplog.at_level(logging.INFO, "chatkit_clienttools"):
            await chat.act(RESUME)
        await chat.answer()

        assert [
            ("anything", None, "queued", 1),
            ("anything", "queued", "pending", 1),
            ("anything", "pending", "pending", 2),
            ("anything", "pending", "completed", 2),
        ] == heard(events)
        assert 1 == len({event.call_id for event in events})
        assert [f"{events[0].item_id}-2"] == [event.item_id for event in events if event.previous is event.state]
        assert 1 == sum(": pending -> sent again (" in message for message in caplog.messages)

    async def test_a_required_call_is_queued_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """A required call that is pending when the user writes is announced as queued again, then as pending."""
        events: list[LifecycleEvent] = []
        _, chat = scripted(PlansStore(), asks(animation(state="stop")), says("ok"), observers=[events.append])
        await chat.say("go")
        events.clear()

        with caplog.at_level(logging.INFO, "chatkit_clienttools"):
            await chat.say("never mind")
        await chat.answer()

        # an older ChatKit deletes the pending item before we are called: then its call was not taken back
        taken_back = [] if CHATKIT_DROPS_PENDING_ON_MESSAGE else [("run_search_animation", "pending", "queued", 2)]
        attempt = 1 if CHATKIT_DROPS_PENDING_ON_MESSAGE else 2
        assert [
            *taken_back,
            ("run_search_animation", "queued", "pending", attempt),
            ("run_search_animation", "pending", "completed", attempt),
        ] == heard(events)
        assert not any("cancelled" in message for message in caplog.messages)

    async def test_what_is_not_required_is_cancelled(self) -> None:
        """A pending call and those behind it are cancelled by a message, each once."""
        events: list[LifecycleEvent] = []
        _, chat = scripted(PlansStore(), asks(anything(), selection()), says("ok"), observers=[events.append])
        await chat.say("go")
        events.clear()

        await chat.say("never mind")

        assert [("anything", "cancelled"), ("get_selected_canvas_nodes", "cancelled")] == [
            (event.tool, event.state.value) for event in events
        ]

    async def test_a_page_that_resumes_twice_sends_it_a_third_time(self) -> None:
        """Each attempt counts, and has an item id of its own."""
        events: list[LifecycleEvent] = []
        _, chat = scripted(PlainStore(), asks(anything()), observers=[events.append])
        await chat.say("go")

        await chat.act(RESUME)
        await chat.act(RESUME)

        assert [1, 1, 2, 3] == [event.attempt for event in events]
        assert 3 == len({event.item_id for event in events})


@pytest.mark.fails
@pytest.mark.parametrize(
    ("operation", "states"),
    [("save_plan", []), ("add_thread_item", [("queued", 1), ("queued", 2)])],
    ids=["before it is planned", "when it is planned"],
)
async def test_what_is_written_of_a_step_that_fails(operation: str, states: list[tuple[str, int]]) -> None:
    """Of a step that fails as much is announced as was written: a call that is in the plan is queued, and not sent."""
    events: list[LifecycleEvent] = []
    store = WatchedStore(PlansStore())
    _, chat = scripted(store, says("hi"), asks(anything(), anything()), observers=[events.append])
    await chat.say("hello")
    fail_once(store, operation)

    await chat.act("go")

    assert states == [(event.state.value, event.position + 1) for event in events]


async def test_how_long_a_call_was_in_its_state() -> None:
    """An event says how long its call was in the state before; a new call was in none, and no time is below zero."""
    events: list[LifecycleEvent] = []
    clock = Clock()
    clock.now = ahead = time.time() + 3600
    _, chat = scripted(PlansStore(), asks(*[anything()] * 3), says("done"), observers=[events.append], clock=clock)

    await chat.say("go")
    for seconds in (2, 3, -100):
        clock.now += seconds
        await chat.answer()

    assert [0, 0, 0, 0, 2000, 2000, 3000, 5000, 0] == [event.waited_ms for event in events]
    assert ahead > clock.now


@pytest.mark.fails
@pytest.mark.no_cover  # it takes twice as long with coverage
@pytest.mark.parametrize("seed", [0, 1, *[pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3, 4)]])
@pytest.mark.parametrize("options", [{}, {"on_user_message": "keep"}, {"on_failure": "abort"}], ids=str)
@pytest.mark.parametrize("make", [PlansStore, PlainStore], ids=["plans", "plain"])
@pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked")
async def test_nothing_is_heard_of_a_call_after_its_end(make: Any, options: Any, seed: int) -> None:
    """Over a long conversation each call begins as queued, each change goes on from the last one, and an end is final.

    Whatever is not at its end is in the plan, in the state that was heard last. A pending item that ChatKit deletes for
    a retry, before we are called, cannot be announced: its call is queued again.
    """
    events: list[LifecycleEvent] = []
    store = WatchedStore(make())
    server, chat = scripted(store, observers=[events.append], receipts=True, **options)

    deleted_by_chatkit = await converse(server, chat, Random(seed), events)

    states: dict[str, State | None] = defaultdict(lambda: None)
    for n, event in enumerate(events):
        states.update({call_id: State.QUEUED for call_id in deleted_by_chatkit[n] if not is_over(states[call_id])})
        last = states[event.call_id]
        assert last is event.previous
        assert not is_over(last)
        states[event.call_id] = event.state
    states.update(
        {call_id: State.QUEUED for call_id in deleted_by_chatkit[len(events)] if not is_over(states[call_id])}
    )
    shown = await server.sequencer.snapshot(store, chat.thread_id or "", None)
    open_calls = {each.call_id: each.state for each in shown if not each.state.is_final}
    assert open_calls == {call_id: state for call_id, state in states.items() if state and not state.is_final}
    assert len(states) >= 10


def is_over(state: State | None) -> bool:
    return state is not None and state.is_final


async def converse(
    server: Scripted, chat: Conversation, random: Random, events: list[LifecycleEvent]
) -> dict[int, list[str]]:
    """Play sixty requests of every kind, some of them while the store fails.

    Return the calls whose pending items ChatKit has deleted, each by the number of events heard before.
    """
    deleted: dict[int, list[str]] = defaultdict(list)
    store: Any = server.store
    watched = store if isinstance(store, WatchedStore) else store.inner
    answers: list[Any] = [{"_receipt": "unknown", "result": 1}]
    for _ in range(60):
        server.bodies = [random_body(random) for _ in range(3)]
        kind = random.choice(KINDS) if chat.thread_id else "say"
        if kind != "retry" and random.random() < 0.1:
            fail_once(watched, random.choice(["save_item", "add_thread_item", "delete_thread_item", "save_plan"]))
        if kind == "retry":
            message, behind = await a_message(chat, random)
            deleted[len(events)] += [item.call_id for item in behind if getattr(item, "status", None) == "pending"]
            reply = await chat.retry(message)
        else:
            reply = await post(kind, server, chat, answers[-1] if kind == "answer" else random.choice(answers))
        watched.before = None
        for item in reply.call_items:
            receipt = item["arguments"]["_receipt"]
            key, said = random.choice([("result", ["a"]), ("result", "no list"), ("error", "no canvas")])
            answers.append({"_receipt": receipt, key: said})
    return deleted


KINDS = ["answer"] * 6 + ["late answer", "resume", "act", "say", "retry", "cancel"]


async def a_message(chat: Conversation, random: Random) -> tuple[str, list[Any]]:
    """Return one of the newest messages, and the items behind it."""
    items = await chat.items()
    places = [n for n, item in enumerate(items) if item.type == "user_message"]
    place = random.choice(places[-2:])
    return items[place].id, items[place + 1 :]


def random_body(random: Random) -> Any:
    wanted = random.sample([anything(n=1), selection(), animation(state="start"), animation(state="stop")], 3)
    return random.choice([says("hi"), asks(*wanted), asks(*wanted, says="asked"), asks(wanted[0]), fails(*wanted)])


async def post(kind: str, server: Scripted, chat: Conversation, answer: Any) -> Reply:
    match kind:
        case "answer" | "late answer":
            return await chat.answer(answer)
        case "resume":
            return await chat.act(RESUME)
        case "act":
            return await chat.act("press")
        case "cancel":
            with suppress(ConnectionError):
                await server.sequencer.cancel(server.store, chat.thread_id or "", None)
            return Reply([])
    return await chat.say("go on")
