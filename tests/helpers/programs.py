"""Programs that a test runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def finished(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as users do, in a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603
