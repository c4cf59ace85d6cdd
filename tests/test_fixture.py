"""The plugin for pytest: the fixture `fake_browser`, in a project that imports nothing for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit_clienttools.testing import FakeBrowser
from chatkit_clienttools.testing.browser._fixture import browsers

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of tests in an environment where our package, with the entry points of pyproject.toml, is installed."""
    entry_points = PYPROJECT.read_text("utf-8").partition("[project.entry-points.")[2].partition("\n\n")[0]
    lines = [line.partition(" #")[0].replace('"', "") for line in entry_points.splitlines()]
    installed = tmp_path / "installed" / "chatkit_clienttools-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: chatkit-clienttools\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join([f"[{lines[0]}", *lines[1:], ""]))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run_in(project: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run these tests in the project."""
    (project / "tests" / "test_it.py").write_text(tests)
    path = os.pathsep.join([str(project / "installed"), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(  # noqa: S603
        command,
        cwd=project / "tests",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failing_test_shows_the_transcript(project: Path) -> None:
    """A failed test shows what its browsers saw; one that sets a fault and does nothing after it is an error."""
    ended = run_in(
        project,
        "def test_fails(fake_browser):\n"
        "    browser = fake_browser('http://example.com/')\n"
        "    browser.transcript.add(1, 'says', 'Ada')\n"
        "    browser.drop(after=1)\n"
        "    assert False\n"
        "def test_sets_a_fault(fake_browser):\n"
        "    fake_browser('http://example.com/').stop(at=3)\n",
    )

    assert ended.stdout.startswith("F.E")
    assert "says      Ada" in ended.stdout
    assert "stop(at=3) was never reached: nothing was done after it" in ended.stdout


def test_a_project_that_asks_for_no_browser_pays_nothing(project: Path) -> None:
    """Where no test asks for a browser pytest imports nothing of the package, and needs nothing of its extras."""
    ended = run_in(
        project,
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.has_plugin('chatkit_clienttools')\n"
        "    assert {'chatkit', 'chatkit_clienttools'} & set(sys.modules) == set()\n",
    )

    assert "1 passed" in ended.stdout


def test_a_fixture_of_the_project_comes_first(project: Path) -> None:
    """A project that has a fixture of this name already keeps it."""
    ended = run_in(
        project,
        "import pytest\n"
        "@pytest.fixture\n"
        "def fake_browser():\n"
        "    return 'mine'\n"
        "def test_it(fake_browser):\n"
        "    assert fake_browser == 'mine'\n",
    )

    assert "1 passed" in ended.stdout


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
