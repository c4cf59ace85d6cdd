"""`make test` leaves out the long tests, and says so in its last line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.left_out import HOW

ROOT = Path(__file__).parent.parent
PLUGINS = ("-p", "tests.helpers.left_out", "-p", "xdist")
TESTS = """\
import pytest


@pytest.fixture
def browser():
    pass


def test_short():
    pass


@pytest.mark.long
def test_long():
    pass


def test_page(browser):
    pass
"""


def ran(directory: Path, *options: str) -> list[str]:
    """Run these tests without the project's settings; return what was printed."""
    (directory / "test_three.py").write_text(TESTS, "utf-8")
    command = [sys.executable, "-m", "pytest", *PLUGINS, "-c", os.devnull, str(directory), *options]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    assert 0 == ended.returncode, ended.stdout
    return ended.stdout.splitlines()


@pytest.mark.parametrize("processes", [0, 2])
def test_the_last_line_says_what_was_left_out(tmp_path: Path, processes: int) -> None:
    """Without long tests the last line says how many they are, in one process or several; each browser test is long."""
    lines = ran(tmp_path, "-m", "not long", f"-n{processes}")

    assert "1 passed" in lines[-2]
    assert HOW.format(2) == lines[-1]


def test_nothing_is_said_of_tests_that_were_not_asked_for(tmp_path: Path) -> None:
    """A run without `-m "not long"` ends with pytest's own last line, whatever else it chooses."""
    assert "2 passed, 1 deselected" in ran(tmp_path, "-k", "not page")[-1]
