"""Run the suite with one release of openai-chatkit after the other, in this environment, and print a line for each.

    python -m tools.each_chatkit 1.4.1 1.4.2 -- tests/test_server.py

`make test-chatkits` does it with every supported release, in an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "build" / "chatkits"
PIP = [sys.executable, "-m", "pip"]


def main(arguments: list[str]) -> int:
    """Test the releases before `--` with what stands behind it; return how many failed."""
    split = arguments.index("--")
    releases, suite = arguments[:split], arguments[split + 1 :]
    LOGS.mkdir(parents=True, exist_ok=True)
    failed = [release for release in releases if not _passes(release, suite)]
    _name_newer()
    print(f"--- {len(releases) - len(failed)} of {len(releases)} passed; failed: {' '.join(failed) or 'none'}")
    return len(failed)


def _passes(release: str, suite: list[str]) -> bool:
    log = LOGS / f"{release}.log"
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    with log.open("w", encoding="utf-8") as output:
        passed = _run([*PIP, "install", "--quiet", *pins, f"openai-chatkit=={release}"], output) and _run(
            [sys.executable, "-m", "pytest", *suite], output
        )
    said = log.read_text("utf-8").splitlines()
    outcome = next((line.strip("= ") for line in reversed(said) if line.startswith("==")), said[-1])
    print(f"{release:8}{'ok    ' if passed else 'FAILED'}  {outcome}", flush=True)
    if not passed:
        print(f"{'':8}{log.relative_to(ROOT)}", flush=True)
    return passed


def _run(command: list[str], output: object) -> bool:
    return subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode == 0  # type: ignore[call-overload, no-any-return]  # noqa: S603


def _name_newer() -> None:
    """Say so when the package index has a release that the Makefile lacks. Without a network, say nothing."""
    command = [*PIP, "index", "versions", "openai-chatkit"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    latest = answer.partition("(")[2].partition(")")[0]
    if latest and latest not in (ROOT / "Makefile").read_text("utf-8").split():
        print(f"openai-chatkit {latest} is out: add it to CHATKITS in the Makefile")


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
