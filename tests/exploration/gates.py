"""The gates: a store and a lock whose every operation waits until the controller lets it happen."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from chatkit_clienttools import StoreWrapper

from .loop import Buried, Point, StoreDownError, Verdict
from .stores import Durable, durable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from chatkit.store import Store

    from .world import World

READS = {
    "load_thread": "thread",
    "load_thread_items": "items",
    "load_item": "items",
    "load_plan": "plan",
    "load_content": "contents",
}
"""Which part of what a store holds an operation returns."""

WRITES = (
    *("save_thread", "add_thread_item", "save_item", "delete_thread_item", "save_plan"),
    *("save_content", "delete_content"),
)

current: ContextVar[Request] = ContextVar("request")


class Request:
    """One POST: what it has done so far, and where it waits."""

    def __init__(self, world: World, name: str, worker: str, body: str) -> None:
        self.world = world
        self.name = name
        self.worker = worker
        self.body = body
        self.points: list[Point] = []
        self.events: list[dict[str, Any]] = []
        self.history = hash((name, worker))
        self.ids = 0
        self.frozen = False
        self.dead = False
        self.cut = False
        self.disturbed = False
        self.stopped = False
        """Whether the user has pressed Stop while a step of a tool ran."""
        self.outlived = False
        """Whether its leases have run out while it was under way."""
        self.saw_store_fail = False
        self.pauses = 0
        self.task: asyncio.Task[None]
        self.tasks: list[asyncio.Task[Any]] = []
        """Its own task, and the steps that run to their end without it."""

    @property
    def can_move(self) -> bool:
        """Whether it waits for something that may happen: the stream of a client that stands still goes no further."""
        return not self.is_over and (not self.frozen or bool(self.points))

    @property
    def is_over(self) -> bool:
        return self.dead or (not self.points and all(task.done() for task in self.tasks))

    @property
    def has_ended_well(self) -> bool:
        """Whether its client has had all of it, and no error was in it."""
        is_hit = self.dead or self.frozen or self.disturbed or self.saw_store_fail
        if is_hit or not self.task.done() or self.task.cancelled():
            return False
        return self.error is None and not any(event["type"] == "error" for event in self.events)

    @property
    def is_blocked(self) -> bool:
        """Whether it waits for something inside its worker: a lock that another request holds."""
        return not self.points and not all(task.done() for task in self.tasks)

    @property
    def error(self) -> BaseException | None:
        """What has broken the stream, if anything has."""
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None

    @property
    def key(self) -> tuple[Any, ...]:
        waits = tuple(str(point) for point in self.points)
        steps = tuple(task.done() for task in self.tasks)
        hit = (self.frozen, self.cut, self.disturbed, self.stopped, self.outlived, self.saw_store_fail)
        return (self.name, self.history, waits, steps, *hit)

    def note(self, *what: object) -> None:
        self.history = hash((self.history, self.world.now, *what))

    async def wait(self, name: str, what: str, *, is_write: bool = False, event: Any = None) -> Verdict:
        """Wait until the controller says how it goes on."""
        if self.world.is_over:
            raise Buried
        if self.cut and asyncio.current_task() is self.task:
            raise asyncio.CancelledError
        if not self.world.is_gated or (name == "load_thread" and self.world.scenario.threads_stand_still):
            return Verdict.GO
        self.note(name, what)
        future, is_own = self.world.loop.create_future(), asyncio.current_task() is self.task
        point = Point(name, what, is_write, future, event, self.world.durable, self.world.now, is_own)
        self.points.append(point)
        try:
            return await point.future
        finally:
            if point in self.points:
                self.points.remove(point)


MOST_PAUSES = 20
"""How often a request looks at the same lease in a recovery before it is called stuck."""


async def gated_pause(_seconds: float) -> None:
    """Stand for the wait for another worker's lease: it is over when the plan has changed, or the time has passed."""
    request = current.get()
    world = request.world
    if world.is_gated or world.is_over:
        await request.wait("pause", "")
        return
    request.pauses += 1
    if request.pauses > MOST_PAUSES:
        await world.loop.create_future()
    world.now += 1


class GatedStore(StoreWrapper[Any]):
    """One worker's way to the store that all workers share. A request is its own context."""

    def __init__(self, inner: Store[Any]) -> None:
        super().__init__(inner)
        for name in (*READS, *WRITES):
            operation = getattr(inner, name, None)
            if operation is not None:
                setattr(self, name, self._gated(name, operation))

    def generate_item_id(self, item_type: Any, thread: Any, context: Request) -> str:
        context.ids += 1
        return f"{item_type}-{context.name}-{context.ids}"

    def _gated(self, name: str, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        part, is_write = READS.get(name), name in WRITES

        async def gated(*args: Any, **kwargs: Any) -> Any:
            request: Request = kwargs["context"] if "context" in kwargs else args[-1]
            verdict = await request.wait(name, _subject(args), is_write=is_write)
            if verdict is Verdict.CANCEL_BEFORE:
                # a database may go on with a statement whose request is gone
                request.world.loop.create_task(gated(*args, **kwargs))
                raise asyncio.CancelledError
            if verdict is Verdict.FAIL or request.world.store_is_down:
                request.note(name, "down")
                request.saw_store_fail = True
                raise StoreDownError
            try:
                result = await operation(*args, **kwargs)
            except Exception as refusal:
                request.note(name, type(refusal).__name__)
                raise
            request.note(name, self._seen(part) if part else result)
            if verdict is Verdict.FAIL_AFTER:
                request.saw_store_fail = True
                raise StoreDownError
            if verdict is Verdict.CANCEL_AFTER:
                if asyncio.current_task() is request.task:
                    raise asyncio.CancelledError
                request.task.cancel()
            return result

        return gated

    def _seen(self, part: str) -> object:
        held: Durable = durable(self.inner)
        return getattr(held, part)


class GatedLock:
    """A lock by thread id that all workers share, as a database gives it: it is gone when its holder's process is."""

    def __init__(self) -> None:
        self.holder: Request | None = None
        self.waiting: list[tuple[Request, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def __call__(self, thread_id: str) -> AsyncIterator[None]:
        request = current.get()
        await request.wait("lock", "")
        if self.holder is not None:
            turn = request.world.loop.create_future()
            self.waiting.append((request, turn))
            await turn
        self.holder = request
        try:
            yield
        finally:
            self._pass_on()

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(request.name for request in ([self.holder] if self.holder else []) + [r for r, _ in self.waiting])

    def forget(self, worker: str) -> None:
        """The process `worker` is gone."""
        self.waiting = [(request, turn) for request, turn in self.waiting if request.worker != worker]
        if self.holder is not None and self.holder.worker == worker:
            self._pass_on()

    def _pass_on(self) -> None:
        self.holder = None
        while self.waiting:
            self.holder, turn = self.waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
            self.holder = None


def _subject(args: tuple[Any, ...]) -> str:
    """Name what an operation is about, for the schedule."""
    thing = args[1] if len(args) > 2 else None
    return str(getattr(thing, "id", thing if isinstance(thing, str) else ""))
