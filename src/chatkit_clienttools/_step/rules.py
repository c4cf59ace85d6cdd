"""What a sequencer was built with, and what its requests share in one process."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

from chatkit_clienttools._locks import ThreadLocks
from chatkit_clienttools._protocol.decide import Policy
from chatkit_clienttools.errors import printable
from chatkit_clienttools.observe import logger
from chatkit_clienttools.tools import ClientTool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chatkit.agents import AgentContext

    from chatkit_clienttools._protocol.plan import Plan
    from chatkit_clienttools.observe import Observer, ToolObserver

MAX_WARNINGS = 100
"""How many unknown names are warned about."""

_UNDECLARED: ClientTool[..., Any] = ClientTool("undeclared")


class MayWait(Protocol):
    """A tool whose body may wait for the browser."""

    function: Any
    """What it runs."""

    @property
    def name(self) -> str:
        """What the model knows it by."""
        ...

    @property
    def place(self) -> str:
        """Where its function stands in the code."""
        ...

    async def wake(self, running: Any, context: AgentContext[Any]) -> None:
        """Run its body with the answers that it has by now."""
        ...


@dataclass(eq=False)
class Rules:
    """The options of a sequencer, and its locks."""

    tools: Mapping[str, ClientTool[..., Any]]
    on_user_message: Literal["cancel", "keep"]
    on_failure: Literal["continue", "abort"]
    max_queued: int
    max_bytes: int
    receipts: bool
    answers: Callable[[Any], Any]
    lock: Callable[[str], AbstractAsyncContextManager[Any]] | None
    observers: Sequence[Observer]
    tool_observers: Sequence[ToolObserver]
    clock: Callable[[], float]
    waiting: dict[str, MayWait | None] = field(default_factory=dict)
    """The tools that may wait, by name; None for a name that several have."""
    locks: ThreadLocks = field(default_factory=ThreadLocks)
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    _warned_of_others: bool = False
    _unknown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.policy = Policy(
            tool=self.tool,
            keeps=self.on_user_message == "keep",
            aborts=self.on_failure == "abort",
            receipts=self.receipts,
        )

    @property
    def worker(self) -> str:
        """What this process is known by: another name after a fork, and on another machine."""
        return f"{os.getpid()}-{self.name}"

    @property
    def holder(self) -> str:
        """Whose leases are: each event loop has locks of its own, so another loop's step is another worker's."""
        return f"{self.worker}-{self.locks.loop_number()}"

    def monotonic(self) -> float:
        """The time for measuring how long something takes, which nobody sets."""
        return time.monotonic() if self.clock is time.time else self.clock()

    def tool(self, name: str) -> ClientTool[..., Any]:
        """The declared tool of that name, or one that takes any answer."""
        return self.tools.get(name, _UNDECLARED)

    def may_wait(self, body: MayWait) -> None:
        """Remember a tool that may wait: an answer wakes it by its name, when nothing else is known of it.

        That turns receipts on: without them a repeated answer to one call could be taken for the answer to the next.
        """
        if not self.receipts:
            self.receipts, self.policy = True, replace(self.policy, receipts=True)
        other = self.waiting.get(body.name, body)
        is_made_again = other is not None and other.place == body.place and "<locals>" not in body.place
        self.waiting[body.name] = body if other is body or is_made_again else None

    @asynccontextmanager
    async def alone_on(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Keep the other steps on this thread out: those of this process, and with `lock=` everybody's."""
        async with self.locks.held(thread_id), self.lock(thread_id) if self.lock else nullcontext():
            yield

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

    def warn_about_others(self, thread_id: str, plan: Plan) -> None:
        """Say once that another worker has a hand in this and that nothing keeps the two apart."""
        if self._warned_of_others or not plan.calls or plan.writer == self.worker:
            return
        self._warned_of_others = True
        logger.warning(
            "thread %s: its plan was written by another process. After a restart that is fine. With several workers "
            "two of them can release the same call: use a store with plans of its own (SupportsPlans), or give the "
            "ClientToolSequencer a lock= that all workers share.",
            printable(thread_id),
        )
