"""`types`: the declared client tools as TypeScript, so that the compiler checks the frontend's `onClientTool`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._typescript import declarations
from chatkit_clienttools.errors import UsageError

from . import OK, WRONG, CannotUseError, imported

if TYPE_CHECKING:
    from argparse import Namespace

    from . import Commands


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    types = commands.add_parser(
        "types",
        help="write the declared client tools as TypeScript types",
        description="Write the declared client tools as TypeScript types, so that the compiler checks the frontend's "
        "onClientTool. Exit status: 0 done, 1 the file is not current (--check), 2 the tools cannot be typed.",
    )
    types.add_argument("sequencer", metavar="module:sequencer", help="a ClientToolSequencer, or a list of ClientTools")
    types.add_argument("--output", metavar="FILE", type=Path, help="write this file, and not to stdout")
    types.add_argument("--check", action="store_true", help="write nothing; say whether the file is current")
    types.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Write the types, or check those that were written."""
    output: Path | None = options.output
    if options.check and output is None:
        raise CannotUseError("--check needs --output FILE: the file to be checked")
    text = _text(options.sequencer)
    if output is None:
        sys.stdout.buffer.write(text.encode())  # UTF-8, whatever the terminal is set to
        return OK
    try:
        return _checked(output, text, options.sequencer) if options.check else _written(output, text)
    except OSError as error:
        raise CannotUseError(f"{output}: {error.strerror}") from error


def _text(name: str) -> str:
    with contextlib.redirect_stdout(sys.stderr):  # what an application prints is not part of the types
        found = imported(name, "sequencer")
        try:
            sequencer = ClientToolSequencer(found) if isinstance(found, (list, tuple)) else found
            if not isinstance(sequencer, ClientToolSequencer):
                raise CannotUseError(f"{name} is a {type(found).__name__}, not a ClientToolSequencer")
            return declarations(sequencer.tools, f"python -m chatkit_clienttools types {name}")
        except UsageError as error:
            raise CannotUseError(str(error)) from error


def _checked(output: Path, text: str, name: str) -> int:
    if _is_current(output, text):
        return OK
    cure = f"python -m chatkit_clienttools types {name} --output {output}"
    print(f"types: {output} is not current; write it anew: {cure}", file=sys.stderr)  # noqa: T201
    return WRONG


def _written(output: Path, text: str) -> int:
    """Write all of the file or nothing, and only what is new: a bundler that watches it has then something to do."""
    if not _is_current(output, text):
        target = output.resolve()  # a link stays one
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            draft.write_bytes(text.encode())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    return OK


def _is_current(output: Path, text: str) -> bool:
    """Whether the file says just this, with whatever line ends git has given it."""
    return output.is_file() and output.read_text("utf-8", errors="replace") == text
