"""The search: depth-first over all choices, each execution replayed from its beginning."""

from __future__ import annotations

import gc
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from .choices import Step, choices
from .gates import current
from .loop import SteppedLoop
from .properties import Violation
from .recovery import recover_elsewhere, recover_here
from .standing import standing
from .world import World

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable, Iterator

    from .choices import Choice
    from .scenario import Scenario
    from .schedule import Schedule

Sleep = tuple[Step, ...]
"""Steps that need not be taken, because what they lead to has been seen in another order."""

COLLECT_EVERY = 500
"""After how many executions the garbage is collected."""


@dataclass
class Found:
    """What an exploration has seen."""

    scenario: Scenario
    executions: int = 0
    steps: int = 0
    states: int = 0
    durable: int = 0
    endings: int = 0
    crash_points: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    kinds: Counter[str] = field(default_factory=Counter)
    violations: dict[str, Schedule] = field(default_factory=dict)
    """The shortest schedule found for each violation."""

    def violated(self, violation: Violation, schedule: Schedule) -> None:
        self.kinds[violation.kind] += 1
        known = self.violations.get(violation.kind)
        if known is None or len(schedule) < len(known):
            self.violations[violation.kind] = schedule


class Search:
    """One exploration of one scenario: of at most `limit` executions, or `until` these violations have been seen."""

    def __init__(self, scenario: Scenario, *, limit: int = 1_000_000, until: Iterable[str] = ()) -> None:
        self.scenario = scenario
        self.limit = min(limit, scenario.most)
        self.until = frozenset(until)
        self.found = Found(scenario)
        self._random = Random(scenario.name)
        self._seen: dict[int, frozenset[str]] = {}
        self._recovered: set[int] = set()
        self._stack: list[tuple[Schedule, Sleep]] = [((), ())]

    def run(self) -> Found:
        """Explore until there is nothing new, or the limit is reached."""
        began = time.perf_counter()
        with stepped() as loop:
            while self._stack and self._goes_on():
                self._execute(loop, *self._stack.pop(self._next()))
                if self.found.executions % COLLECT_EVERY == 0:
                    collect(loop)
        self.found.is_complete = not self._stack or self.found.executions >= self.scenario.most
        self.found.seconds = time.perf_counter() - began
        return self.found

    def _next(self) -> int:
        """Return which execution is next: the last that was left, or any one."""
        return self._random.randrange(len(self._stack)) if self.scenario.at_random else -1

    def _goes_on(self) -> bool:
        has_seen_enough = bool(self.until) and self.until <= self.found.kinds.keys()
        return self.found.executions < self.limit and not has_seen_enough

    def _execute(self, loop: SteppedLoop, prefix: Schedule, sleep: Sleep) -> None:
        """Replay a prefix, then go on with the first choice at each state, and leave the others for later."""
        self.found.executions += 1
        world = World(self.scenario, loop)
        path = list(prefix)
        try:
            begin(world)
            for text in prefix:
                choose(world, text)
            self.found.steps += len(prefix)
            while (missed := self._missed(world, sleep)) is not None:
                self._recover(world)
                possible = choices(world)
                if not possible:
                    self._end(world)
                    break
                awake = [choice for choice in possible if choice.text in missed] if missed else possible
                awake = [choice for choice in awake if choice.text not in {step.text for step in sleep}]
                if not awake:
                    break
                first, sleep = awake[0], self._leave(path, awake, sleep)
                path.append(first.text)
                self.found.steps += 1
                first.do()
        except Violation as violation:
            self.found.violated(violation, tuple(path))
        finally:
            world.bury()

    def _missed(self, world: World, sleep: Sleep) -> frozenset[str] | None:
        """Return None if all of a state is known; else the choices not yet taken in it, or nothing if it is new."""
        key, asleep = hash(world.key()), frozenset(step.text for step in sleep)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = asleep
            self.found.states += 1
            return frozenset()
        if known <= asleep:
            return None
        self._seen[key] = known & asleep
        return known - asleep

    def _leave(self, path: list[str], awake: list[Choice], sleep: Sleep) -> Sleep:
        """Leave all choices but the first for later; return which steps need not be taken after the first.

        What was taken before, and commutes with what is taken now, leads nowhere new after it (a sleep set).
        """
        after: list[Sleep] = []
        for n, choice in enumerate(awake):
            before = (*sleep, *(other.step for other in awake[:n]))
            after.append(tuple(step for step in before if step.commutes_with(choice.step)))
        for choice, its in zip(reversed(awake[1:]), reversed(after[1:]), strict=True):
            self._stack.append(((*path, choice.text), its))
            self.found.crash_points += choice.text.startswith("CRASH")
        return after[0]

    def _recover(self, world: World) -> None:
        """At each distinct durable state: everything stops, and a new worker and the user go on."""
        key = hash((world.durable, world.browser.key, world.monitor.key, *world.monitor.history))
        if key not in self._recovered:
            self._recovered.add(key)
            self.found.durable += 1
            recover_elsewhere(world)

    def _end(self, world: World) -> None:
        self.found.endings += 1
        world.monitor.check_ended(world)
        recover_here(world)


@contextmanager
def stepped() -> Iterator[SteppedLoop]:
    """Make a loop for executions in which time stands still."""
    loop = SteppedLoop()
    loop.owner = tasks_here
    try:
        with standing():
            yield loop
            collect(loop)
    finally:
        loop.close()


def tasks_here() -> list[Task[Any]] | None:
    """Return where the tasks of the request are kept that runs here."""
    request = current.get(None)
    return None if request is None else request.tasks


def collect(loop: SteppedLoop) -> None:
    """Let go of what is over: generators that are found to be garbage are closed, in the loop."""
    gc.collect()
    loop.run_until_quiet()


def begin(world: World) -> None:
    """The user writes; and if the scenario says so, that run is not taken apart."""
    world.is_gated = not world.scenario.opened
    world.write()
    world.is_gated = True


def choose(world: World, text: str) -> None:
    """Let happen what a schedule names."""
    for choice in choices(world):
        if choice.text == text:
            choice.do()
            return
    raise AssertionError(f"{text!r} cannot happen here; what can: {[choice.text for choice in choices(world)]}")


def replay(scenario: Scenario, schedule: Schedule) -> str | None:
    """Play a schedule, and then whatever comes first; return what is violated, if anything is.

    What cannot happen any more is passed over: a schedule outlives the code it was found in.
    """
    with stepped() as loop:
        return _played(World(scenario, loop), schedule)


def _played(world: World, schedule: Schedule) -> str | None:
    try:
        begin(world)
        for text in schedule:
            for choice in choices(world):
                if choice.text == text:
                    choice.do()
                    break
        recover_elsewhere(world)
        while possible := choices(world):
            possible[0].do()
        recover_here(world)
    except Violation as violation:
        return str(violation)
    finally:
        world.bury()
    return None
