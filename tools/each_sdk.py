"""Run tests with one release of openai-agents after the other, in this environment, and print a line for each.

    python -m tools.each_sdk 0.8.0:2.19.0 0.14.8:2.33.0 -- tests/waiting

Behind the colon is the release of openai that was current then: the Agents SDK does not work with every newer one.
`make test-sdks` does it with releases between which the SDK has changed how it asks whether a tool needs approval.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "build" / "sdks"


def main(arguments: list[str]) -> int:
    """Test the releases before `--` with what stands behind it; return how many failed."""
    split = arguments.index("--")
    releases, suite = arguments[:split], arguments[split + 1 :]
    LOGS.mkdir(parents=True, exist_ok=True)
    failed = [release for release in releases if not _passes(release, suite)]
    print(f"--- {len(releases) - len(failed)} of {len(releases)} passed; failed: {' '.join(failed) or 'none'}")
    return len(failed)


def _passes(release: str, suite: list[str]) -> bool:
    sdk, _, openai = release.partition(":")
    log = LOGS / f"{sdk}.log"
    wanted = [f"openai-agents=={sdk}", f"openai=={openai}" if openai else "openai"]
    commands = [
        ["-m", "pip", "install", "--quiet", *wanted],  # without constraints.txt: it knows what the newest needs
        ["-m", "tools.scripted_model"],
        ["-m", "pytest", *suite],
    ]
    with log.open("w", encoding="utf-8") as output:
        passed = all(_run([sys.executable, *command], output) for command in commands)
    said = log.read_text("utf-8").splitlines()
    outcome = next((line.strip("= ") for line in reversed(said) if line.startswith("==")), said[-1])
    print(f"{sdk:8}{'ok    ' if passed else 'FAILED'}  {outcome}", flush=True)
    if not passed:
        print(f"{'':8}{log.relative_to(ROOT)}", flush=True)
    return passed


def _run(command: list[str], output: IO[str]) -> bool:
    return subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode == 0  # noqa: S603


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
