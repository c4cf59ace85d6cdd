"""How far one operation of a page may go: a server that never comes to an end is not to hang a test."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from chatkit_clienttools.errors import UsageError

from ._failures import BrokenStreamError

if TYPE_CHECKING:
    from ._transcript import Transcript

TIMES = 60
"""How many times the time limit of an event an operation may take in all."""


class Limits:
    """The limits of the operation that is under way."""

    def __init__(self, time_limit: float, max_calls: int, transcript: Transcript) -> None:
        if not is_positive(time_limit):
            raise UsageError(f"time_limit must be a number of seconds, more than 0, not {time_limit!r}")
        if not is_positive(max_calls) or max_calls < 1:
            raise UsageError(f"max_calls must be 1 or more, not {max_calls!r}")
        self._seconds = TIMES * time_limit
        self._max_calls = max_calls
        self._transcript = transcript
        self._ends = math.inf
        self._calls = 0

    def begin(self) -> None:
        """An operation begins."""
        self._ends = time.monotonic() + self._seconds
        self._calls = 0

    def event(self) -> None:
        """Raise if it has been going on for too long for another event."""
        if time.monotonic() > self._ends:
            raise self._broken(f"events still come after {self._seconds:g} seconds, {TIMES} times the time_limit")

    def call(self) -> None:
        """Raise if there were too many calls for another one."""
        self._calls += 1
        if self._calls > self._max_calls:
            raise self._broken(f"the server has asked for {self._calls} calls, and max_calls is {self._max_calls}")

    def _broken(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"There is no end to it: {what}", self._transcript)


def is_positive(value: object) -> bool:
    """Whether it is a number, and more than 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
