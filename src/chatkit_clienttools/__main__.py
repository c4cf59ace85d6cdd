"""The command line: `chatkit-clienttools doctor ...` and `chatkit-clienttools types ...`.

`python -m chatkit_clienttools` is the same.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from . import __version__
from ._commands import OK, USAGE, CannotUseError, doctor, types

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("chatkit-clienttools", description="Check a store, and write TypeScript types.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")
    doctor.add_to(commands)
    types.add_to(commands)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return OK
    try:
        status: int = options.run(options)
    except CannotUseError as error:
        print(f"{options.command}: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    return status


if __name__ == "__main__":
    sys.exit(main())
