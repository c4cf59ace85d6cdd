"""The checks of what a store may offer to the sequencer: plans under their own key, and a lock by thread."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chatkit_clienttools._step.plans import StoredPlan, plans_of

from ._rules import NotOfferedError, check, expect
from ._samples import TEXT
from ._threads import thread_is_kept

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chatkit.types import ThreadMetadata

    from ._bench import Bench

MOMENT = 0.1
"""How many seconds a lock is held to see whether it keeps a second one out."""

WRITERS = 8


@check(
    thread_is_kept,
    breaks="A queue of client tool calls is lost or damaged between two requests: calls never reach the browser.",
)
async def plan_is_kept(bench: Bench) -> None:
    """load_plan gives None for a thread without a plan, and then the plan and the revision that were saved last."""
    plans, thread = await _plans(bench)
    nothing = await plans.load_plan(thread.id)
    expect(nothing is None, f"a thread that never had a plan has {nothing!r}")

    for revision in (1, 2):
        saved = await plans.save_plan(thread.id, _plan(revision), revision - 1)
        expect(saved is True, f"revision {revision} over {revision - 1} should be saved (True); it gave {saved!r}")
        loaded = await plans.load_plan(thread.id)
        expect(loaded is not None, f"revision {revision} was saved, and load_plan gives None")
        expect(loaded.revision == revision, f"revision {revision} was saved, {loaded.revision} loaded")
        same = json.loads(loaded.document) == json.loads(_plan(revision).document)
        expect(same, f"the document of revision {revision} was loaded as another one")


@check(plan_is_kept, breaks="Two workers release the same call: the browser runs it twice.")
async def plan_is_compared(bench: Bench) -> None:
    """save_plan saves only over the revision that was expected, says whether it did, and one of many at once wins."""
    plans, thread = await _plans(bench)
    await plans.save_plan(thread.id, _plan(1), 0)
    for expected in (0, 2):
        saved = await plans.save_plan(thread.id, _plan(3), expected)
        expect(saved is False, f"revision 1 is stored; saving over {expected} should be False, and gave {saved!r}")
    stored = await plans.load_plan(thread.id)
    expect(stored and stored.revision == 1, "a save that was refused has changed the plan")

    race = (plans.save_plan(thread.id, _plan(2), 1) for _ in range(WRITERS))
    won = sum(await asyncio.gather(*race))

    expect(won == 1, f"{WRITERS} saved over the same revision at once, and {won} of them were told they did")


@check(
    plan_is_kept,
    breaks="What was queued in one conversation is released in another, or kept after the user has deleted it.",
)
async def plan_belongs_to_its_thread(bench: Bench) -> None:
    """Each thread has a plan of its own, and deleting the thread deletes it."""
    plans, thread = await _plans(bench)
    other = await bench.thread()
    await plans.save_plan(thread.id, _plan(1), 0)
    expect(await plans.load_plan(other.id) is None, "the plan of one thread is also another one's")
    await bench.store.delete_thread(thread.id)
    await bench.not_found("thread", "load_plan of a deleted thread", plans.load_plan, thread.id)


@check(
    thread_is_kept,
    breaks="Two requests change one queue at the same time: a call is released twice, or never.",
)
async def lock_excludes(bench: Bench) -> None:
    """While somebody holds thread_lock of a thread nobody else gets it; the next one gets it afterwards."""
    lock, thread = await _lock(bench)
    inside = asyncio.Event()

    async def second() -> None:
        async with lock(thread.id):
            inside.set()

    async with lock(thread.id):
        waiting = asyncio.create_task(second())
        entered, _ = await asyncio.wait({waiting}, timeout=MOMENT)
    await waiting

    expect(not entered and inside.is_set(), "the lock was taken a second time while it was held")


@check(lock_excludes, breaks="After one failed request no other one can work on that conversation.")
async def lock_is_given_back(bench: Bench) -> None:
    """thread_lock is free again when what was done under it has failed."""
    lock, thread = await _lock(bench)
    with suppress(_StumbleError):
        async with lock(thread.id):
            raise _StumbleError

    async with lock(thread.id):
        pass


class _StumbleError(Exception):
    """What goes wrong under a lock."""


async def _plans(bench: Bench) -> tuple[Any, ThreadMetadata]:
    if plans_of(bench.store) is None:
        raise NotOfferedError("the store has no load_plan and save_plan: plans are kept in the thread's metadata")
    return bench.store, await bench.thread()


def _plan(revision: int) -> StoredPlan:
    return StoredPlan(revision, json.dumps({"version": 1, "revision": revision, "writer": TEXT}))


async def _lock(bench: Bench) -> tuple[Callable[[str], AbstractAsyncContextManager[object]], ThreadMetadata]:
    if not callable(getattr(bench.store, "thread_lock", None)):
        raise NotOfferedError("the store has no thread_lock")
    thread = await bench.thread()
    bench.doing = "thread_lock"
    return bench.store.thread_lock, thread
