"""Every Python fence of README.md and docs/ is a test; the fences of a page build on one another.

Every test can have a browser and a database, and may be marked as long.
"""

import gc
import os

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

# said here, and not to the Agents SDK: the process that only hands out tests need not import it
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "true"

pytest_plugins = ["tests.helpers.chromium", "tests.helpers.databases", "tests.helpers.left_out"]

FENCES = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"])

pytest_collect_file = FENCES.pytest()


@pytest.fixture(autouse=True, scope="module")
def _spare_the_collector() -> None:
    """Spare the collector of garbage what is there before a module's tests: most of it is there to the end."""
    gc.collect()
    gc.freeze()
