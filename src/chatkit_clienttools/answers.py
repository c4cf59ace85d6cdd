"""What the browser may answer: clean JSON of a limited size and depth. Anything else is refused, and the call fails.

A refused answer is stored as an error report with a text of ours that says why. So it is never parsed again, and needs
no state of its own; nor does a call that nobody has answered in time. A page that posts such a text itself only makes
its own call fail.
"""

from __future__ import annotations

import math
import re
from typing import Any

from .receipts import RECEIPT

MAX_DEPTH = 100
"""How deep an answer may be nested. Pydantic reads 200 levels, and an item and a page add some around it."""

EXPIRED = "expired: the browser did not answer in time"
"""What is stored for an answer that did not come in time; a page that keeps the time itself answers the same."""

DENIED = "denied: the user declined"
"""What a page answers for a user who does not want what the call asks for: that is no error of the page."""

OUTCOMES = {EXPIRED: "expired", DENIED: "denied"}
"""The outcomes that are answers of their own, and how they are called."""

_REFUSED = "the browser's answer was refused: "
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"
_NOT_FINITE = "it holds a number that is not finite"
_OURS = re.compile(rf"{_REFUSED}(it is larger than [\d,]{{1,30}} bytes|{_TOO_DEEP}|{_NOT_FINITE})", re.ASCII)

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What some databases cannot store: NUL, and half a surrogate pair, of which there is no UTF-8."""

Refusal = dict[str, Any]


class UnusableError(Exception):
    """An answer cannot be cleaned."""


def too_large(limit: int) -> str:
    """Say that an answer is larger than it may be."""
    return f"{_REFUSED}it is larger than {limit:,} bytes"


def too_deep() -> str:
    """Say that an answer is nested too deeply."""
    return f"{_REFUSED}{_TOO_DEEP}"


def refusal(reason: str, receipt: str | None = None) -> Refusal:
    """Return what takes the place of a refused answer, under the receipt that it came with."""
    return {"error": reason} if receipt is None else {RECEIPT: receipt, "error": reason}


def reason_in(answer: object) -> str | None:
    """Return why an answer was refused, or "expired", or "denied"; None if it was taken, whatever it says."""
    error = answer.get("error") if isinstance(answer, dict) and answer.keys() <= {RECEIPT, "error"} else None
    if not isinstance(error, str):
        return None
    return OUTCOMES.get(error) or (error if _OURS.fullmatch(error) else None)


def has_expired(answer: object) -> bool:
    """Whether there was no answer in time."""
    return reason_in(answer) == "expired"


def cleaned(value: Any, depth: int = 0) -> Any:
    """Return an answer without characters that a store may refuse; raise `UnusableError` and say why if that fails.

    They become U+FFFD, as in browsers: a text may have been cut in the middle of an emoji.
    """
    match value:
        case str():
            return _NO_TEXT.sub("\ufffd", value)
        case bool() | None:
            return value
        case int() | float():
            return _finite(value)
    if depth == MAX_DEPTH:
        raise UnusableError(too_deep())
    if isinstance(value, dict):
        return {cleaned(key): cleaned(each, depth + 1) for key, each in value.items()}
    return [cleaned(each, depth + 1) for each in value]


def _finite(number: float) -> float:
    try:
        is_finite = math.isfinite(number)
    except OverflowError:  # an integer of hundreds of digits
        is_finite = False
    if not is_finite:
        raise UnusableError(f"{_REFUSED}{_NOT_FINITE}")
    return number
