"""What a conversation with three calls costs that can be counted: the same every time, on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.stores import MemoryStore

from .bench import Bench, new_prefix
from .conversations import Ours, OursWaits, Page, Plain
from .stores import READS, WRITES, Statements, WatchedStore, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store


@dataclass(frozen=True)
class Counts:
    """What a conversation costs."""

    name: str
    requests: int
    model_runs: int
    reads: int
    writes: int
    bytes_written: int
    """Items, threads and plans, as JSON, for each request."""
    sqlite: int = 0
    """Statements, with those that begin and end transactions."""
    postgres: int = 0


SERVERS: dict[str, Callable[[Store[Any]], Any]] = {
    "3 calls, enqueued": Ours,
    "3 calls and a step, in a tool that waits": OursWaits,
    "3 calls with plain ChatKit, a model run for each": Plain,
}


async def all_of(bench: Bench) -> list[Counts]:
    """Count what each conversation costs."""
    counted = []
    for name, server in SERVERS.items():
        sent = [await statements(server, url) for url in (bench.sqlite(), bench.postgres())]
        counted.append(Counts(name, **await operations(server), sqlite=sent[0], postgres=sent[1]))
    return counted


async def operations(make: Callable[[Store[Any]], Any]) -> dict[str, int]:
    """Count requests, runs of the model, store operations and bytes."""
    store = WatchedStore(MemoryStore())
    server = make(store)
    page = Page(server)
    await page.talk()
    return {
        "requests": page.requests,
        "model_runs": len(server.model.calls),
        "reads": sum(store.counts[name] for name in READS),
        "writes": sum(store.counts[name] for name in WRITES),
        "bytes_written": round(store.bytes_written / page.requests),
    }


async def statements(make: Callable[[Store[Any]], Any], url: str) -> int:
    """Count the statements that a conversation sends to a database."""
    store = await opened(url, new_prefix())
    try:
        sent = Statements(store)
        await Page(make(store)).talk()
        return len(sent.taken())
    finally:
        await store.close()
