"""Look into what `python -m build` has made, and try the wheel in an environment of its own.

Run it with `make build`.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from chatkit_clienttools import __version__

ROOT = Path(__file__).parent.parent
PROGRAM = (
    "import chatkit_clienttools as it; from chatkit_clienttools import frontend; assert frontend.path().is_file(); "
    "print(it.__version__, *[getattr(it, name).__name__ for name in it.__all__])"
)

TEST = "def test_it(fake_browser):\n    assert callable(fake_browser)\n"
"""The plugin for pytest is there without the extra `testing`, and breaks nothing."""

TOP = {"LICENSE", "Makefile", "conftest.py", "constraints.txt", "hatch_build.py", "zensical.toml"}
TOP |= {f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "README", "SECURITY")}
SHIPPED = {".py", ".js", ".ts", ".typed"}
BESIDE = {"PKG-INFO", ".gitignore", "pyproject.toml"}
FOLDERS = (".ci", ".github", "docs", "examples", "src", "tests", "tools")


def main() -> None:
    """Check both distributions, or exit with what is wrong."""
    wheel, sdist = _only("*.whl"), _only("*.tar.gz")
    check_contents(wheel, sdist)
    print(f"{wheel.name} and {sdist.name} hold what they should, and nothing else")
    print("installed by itself:", _imported(wheel))


def check_contents(wheel: Path, sdist: Path) -> None:
    """Exit with what a distribution lacks, or has too much."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if not name.endswith("/")}
    with tarfile.open(sdist) as archive:
        in_sdist = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}

    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.suffix in SHIPPED}
    about = f"chatkit_clienttools-{__version__}.dist-info"
    names = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    _compare("the wheel", in_wheel, {*files, "chatkit_clienttools/SKILL.md", *(f"{about}/{name}" for name in names)})

    _compare("the sdist's top folder", {name for name in in_sdist if "/" not in name}, TOP | BESIDE)
    folders = {name: set[str]() for name in FOLDERS}
    for name in in_sdist:
        if "/" in name:
            folders.setdefault(name.partition("/")[0], set()).add(name)
    _compare("the sdist", set(folders), set(FOLDERS))
    _compare("the sdist", folders["src"], {f"src/{file}" for file in files})
    made = {name for name in in_sdist if "__pycache__" in name or "/node_modules/" in name or name.endswith(".pyc")}
    _compare("the sdist", made, set())


def _only(pattern: str) -> Path:
    found = sorted((ROOT / "dist").glob(pattern))
    if [__version__ in path.name for path in found] != [True]:
        sys.exit(f"dist/ should hold one {pattern}, of version {__version__}; it holds {[path.name for path in found]}")
    return found[0]


def _compare(where: str, there: set[str], wanted: set[str]) -> None:
    for name, what in (("lacks", wanted - there), ("has too much", there - wanted)):
        if what:
            sys.exit(f"{where} {name}: {', '.join(sorted(what))}")


def _imported(wheel: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
        pins = str(ROOT / "constraints.txt")
        _run(python, "-m", "pip", "install", "--quiet", "--constraint", pins, str(wheel), "pytest", cwd=folder)
        Path(folder, "test_it.py").write_text(TEST, "utf-8")
        _run(python, "-m", "pytest", "-q", "test_it.py", cwd=folder)
        return _run(python, "-c", PROGRAM, cwd=folder)


def _run(*command: str, cwd: str) -> str:
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603


if __name__ == "__main__":
    main()
