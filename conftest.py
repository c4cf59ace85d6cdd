"""Every Python fence of README.md and docs/ is a test; the fences of a page build on one another.

Every test can have a browser and a database, and may be marked as long.
"""

import gc
import os
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

# said here, and not to the Agents SDK: the process that only hands out tests need not import it
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "true"

pytest_plugins = ["tests.helpers.chromium", "tests.helpers.databases", "tests.helpers.left_out"]

FENCES = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/guides/*.md"])

pytest_collect_file = FENCES.pytest()

HERE = Path(__file__).parent
NOT_MEASURED = ("README.md", "docs", "examples", "tests/frontend", "tests/processes", "tests/test_conversations.py")
"""What comes past nothing that other tests do not come past: coverage would only make it slower."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of the coverage what adds nothing to it."""
    for item in items:
        if item.path.relative_to(HERE).as_posix().startswith(NOT_MEASURED):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="module")
def _spare_the_collector() -> None:
    """Spare the collector of garbage what is there before a module's tests: most of it is there to the end."""
    gc.collect()
    gc.freeze()
