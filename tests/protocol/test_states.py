"""The table of a call's life: every state against every other."""

from __future__ import annotations

import traceback
from typing import Any, cast

import pytest

from chatkit_clienttools._protocol.states import TRANSITIONS, Change, State, change_between
from chatkit_clienttools.errors import IllegalTransitionError, LifecycleError

LEGAL = {
    (State.QUEUED, State.PENDING): Change.RELEASE,
    (State.QUEUED, State.CANCELLED): Change.CANCEL,
    (State.PENDING, State.COMPLETED): Change.ANSWER,
    (State.PENDING, State.FAILED): Change.FAIL,
    (State.PENDING, State.CANCELLED): Change.CANCEL,
    (State.PENDING, State.QUEUED): Change.WITHDRAW,
    (State.PENDING, State.PENDING): Change.SEND_AGAIN,
}
"""Written out a second time on purpose: the table is a contract."""

FINAL = {State.COMPLETED, State.FAILED, State.CANCELLED}
EVERY_PAIR = [(state, becomes) for state in State for becomes in State]
ILLEGAL = [pair for pair in EVERY_PAIR if pair not in LEGAL]


def table() -> dict[State, dict[Change, State]]:
    return {state: dict(row) for state, row in TRANSITIONS.items()}


@pytest.mark.parametrize(("state", "becomes"), LEGAL)
def test_a_legal_pair_has_one_name(state: State, becomes: State) -> None:
    """A difference that is in the table has the name that the table gives it."""
    expected = LEGAL[state, becomes]

    assert expected is change_between(state, becomes)
    assert becomes is TRANSITIONS[state][expected]


@pytest.mark.parametrize(("state", "becomes"), ILLEGAL)
def test_an_illegal_pair_raises_and_changes_nothing(state: State, becomes: State) -> None:
    """Every other difference raises, names both states, and leaves the table as it was."""
    before = table()

    with pytest.raises(IllegalTransitionError) as raised:
        change_between(state, becomes)

    assert (state.value, becomes.value) == (raised.value.state, raised.value.becomes)
    assert f"A client tool call that is {state.value} cannot become {becomes.value}" == str(raised.value)
    assert "KeyError" not in "".join(traceback.format_exception(raised.value))
    assert before == table()


def test_every_pair_is_either_legal_or_illegal() -> None:
    """The two tests above cover every state with every other."""
    assert (7, 18) == (len(LEGAL), len(ILLEGAL))
    assert len(State) ** 2 == len(LEGAL) + len(ILLEGAL)


def test_no_row_names_a_state_twice() -> None:
    """A difference between two states has one name only: what has happened can be told from what is there."""
    for row in TRANSITIONS.values():
        assert len(row) == len(set(row.values()))


def test_an_illegal_transition_is_a_lifecycle_error() -> None:
    """Code that catches the errors of the lifecycle catches an illegal transition, and not by a built-in class."""
    assert issubclass(IllegalTransitionError, LifecycleError)
    assert not issubclass(IllegalTransitionError, (ValueError, KeyError))


def test_every_state_has_a_row() -> None:
    """A state that ends a call's life is a visible, empty row; the others lead somewhere."""
    assert list(State) == list(TRANSITIONS)
    assert FINAL == {state for state, row in TRANSITIONS.items() if row == {}}


@pytest.mark.parametrize("state", State)
def test_a_final_state_is_final(state: State) -> None:
    """A state is final exactly when nothing leads out of it."""
    assert (state in FINAL) is state.is_final


def test_the_table_cannot_be_changed() -> None:
    """The table of transitions cannot be changed, and no row of it can."""
    before = table()

    with pytest.raises(TypeError, match="does not support item assignment"):
        cast("Any", TRANSITIONS)[State.COMPLETED] = {Change.CANCEL: State.CANCELLED}
    for row in TRANSITIONS.values():
        with pytest.raises(TypeError, match="does not support item assignment"):
            cast("Any", row)[Change.CANCEL] = State.QUEUED

    assert before == table()


def test_only_a_pending_call_is_answered() -> None:
    """The browser's answer, good or bad, belongs to a call that it has been given."""
    sources = {state for state, row in TRANSITIONS.items() if {State.COMPLETED, State.FAILED} & set(row.values())}

    assert {State.PENDING} == sources


def test_every_state_can_be_reached() -> None:
    """Each call begins as queued, and each state is reached from there."""
    reached = [State.QUEUED]
    for state in reached:
        reached += [after for after in TRANSITIONS[state].values() if after not in reached]

    assert set(State) == set(reached)


def test_the_states_are_called_what_users_read() -> None:
    """The texts of the states are part of the contract, because they are in logs, metrics and support pages."""
    assert ["queued", "pending", "completed", "failed", "cancelled"] == [state.value for state in State]


def test_the_changes_are_called_what_the_diagram_says() -> None:
    """The texts of the changes are those in the documentation's table."""
    assert ["release", "answer", "fail", "cancel", "withdraw", "send again"] == [change.value for change in Change]
