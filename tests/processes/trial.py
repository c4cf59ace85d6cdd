"""A trial: conversations over two worker processes that are killed at random."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chatkit_clienttools._protocol.plan import BODY_SECONDS
from tests.processes.application import PAGE, Setup
from tests.processes.conversation import Conversation, ViolationError, World
from tests.processes.ledger import Reading
from tests.processes.properties import problems_of_runs
from tests.processes.workers import WORKERS, Workers

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
"""How many seconds the conversations may take to end once nobody kills any more."""

PACE = 40.0
"""How much faster the clock of the workers is: the claim of a body, 120 seconds, is over after three of ours."""

STEPS = 10
"""How many requests and events there are for each call, roughly."""

SOON = 0.02
"""How many seconds, at most, a kill comes after the event that it was drawn for."""


@dataclass(frozen=True)
class Goal:
    """When to stop killing: as soon as there were so many kills and so many calls, or the time is over."""

    kills: int
    calls: int
    seconds: float
    pages: int = 6
    """How many users there are at any time."""


@dataclass
class Figures:
    """What a trial has done and found."""

    seed: int
    kills: int = 0
    broken: int = 0
    """How many requests a kill has broken."""
    cut_runs: int = 0
    """How many runs of the model a kill has cut off."""
    runs: int = 0
    calls: int = 0
    """How many calls were recorded, each under its own answer."""
    awaited: int = 0
    """How many of them a tool has waited for."""
    tools: int = 0
    """How many tools that waited have returned."""
    bodies: int = 0
    """How often bodies of tools have begun."""
    steps: int = 0
    """How many steps they have taken."""
    steps_again: int = 0
    """How often a step was taken again, because a kill came before its result was kept."""
    conversations: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.kills} kills, {self.broken} requests broken by them, {self.cut_runs} of "
            f"{self.runs} model runs cut off, {self.conversations} conversations, {self.calls} calls, "
            f"{self.awaited} of them awaited by {self.tools} tools in {self.bodies} runs of their bodies, "
            f"{self.steps} steps, {self.steps_again} taken again, "
            f"{self.seconds:.0f} s, {len(self.violations)} violations"
        )


class Trial:
    """Conversations, and somebody who kills the workers meanwhile."""

    def __init__(self, url: str, directory: Path, goal: Goal, seed: int, **options: Any) -> None:
        self._goal = goal
        self._rng = random.Random(seed)
        self._setup = Setup(url, directory / "ledger", time.time(), PACE, **options)
        self._held: set[str] = set()
        self.figures = Figures(seed)

    async def run(self) -> Figures:
        """Do it, and leave nothing running."""
        self._began = time.monotonic()
        store = self._setup.store()
        await store.create_schema()
        workers = Workers(self._setup)
        ledger = Reading(self._setup.ledger)
        self._setup.ledger.touch()
        lease = BODY_SECONDS / PACE
        self._world = World(workers, store, self._setup.sequencer(), ledger, lease)
        try:
            await asyncio.wait_for(self._go_on(), self._goal.seconds + PATIENCE)
        except ViolationError as violation:
            self.figures.violations.append(str(violation))
        except asyncio.TimeoutError:
            self.figures.violations.append("the conversations do not come to an end")
        finally:
            workers.close()
            await store.close()
        self._count()
        return self.figures

    async def _go_on(self) -> None:
        """Talk and kill until it is enough, or until the first violation."""
        talks = [asyncio.create_task(self._talk(random.Random(self._rng.random()))) for _ in range(self._goal.pages)]
        killing = asyncio.create_task(self._kill())
        try:
            await asyncio.gather(killing, *talks)
        finally:
            for task in (killing, *talks):
                task.cancel()
            await asyncio.gather(killing, *talks, return_exceptions=True)
        await self._open_what_was_left_behind()

    @property
    def _is_enough(self) -> bool:
        goal, world = self._goal, self._world
        is_reached = world.workers.kills >= goal.kills and len(world.recorded) >= goal.calls
        return is_reached or time.monotonic() - self._began > goal.seconds

    async def _kill(self) -> None:
        rng, workers = random.Random(self._rng.random()), self._world.workers
        apart = 2 * STEPS * self._goal.calls // self._goal.kills
        while not self._is_enough:
            await workers.progressed(rng.randint(1, apart))
            await asyncio.sleep(rng.uniform(0, SOON))
            workers.kill(rng.randrange(WORKERS))

    async def _talk(self, rng: random.Random) -> None:
        while not self._is_enough:
            conversation = Conversation(self._world, rng)
            await conversation.hold()
            self._held |= conversation.threads
            self.figures.conversations += 1

    async def _open_what_was_left_behind(self) -> None:
        """Open the threads that no page has heard of: their worker was killed before it could say so."""
        page = await self._world.store.load_threads(PAGE * PAGE, None, "asc", None)
        for thread_id in {thread.id for thread in page.data} - self._held:
            await Conversation(self._world, self._rng).take_over(thread_id)
        for thread in page.data:
            if not await self._world.is_settled(thread.id):
                raise ViolationError(f"thread {thread.id}: something is left to do")

    def _count(self) -> None:
        figures, world = self.figures, self._world
        world.ledger.read_on()
        runs = list(world.ledger.runs.values())
        figures.kills = world.workers.kills
        figures.broken = world.workers.broken_by_kills
        figures.calls, figures.awaited = len(world.recorded), len(world.awaited)
        steps = world.ledger.steps
        figures.tools, figures.bodies, figures.steps = len(world.returned), steps.bodies, len(steps.taken)
        figures.steps_again = sum(len(taken) - 1 for taken in steps.taken.values())
        figures.runs = len(runs)
        figures.cut_runs = sum(not run.is_over for run in runs)
        figures.seconds = time.monotonic() - self._began
        figures.violations += problems_of_runs(runs, world.ledger.killed) + world.ledger.troubles
        figures.violations += steps.problems
        figures.violations += [f"a stream of a living worker is broken: {each}" for each in world.workers.broken_alive]
