"""Receipts: which call an answer is for. The receipt goes out in a call's `params`, and comes back with its answer.

ChatKit's answer carries no id. With `ClientToolSequencer(receipts=True)` each call's params hold a receipt under
`_receipt`; a frontend that wraps its handler with `withReceipts` (frontend/client-tools.js) answers
`{"_receipt": ..., "result": ...}` or `{"_receipt": ..., "error": "..."}`. Neither the model nor what is stored as a
call's answer ever has the receipt. A call whose time is limited says so beside its receipt.

A receipt names the thread and the call, and the call's id in it is always one of our own: a provider may give the same
id in two threads, and the page would then answer the second call from its memory of the first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkit.types import ClientToolCallItem

RECEIPT = "_receipt"
"""The key of the receipt, in params and in answers."""

EXPIRES_AT = "_expires_at"
"""When the time of a call is over, in its params: milliseconds since the epoch, by the clock of the server."""

EXPIRES_IN = "_expires_in"
"""How many milliseconds it had left when it was sent: what a timer of the page counts by, since clocks differ."""

STAMPS = frozenset({RECEIPT, EXPIRES_AT, EXPIRES_IN})
"""What is added to the params of a call."""

ASKED = "ask_"
"""What the ids of calls begin with whose answer a waiting tool gets, and not the model."""

_OWN_ID = re.compile(r"(call|ask)_[0-9a-f]{32}")


class Answer(NamedTuple):
    """What the browser has answered, and the receipt that says for which call."""

    output: Any
    receipt: str | None = None


def new_call_id() -> str:
    """Make an id for a call: 128 random bits."""
    return f"call_{uuid4().hex}"


def new_ask_id() -> str:
    """Make an id for a call whose answer a waiting tool gets."""
    return f"{ASKED}{uuid4().hex}"


def receipt_for(thread_id: str, call_id: str) -> str:
    """Return the receipt of a call, by its own id."""
    return f"{thread_id}:{call_id}"


def receipt_of(item: ClientToolCallItem) -> str | None:
    """Return the receipt that a call went out with; None if there is none, whatever an application keeps there."""
    own_id = id_in_receipt(item)
    return None if own_id is None else receipt_for(item.thread_id, own_id)


def id_in_receipt(item: ClientToolCallItem) -> str | None:
    """Return the call's own id from the receipt that it went out with."""
    receipt = item.arguments.get(RECEIPT)
    thread_id, _, own_id = receipt.rpartition(":") if isinstance(receipt, str) else ("", "", "")
    return own_id if thread_id == item.thread_id and _OWN_ID.fullmatch(own_id) else None


def unstamped(item: ClientToolCallItem) -> dict[str, Any]:
    """Return the params of a call without its receipt, and without its time."""
    if receipt_of(item) is None:
        return item.arguments
    return {name: value for name, value in item.arguments.items() if name not in STAMPS}


def stamped(
    arguments: Mapping[str, Any], receipt: str, expires_at: float | None = None, now: float = 0.0
) -> dict[str, Any]:
    """Return the params of a call with its receipt, and with its time if that is limited."""
    params = {**arguments, RECEIPT: receipt}
    if expires_at is None:
        return params
    return {**params, EXPIRES_AT: round(1000 * expires_at), EXPIRES_IN: round(1000 * (expires_at - now))}


def opened(result: Any) -> Answer:
    """Take what was posted apart; what has no receipt is the answer itself."""
    match result:
        case {"_receipt": str(receipt), "error": str(error)}:
            return Answer({"error": error}, receipt)
        case {"_receipt": str(receipt)}:
            return Answer(result.get("result"), receipt)
    return Answer(result)


def answer_of(item: ClientToolCallItem) -> Any:
    """Return a call's answer: plain `ChatKitServer` stores it with its receipt."""
    answer = opened(item.output)
    return answer.output if answer.receipt is not None and answer.receipt == receipt_of(item) else item.output
