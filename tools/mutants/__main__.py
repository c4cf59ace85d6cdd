"""Run it with `make mutants`; `make mutants MODULES='store _plan'` tries only those."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from .changes import Mutant, mutants_of
from .trials import ROOT, SOURCES, take_baseline, try_all

SERVER = [
    "tests/test_sequencer.py",
    "tests/test_server.py",
    "tests/test_conversations.py",
    "tests/test_observe.py",
    "tests/test_workers.py",
]
TESTS = {
    "_lifecycle": ["tests/test_lifecycle.py"],
    "_plan": ["tests/test_plan.py"],
    "store": ["tests/test_validating_store.py"],
    "sequencer": SERVER,
}
PAGE = ROOT / "docs" / "proof.md"


def main(modules: list[str]) -> int:
    """Try the mutants of the modules, and say which survived; fail if the page does not explain each."""
    survivors = [mutant for module in modules or TESTS for mutant in survivors_of(module)]
    page = PAGE.read_text("utf-8")
    unexplained = [mutant for mutant in survivors if row(mutant) not in page]
    print(f"\n{len(survivors)} survived; {len(unexplained)} of them not explained in docs/{PAGE.name}:")
    print("\n".join(map(row, unexplained)))
    return 1 if unexplained else 0


def survivors_of(module: str) -> list[Mutant]:
    """Try the mutants of a module, and print a line of figures."""
    begun = time.perf_counter()
    mutants = list(mutants_of(module, (SOURCES / f"{module}.py").read_text("utf-8")))
    ends = list(try_all(mutants, take_baseline(module, TESTS[module]), os.cpu_count() or 1))
    count = Counter(end for _, end in ends)
    share = 1 - count["survived"] / len(ends)
    seconds = time.perf_counter() - begun
    print(
        f"| `{module}` | {len(ends)} | {count['killed']} | {count['timeout']} | {count['survived']} | {share:.1%} |"
        f" {seconds:.0f} |",
        flush=True,
    )
    return [mutant for mutant, end in ends if end == "survived"]


def row(mutant: Mutant) -> str:
    """Return the row that a survivor has in the page's table, up to the explanation."""
    where = f"{mutant.module}.{mutant.where}".rstrip(".")
    cells = [cell.replace("|", r"\|") for cell in (where, mutant.before, mutant.after)]
    return "| " + " | ".join(f"`{cell}`" for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
