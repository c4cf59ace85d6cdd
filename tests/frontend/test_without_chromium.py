"""A machine without a browser: nobody overlooks the tests that did not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.chromium import NO_CHROMIUM

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
COMMAND = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-k",
    "reload",
    "tests/frontend/test_chromium.py",
)


def ran(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run a browser's test where no Chromium is to be found."""
    given = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    return subprocess.run(  # noqa: S603
        COMMAND, cwd=ROOT, env={**given, "CHROMIUM": "none", **environment}, capture_output=True, text=True, check=False
    )


def test_the_last_lines_say_what_was_skipped() -> None:
    """Without a Chromium the run passes, and ends with how many tests it left out and how to run them."""
    ended = ran()

    assert 0 == ended.returncode
    assert f"1 browser tests were SKIPPED: {NO_CHROMIUM}" == ended.stdout.splitlines()[-2]


def test_they_fail_where_ci_is_set() -> None:
    """With CI in the environment a missing Chromium is a failure."""
    ended = ran(CI="true")

    assert 1 == ended.returncode
    assert f"Failed: {NO_CHROMIUM}" in ended.stdout
