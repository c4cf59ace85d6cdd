"""The versions that the project names agree with each other."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from tools.floors import floors

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
CHATKITS = re.findall(r"^CHATKITS := (.+)$", MAKEFILE, re.MULTILINE)[0].split()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_the_tested_chatkits_are_the_supported_ones() -> None:
    """`make test-chatkits` begins with the lowest ChatKit that pip may install and ends with that of `make test`."""
    oldest = re.findall(r"^OLDEST_CHATKIT := (\S+)$", MAKEFILE, re.MULTILINE)
    newest = re.findall(r"^CHATKIT \?= (\S+)$", MAKEFILE, re.MULTILINE)

    assert [floors(PYPROJECT)["openai-chatkit"]] == oldest == CHATKITS[:1]
    assert newest == CHATKITS[-1:]
    assert sorted(set(CHATKITS), key=numbers) == CHATKITS


def test_every_dependency_has_a_tested_lower_bound() -> None:
    """`make test-floors` installs a lowest version of every dependency, those of the extras included."""
    bounds = floors(PYPROJECT)
    wanted = {Requirement(line).name for line in metadata.requires("chatkit-clienttools") or []}

    assert set() == wanted - bounds.keys()


def test_bounds_are_read_from_every_kind_of_requirement() -> None:
    """A bound is found with an extra, with an upper bound and with neither; a requirement without one is left out."""
    text = '["plain>=1.2", "extra[one,two]>=2.0.1", "both>=3,<4", "none"]'

    assert {"plain": "1.2", "extra": "2.0.1", "both": "3"} == floors(text)
