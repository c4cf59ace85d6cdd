"""What can happen next: the choices at a quiet state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .loop import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .gates import Request
    from .loop import Point
    from .world import World


class Step(NamedTuple):
    """What a choice has to do with: two steps of two workers that do not touch the same commute."""

    text: str
    worker: str | None = None
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def commutes_with(self, other: Step) -> bool:
        """Whether it makes no difference which of the two comes first."""
        if self.worker is None or other.worker is None or self.worker == other.worker:
            return False  # within a process they share its memory
        return not (self.writes & (other.reads | other.writes) or other.writes & self.reads)


class Choice(NamedTuple):
    """One thing that can happen next, and its name in a schedule."""

    text: str
    do: Callable[[], None]
    step: Step

    @classmethod
    def of(cls, text: str, do: Callable[[], None]) -> Choice:
        """Make one that comes before or after, but never beside, another."""
        return cls(text, do, Step(text))


TOUCHED = {
    "load_thread": ({"thread"}, set[str]()),
    "load_thread_items": ({"items"}, set()),
    "load_item": ({"items", "plan"}, set()),  # a tool may go on next, and what its plan says is noted
    "load_plan": ({"plan"}, set()),
    "save_thread": (set(), {"thread"}),
    "add_thread_item": (set(), {"items"}),
    "save_item": (set(), {"items"}),
    "delete_thread_item": (set(), {"items"}),
    "load_content": ({"contents", "plan"}, set()),
    "save_content": (set(), {"contents"}),
    "delete_content": (set(), {"contents"}),
    "save_plan": ({"items"}, {"plan"}),  # the model may run next, and what it sees is noted
    "emit": (set(), {"browser"}),
    "step": ({"items", "plan"}, {"steps"}),
}
"""What each operation reads and writes."""


def choices(world: World) -> list[Choice]:
    """Return all that can happen next. What goes on as it should comes first: the rest are the deviations."""
    live = world.live
    found = list(_steps(world, live))
    found += _browser(world, live)
    if not (world.scenario.one_at_a_time and live):
        found += _user(world)
    found += _faults(world, live)
    return found


def _steps(world: World, live: list[Request]) -> Iterator[Choice]:
    points = [point for request in live for point in request.points]
    if points and all(_waits_for_lease(world, point) for point in points):
        yield Choice.of("a dead step's lease runs out", world.outlast)
    for request in live:
        for point in request.points:
            if _waits_for_lease(world, point):
                continue
            text = f"{request.name}: {point}"
            reads, writes = TOUCHED.get(point.name, (set(), set()))
            alone = world.scenario.locked or point.name not in TOUCHED
            step = Step(text, None if alone else request.worker, frozenset(reads), frozenset(writes))
            yield Choice(text, partial(world.let, request, point, Verdict.GO), step)


def _waits_for_lease(world: World, point: Point) -> bool:
    """Whether a request waits for another worker's step, and nothing has changed since."""
    return point.name == "pause" and point.seen == world.durable and point.now == world.now


def _browser(world: World, live: list[Request]) -> Iterator[Choice]:
    if world.scenario.one_at_a_time and live:
        return
    for answer in world.browser.waiting:
        for worker in world.workers:
            yield Choice.of(f"browser: answers {answer.label} to {worker}", partial(world.answer, answer, worker))
    if world.left["repeats"]:
        for answer in world.browser.posted:
            for worker in world.workers:
                text = f"browser: answers {answer.label} to {worker} again"
                yield _spending(world, "repeats", text, partial(world.answer, answer, worker))
    if world.left["drops"]:
        for answer in world.browser.waiting:
            text = f"browser: loses the answer to {answer.label}"
            yield _spending(world, "drops", text, partial(world.browser.waiting.remove, answer))


def _user(world: World) -> Iterator[Choice]:
    doings = (
        ("messages", "writes", world.write),
        ("retries", "retries", world.retry),
        ("actions", "presses", world.act),
        ("forms", "fills in", world.fill_in),
        ("resumes", "resumes", world.resume),
        ("renames", "renames", world.rename),
    )
    possible = {"retries": world.last_message, "forms": world.open_form}
    for budget, verb, doing in doings:
        if world.left[budget] and possible.get(budget, True):
            for worker in world.workers:
                yield _spending(world, budget, f"user: {verb} at {worker}", partial(doing, worker))
    if world.left["expiries"]:
        for worker in world.workers:
            yield _spending(world, "expiries", f"application: expires at {worker}", partial(world.expire, worker))
    if world.left["dismissals"]:
        for worker in world.workers:
            yield _spending(world, "dismissals", f"application: cancels at {worker}", partial(world.dismiss, worker))


def _faults(world: World, live: list[Request]) -> Iterator[Choice]:
    if world.left["crashes"]:
        for worker in {request.worker: None for request in live}:
            yield _spending(world, "crashes", f"CRASH of {worker}", partial(world.crash, worker))
    if world.left["deadlines"]:
        yield _spending(world, "deadlines", "TIME IS OVER", world.let_time_pass)
    if world.left["lapses"] and live:
        yield _spending(world, "lapses", "LEASES END", world.pass_leases)
    for request in live:
        yield from _cancels(world, request)
        for point in request.points:
            if point.event is None:
                if point.name not in ("lock", "pause", "step"):
                    yield from _store_faults(world, request, point)
            elif world.left["freezes"]:
                yield from _freezes(world, request, point)


def _store_faults(world: World, request: Request, point: Point) -> Iterator[Choice]:
    at = f"{request.name}: {point}"
    if world.left["errors"]:
        yield _spending(world, "errors", f"{at} FAILS", partial(world.let, request, point, Verdict.FAIL))
        if point.is_write:
            late = partial(world.let, request, point, Verdict.FAIL_AFTER)
            yield _spending(world, "errors", f"{at} FAILS, DONE", late)
    if world.left["outages"]:
        yield _spending(world, "outages", f"{at} and all later ones FAIL", partial(world.go_down, request, point))


def _cancels(world: World, request: Request) -> Iterator[Choice]:
    if world.left["stops"] and any(point.name == "step" for point in request.points):
        text = f"{request.name}: STOP while a step runs"
        yield _spending(world, "stops", text, partial(world.stop, request))
    if not world.left["cancels"]:
        return
    at = f"{request.name}: {request.points[0] if request.points else 'lock'}"
    for cut, how in ((False, "CANCELLED"), (True, "CUT OFF")):
        yield _spending(world, "cancels", f"{at} {how}", partial(world.cancel, request, cut=cut))
    for point in request.points:
        if point.is_write:
            late = partial(world.let, request, point, Verdict.CANCEL_AFTER)
            yield _spending(world, "cancels", f"{at} CANCELLED, DONE", late)
            if point.is_own:  # a step runs to its end anyway
                later = partial(world.let, request, point, Verdict.CANCEL_BEFORE)
                yield _spending(world, "cancels", f"{at} CANCELLED, DONE LATER", later)


def _freezes(world: World, request: Request, point: Point) -> Iterator[Choice]:
    at = f"{request.name}: {point}"
    for delivered, how in ((True, "FREEZES, DELIVERED"), (False, "FREEZES")):
        yield _spending(world, "freezes", f"{at} {how}", partial(world.freeze, request, point, delivered=delivered))


def _spending(world: World, budget: str, text: str, do: Callable[[], None]) -> Choice:
    def spend() -> None:
        world.left[budget] -= 1
        do()

    return Choice.of(text, spend)
