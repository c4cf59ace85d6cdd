"""Trying the checks on a store, one after the other: whatever one of them meets becomes a result, never a crash."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import TYPE_CHECKING

from chatkit_clienttools.testing._factory import said

from ._report import Result, Status
from ._rules import BrokenRuleError, Finding, NotOfferedError

if TYPE_CHECKING:
    from ._bench import Bench
    from ._rules import Check

RAISED = (
    "ChatKit does not expect this error here: a request that meets it breaks off, or is answered with a status of 500."
)
"""What breaks when an operation failed, whatever the check was about: it did not come to that."""

WAITS = "A request that does this waits as long, and so does the user who has made it."
"""What breaks when an operation did not come back."""

_NOT_THEIRS = sys.stdlib_module_names | {"chatkit_clienttools"}

PATIENCE = 3
"""After how many checks that ran into the time limit the others are no longer tried."""


class Examination:
    """The checks that were tried on one store."""

    def __init__(self, bench: Bench, time_limit: float) -> None:
        self._bench = bench
        self._time_limit = time_limit
        self._results: dict[str, Result] = {}
        self.errors: dict[str, BaseException] = {}
        """What the store has raised, by the name of the check that met it. Not on the result, which is plain data."""

    async def result(self, check: Check) -> Result:
        """Return what came of a check, and try it first if it was not yet tried."""
        if check.name not in self._results:
            self._results[check.name] = await self._examined(check)
        return self._results[check.name]

    async def _examined(self, check: Check) -> Result:
        for other in check.rests_on:
            result = await self.result(other)
            if result.status is Status.NOT_OFFERED:
                return Result.of(check, Status.NOT_OFFERED, result.detail)
            if result.status is not Status.HELD:
                return Result.of(check, Status.NOT_CHECKED, f"{other.name} has to hold first")
        if sum(result.breaks == WAITS for result in self._results.values()) >= PATIENCE:
            return Result.of(check, Status.NOT_CHECKED, f"{PATIENCE} checks before it took too long")
        try:
            return await asyncio.wait_for(self._outcome(check), self._time_limit)
        except asyncio.TimeoutError:  # an alias of TimeoutError, but not on Python 3.10
            seen = f"{self._bench.doing} had not come back when the check's {self._time_limit:g} seconds were over"
            return Result.of(check, Status.BROKEN, seen, WAITS)
        finally:
            await self._clean(check)

    async def _outcome(self, check: Check) -> Result:
        try:
            finding = await check.body(self._bench)
        except BrokenRuleError as broken:
            return self._broken(check, str(broken), broken.__cause__)
        except NotOfferedError as missing:
            return Result.of(check, Status.NOT_OFFERED, str(missing))
        except Exception as error:  # noqa: BLE001  # whatever a store does is a result
            return self._broken(check, f"{self._bench.doing} raised {said(error)}", error)
        if isinstance(finding, Finding):
            return Result.of(check, Status.DETECTED, finding.what, finding.follows)
        return Result.of(check, Status.HELD, finding or "")

    def _broken(self, check: Check, seen: str, error: BaseException | None) -> Result:
        """Return that a rule is broken; what breaks with it is known only if that was seen, and no error instead."""
        if error is None:
            return Result.of(check, Status.BROKEN, seen)
        self.errors[check.name] = error
        return Result.of(check, Status.BROKEN, f"{seen}{place(error)}", RAISED)

    async def _clean(self, check: Check) -> None:
        try:
            await asyncio.wait_for(self._bench.clean(), self._time_limit)
        except asyncio.TimeoutError:
            self._bench.notes.append(
                f"after {check.name} not everything could be removed: it took more than {self._time_limit:g} seconds"
            )


def place(error: BaseException) -> str:
    """Say the file and the line of the innermost frame in the store's own code, in brackets; nothing if there is none.

    Its own code is the package whose code was called first, and not what that builds on in turn, as a driver.
    """
    places: dict[str, str] = {}
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        places[package] = f" ({frame.f_code.co_filename}, line {line})"
    return next((said for package, said in places.items() if package not in _NOT_THEIRS), "")
