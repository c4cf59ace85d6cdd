"""`doctor`: whether a store does what ChatKit needs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import check_store
from chatkit_clienttools.testing._factory import OverdueError, in_time, said
from chatkit_clienttools.testing._loop import run as run_async
from chatkit_clienttools.testing.stores import TIME_LIMIT

from . import INTERRUPTED, OK, WRONG, CannotUseError, imported

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from chatkit_clienttools.testing import Report

    from . import Commands

NO_CONTEXT = "doctor: the store got None as its context; if it looks at that, give one with --context module:factory"


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    doctor = commands.add_parser(
        "doctor",
        help="check whether a store does what ChatKit needs",
        description="Check whether a store does what ChatKit needs. The checks work in threads they create, and remove "
        "everything they wrote. Exit status: 0 no rule is broken, 1 one is, 2 the store could not be made.",
    )
    doctor.add_argument(
        "factory",
        metavar="module:factory",
        help="returns the store, or an async context manager of one; may be async; or a module's store itself",
    )
    doctor.add_argument(
        "--context",
        metavar="module:factory",
        action="append",
        default=[],
        help="returns what your server passes as context, or is it; give it twice, for two users, to have it checked "
        "that they are kept apart",
    )
    doctor.add_argument("--only-broken", action="store_true", help="print the broken rules and the numbers only")
    doctor.add_argument("--json", action="store_true", help="print the report as JSON, with every rule")
    doctor.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="for each check, and for each factory (default: %(default)g)",
    )
    doctor.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Check the store, and print the report."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what an application prints is not part of the report
            report = run_async(_examined(options.factory, options.context, options.time_limit))
    except UsageError as error:
        raise CannotUseError(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("doctor: interrupted; what was written so far has been removed", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = report.to_text(only_broken=options.only_broken, colour=colour)
    print(json.dumps(report.to_json(), indent=2) if options.json else text)  # noqa: T201
    if not (report.ok or options.context):
        print(NO_CONTEXT, file=sys.stderr)  # noqa: T201
    return OK if report.ok else WRONG


async def _examined(factory: str, contexts: Sequence[str], time_limit: float) -> Report:
    made = imported(factory, "factory")

    def make() -> Any:
        return made() if callable(made) else made

    make.__module__, make.__qualname__ = factory.split(":")  # what the report calls it
    given = [await _context(name, time_limit) for name in contexts] or [None]
    with _cancelled_on_interrupt():
        return await check_store(make, contexts=given, progress=_Progress(), time_limit=time_limit)


@contextlib.contextmanager
def _cancelled_on_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the checks in good order, so that what they wrote is removed; a second one ends it at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _context(name: str, time_limit: float) -> object:
    made = imported(name, "factory")
    if not callable(made):
        return made
    try:
        context = made()
        return await in_time(context, time_limit) if inspect.isawaitable(context) else context
    except OverdueError as error:
        raise CannotUseError(f"{name} did not give a context: {error}") from error
    except Exception as error:
        raise CannotUseError(f"{name} did not give a context: {said(error)}") from error


class _Progress:
    """Says on stderr which check is under way: in one line on a terminal, in lines anywhere else."""

    def __call__(self, number: int, total: int, name: str) -> None:
        line = f"{number:>3}/{total} {name}"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="\r\x1b[K" if number == total else "", file=sys.stderr, flush=True)  # noqa: T201
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201
