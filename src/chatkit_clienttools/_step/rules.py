"""What a sequencer was built with, and what its requests share in one process."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pydantic_core import to_json

from chatkit_clienttools._locks import ThreadLocks
from chatkit_clienttools._protocol.decide import Policy
from chatkit_clienttools.answers import refusal, too_large
from chatkit_clienttools.errors import printable
from chatkit_clienttools.observe import logger
from chatkit_clienttools.tools import ClientTool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chatkit_clienttools._protocol.plan import Plan
    from chatkit_clienttools.observe import Observer, ToolObserver, Tracer

    from .gated import GatedTool

MAX_WARNINGS = 100
"""How many unknown names are warned about."""

_UNDECLARED: ClientTool[..., Any] = ClientTool("undeclared")


@dataclass(eq=False)
class Rules:
    """The options of a sequencer, and its locks."""

    tools: Mapping[str, ClientTool[..., Any]]
    on_user_message: Literal["cancel", "keep"]
    on_failure: Literal["continue", "abort"]
    max_queued: int
    max_bytes: int
    max_answer_bytes: int
    max_media_bytes: int
    receipts: bool
    locks_thread: bool | str
    answers: Callable[[Any], Any]
    lock: Callable[[str], AbstractAsyncContextManager[Any]] | None
    observers: Sequence[Observer]
    tool_observers: Sequence[ToolObserver]
    clock: Callable[[], float]
    gated: dict[str, GatedTool | None] = field(default_factory=dict)
    """The tools that may wait, by name; None for a name that several have."""
    locks: ThreadLocks = field(default_factory=ThreadLocks)
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    tracer: Tracer | None = None
    """What makes spans, if the sequencer is instrumented."""
    cannot_wait: dict[str, str] = field(default_factory=dict)
    """Why a tool cannot wait, by the tool's name: what it is or has."""
    _warnings: set[str] = field(default_factory=set)
    _unknown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.policy = Policy(
            tool=self.tool,
            keeps=self.on_user_message == "keep",
            aborts=self.on_failure == "abort",
            receipts=self.receipts,
            taken=self.taken,
        )

    @property
    def max_posted(self) -> int:
        """How large a request with an answer may be, whatever tool it is for."""
        takes_media = any(tool.takes_media for tool in self.tools.values())
        return self.max_answer_bytes + (self.max_media_bytes if takes_media else 0)

    def taken(self, name: str, output: Any) -> Any:
        """Return what is stored of an answer, now that its tool is known: without images it has to be smaller."""
        limit = self.max_answer_bytes
        if limit == self.max_posted or self.tool(name).takes_media or len(to_json(output, fallback=str)) <= limit:
            return output
        return refusal(too_large(limit))

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

    def register(self, tool: GatedTool) -> None:
        """Remember a tool that may wait: an answer wakes it by its name, when nothing else is known of it.

        That turns receipts on: without them a repeated answer to one call could be taken for the answer to the next.
        """
        if not self.receipts:
            self.receipts, self.policy = True, replace(self.policy, receipts=True)
        other = self.gated.get(tool.name, tool)
        is_made_again = other is not None and other.place == tool.place and "<locals>" not in tool.place
        self.gated[tool.name] = tool if other is tool or is_made_again else None
        if self.gated[tool.name] is None:
            self.warn_once(
                f"the tool {tool.name} is defined a second time ({tool.place}), and can wait for the browser no more: "
                "define it once, at import, not in a function that is called for each request"
            )

    def alone_on(self, thread_id: str) -> AbstractAsyncContextManager[None]:
        """Keep the other steps on this thread out: those of this process, and with `lock=` everybody's."""
        own = self.locks.held(thread_id)
        return own if self.lock is None else _both(own, self.lock, thread_id)

    def warn_about_unknown(self, name: str) -> None:
        """Say once that a call is taken to want an answer, because its tool was not declared."""
        if not self.tools or name in self.tools or name in self._unknown or len(self._unknown) >= MAX_WARNINGS:
            return
        self._unknown.add(name)
        logger.warning(
            "client tool %r is not in the list that this ClientToolSequencer was given: its answer is not checked and "
            "goes to the model, also with `result=None`. Add it there",
            name,
        )

    def warn_once(self, message: str, *args: object) -> None:
        """Warn of something that would otherwise be in the log again and again."""
        if message not in self._warnings:
            self._warnings.add(message)
            logger.warning(message, *args)

    def warn_about_others(self, thread_id: str, plan: Plan) -> None:
        """Say once that another worker has a hand in this and that nothing keeps the two apart."""
        if not plan.calls or plan.writer == self.worker:
            return
        self.warn_once(
            "thread %s: its plan was written by another process. After a restart that is fine. With several workers "
            "two of them can release the same call: use a store with plans of its own (SupportsPlans), or give the "
            "ClientToolSequencer a lock= that all workers share.",
            printable(thread_id),
        )


@asynccontextmanager
async def _both(
    own: AbstractAsyncContextManager[None], lock: Callable[[str], AbstractAsyncContextManager[Any]], thread_id: str
) -> AsyncGenerator[None, None]:
    async with own, lock(thread_id):
        yield
