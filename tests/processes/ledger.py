"""What the workers tell while they live: a file that each line reaches whole, and that a kill cannot take back."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Ledger:
    """The end that a worker writes to."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Logged(logging.Handler):
    """Writes down what a worker logs of its own trouble."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.WARNING)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        trouble = logging.Formatter().format(record)  # with the traceback, if there is one
        self._ledger.write(kind="trouble", said=trouble)


@dataclass
class ModelRun:
    """One run of the model: under which message, after which answer, and whether its stream came to its end."""

    id: str
    thread_id: str
    message: str
    after: str | None
    pid: int
    asks: list[str]
    """The client tools that it asks for, in order."""
    is_over: bool = False


@dataclass
class Reading:
    """The end that the trial reads from."""

    path: Path
    runs: dict[str, ModelRun] = field(default_factory=dict)
    by_thread: dict[str, list[ModelRun]] = field(default_factory=lambda: defaultdict(list))
    troubles: list[str] = field(default_factory=list)
    _offset: int = 0

    def read_on(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):  # else the rest of it is on its way
                self._offset += len(line)
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        kind = line.pop("kind")
        if kind == "run":
            run = ModelRun(**line)
            self.runs[run.id] = run
            self.by_thread[run.thread_id].append(run)
        elif kind == "over":
            self.runs[line["id"]].is_over = True
        else:
            self.troubles.append(line["said"])
