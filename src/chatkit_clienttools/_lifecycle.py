"""The life of a client tool call, and the theory of the whole package.

Theory of operation
===================

ChatKit gives an agent run one slot for a client tool call. What is in it when the run has ended is stored as a
`pending` item and streamed; the browser runs it and posts the answer; ChatKit completes the newest item of the thread,
if that is a pending call, and calls `respond()` again. There is never more than one pending call in a thread, and the
answer does not say which call it belongs to. So several calls have to wait somewhere, and each has to look like the
only one.

**The thread's items are the journal; the plan is only a list of intentions.** The plan (`_plan.Plan`) is one small JSON
document per thread: the calls that were asked for, in order, each with the ids it will have. It is written when calls
are asked for or given up, and not when they progress. How far it has come is read from the items:

    no item          the call still waits                    QUEUED
    pending item     ChatKit released it, nobody answered    PENDING
    completed item   it was answered                         COMPLETED or FAILED

Calls are released in order and one at a time, so everything before the latest call that has an item is settled, and the
newest items of a thread tell all there is to know. Since ids are chosen when the plan is written, a call released twice
is the same item twice, not two items. And since progress is nowhere else, a repeated, late or stale write of the plan
cannot undo it.

**Every request starts from the store.** Read plan and items, `reconcile` them, decide, write: that is one step under a
lock (and, where the store offers it, one compare-and-set). No lock is held while the model runs, while the body of
`respond()` runs, or while a generator waits at its `yield`, because a client that disconnects can leave it there for
ever. Nothing is left for `finally` to clean up.

**A run is a transaction.** What a run enqueues is written when its body has ended well, before the first call is
streamed; a run that fails leaves no trace of it. The run after the last answer is claimed before it starts, and the
plan is dropped when it has succeeded.

**Requests that cross** are kept apart by claims: a worker says in the plan what it is doing about which call (storing
it, answering it, deleting its item, telling the model) before it does so, and others leave that alone until the claim
is over. The plan is written first, and items are written and deleted after it; what a process that dies leaves in
between, a pending item that no plan knows, is recognised by its call id.

What does not fit the table below: a *required* call that is cancelled while it is pending, and one that is resumed
after a reload, is put back into the queue under a new item id, so that the browser sees a fresh call. For the table
that is one call cancelled and another one queued. And CANCELLED has no item: a call that is given up leaves the plan,
and its pending item is removed.

The table
=========

`TRANSITIONS` is the only place for the rule. A state that ends a call's life is a visible, empty row.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from .errors import IllegalTransitionError

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


class Event(str, Enum):
    """What can happen to a call."""

    RELEASE = "be released"
    ANSWER = "be answered"
    FAIL = "fail"
    CANCEL = "be cancelled"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.QUEUED: MappingProxyType({Event.RELEASE: State.PENDING, Event.CANCEL: State.CANCELLED}),
        State.PENDING: MappingProxyType(
            {Event.ANSWER: State.COMPLETED, Event.FAIL: State.FAILED, Event.CANCEL: State.CANCELLED}
        ),
        State.COMPLETED: MappingProxyType({}),
        State.FAILED: MappingProxyType({}),
        State.CANCELLED: MappingProxyType({}),
    }
)


def advance(state: State, event: Event) -> State:
    """Return the state that `event` leads to, or raise `IllegalTransitionError` and change nothing."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransitionError(state.value, event.value) from None
