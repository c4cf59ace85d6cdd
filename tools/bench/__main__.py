"""`make bench`: measure each row of the table, print it, and write it as JSON; 1 if a goal is missed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import counts, report, shares
from .bench import Bench, Result, measured
from .rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Row


def main(arguments: list[str], rows: Sequence[Row] = ROWS) -> int:
    """Measure, print, write; return 1 if a goal is missed by more than the spread of its figure."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--only", default="", help="rows with this in their name, or in what they are measured against")
    parser.add_argument("--share", type=float, default=1.0, help="how much is measured: 0.1 is a quick look")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # what a backend says of its stores is not what is looked at here
    with Bench(options.share) as bench:
        wanted = [row for row in rows if options.only in row.name or options.only in row.against]
        taken = asyncio.run(_all(bench, wanted, is_whole=not options.only))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(report.as_json(taken), "utf-8")
    missed = [result for result in taken.results if result.is_missed]
    print(report.verdict(missed))
    return bool(missed)


async def _all(bench: Bench, rows: Sequence[Row], *, is_whole: bool) -> report.Taken:
    results: list[Result] = []
    print(report.HEADER)
    for row in rows:
        began = time.perf_counter()
        result = await measured(row, bench)
        print(f"{report.line(result)} ({time.perf_counter() - began:.0f} s)", flush=True)
        results.append(result)
    counted = await counts.all_of(bench) if is_whole else []
    print(*report.counted_lines(counted), sep="\n")
    return report.Taken(results, counted, await shares.shares_of(bench) if is_whole else {})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
