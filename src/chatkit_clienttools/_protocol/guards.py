"""How a client tool call may be written: the one rule for every store of this package.

A call enters a thread as `pending`. It changes only to `completed`, once, and only in `status` and `output`; after that
it never changes. So a late write, whose run has lost its lease or whose request was cancelled, changes nothing: the
call it would complete is completed already, or gone, and no completed item can appear in its place.

Nothing here writes: these functions say whether there is something to write, or raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from chatkit.types import ClientToolCallItem

from chatkit_clienttools.errors import LifecycleViolationError, printable

from .states import TRANSITIONS, Change, State

if TYPE_CHECKING:
    from chatkit.types import ThreadItem


def check_new(thread_id: str, item: ThreadItem) -> None:
    """Raise if `item` must not enter a thread that has no item of this id."""
    if isinstance(item, ClientToolCallItem) and item.status != "pending":
        cure = (
            "A call is stored as pending and completed by the browser's answer; that answer fails for one that was "
            "stored as completed. For what needs no answer use ClientTool(..., result=None) or a ClientEffect. To "
            "import an old conversation, add the call as pending, then save it as completed."
        )
        raise violation(thread_id, item, "no item", item.status, cure)


def has_to_be_written(thread_id: str, known: ThreadItem, item: ThreadItem) -> bool:
    """Whether writing `item` over `known` changes something; raises if it must not be written."""
    if not isinstance(known, ClientToolCallItem) and not isinstance(item, ClientToolCallItem):
        return True
    if says_the_same(known, item):
        return False
    check_change(thread_id, known, item)
    return True


def check_change(thread_id: str, known: ThreadItem, item: ThreadItem) -> None:
    """Raise if `item` must not be written over `known`; one of the two is a client tool call."""
    if not isinstance(known, ClientToolCallItem) or not isinstance(item, ClientToolCallItem):
        call = cast("ClientToolCallItem", item if isinstance(item, ClientToolCallItem) else known)
        cure = "The id is taken by another item of this thread: give every item its own."
        raise violation(thread_id, call, _as_text(known), _as_text(item), cure)
    if _fixed(known) != _fixed(item):
        cure = "Only status and output of a call ever change: add another call under an id of its own."
        raise violation(thread_id, item, known.status, f"{item.status} with other contents", cure)
    if TRANSITIONS[State(known.status)].get(Change.ANSWER) != State(item.status):
        becomes = item.status if item.status != known.status else f"{item.status} with another output"
        raise late_answer(thread_id, item, known.status, becomes)


def says_the_same(known: ThreadItem | None, item: ThreadItem) -> bool:
    """Whether writing `item` over `known` would change nothing: a call released again differs in its time only."""
    return (
        isinstance(known, ClientToolCallItem)
        and isinstance(item, ClientToolCallItem)
        and (known.status, known.output, _fixed(known)) == (item.status, item.output, _fixed(item))
    )


def late_answer(thread_id: str, call: ClientToolCallItem, was: str, becomes: str) -> LifecycleViolationError:
    """Make the error for a step that the call's state does not allow (any more)."""
    cure = "A call changes once, from pending to completed: " + (
        "this answer is late, repeated, or meant for another call."
        if call.status == "completed"
        else "to ask again, enqueue another call."
    )
    return violation(thread_id, call, was, becomes, cure)


def second_pending(thread_id: str, call: ClientToolCallItem, other: ClientToolCallItem) -> LifecycleViolationError:
    """Make the error for a call that was to become pending while another one is."""
    cure = (
        f"Call {printable(other.call_id)} (item {printable(other.id)}) is still pending, and the browser's answer "
        "does not say which call it is for. Queue the calls: sequencer.enqueue(ctx, ...)."
    )
    return violation(thread_id, call, "no item", "pending", cure)


def violation(thread_id: str, call: ClientToolCallItem, was: str, becomes: str, cure: str) -> LifecycleViolationError:
    """Make the error that names thread and call, both states and what to do."""
    return LifecycleViolationError(thread_id, call.id, call.call_id, was=was, becomes=becomes, cure=cure)


def _as_text(item: ThreadItem) -> str:
    return item.status if isinstance(item, ClientToolCallItem) else f"a {item.type}"


def _fixed(call: ClientToolCallItem) -> tuple[object, ...]:
    """What of a call never changes."""
    return call.name, call.call_id, call.arguments
