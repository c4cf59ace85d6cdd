"""Every Python fence of README.md and docs/ is a test; the fences of a page build on one another.

Every test can have a browser and a database, and may be marked as long.
"""

import gc

from agents import set_tracing_disabled
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

set_tracing_disabled(disabled=True)

pytest_plugins = ["tests.helpers.chromium", "tests.helpers.databases", "tests.helpers.left_out"]

FENCES = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"])

pytest_collect_file = FENCES.pytest()


def pytest_collection_finish() -> None:
    """Spare the collector of garbage what every test starts from: it is there to the end."""
    gc.collect()
    gc.freeze()
