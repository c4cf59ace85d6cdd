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

TOP = {"LICENSE", "Makefile", "conftest.py", "constraints.txt"}
TOP |= {f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "README", "SECURITY")}
SHIPPED = {".py", ".js", ".ts"}
OURS = ("chatkit_clienttools/", "chatkit_clienttools-", "_chatkit_clienttools_pytest.py")


def main() -> None:
    """Check both distributions, or exit with what is wrong."""
    wheel, sdist = _only("*.whl"), _only("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}

    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.suffix in SHIPPED}
    _require("the wheel", in_wheel, {*files, "chatkit_clienttools/py.typed"})
    strays = {name for name in in_wheel if not name.startswith(OURS)}
    if strays:
        sys.exit(f"the wheel holds what is not the package: {', '.join(sorted(strays))}")
    _require("the sdist", in_sdist, {*TOP, *(f"src/{file}" for file in files)})

    print(f"{wheel.name} and {sdist.name} hold what they should")
    print("installed by itself:", _imported(wheel))


def _only(pattern: str) -> Path:
    found = sorted((ROOT / "dist").glob(pattern))
    if [__version__ in path.name for path in found] != [True]:
        sys.exit(f"dist/ should hold one {pattern}, of version {__version__}; it holds {[path.name for path in found]}")
    return found[0]


def _require(where: str, there: set[str], wanted: set[str]) -> None:
    missing = sorted(wanted - there)
    if missing:
        sys.exit(f"{where} lacks {', '.join(missing)}")


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
