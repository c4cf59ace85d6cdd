"""Liveness: from any state on, with no more faults, everything that was promised comes true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .properties import Violation
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gates import Request


def recover_elsewhere(world: World) -> None:
    """Every process is gone. On a copy of what is stored a new one goes on."""
    if world.scenario.recovery == "nothing":
        return
    after = World(world.scenario, world.loop, after=world)
    try:
        _settle(after, "A")
    finally:
        after.bury()


def recover_here(world: World) -> None:
    """Nothing more can happen, and the processes live: the same ones go on, with what they remember."""
    if world.scenario.recovery == "nothing":
        return
    world.is_gated = world.store_is_down = False
    all_ended_well = all(request.has_ended_well for request in world.requests)
    if not all(map(_leaves_nothing_open, world.requests)):
        world.pass_leases()
    for worker in world.workers:
        _settle(world, worker)
        _asks(world)(worker)  # also when there is nothing to be asked for: no worker may be deaf to the thread
        _settle(world, worker)
    if all_ended_well and any(request.pauses for request in world.requests):
        raise Violation("a needless wait", "every request has ended well, and the next one waits for a lease")


def _leaves_nothing_open(request: Request) -> bool:
    """Whether nobody has to wait for a lease of a request: it has ended well, or come to its end after Stop."""
    is_hit = request.dead or request.frozen or request.outlived or request.saw_store_fail
    return request.has_ended_well or (request.stopped and not is_hit)


def _asks(world: World) -> Callable[[str], None]:
    doings = {"resume": world.resume, "message": world.write, "repeat": world.repeat, "again": world.post_again}
    return doings[world.scenario.recovery]


def _settle(world: World, worker: str) -> None:
    """Let the user ask for it, and answer whatever comes, until all is settled."""
    scenario = world.scenario
    limit = 4 * len(scenario.calls + scenario.asks + scenario.failing + scenario.then + scenario.later) + 4
    if world.scenario.recovery in ("resume", "message"):
        world.browser.reload()
    for _ in range(limit):
        if world.browser.waiting:
            world.answer(world.browser.waiting[0], worker)
        elif world.monitor.unsettled(world):
            _asks(world)(worker)
        else:
            world.monitor.check_ended(world)
            return
    raise Violation("stuck", f"after {limit} rounds: {', '.join(world.monitor.unsettled(world))}")
