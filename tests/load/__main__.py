"""`python -m tests.load`: many conversations at once on two workers, on SQLite and on PostgreSQL, and one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.databases import start_postgres
from tests.load.load import HEADER, Load, Row

if TYPE_CHECKING:
    from collections.abc import Iterator


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if there were errors."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--at-once", type=int, nargs="+", default=[100, 200], help="how many conversations")
    parser.add_argument("--rounds", type=int, default=2, help="how many of them one after the other")
    parser.add_argument("--seconds", type=float, default=60, help="stop after so many, on each database")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    _say(HEADER)
    for name in [options.only] if options.only else ["sqlite", "postgres"]:
        with _database(name) as url:
            rows += asyncio.run(_measured(Load(name, url, options.seconds), options.at_once, options.rounds))
    errors = [error for row in rows for error in row.errors]
    if errors:
        _say(*dict.fromkeys([*errors, *(trouble for row in rows for trouble in row.troubles)]))
    return bool(errors)


async def _measured(load: Load, levels: list[int], rounds: int) -> list[Row]:
    rows = []
    async with aclosing(load.run(levels, rounds)) as measured:
        async for row in measured:
            _say(row)
            rows.append(row)
    return rows


def _say(*lines: object) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201  its purpose


@contextmanager
def _database(name: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="load") as directory:
        given = os.environ.get("DATABASE_URL")
        if name == "sqlite":
            yield f"sqlite+aiosqlite:///{directory}/chat.db"
        elif given:
            yield given
        else:
            postgres = start_postgres(Path(directory) / "postgres")
            try:
                yield postgres.get_uri(driver="asyncpg")
            finally:
                postgres.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
