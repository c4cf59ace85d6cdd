"""`python -m tests.processes`: a long trial on SQLite and on PostgreSQL, and its figures."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.helpers.databases import start_postgres
from tests.processes.trial import Goal, Trial


def main(arguments: list[str]) -> int:
    """Print the figures; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="at least so many, on both databases together")
    parser.add_argument("--calls", type=int, default=0, help="at least so many; four for each kill, if not given")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so many, on each database")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else ["sqlite", "postgres"]
    calls = options.calls or 4 * options.kills
    goal = Goal(-(-options.kills // len(names)), -(-calls // len(names)), options.seconds, pages=16)
    return max([_tried(name, goal, options.seed) for name in names])


def _tried(name: str, goal: Goal, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="trial") as directory:
        place = Path(directory)
        given, postgres = os.environ.get("DATABASE_URL"), None
        if name == "sqlite":
            url = f"sqlite+aiosqlite:///{place}/chat.db"
        elif given:
            url = given
        else:
            postgres = start_postgres(place / "postgres")
            url = postgres.get_uri(driver="asyncpg")
        try:
            figures = asyncio.run(Trial(url, place, goal, seed).run())
        finally:
            if postgres is not None:
                postgres.cleanup()
    problems = figures.violations[:5]
    if figures.kills < goal.kills or figures.calls < goal.calls:
        problems.append(f"the time was over before there were {goal.kills} kills and {goal.calls} calls")
    print(f"{name}: {figures}", *problems, sep="\n\n", flush=True)  # noqa: T201  its purpose
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
