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
MORE = {
    "_decide": ["tests/test_decide.py", *SERVER],
    "_intake": ["tests/test_decide.py", *SERVER],
}
"""Tried only when they are named: their survivors are not on the page."""
PAGE = ROOT / "docs" / "proof.md"


def main(modules: list[str]) -> int:
    """Try the mutants of the modules; fail if one survived that the page does not explain."""
    survivors = [mutant for module in modules or TESTS for mutant in survivors_of(module)]
    page = PAGE.read_text("utf-8")
    unexplained = [row(mutant) for mutant in survivors if row(mutant) not in page]
    print("\n".join(["", f"{len(unexplained)} survivors are not explained in docs/{PAGE.name}", *unexplained]))
    return 1 if unexplained else 0


def survivors_of(module: str) -> list[Mutant]:
    """Try the mutants of a module, say which survive, and print a line of figures."""
    begun = time.perf_counter()
    mutants = list(mutants_of(module, (SOURCES / f"{module}.py").read_text("utf-8")))
    count: Counter[str] = Counter()
    survivors = []
    for mutant, end in try_all(mutants, take_baseline(module, (TESTS | MORE)[module]), os.cpu_count() or 1):
        count[end] += 1
        if end == "survived":
            survivors.append(mutant)
            print(row(mutant), flush=True)
    figures = (len(mutants), count["killed"], count["timeout"], len(survivors))
    share = f"{1 - len(survivors) / len(mutants):.1%}"
    print("", f"`{module}`", *figures, share, f"{time.perf_counter() - begun:.0f} s", "", sep=" | ", flush=True)
    return survivors


def row(mutant: Mutant) -> str:
    """Return the row that a survivor has in the page's table, up to the explanation."""
    where = f"{mutant.module}.{mutant.where}".rstrip(".")
    cells = [cell.replace("|", r"\|") for cell in (where, mutant.before, mutant.after)]
    return "| " + " | ".join(f"`{cell}`" for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
