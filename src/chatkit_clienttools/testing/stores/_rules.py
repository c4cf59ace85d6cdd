"""What a check is: a rule in plain words, what breaks in the chat without it, and how to find out."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Body = Callable[[Any], Awaitable["Finding | str | None"]]


class BrokenRuleError(Exception):
    """The store did not keep the rule; the message is what was seen, the cause an error that came instead."""


class NotOfferedError(Exception):
    """The store does not offer what the rule is about; the message says what was looked for."""


class Finding(NamedTuple):
    """What a store does where a rule leaves it a choice, and what follows from it."""

    what: str
    follows: str


@dataclass(frozen=True, eq=False)
class Check:
    """One rule, and the body that tries it on a `Bench`."""

    name: str
    rule: str
    breaks: str
    rests_on: tuple[Check, ...]
    """Rules that this one rests on: while one of them is broken, this one is not checked."""
    body: Body


def check(*rests_on: Check, breaks: str) -> Callable[[Body], Check]:
    """Make a check of a function: its name is the check's, its docstring is the rule.

    The body raises `BrokenRuleError` or `NotOfferedError`; what it returns is shown with the result.
    """

    def made(body: Body) -> Check:
        rule = " ".join(inspect.getdoc(body).split())  # type: ignore[union-attr]  # a check without a rule is none
        return Check(body.__name__, rule, breaks, rests_on, body)

    return made


def expect(holds: object, seen: str, cause: BaseException | None = None) -> None:
    """Go on if it holds; otherwise the rule is broken, and `seen` says how; `cause` is what the store has raised."""
    if not holds:
        raise BrokenRuleError(seen) from cause
