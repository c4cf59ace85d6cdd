"""What a sequencer was built with, and what its runs share in one process."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4
from weakref import WeakValueDictionary

from ._plan import Claim, Plan, What
from ._runs import LEASE_SECONDS, Claims, Run
from .observe import logger
from .tools import ClientTool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chatkit.types import ThreadMetadata

    from ._plan import PlannedCall
    from .observe import Observer

RELEASE_LEASE_SECONDS = 10.0
"""How long another worker may take to store a call that it has claimed."""

MAX_WARNINGS = 100
"""How many unknown names are warned about."""

_UNDECLARED: ClientTool[...] = ClientTool("undeclared")


@dataclass
class Rules:
    """The options of a sequencer, its claims and its locks."""

    tools: Mapping[str, ClientTool[...]]
    on_user_message: Literal["cancel", "keep"]
    on_failure: Literal["continue", "abort"]
    max_queued: int
    max_bytes: int
    receipts: bool
    lock: Callable[[str], AbstractAsyncContextManager[Any]] | None
    observers: Sequence[Observer]
    clock: Callable[[], float]
    stands_in: bool = False
    """Whether they are those of a server that was given no sequencer."""
    claims: Claims = field(default_factory=Claims)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _name: str = field(default_factory=lambda: uuid4().hex[:8])
    _has_warned: bool = False
    _has_warned_of_receipts: bool = False
    _unknown: set[str] = field(default_factory=set)

    @property
    def worker(self) -> str:
        """What this process is known by: other after a fork, and on another machine."""
        return f"{os.getpid()}-{self._name}"

    def new_run(self, thread: ThreadMetadata) -> Run:
        """Open a run on `thread`."""
        run = Run(self, thread, max_queued=self.max_queued, max_bytes=self.max_bytes, clock=self.clock)
        run.stands_in = self.stands_in
        return run

    def tool(self, name: str) -> ClientTool[...]:
        """The declared tool of that name, or one that takes any answer."""
        return self.tools.get(name, _UNDECLARED)

    def warn_about_unknown(self, name: str) -> None:
        """Say once that a call is taken to want an answer, because its tool was not declared."""
        if not self.tools or name in self.tools or name in self._unknown or len(self._unknown) >= MAX_WARNINGS:
            return
        self._unknown.add(name)
        logger.warning(
            "client tool %r is not among those this ClientToolSequencer was given: whatever the browser answers goes "
            "to the model",
            name,
        )

    def warn_about_receipts(self) -> None:
        """Say once that receipts go out, and that nobody looks at those that come back."""
        if not self.receipts or self._has_warned_of_receipts:
            return
        self._has_warned_of_receipts = True
        logger.warning(
            "ClientToolSequencer(receipts=True) under plain ChatKitServer: an answer to another call is recorded all "
            "the same. Derive the server from ClientToolServer."
        )

    @asynccontextmanager
    async def alone_on(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Keep the other requests on this thread out: those of this process, and with `lock` everybody's."""
        # the local name keeps the lock in the dictionary for as long as somebody waits for it
        mine = self._locks.setdefault(thread_id, asyncio.Lock())
        async with mine, self.lock(thread_id) if self.lock else nullcontext():
            yield

    def a_claim(self, what: What, item_id: str) -> Claim:
        """This worker's claim, for other workers to read."""
        lease = LEASE_SECONDS if what in {"turn", "model"} else RELEASE_LEASE_SECONDS
        return Claim(what=what, item_id=item_id, by=self.worker, until=self.clock() + lease)

    def is_claimed(self, thread_id: str, plan: Plan, what: What, item_id: str, *, besides: Run) -> bool:
        """Whether another run of this process is at it, or another worker has said so in the plan."""
        now = self.clock()
        call = plan.call(item_id)
        return (call is not None and self.is_at_work(thread_id, what, call, besides=besides)) or any(
            (claim.what, claim.item_id) == (what, item_id) and claim.by != self.worker and now < claim.until
            for claim in plan.claims
        )

    def is_at_work(self, thread_id: str, what: What, call: PlannedCall, *, besides: Run) -> bool:
        """Whether another run of this process is at it."""
        return self.claims.are_held(thread_id, what, call, self.clock(), besides=besides)

    def warn_about_others(self, thread_id: str, plan: Plan) -> None:
        """Say once, loudly, that another worker has a hand in this and that nothing keeps the two apart."""
        if self._has_warned or not plan.calls or plan.writer == self.worker:
            return
        self._has_warned = True
        logger.warning(
            "thread %s: its plan was written by another process. After a restart that is fine. With several workers "
            "two of them can release the same call: use a store with plans of its own (SupportsPlans), or give the "
            "ClientToolSequencer a lock= that all workers share.",
            thread_id,
        )
