"""Every Python fence of README.md and docs/ is a test; the fences of a page build on one another.

Every test can have a browser and a database, and may be marked as long.
"""

import gc
import os
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

# said here, and not to the Agents SDK: the process that only hands out tests need not import it
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "true"

pytest_plugins = ["tests.helpers.chromium", "tests.helpers.databases", "tests.helpers.left_out"]

gc.set_threshold(50_000, 20, 50)  # tests make little garbage in circles: looking for it so often is a sixth of the time

FENCES = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/guides/*.md"])

pytest_collect_file = FENCES.pytest()

NOT_MEASURED = (
    "README.md",
    "docs/",
    "examples/",
    "tests/frontend/test_docs.py",
    "tests/frontend/test_media.py",
    "tests/processes/",
    "tests/protocol/test_plan.py::TestDocument::test_any_",
    "tests/protocol/test_plan.py::TestDocument::test_what_is_written_is_read_back",
    "tests/server/test_answers.py",
    "tests/server/test_any_answer.py",
    "tests/server/test_limits.py::TestCleaned::test_it_can_be_stored_and_read_again",
    "tests/server/test_receipts.py",
    "tests/server/test_resume.py",
    "tests/server/test_stores.py::TestAbsence::test_a_call_of_plain_chatkit",
    "tests/server/test_stores.py::TestAbsence::test_a_message_that_is_gone",
    "tests/server/test_stores.py::TestAbsence::test_a_whole_conversation",
    "tests/server/test_stores.py::TestAbsence::test_snapshot_and_cancel",
    "tests/stores/test_sql.py::TestSQLStore::test_a_conversation_of_three_calls",
    "tests/stores/test_sql.py::TestStatements::test_a_long_thread_is_read_by_its_index",
    "tests/stores/test_sql_failures.py::test_a_failing_statement_",
    "tests/stores/test_sql_failures.py::test_a_session_that_is_ended_",
    "tests/stores/test_sql_failures.py::test_a_write_that_is_cancelled_",
    "tests/test_announcements.py",
    "tests/test_conversations.py",
    "tests/test_loops.py",
    "tests/test_news.py::test_whatever_happens",
    "tests/test_server_http.py",
    "tests/test_typescript.py::test_the_compiler_takes_what_pydantic_writes",
    "tests/test_validating_store.py::TestTransparency",
    "tests/test_workers.py",
    "tests/waiting/test_ask.py",
    "tests/waiting/test_repeats.py",
    "tests/waiting/test_restarts.py",
)
"""What comes past nothing that other tests do not come past: coverage would only make it slower.

A line of yours that is reported as missing, though one of these tests runs it, takes that test off this list.
"""

BESIDE_IT = ("chatkit.agents", "chatkit.server", "hypothesis.stateful", "sqlalchemy.ext.asyncio")
"""What the package imports of others, as far as it takes long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of the coverage what adds nothing to it."""
    for item in items:
        if item.nodeid.startswith(NOT_MEASURED):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop the coverage that pytest-cov starts in a worker of xdist before the worker's own.

    Nobody asks for what it measures, and it would go on whenever the other one is paused.
    """
    coverage = measuring(session.config)
    if coverage and hasattr(session.config, "workerinput"):
        coverage.pause()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Measure how the package is imported, and neither how pytest collects nor what the tests import beside it."""
    coverage = measuring(session.config)
    if coverage:
        coverage.pause()
    if not coverage or session.config.getoption("numprocesses", None):
        return (yield)  # nothing is measured here: not at all, or in other processes
    for name in BESIDE_IT:
        import_module(name)
    coverage.resume()
    package = import_module("chatkit_clienttools")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    coverage.pause()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure what a test calls, and neither its fixtures nor what pytest does around it."""
    coverage = measuring(item.config)
    if not coverage:
        return (yield)
    coverage.resume()
    try:
        return (yield)
    finally:
        coverage.pause()


def measuring(config: pytest.Config) -> Any:
    """Return what measures the coverage; nothing without `--cov`."""
    plugin = config.pluginmanager.get_plugin("_cov")
    return plugin and plugin.cov_controller


@pytest.fixture(autouse=True, scope="module")
def _spare_the_collector() -> None:
    """Spare the collector of garbage what is there before a module's tests: most of it is there to the end."""
    gc.collect()
    gc.freeze()
