"""The states of a client tool call. `TRANSITIONS` is the only place for the rule.

A state that ends a call's life is a visible, empty row. Nothing else in the package says which change is allowed: a
change is found by comparing two values, and this table gives it its name, or there is none and it is refused.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from chatkit_clienttools.errors import IllegalTransitionError

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(str, Enum):
    """Where a call is in its life."""

    QUEUED = "queued"
    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the call any more."""
        return not TRANSITIONS[self]


class Change(str, Enum):
    """What can happen to a call."""

    RELEASE = "release"
    ANSWER = "answer"
    FAIL = "fail"
    CANCEL = "cancel"
    WITHDRAW = "withdraw"
    """The item of a required call is removed, and the call waits for another attempt."""
    SEND_AGAIN = "send again"
    """The item is replaced by a new one, for a page that may not know of the call."""


TRANSITIONS: Mapping[State, Mapping[Change, State]] = MappingProxyType(
    {
        State.QUEUED: MappingProxyType({Change.RELEASE: State.PENDING, Change.CANCEL: State.CANCELLED}),
        State.PENDING: MappingProxyType(
            {
                Change.ANSWER: State.COMPLETED,
                Change.FAIL: State.FAILED,
                Change.CANCEL: State.CANCELLED,
                Change.WITHDRAW: State.QUEUED,
                Change.SEND_AGAIN: State.PENDING,
            }
        ),
        State.COMPLETED: MappingProxyType({}),
        State.FAILED: MappingProxyType({}),
        State.CANCELLED: MappingProxyType({}),
    }
)


def change_between(state: State, other: State) -> Change:
    """Return what leads from one state to the other, or raise `IllegalTransitionError`."""
    for change, becomes in TRANSITIONS[state].items():
        if becomes is other:
            return change
    raise IllegalTransitionError(state.value, other.value)
