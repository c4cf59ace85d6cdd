"""Receipts: which call an answer is for. The token goes out in a call's `params`, and comes back with its answer.

ChatKit's answer carries no id. With `ClientToolSequencer(receipts=True)` each call's params hold its call id under
`_receipt`; a frontend that wraps its handler with `withReceipts` (frontend/client-tools.js) answers
`{"_receipt": ..., "result": ...}` or `{"_receipt": ..., "error": "..."}`. Neither the model nor what is stored as a
call's answer ever has the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkit.types import ClientToolCallItem

RECEIPT = "_receipt"
"""The key of the token, in params and in answers."""


class Answer(NamedTuple):
    """What the browser has answered, and the call that it says it is for."""

    output: Any
    receipt: str | None = None


def stamped(arguments: Mapping[str, Any], receipt: str) -> dict[str, Any]:
    """Return the params of a call with its receipt."""
    return {**arguments, RECEIPT: receipt}


def is_stamped(call: ClientToolCallItem) -> bool:
    """Whether a call went out with its receipt: an application may use the word for something else."""
    return call.arguments.get(RECEIPT) == call.call_id


def unstamped(call: ClientToolCallItem) -> dict[str, Any]:
    """Return the params of a call without its receipt."""
    if not is_stamped(call):
        return call.arguments
    return {name: value for name, value in call.arguments.items() if name != RECEIPT}


def opened(result: Any) -> Answer:
    """Take what was posted apart; what has no receipt is the answer itself."""
    match result:
        case {"_receipt": str(receipt), "error": str(error)}:
            return Answer({"error": error}, receipt)
        case {"_receipt": str(receipt)}:
            return Answer(result.get("result"), receipt)
    return Answer(result)


def answer_of(call: ClientToolCallItem) -> Any:
    """Return a call's answer: plain `ChatKitServer` stores it with its receipt."""
    answer = opened(call.output)
    return answer.output if is_stamped(call) and answer.receipt == call.call_id else call.output
