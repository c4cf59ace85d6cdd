"""Every Python fence of README.md and docs/ is a test; the fences of a page build on one another.

Every test can have a browser.
"""

from agents import set_tracing_disabled
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

set_tracing_disabled(disabled=True)

pytest_plugins = ["tests.helpers.chromium"]

FENCES = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"])

pytest_collect_file = FENCES.pytest()
