"""What may be written over a client tool call: every kind of write over every kind of item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._protocol.guards import (
    check_change,
    check_new,
    has_to_be_written,
    late_answer,
    says_the_same,
    second_pending,
    violation,
)
from chatkit_clienttools.errors import LifecycleViolationError
from tests.protocol.values import THREAD, done, gets, message, moment, pending, text

if TYPE_CHECKING:
    from chatkit.types import ThreadItem

A = gets("a")
PENDING, DONE = pending(A), done(A)


def changed(item: Any, **fields: Any) -> Any:
    return item.model_copy(update=fields)


WRITES: dict[str, tuple[ThreadItem, ThreadItem, bool]] = {
    "an answer": (PENDING, DONE, True),
    "an answer of None": (PENDING, changed(DONE, output=None), True),
    "an error report": (PENDING, changed(DONE, output={"error": "no canvas"}), True),
    "a pending call again": (PENDING, PENDING, False),
    "a pending call again, at another time": (PENDING, changed(PENDING, created_at=moment(0)), False),
    "an answer again": (DONE, DONE, False),
    "an answer again, at another time": (DONE, changed(DONE, created_at=moment(0)), False),
    "a message over a message": (message("m"), message("m"), True),
    "a message over another kind of item": (text("m"), message("m"), True),
}
"""What is known, what is written, and whether that changes anything."""

LATE = "this answer is late, repeated, or meant for another call."
AGAIN = "to ask again, enqueue another call."
FIXED = "Only status and output of a call ever change: add another call under an id of its own."
TAKEN = "The id is taken by another item of this thread: give every item its own."

REFUSED: dict[str, tuple[ThreadItem, ThreadItem, str, str, str]] = {
    "another answer": (DONE, changed(DONE, output=8), "completed", "completed with another output", LATE),
    "a completed call made pending": (DONE, PENDING, "completed", "pending", AGAIN),
    "an output without an answer": (
        PENDING,
        changed(PENDING, output=7),
        "pending",
        "pending with another output",
        AGAIN,
    ),
    "another name": (PENDING, changed(PENDING, name="shows"), "pending", "pending with other contents", FIXED),
    "other arguments": (PENDING, changed(DONE, arguments={}), "pending", "completed with other contents", FIXED),
    "another call id": (DONE, changed(DONE, call_id="x"), "completed", "completed with other contents", FIXED),
    "a message over a call": (PENDING, message("tc_a"), "pending", "a user_message", TAKEN),
    "a call over a message": (text("tc_a"), PENDING, "a assistant_message", "pending", TAKEN),
}
"""What is known, what is written, and what the error says: both states, and the cure."""


@pytest.mark.parametrize(("known", "item", "is_change"), WRITES.values(), ids=WRITES)
def test_what_may_be_written(known: ThreadItem, item: ThreadItem, *, is_change: bool) -> None:
    """An answer is written once; what would change nothing is not written; other items are nobody's concern."""
    assert is_change is has_to_be_written(THREAD, known, item)


@pytest.mark.parametrize(
    ("known", "item", "says"), [(each[0], each[1], each[2:]) for each in REFUSED.values()], ids=REFUSED
)
@pytest.mark.parametrize("check", [has_to_be_written, check_change])
def test_what_must_not_be_written(check: Any, known: ThreadItem, item: ThreadItem, says: tuple[str, str, str]) -> None:
    """Everything else raises, names thread, call, both states and the cure, and changes nothing."""
    was, becomes, cure = says
    before = (known.model_dump_json(), item.model_dump_json())

    with pytest.raises(LifecycleViolationError) as raised:
        check(THREAD, known, item)

    error = raised.value
    assert (THREAD, "tc_a", was, becomes) == (error.thread_id, error.item_id, error.was, error.becomes)
    assert error.cure.endswith(cure)
    assert before == (known.model_dump_json(), item.model_dump_json())


@pytest.mark.parametrize("item", [PENDING, message("m")])
def test_what_may_enter_a_thread(item: ThreadItem) -> None:
    """A pending call, and any item that is not a call, may be added to a thread."""
    check_new(THREAD, item)


def test_a_completed_call_does_not_enter_a_thread() -> None:
    """The browser's answer would fail for it; the error says what to do in its place."""
    with pytest.raises(LifecycleViolationError, match="For what needs no answer use ClientTool") as raised:
        check_new(THREAD, DONE)

    assert ("no item", "completed") == (raised.value.was, raised.value.becomes)


@pytest.mark.parametrize(
    ("known", "item", "is_same"),
    [
        (PENDING, PENDING, True),
        (DONE, changed(DONE, created_at=moment(0)), True),
        (PENDING, DONE, False),
        (DONE, changed(DONE, output=8), False),
        (PENDING, changed(PENDING, name="shows"), False),
        (None, PENDING, False),
        (message("tc_a"), PENDING, False),
        (PENDING, message("tc_a"), False),
    ],
)
def test_what_says_the_same(known: ThreadItem | None, item: ThreadItem, *, is_same: bool) -> None:
    """Two calls say the same if they differ in their time only; nothing else is compared with a call."""
    assert is_same is says_the_same(known, item)


class TestErrors:
    def test_a_violation_carries_its_data(self) -> None:
        """A violation carries its data, from the thread to the cure."""
        error = violation(THREAD, PENDING, "pending", "gone", "Do not.")

        assert (THREAD, "tc_a", "provider's a", "pending", "gone", "Do not.") == (
            error.thread_id,
            error.item_id,
            error.call_id,
            error.was,
            error.becomes,
            error.cure,
        )

    @pytest.mark.parametrize(("call", "cure"), [(DONE, LATE), (PENDING, AGAIN)])
    def test_a_late_answer(self, call: Any, cure: str) -> None:
        """The cure is for what was to be written: an answer, or the call again."""
        error = late_answer(THREAD, call, "completed", "x")

        assert f"A call changes once, from pending to completed: {cure}" == error.cure

    def test_the_error_for_a_second_pending_call(self) -> None:
        """The error for a second pending call names the call that is in the way, and says how to queue."""
        error = second_pending(THREAD, PENDING, pending(gets("b")))

        assert ("no item", "pending", "tc_a") == (error.was, error.becomes, error.item_id)
        assert "Call provider's b (item tc_b) is still pending" in error.cure
        assert "sequencer.enqueue(ctx, ...)" in error.cure
