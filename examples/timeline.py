"""The steps of each client tool call, for a page that shows them. They come from the log of the library.

They are kept in one SQLite file, so that they outlast a restart, and any worker can tell what another one has done.
They have neither arguments nor answers. Who asks has to know the thread's id, which is 128 random bits.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from . import kept

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_SECONDS = 7 * 24 * 3600
LOCKED_SECONDS = 5

SCHEMA = """
create table if not exists steps (
    number integer primary key autoincrement, thread text not null, at real not null, step text not null
);
create index if not exists steps_of_a_thread on steps (thread, number);
"""


class Step(BaseModel):
    """One step of one call, or of a tool that waits."""

    number: int = 0
    """Steps have rising numbers, in all workers."""
    at: float
    call_id: str
    item_id: str | None
    """None for a step of a tool that waits."""
    tool: str
    state: str
    waited_ms: int | None
    """How long the call was in its previous state; None for a call that has just been queued."""
    reason: str | None = None


class Timeline(logging.Handler):
    """Writes down what the library logs of each step."""

    def __init__(self) -> None:
        super().__init__()
        self._file = kept.file("timeline.db")
        with closing(self._open()) as database, database:
            database.execute("pragma journal_mode = wal")
            database.executescript(SCHEMA)
            database.execute("delete from steps where at < ?", (time.time() - KEPT_SECONDS,))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to what the library logs."""
        logger = logging.getLogger("chatkit_clienttools")
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write down a step, if the record is about one."""
        step = step_of(vars(record))
        if step is None:
            return
        try:
            with closing(self._open()) as database, database:
                values = (vars(record)["thread_id"], step.at, step.model_dump_json())
                database.execute("insert into steps (thread, at, step) values (?, ?, ?)", values)
        except sqlite3.Error:
            self.handleError(record)  # what a page shows is not worth a failed call

    def steps(self, thread_id: str, after: int) -> list[Step]:
        """Return the steps of a thread whose numbers are higher than `after`, the oldest first."""
        query = "select number, step from steps where thread = ? and number > ? order by number"
        with closing(self._open()) as database:
            rows = database.execute(query, (thread_id, after)).fetchall()
        return [Step.model_validate_json(step).model_copy(update={"number": number}) for number, step in rows]

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=LOCKED_SECONDS)
        database.execute("pragma synchronous = off")
        return database


def step_of(logged: dict[str, Any]) -> Step | None:
    """Return the step that a record of the library's log is about."""
    if "waits_for" in logged:
        state = f"waits for {logged['waits_for']}" if logged["state"] == "waiting" else logged["state"]
        return Step(
            at=logged["created"],
            call_id=logged["call_id"],
            item_id=None,
            tool=logged["tool"],
            state=state,
            waited_ms=None,
        )
    if "previous" not in logged:
        return None
    is_again = logged["previous"] == logged["state"]
    return Step(
        at=logged["created"],
        call_id=logged["call_id"],
        item_id=logged["item_id"],
        tool=logged["tool"],
        state="sent again" if is_again else logged["state"],
        waited_ms=logged["waited_ms"] if logged["previous"] else None,
        reason=logged["reason"],
    )
