"""`MemoryStore`: the rules, and what is its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatkit_clienttools.errors import DamagedDocumentError, LifecycleViolationError, UsageError
from chatkit_clienttools.stores import MemoryStore
from tests.stores.rules import FORGED, SHOWN, StoreRules
from tests.stores.values import ADA, BOB, by_user, call, filled, item_ids, note, thread, thread_ids


class TestMemoryStore(StoreRules):
    @pytest.fixture
    def store(self) -> MemoryStore[Any]:
        return MemoryStore(owner=by_user)

    @pytest.fixture
    def hasty(self) -> MemoryStore[Any]:
        return MemoryStore(owner=by_user, time_limit=0.2)


async def test_without_an_owner_everything_is_everybodys() -> None:
    """A store that is not told how to tell owners apart does not."""
    store = MemoryStore[Any]()
    await store.save_thread(thread(), ADA)

    assert ["thr"] == await thread_ids(store, BOB) == await thread_ids(store, None)


async def test_a_document_that_cannot_be_read_says_so() -> None:
    """What ChatKit cannot read is an error that names it and keeps its contents to itself."""
    store = await filled(MemoryStore(owner=by_user), note("i1"))
    items = store._owned["ada"].threads["thr"].items
    items["i1"] = '{"type":"from_the_future","secret":1}'

    with pytest.raises(DamagedDocumentError, match=r"Item i1 is stored, but cannot be read: .*Upgrade") as damaged:
        await store.load_item("thr", "i1", ADA)

    assert ("Item", "i1") == (damaged.value.kind, damaged.value.key)
    assert "secret" not in str(damaged.value)


def test_the_error_of_a_damaged_document_is_one_line() -> None:
    """The error of a damaged document is one line, whatever its id and the reason hold."""
    damaged = DamagedDocumentError("Item", FORGED, f"metadata.{FORGED}: wrong")

    assert re.match(rf"Item {SHOWN} is stored, but cannot be read: metadata\.{SHOWN}: wrong\.", str(damaged))
    assert FORGED == damaged.key


class TestEventLoops:
    def test_two_loops_share_a_store(self) -> None:
        """Threads with event loops of their own use one store: each method is one step for all of them."""
        store = MemoryStore[Any]()
        asyncio.run(filled(store, context=None))
        store._owned[""].threads["thr"].items = Meeting()

        def release(item_id: str) -> bool:
            with contextlib.suppress(LifecycleViolationError):
                asyncio.run(store.add_thread_item("thr", call(item_id), None))
                return True
            return False

        with ThreadPoolExecutor(2) as threads:
            released = list(threads.map(release, ["tc1", "tc2"]))

        assert [False, True] == sorted(released)
        assert 1 == len(asyncio.run(item_ids(store, None)))

    async def test_a_lock_belongs_to_one_loop(self) -> None:
        """A second event loop that asks for a thread_lock is told at once what to do, held or not."""
        store = MemoryStore[Any]()
        async with store.thread_lock("thr"):
            pass

        with pytest.raises(UsageError, match=r"used by two event loops at a time.*one store for each event loop"):
            await asyncio.to_thread(asyncio.run, locked(store))

    def test_a_lock_goes_on_in_the_next_loop(self) -> None:
        """Once its event loop is closed, a lock serves another one, as many as there are."""
        store = MemoryStore[Any]()

        for _ in range(3):
            asyncio.run(locked(store))


async def locked(store: MemoryStore[Any]) -> None:
    """Let two wait for a lock that is held: only then it belongs to the event loop."""

    async def hold() -> None:
        async with store.thread_lock("thr"):
            await asyncio.sleep(0)

    await asyncio.gather(hold(), hold(), hold())


class Meeting(dict[str, Any]):
    """Items that are looked through by two threads at the same moment, if they can be."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2)

    def items(self) -> Any:
        seen = list(super().items())
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait(0.3)
        return seen
