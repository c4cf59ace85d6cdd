"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

`make test-floors` installs exactly these, so a bound that is too low fails a test.
"""

from __future__ import annotations

import re
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
BESIDE = {"openai": "2.19.0"}
"""What openai-agents installs: its lowest version does not work with the newest of these."""
BOUND = re.compile(r'"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)')  # tomllib came with Python 3.11


def floors(pyproject: str) -> dict[str, str]:
    """Return the name and the `>=` bound of every requirement."""
    return dict(BOUND.findall(pyproject))


if __name__ == "__main__":
    for name, version in sorted({**BESIDE, **floors(PYPROJECT.read_text("utf-8"))}.items()):
        print(f"{name}=={version}")
