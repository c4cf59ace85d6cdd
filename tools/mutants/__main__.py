"""Run it with `make mutants`; `make mutants MODULES='store _protocol.plan'` tries only those."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

from .changes import Mutant, mutants_of
from .trials import ROOT, Baseline, source_of, take_baseline, try_all

PROTOCOL = ["tests/protocol"]
CONVERSATIONS = [
    "tests/server",
    "tests/test_announcements.py",
    "tests/test_enqueue.py",
    "tests/test_leases.py",
    "tests/test_loops.py",
    "tests/test_media.py",
    "tests/test_messages.py",
    "tests/test_otel.py",
    "tests/test_rules.py",
    "tests/test_runs.py",
    "tests/test_sequencer.py",
    "tests/test_steps.py",
    "tests/test_transactions.py",
    "tests/test_what_stores_are_asked.py",
    "tests/test_workers.py",
    "tests/waiting",
]
TESTS = {
    "_protocol.states": PROTOCOL,
    "_protocol.plan": PROTOCOL,
    "_protocol.thread": [*PROTOCOL, "tests/test_otel.py"],
    "_protocol.decide": PROTOCOL,
    "_protocol.outputs": PROTOCOL,
    "_protocol.guards": [*PROTOCOL, "tests/test_validating_store.py"],
    "_step.body": CONVERSATIONS,
    "_step.exclusion": ["tests/test_exclusion.py", "tests/test_leases.py"],
    "_step.functions": CONVERSATIONS,
    "_step.gated": CONVERSATIONS,
    "_step.lookup": CONVERSATIONS,
    "_step.planned": CONVERSATIONS,
    "_step.plans": CONVERSATIONS,
    "_step.queued": CONVERSATIONS,
    "_step.repetitions": CONVERSATIONS,
    "_step.replay": CONVERSATIONS,
    "_step.requests": CONVERSATIONS,
    "_step.rules": CONVERSATIONS,
    "_step.run": CONVERSATIONS,
    "_step.step": CONVERSATIONS,
    "_step.streamed": CONVERSATIONS,
    "_step.suspension": CONVERSATIONS,
    "store": ["tests/test_reading.py", "tests/test_validating_store.py", "tests/server/test_stores.py"],
    "sequencer": CONVERSATIONS,
}
PAGE = Path(__file__).with_name("survivors.md")


def main(modules: list[str]) -> int:
    """Try the mutants of the modules; fail if one survived that the page does not explain."""
    chosen = modules or [*TESTS]
    sets = {tuple(TESTS[module]): [each for each in chosen if TESTS[each] == TESTS[module]] for module in chosen}
    survivors = []
    for files, alike in sets.items():
        baseline = take_baseline(alike, [*files])
        survivors += [mutant for module in alike for mutant in survivors_of(module, baseline)]
    page = PAGE.read_text("utf-8")
    unexplained = [row(mutant) for mutant in survivors if row(mutant) not in page]
    print("\n".join(["", f"{len(unexplained)} survivors are not explained in {PAGE.relative_to(ROOT)}", *unexplained]))
    return 1 if unexplained else 0


def survivors_of(module: str, baseline: Baseline) -> list[Mutant]:
    """Try the mutants of a module, say which survive, and print a line of figures."""
    begun = time.perf_counter()
    mutants = list(mutants_of(module, source_of(module).read_text("utf-8")))
    count: Counter[str] = Counter()
    survivors = []
    for mutant, end in try_all(mutants, baseline, os.cpu_count() or 1):
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
