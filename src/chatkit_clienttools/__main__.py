"""The command line: `python -m chatkit_clienttools doctor ...` and `python -m chatkit_clienttools types ...`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ._commands import OK, USAGE, CannotUseError, doctor, types

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("python -m chatkit_clienttools", description="Tools for chatkit-clienttools.")
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
