"""The command line: `python -m chatkit_clienttools doctor myapp.store:make_store`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import signal
import sys
import threading
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .testing import FactoryError, check_store
from .testing._factory import said
from .testing._loop import run
from .testing.contract import TIME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .testing import Report

OK, BROKEN, USAGE, INTERRUPTED = 0, 1, 2, 130


class _CannotUseError(Exception):
    """What was named on the command line cannot be used; the message is one line that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return OK
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what an application prints is not part of the report
            report = run(_examined(options.factory, options.context, options.time_limit))
    except (_CannotUseError, FactoryError) as error:
        print(f"doctor: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("doctor: interrupted; what was written so far has been removed", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    print(json.dumps(report.to_json(), indent=2) if options.json else report)  # noqa: T201
    return OK if report.ok else BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m chatkit_clienttools", description="Tools for chatkit-clienttools.")
    doctor = parser.add_subparsers(dest="command", title="commands").add_parser(
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
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")
    doctor.add_argument(
        "--time-limit", type=float, default=TIME_LIMIT, metavar="SECONDS", help="for each check (default: %(default)g)"
    )
    return parser


async def _examined(factory: str, contexts: Sequence[str], time_limit: float) -> Report:
    made = _imported(factory)

    def make() -> Any:
        return made() if callable(made) else made

    make.__module__, make.__qualname__ = factory.split(":")  # what the report calls it
    given = [await _context(name) for name in contexts] or [None]
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


async def _context(name: str) -> object:
    made = _imported(name)
    if not callable(made):
        return made
    try:
        context = made()
        return await context if inspect.isawaitable(context) else context
    except Exception as error:
        raise _CannotUseError(f"{name} did not give a context: {said(error)}") from error


def _imported(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise _CannotUseError(f"{name!r} does not name a factory; it should read module:factory")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return attrgetter(attribute)(importlib.import_module(module))
    except (Exception, SystemExit) as error:
        raise _CannotUseError(f"{name} cannot be imported: {said(error)}") from error


class _Progress:
    """Says on stderr which check is under way: in one line on a terminal, in lines anywhere else."""

    def __call__(self, number: int, total: int, name: str) -> None:
        line = f"{number:>3}/{total} {name}"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="\r\x1b[K" if number == total else "", file=sys.stderr, flush=True)  # noqa: T201
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
