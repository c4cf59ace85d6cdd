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
    waits: bool
    """Whether it is the tool of an agent that asks for them."""
    reads: list[str]
    """What tools have returned that the model reads: the ids of their calls."""
    news: list[str]
    """The answers in the thread that are meant for the model, and what tools have returned: the ids of the items."""
    is_over: bool = False


@dataclass
class Steps:
    """The steps of the tools that wait, each known by the run that called the tool, and its number there."""

    taken: defaultdict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The processes in which each was taken, in order."""
    cut: defaultdict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    """The processes in which each was cut off, because the page had left."""
    kept: dict[tuple[str, int], str] = field(default_factory=dict)
    """What a body has got from it that had waited: that is in the journal."""
    bodies: int = 0
    """How often a body has begun."""
    problems: list[str] = field(default_factory=list)

    def take(self, step: tuple[str, int], pid: int, killed: set[int]) -> None:
        """Note that a step is taken: again only if nothing is kept of it, and who took it before did not end it."""
        if step in self.kept:
            self.problems.append(f"step {step}: is taken again, though its result was kept")
        elif {*self.taken[step]} - killed - self.cut[step]:
            self.problems.append(f"step {step}: is taken again, though nobody was killed")
        self.taken[step].append(pid)

    def keep(self, step: tuple[str, int], token: str) -> None:
        """Note what a body has got from a step: each one gets the same."""
        if self.kept.setdefault(step, token) != token:
            self.problems.append(f"step {step}: two bodies have got two results")


@dataclass
class Reading:
    """The end that the trial reads from."""

    path: Path
    runs: dict[str, ModelRun] = field(default_factory=dict)
    by_thread: dict[str, list[ModelRun]] = field(default_factory=lambda: defaultdict(list))
    steps: Steps = field(default_factory=Steps)
    killed: set[int] = field(default_factory=set)
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
        match line.pop("kind"):
            case "run":
                run = ModelRun(**line)
                self.runs[run.id] = run
                self.by_thread[run.thread_id].append(run)
            case "over":
                self.runs[line["id"]].is_over = True
            case "body":
                self.steps.bodies += 1
            case "step":
                self.steps.take((line["run"], line["number"]), line["pid"], self.killed)
            case "cut":
                self.steps.cut[line["run"], line["number"]].add(line["pid"])
            case "seen":
                for number, token in enumerate(line["tokens"]):
                    self.steps.keep((line["run"], number), token)
            case "killed":
                self.killed.add(line["pid"])
            case _:
                self.troubles.append(line["said"])
