"""The commands of `python -m chatkit_clienttools`: a module for each, and here what they share."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.testing._factory import said

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

    Commands = _SubParsersAction[ArgumentParser]

OK, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
"""The exit statuses."""


class CannotUseError(Exception):
    """What was named on the command line cannot be used; the message is one line that says why."""


def imported(name: str, what: str) -> Any:
    """Return what `name`, a `module:what`, is the name of."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise CannotUseError(f"{name!r} does not name a {what}; it should read module:{what}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return attrgetter(attribute)(importlib.import_module(module))
    except (Exception, SystemExit) as error:
        raise CannotUseError(f"{name} cannot be imported: {said(error)}") from error
