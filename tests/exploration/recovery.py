"""Liveness: from any state on, with no more faults, everything that was promised comes true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .properties import Violation
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable


def recover_elsewhere(world: World) -> None:
    """Every process is gone. On a copy of what is stored a new one goes on."""
    if world.scenario.recovery == "nothing":
        return
    after = World(world.scenario, world.loop, after=world)
    try:
        _recover(after)
    finally:
        after.bury()


def recover_here(world: World) -> None:
    """Nothing more can happen, and the processes live: the same ones go on, with what they remember."""
    if world.scenario.recovery == "nothing":
        return
    world.is_gated = world.store_is_down = False
    world.pass_leases()
    _recover(world)


def _recover(world: World) -> None:
    """Let the user ask for it, and answer whatever comes, until all is settled."""
    asks: Callable[[], None] = {"resume": world.resume, "message": world.write, "repeat": world.repeat}[
        world.scenario.recovery
    ]
    limit = 4 * len(world.scenario.calls + world.scenario.then + world.scenario.later) + 4
    if world.scenario.recovery != "repeat":
        world.browser.reload()
    for _ in range(limit):
        if world.browser.waiting:
            world.answer(world.browser.waiting[0])
        elif world.monitor.unsettled(world):
            asks()
        else:
            return
    raise Violation("stuck", f"after {limit} rounds: {', '.join(world.monitor.unsettled(world))}")
