"""Where in somebody's own code an error was raised: that is what they look for, and not how a check came to it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_NOT_THEIRS = sys.stdlib_module_names | {"chatkit_clienttools"}


def place(error: BaseException) -> str:
    """Say the file and the line of the innermost frame in the store's own code, in brackets; nothing if there is none.

    Its own code is the package whose code was called first, and not what that builds on in turn, as a driver.
    """
    theirs = [entry for entry in _entries(error) if _package(entry) not in _NOT_THEIRS]
    if not theirs:
        return ""
    innermost = [entry for entry in theirs if _package(entry) == _package(theirs[0])][-1]
    return f" ({innermost.tb_frame.f_code.co_filename}, line {innermost.tb_lineno})"


def without_checks(error: BaseException) -> BaseException:
    """Return an error with a traceback that begins below the checks; with the whole of it if it was raised in them."""
    below = (entry for entry in _entries(error) if not _module(entry).startswith(f"{__package__}."))
    return error.with_traceback(next(below, error.__traceback__))


def _entries(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry:
        yield entry
        entry = entry.tb_next


def _module(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__", ""))


def _package(entry: TracebackType) -> str:
    return _module(entry).partition(".")[0]
