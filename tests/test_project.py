"""What the project says of itself outside its code, and that it says nothing of the machine it was made on."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import chatkit_clienttools

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
MADE = {".git", ".hypothesis", "__pycache__", "build", "dist"}
BASH = "#!/usr/bin/env bash\n"


def files() -> list[Path]:
    """Return the files that are, or could be, tracked: all but what is made from them."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
        return [ROOT / name for name in listed if (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):  # an unpacked sdist, or no git
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [ROOT / path for path in found if not any(is_made(part) for part in path.parts)]


def is_made(part: str) -> bool:
    return part in MADE or part.startswith((".venv", ".coverage")) or part.endswith(("_cache", ".egg-info", ".pyc"))


ELSEWHERE = {
    "an absolute path": r"(?<![\w./~*])/(?:home|root|opt|work|Users|usr|var|tmp|mnt)/\w",
    "a package index": r"(?i)\b(?:extra-)?index-url|find-links|trusted-host|pypi\.org|/simple\b|pythonhosted",
    "another host than the project's own links": r"https?://(?!127\.0\.0\.1\b|cdn\.platform\.openai\.com/|localhost\b|(?:[\w-]+\.)*example(?:\.com)?(?![\w.-])|github\.com/openai/|keepachangelog\.com/|semver\.org/|hypothesis\.readthedocs\.io\b|www\.w3\.org/2000/svg\b)[\w.-]+",
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_no_file_names_a_machine(what: str) -> None:
    """Nothing in the project depends on, or tells of, the place where it was written."""
    own = {Path(__file__).name, "LICENSE"}

    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files()
        if path.name not in own
        for match in re.finditer(ELSEWHERE[what], path.read_text("utf-8", errors="replace").removeprefix(BASH))
    ]

    assert [] == found


def test_the_addresses_are_said_once() -> None:
    """Addresses of the project are only in pyproject.toml, all under that of the source; pages and forms name none."""
    urls = re.findall(r'^\w+ = "(https://[^"]+)"$', PYPROJECT, re.MULTILINE)
    (source,) = re.findall(r'^Source = "([^"]+)"$', PYPROJECT, re.MULTILINE)
    shown = [path for path in files() if path.suffix in {".md", ".yml"} or path.name == "zensical.toml"]

    assert [source] * 4 == [url[: len(source)] for url in urls]
    assert len(shown) > 30
    assert [] == [path for path in shown if source.split("/")[2] in re.split(r'[/")\s]', path.read_text("utf-8"))]


def test_constraints_are_versions_only() -> None:
    """Each line of constraints.txt pins one package, for all Pythons or for some; ChatKit is not there."""
    pin = re.compile(r'[\w.-]+==[\w.]+(; python_version (<|>=) "3\.\d+")?')
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]

    assert [] == [line for line in lines if not pin.fullmatch(line)]
    assert "openai-chatkit" not in [line.partition("==")[0] for line in lines]


def test_the_classifiers_are_tested_pythons() -> None:
    """Every Python that the package says it is for is one that `make test-pythons` looks for."""
    tried = re.findall(r"\b3\.\d+", MAKEFILE.partition("PYTHONS := ")[2].partition("\n")[0])
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)

    assert named
    assert set(named) <= set(tried)
    assert min(tried, key=minor) == min(named, key=minor)


def minor(version: str) -> int:
    return int(version.partition(".")[2])


def test_the_forge_runs_what_is_run_here() -> None:
    """The workflow runs `.ci/run` and the suite on every Python of the classifiers, with targets that exist."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    runs = re.findall(r"- run: (.+)", workflow)

    assert ".ci/run" in runs
    assert set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)) <= set(
        re.findall(r'"(3\.\d+)"', workflow)
    )
    assert {run.removeprefix("make ") for run in runs} - {".ci/run"} <= set(
        re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    )
    assert [] == [use for use in re.findall(r"uses: (\S+)", workflow) if not re.fullmatch(r"actions/[\w-]+@v\d+", use)]


def test_the_floor_is_held_everywhere() -> None:
    """The oldest Python is the one that pip, ruff, mypy, pyright and the Makefile know of."""
    floor = re.findall(r'requires-python = ">=3\.(\d+)"', PYPROJECT)

    assert floor * 3 == re.findall(
        r'^(?:target-version = "py3|python_version = "3\.|pythonVersion = "3\.)(\d+)"', PYPROJECT, re.MULTILINE
    )
    assert floor == re.findall(r"sys\.version_info < \(3, (\d+)\)", MAKEFILE)


def test_the_oldest_chatkit_is_the_one_that_is_tested() -> None:
    """`make test-oldest` runs with the lowest ChatKit that the package allows."""
    assert re.findall(r'"openai-chatkit>=([\d.]+),<2"', PYPROJECT) == re.findall(
        r"^OLDEST_CHATKIT := (\S+)$", MAKEFILE, re.MULTILINE
    )


def test_the_version_is_said_once() -> None:
    """The installed package has the version that the code says, and the changelog knows it."""
    version = chatkit_clienttools.__version__

    assert version == metadata.version("chatkit-clienttools")
    assert version in (ROOT / "CHANGELOG.md").read_text("utf-8")
