"""Run tests with each of several releases of openai-chatkit, two or more at once, and print a line for each.

    python -m tools.each_chatkit 1.4.1 1.4.2 -- tests/test_server.py

Each release is put into a directory of its own, in front of this environment, which stays as it is.
`make test-chatkits` does it with every supported release.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "build" / "chatkits"
PIP = [sys.executable, "-m", "pip"]


def main(arguments: list[str]) -> int:
    """Test the releases before `--` with what stands behind it; return how many failed."""
    split = arguments.index("--")
    releases, suite = arguments[:split], arguments[split + 1 :]
    LOGS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as several:
        passed = list(several.map(partial(_passes, suite=suite), releases))
    failed = [release for release, is_good in zip(releases, passed, strict=True) if not is_good]
    _name_newer()
    print(f"--- {len(releases) - len(failed)} of {len(releases)} passed; failed: {' '.join(failed) or 'none'}")
    return len(failed)


def _passes(release: str, suite: list[str]) -> bool:
    log, place = LOGS / f"{release}.log", LOGS / release
    wanted = ["--no-deps", "--upgrade", "--target", str(place), f"openai-chatkit=={release}"]
    with log.open("w", encoding="utf-8") as output:
        passed = _run([*PIP, "install", "--quiet", *wanted], output) and _run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *suite], output, PYTHONPATH=str(place)
        )
    said = log.read_text("utf-8").splitlines()
    outcome = next((line.strip("= ") for line in reversed(said) if line.startswith("==")), said[-1])
    lines = [f"{release:8}{'ok    ' if passed else 'FAILED'}  {outcome}"]
    if not passed:
        lines.append(f"{'':8}{log.relative_to(ROOT)}")
    print("\n".join(lines), flush=True)
    return passed


def _run(command: list[str], output: IO[str], **environment: str) -> bool:
    environment = {**os.environ, **environment}
    ended = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
    )
    return ended.returncode == 0


def _name_newer() -> None:
    """Say so when the package index has a release that the Makefile lacks. Without a network, say nothing."""
    command = [*PIP, "index", "versions", "openai-chatkit"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    latest = answer.partition("(")[2].partition(")")[0]
    if latest and latest not in (ROOT / "Makefile").read_text("utf-8").split():
        print(f"openai-chatkit {latest} is out: add it to CHATKITS in the Makefile")


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
