"""The marker `long`: `make test` leaves such tests out, and its last line says how many, and how to run them.

Every browser test is long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT_OUT = pytest.StashKey[int]()
HOW = "{} long tests were left out: `make test-all` runs them, and tries every ChatKit and every Python that is here."


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that want a browser, before `-m` chooses."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(trylast=True)
def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the long tests that `-m "not long"` leaves out."""
    if items and "not long" in items[0].config.option.markexpr:
        long = sum(item.get_closest_marker("long") is not None for item in items)
        stash = items[0].config.stash
        stash[LEFT_OUT] = stash.get(LEFT_OUT, 0) + long


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say how many, after everything else; a worker of xdist tells the process that prints."""
    config = session.config
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["left out"] = config.stash.get(LEFT_OUT, 0)
    yield
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if output is None and reporter and config.stash.get(LEFT_OUT, 0):
        reporter.write_line(HOW.format(config.stash[LEFT_OUT]))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: pytest.Session) -> None:
    """Every worker of xdist has collected all tests, so that each says the same number."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)
