"""The table of transitions drives: what is not in it cannot happen, in a whole conversation either."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._protocol import states
from chatkit_clienttools._protocol.states import TRANSITIONS, Change, State
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import animation, selection
from tests.helpers.scripted import asks, says, scripted
from tests.helpers.server import RESUME, everything
from tests.helpers.stores import PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import Callable


NEEDS: dict[tuple[State, Change], tuple[list[Any], Any]] = {
    (State.QUEUED, Change.RELEASE): ([], lambda chat: chat.say("go")),
    (State.QUEUED, Change.CANCEL): ([lambda chat: chat.say("go")], lambda chat: chat.say("forget it")),
    (State.PENDING, Change.ANSWER): ([lambda chat: chat.say("go")], lambda chat: chat.answer(["a"])),
    (State.PENDING, Change.FAIL): ([lambda chat: chat.say("go")], lambda chat: chat.answer({"error": "no canvas"})),
    (State.PENDING, Change.CANCEL): ([lambda chat: chat.say("go")], lambda chat: chat.say("forget it")),
    (State.PENDING, Change.WITHDRAW): (
        [lambda chat: chat.say("go"), lambda chat: chat.answer(["a"]), lambda chat: chat.answer(["a"])],
        lambda chat: chat.say("forget it"),
    ),
    (State.PENDING, Change.SEND_AGAIN): ([lambda chat: chat.say("go")], lambda chat: chat.act(RESUME)),
}
"""For each change of the table: what comes before it, and the request that needs it."""


def without(state: State, change: Change) -> Any:
    """The table without one of its changes."""
    rows = {each: dict(row) for each, row in TRANSITIONS.items()}
    del rows[state][change]
    return MappingProxyType(rows)


def test_each_change_has_a_case() -> None:
    """The cases below are all changes of the table."""
    assert {(state, change) for state, row in TRANSITIONS.items() for change in row} == set(NEEDS)


@pytest.mark.parametrize("make", [PlainStore, PlansStore])
@pytest.mark.parametrize("missing", NEEDS, ids=lambda key: f"{key[0].value}-{key[1].value}")
async def test_a_change_that_is_not_in_the_table_does_not_happen(
    make: Callable[[], Any], missing: tuple[State, Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that needs a change which the table does not have is one error event, and no call has changed."""
    if missing[1] in {Change.CANCEL, Change.WITHDRAW} and CHATKIT_DROPS_PENDING_ON_MESSAGE:
        pytest.skip("this ChatKit deletes pending calls by itself")
    before, request = NEEDS[missing]
    calls = [selection(), selection(), animation(state="stop")]
    _, chat = scripted(make(), asks(*calls), says("done"), says("well"))
    for each in before:
        await each(chat)
    held = await chat.calls() if before else []

    with monkeypatch.context() as table:
        table.setattr(states, "TRANSITIONS", without(*missing))
        reply = await request(chat)

    assert 1 == len(reply.errors)
    assert [] == reply.calls
    assert held == await chat.calls()


@pytest.mark.parametrize("missing", NEEDS, ids=lambda key: f"{key[0].value}-{key[1].value}")
async def test_with_the_whole_table_it_does(missing: tuple[State, Change]) -> None:
    """Each request above is carried out when the table has the change that it needs."""
    before, request = NEEDS[missing]
    _, chat = scripted(
        PlainStore(), asks(selection(), selection(), animation(state="stop")), says("done"), says("well")
    )
    for each in before:
        await each(chat)
    held = await everything(chat) if before else None

    reply = await request(chat)

    assert [] == reply.errors
    assert held != await everything(chat)
