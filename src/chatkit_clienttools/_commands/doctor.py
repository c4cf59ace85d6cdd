"""`doctor`: whether a store does what ChatKit needs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import check_store
from chatkit_clienttools.testing._factory import made_by
from chatkit_clienttools.testing.stores import TIME_LIMIT

from . import INTERRUPTED, OK, WRONG, CannotUseError, imported

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

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
            report = asyncio.run(_examined(options.factory, options.context, options.time_limit))
    except UsageError as error:
        raise CannotUseError(str(error)) from error
    except KeyboardInterrupt:
        print("doctor: interrupted; what was written so far has been removed", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = report.to_text(only_broken=options.only_broken, colour=colour)
    print(json.dumps(report.to_json(), indent=2) if options.json else text)  # noqa: T201
    if not (report.ok or options.context):
        print(NO_CONTEXT, file=sys.stderr)  # noqa: T201
    return OK if report.ok else WRONG


async def _examined(factory: str, contexts: Sequence[str], time_limit: float) -> Report:
    make = _maker(factory)
    made = [await made_by(_maker(name), None, time_limit=time_limit, wanted="a context") for name in contexts]
    return await check_store(make, contexts=made or [None], progress=_progress, time_limit=time_limit)


def _maker(name: str) -> Callable[[], Any]:
    """Return what makes whatever is called so; what cannot be called is that itself."""
    named = imported(name, "factory")

    def make() -> Any:
        return named() if callable(named) else named

    make.__module__, make.__qualname__ = name.split(":")  # what the report, or an error, calls it
    return make


def _progress(number: int, total: int, name: str) -> None:
    """Say on stderr which check is under way: each one on a terminal, some of them in a file."""
    line = f"{number:>3}/{total} {name}"
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="\r\x1b[K" if number == total else "", file=sys.stderr, flush=True)  # noqa: T201
    elif number == 1 or number % 10 == 0 or number == total:
        print(line, file=sys.stderr, flush=True)  # noqa: T201
