"""The plugin for pytest: the fixture `fake_browser`, in a project that imports nothing for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit_clienttools.testing import FakeBrowser
from chatkit_clienttools.testing.browser._fixture import browsers

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


TESTS = {
    "test_1_without.py": """\
import sys
def test_it(request):
    assert request.config.pluginmanager.has_plugin("chatkit_clienttools")
    assert {"chatkit", "chatkit_clienttools"} & set(sys.modules) == set()
""",
    "test_2_own.py": """\
import pytest
@pytest.fixture
def fake_browser():
    return "mine"
def test_it(fake_browser):
    assert fake_browser == "mine"
""",
    "test_3_failing.py": """\
def test_fails(fake_browser):
    browser = fake_browser("http://example.com/")
    browser.transcript.add(1, "says", "Ada")
    browser.drop(after=1)
    assert False
def test_sets_a_fault(fake_browser):
    fake_browser("http://example.com/").stop(at=3)
""",
    "test_4_mistaken.py": """\
import logging
def test_logs_a_mistake(fake_browser):
    logging.getLogger("elsewhere").error("of no matter")
    logging.getLogger("chatkit_clienttools").error("the tool asks, and does not wait")
def test_wants_a_mistake(fake_browser, caplog):
    logging.getLogger("chatkit_clienttools").error("wanted")
    caplog.clear()
""",
}
"""The tests of a project, in their order."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints of them where our package, with the entry points of pyproject.toml, is installed."""
    project = tmp_path_factory.mktemp("project")
    entry_points = PYPROJECT.read_text("utf-8").partition("[project.entry-points.")[2].partition("\n\n")[0]
    lines = [line.partition(" #")[0].replace('"', "") for line in entry_points.splitlines()]
    installed = project / "installed" / "chatkit_clienttools-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: chatkit-clienttools\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join([f"[{lines[0]}", *lines[1:], ""]))
    (project / "tests").mkdir()
    (project / "tests" / "pytest.ini").write_text("[pytest]\n")
    for name, tests in TESTS.items():
        (project / "tests" / name).write_text(tests)
    path = os.pathsep.join([str(installed.parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"],
        cwd=project / "tests",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_a_failing_test_shows_the_transcript(printed: str) -> None:
    """A failed test shows what its browsers saw; one that sets a fault and does nothing after it is an error."""
    assert "test_3_failing.py::test_fails FAILED" in printed
    assert "says      Ada" in printed
    assert "test_3_failing.py::test_sets_a_fault ERROR" in printed
    assert "stop(at=3) was never reached: nothing was done after it" in printed


def test_a_mistake_that_was_logged_fails_the_test(printed: str) -> None:
    """A test in which the package logs an error has an error, with what was logged, unless it has cleared the log."""
    assert "test_4_mistaken.py::test_logs_a_mistake ERROR" in printed
    assert "An error was logged; a test that wants that ends with `caplog.clear()`." in printed
    assert "the tool asks, and does not wait" in printed
    assert "test_4_mistaken.py::test_wants_a_mistake PASSED" in printed
    assert "test_4_mistaken.py::test_wants_a_mistake ERROR" not in printed


def test_a_project_that_asks_for_no_browser_pays_nothing(printed: str) -> None:
    """Where no test asks for a browser pytest imports nothing of the package, and needs nothing of its extras."""
    assert "test_1_without.py::test_it PASSED" in printed


def test_a_fixture_of_the_project_comes_first(printed: str) -> None:
    """A project that has a fixture of this name already keeps it."""
    assert "test_2_own.py::test_it PASSED" in printed


def test_it_makes_browsers(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """What the fixture gives takes what the class takes, and what the browsers saw is printed at the end."""
    fixture = browsers(request)

    browser = next(fixture)("http://example.com/", answering="never")
    browser.transcript.add(1, "says", "Ada")
    left = list(fixture)

    assert isinstance(browser, FakeBrowser)
    assert "never" == browser.answering
    assert [] == left
    assert "says      Ada\n" == capsys.readouterr().out


class TestMistakes:
    def test_one_that_was_logged(self, request: pytest.FixtureRequest) -> None:
        """A browser's test ends with an error if the package has logged one, which says what was logged."""
        fixture = browsers(request)
        next(fixture)
        logging.getLogger("chatkit_clienttools").error("the tool is not async")

        with pytest.raises(AssertionError, match=r"caplog\.clear.*\nthe tool is not async"):
            next(fixture)

    def test_one_in_a_test_that_has_failed(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A test that has failed has said enough: what was logged is no second error."""
        fixture = browsers(request)
        next(fixture)
        logging.getLogger("chatkit_clienttools").error("the tool is not async")
        monkeypatch.setattr(request.session, "testsfailed", request.session.testsfailed + 1)

        assert [] == list(fixture)
