"""The table of a call's life: every state against every event."""

from __future__ import annotations

import traceback
from typing import Any, cast

import pytest

from chatkit_clienttools._lifecycle import TRANSITIONS, Event, State, advance
from chatkit_clienttools.errors import IllegalTransitionError, LifecycleError

LEGAL = {
    (State.QUEUED, Event.RELEASE): State.PENDING,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.PENDING, Event.ANSWER): State.COMPLETED,
    (State.PENDING, Event.FAIL): State.FAILED,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
}
"""Written out a second time on purpose: the table is a contract."""

FINAL = {State.COMPLETED, State.FAILED, State.CANCELLED}
EVERY_STEP = [(state, event) for state in State for event in Event]
ILLEGAL = [step for step in EVERY_STEP if step not in LEGAL]


def table() -> dict[State, dict[Event, State]]:
    return {state: dict(row) for state, row in TRANSITIONS.items()}


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_a_legal_step_leads_where_the_table_says(state: State, event: Event) -> None:
    """Each step of the table leads to its state, and `advance` is how it is taken."""
    expected = LEGAL[state, event]

    assert expected == TRANSITIONS[state][event]
    assert expected is advance(state, event)


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_step_raises_and_changes_nothing(state: State, event: Event) -> None:
    """Every other step raises, names state and event, and leaves the table as it was."""
    before = table()

    with pytest.raises(IllegalTransitionError) as raised:
        advance(state, event)

    assert (state.value, event.value) == (raised.value.state, raised.value.event)
    assert f"A client tool call that is {state.value} cannot {event.value}" == str(raised.value)
    assert "KeyError" not in "".join(traceback.format_exception(raised.value))
    assert before == table()


def test_every_step_is_either_legal_or_illegal() -> None:
    """The two tests above cover every state with every event."""
    assert len(State) * len(Event) == len(LEGAL) + len(ILLEGAL)
    assert (5, 15) == (len(LEGAL), len(ILLEGAL))


def test_an_illegal_step_is_a_lifecycle_error() -> None:
    """Who catches the errors of the lifecycle catches an illegal step, and not by way of a built-in error."""
    assert issubclass(IllegalTransitionError, LifecycleError)
    assert not issubclass(IllegalTransitionError, (ValueError, KeyError))


def test_every_state_has_a_row() -> None:
    """A state that ends a call's life is a visible, empty row; the others lead somewhere."""
    assert list(State) == list(TRANSITIONS)
    assert FINAL == {state for state, row in TRANSITIONS.items() if row == {}}


@pytest.mark.parametrize("state", State)
def test_a_final_state_is_final(state: State) -> None:
    """A state is final exactly when no event leads out of it."""
    assert (state in FINAL) == state.is_final


def test_the_table_cannot_be_changed() -> None:
    """Neither the table nor a row of it can be assigned to."""
    before = table()

    with pytest.raises(TypeError, match="does not support item assignment"):
        cast("Any", TRANSITIONS)[State.COMPLETED] = {Event.CANCEL: State.CANCELLED}
    for row in TRANSITIONS.values():
        with pytest.raises(TypeError, match="does not support item assignment"):
            cast("Any", row)[Event.CANCEL] = State.QUEUED

    assert before == table()


def test_only_a_pending_call_is_answered() -> None:
    """The browser's answer, good or bad, belongs to a call that it has been given."""
    sources = {state for state, row in TRANSITIONS.items() if {State.COMPLETED, State.FAILED} & set(row.values())}

    assert {State.PENDING} == sources


def test_every_state_can_be_reached() -> None:
    """Each call begins as queued, each state is reached from there, and none leads back."""
    reached = [State.QUEUED]
    for state in reached:
        reached += [after for after in TRANSITIONS[state].values() if after not in reached]

    assert set(State) == set(reached)
    assert all(State.QUEUED not in row.values() for row in TRANSITIONS.values())


def test_the_states_are_called_what_users_read() -> None:
    """Their texts are in logs, metrics and support pages: they are part of the contract."""
    assert ["queued", "pending", "completed", "failed", "cancelled"] == [state.value for state in State]


def test_the_events_make_a_sentence() -> None:
    """Their texts end the sentence of the error: a call that is queued cannot..."""
    assert ["be released", "be answered", "fail", "be cancelled"] == [event.value for event in Event]
