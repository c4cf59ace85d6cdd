"""The world of one execution: a store, workers around it, a browser, and the requests that are under way."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from chatkit.server import StreamingResult
from chatkit.types import ThreadMetadata

from chatkit_clienttools._protocol.plan import BODY_SECONDS
from chatkit_clienttools._step.exclusion import LEASE_SECONDS

from .browser import Answer, Browser
from .gates import GatedLock, GatedStore, Request, current
from .loop import Verdict
from .properties import Monitor, calls_in
from .scenario import DEADLINE
from .standing import EPOCH, standing_time
from .stores import AROUND, STORES, THREAD, copied, durable, read
from .subjects import SUBJECTS, sequencer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from chatkit.server import ChatKitServer
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolServer

    from .loop import Point, SteppedLoop
    from .scenario import Scenario

    Serve = Callable[[Request], Coroutine[Any, Any, None]]

BUDGETS = (
    *("repeats", "drops", "messages", "retries", "actions", "forms", "resumes", "renames", "dismissals"),
    *("deadlines", "expiries", "crashes", "errors", "outages", "cancels", "stops", "freezes", "lapses"),
)

RESUME = "chatkit_clienttools.resume"


@dataclass
class Worker:
    """One process: what it remembers is in its server."""

    name: str
    generation: int
    server: ChatKitServer[Any]


class World:
    """Everything there is in one execution. Nothing in it happens but by the methods below."""

    def __init__(self, scenario: Scenario, loop: SteppedLoop, *, after: World | None = None) -> None:
        self.scenario = scenario
        self.loop = loop
        self.is_gated = after is None
        self.is_over = False
        self.store_is_down = False
        self.store: Store[Any]
        if after is None:
            self.now = EPOCH
            self.store = STORES[scenario.store]()
            _finish(self.store.save_thread(ThreadMetadata(id=THREAD, created_at=standing_time(EPOCH)), None))
            self.browser = Browser(failing=scenario.failing, remembers=scenario.remembers)
            self.monitor = Monitor(scenario)
        else:
            self.now = after.now + BODY_SECONDS + 1
            self.store = copied(after.store)
            self.browser = after.browser.copy()
            self.monitor = after.monitor.after_all_died()
        self.started = self.now
        self.was_at_work: bool = after is not None and after.was_at_work
        """Whether a request was under way when time was over: a call that it was about to send may be overdue."""
        self.left = {name: getattr(scenario, name) for name in BUDGETS}
        self.lock = GatedLock()
        self.requests: list[Request] = []
        self.blocked: list[Request] = []
        self.frozen: list[Point] = []
        self.posted: Counter[str] = Counter() if after is None else after.posted.copy()
        self.workers: dict[str, Worker] = {}
        for name in "AB"[: scenario.workers]:
            self._start(name, 0 if after is None else after.workers[name].generation + 1)
        self.durable = durable(self.store)

    def clock(self) -> float:
        return self.now

    # what is under way

    @property
    def live(self) -> list[Request]:
        """The requests that may still do something."""
        return [request for request in self.requests if request.can_move]

    def key(self) -> tuple[Any, ...]:
        """Return all that the future depends on."""
        return (
            self.durable,
            self.browser.key,
            tuple(self.left.values()),
            self.now,
            self.lock.key,
            tuple(request.name for request in self.blocked),
            tuple(sorted(request.key for request in self.requests if not request.is_over)),
            tuple(worker.generation for worker in self.workers.values()),
            self.monitor.key,
        )

    @property
    def last_message(self) -> str | None:
        """The id of the user's last message."""
        ids = [read(item)["id"] for item in self.durable.items if '"user_message"' in item]
        return ids[-1] if ids else None

    @property
    def open_form(self) -> str | None:
        """The id of a form that waits for the user."""
        forms = [read(item) for item in self.durable.items if '"structured_input"' in item]
        return next((form["id"] for form in forms if form["status"] == "pending"), None)

    # what the browser and the user do

    def write(self, worker: str = "A") -> None:
        text = [{"type": "input_text", "text": "hello"}]
        message = {"content": text, "attachments": [], "inference_options": {}}
        self._post(worker, "message", "threads.add_user_message", input=message)

    def answer(self, answer: Answer, worker: str = "A") -> None:
        time = self.browser.take(answer)
        name = f"answer {answer.label}" + ("" if time == 1 else f" again{time - 1}")
        self._post(worker, name, "threads.add_client_tool_output", result=answer.result)

    def retry(self, worker: str = "A") -> None:
        self._post(worker, "retry", "threads.retry_after_item", item_id=self.last_message)

    def act(self, worker: str = "A") -> None:
        self._post(worker, "action", "threads.custom_action", action={"type": "press", "payload": {}})

    def fill_in(self, worker: str = "A") -> None:
        submission = {"status": "answered", "answers": {}}
        self._post(worker, "form", "threads.add_structured_input", item_id=self.open_form, input=submission)

    def resume(self, worker: str = "A") -> None:
        self.browser.reload()
        self._post(worker, "resume", "threads.custom_action", action={"type": RESUME, "payload": {}})

    def repeat(self, worker: str = "A") -> None:
        """Post the last answer again; or write, if there is none."""
        if self.browser.posted:
            self.answer(self.browser.posted[-1], worker)
        else:
            self.write(worker)

    def post_again(self, worker: str = "A") -> None:
        """Post the last answer again; or resume, if a call is pending."""
        if any(call.status == "pending" for call in calls_in(self.durable.items)):
            self.resume(worker)
        else:
            self.repeat(worker)

    def rename(self, worker: str = "A") -> None:
        self._post(worker, "rename", "threads.update", title="renamed")

    def dismiss(self, worker: str = "A") -> None:
        """The application cancels what is open, outside of any request of the page."""
        self._begin(worker, "dismissal", self._dismiss)

    def expire(self, worker: str = "A") -> None:
        """The application ends what is overdue, outside of any request of the page."""
        self._begin(worker, "expiry", self._expire)

    # what the controller does

    def let_time_pass(self) -> None:
        """The browser has taken too long. It is no time for a lease, or a body."""
        self.was_at_work |= bool(self.live)
        self.now += DEADLINE
        self.started += DEADLINE
        self.settle_down()

    def let(self, request: Request, point: Point, verdict: Verdict) -> None:
        """Let a request go on from a point, to the next one."""
        request.disturbed |= verdict in (Verdict.CANCEL_AFTER, Verdict.CANCEL_BEFORE)
        point.future.set_result(verdict)
        self.settle_down()

    def go_down(self, request: Request, point: Point) -> None:
        """The store is gone, from this operation on."""
        self.store_is_down = True
        self.let(request, point, Verdict.FAIL)

    def crash(self, name: str) -> None:
        """A process is gone, and a new one takes its place. Nothing it did is resumed, or cleaned up."""
        for request in self.requests:
            if request.worker == name and not request.is_over:
                request.dead = request.disturbed = True
        self.lock.forget(name)
        self._start(name, self.workers[name].generation + 1)
        self.settle_down()

    def cancel(self, request: Request, *, cut: bool) -> None:
        """The client has gone while the request waits. `cut`: every later await of it is cancelled too."""
        request.disturbed, request.cut = True, cut
        request.task.cancel()
        self.settle_down()

    def stop(self, request: Request) -> None:
        """The user presses Stop while a step of a tool runs."""
        request.stopped = True
        self.cancel(request, cut=True)

    def freeze(self, request: Request, point: Point, *, delivered: bool) -> None:
        """Nobody takes the next event, for ever, and nobody says so."""
        if delivered and point.event:
            self.browser.receive(point.event)
        request.disturbed = request.frozen = True
        request.points.remove(point)  # what its tools do meanwhile goes on
        self.frozen.append(point)
        self.settle_down()

    def pass_leases(self) -> None:
        """Time goes by."""
        self.now += BODY_SECONDS + 1
        for request in self.requests:
            request.outlived |= not request.is_over
            request.disturbed |= request.can_move
        self.settle_down()

    def outlast(self) -> None:
        """Nobody can go on but those who wait for the lease of a step that will never end: they see it run out."""
        self.now += LEASE_SECONDS
        for point in [point for request in self.live for point in request.points]:
            point.future.set_result(Verdict.GO)
        self.settle_down()

    def settle_down(self) -> None:
        """Run until every request waits, and look at what has become of everything."""
        self.loop.run_until_quiet()
        self.durable = durable(self.store)
        waiting = [request for request in self.requests if not request.is_over and request.is_blocked]
        self.blocked = [r for r in self.blocked if r in waiting] + [r for r in waiting if r not in self.blocked]
        self.monitor.check(self)

    def bury(self) -> None:
        """End the execution: what is still under way ends, and writes nothing."""
        self.is_over = True
        for _ in range(20):
            open_tasks = [task for request in self.requests for task in request.tasks if not task.done()]
            if not open_tasks:
                break
            for task in open_tasks:
                task.cancel()
            self.loop.run_until_quiet()
        for point in [*self.frozen, *(point for request in self.requests for point in request.points)]:
            point.future.cancel()
        self.loop.run_until_quiet()

    def _start(self, name: str, generation: int) -> None:
        store = AROUND[self.scenario.around](GatedStore(self.store))
        server = SUBJECTS[self.scenario.subject](self, f"{name}{generation}", store)
        self.workers[name] = Worker(name, generation, server)

    def _post(self, worker: str, name: str, kind: str, **params: Any) -> None:
        body = json.dumps({"type": kind, "params": {"thread_id": THREAD, **params}})
        self._begin(worker, name, self._serve, body)

    def _begin(self, worker: str, name: str, serve: Serve, body: str = "") -> None:
        if " " not in name:
            self.posted[name] += 1
            name = f"{name}{self.posted[name]}"
        request = Request(self, name, worker, body)
        self.monitor.posted(request)
        self.requests.append(request)
        request.task = self.loop.create_task(serve(request))
        request.tasks.append(request.task)
        self.settle_down()

    async def _serve(self, request: Request) -> None:
        """Do what a web framework does: take the events one by one and send them."""
        current.set(request)
        result = await self.workers[request.worker].server.process(request.body, request)
        if not isinstance(result, StreamingResult):
            return
        async for chunk in result:
            event = json.loads(chunk.removeprefix(b"data: "))
            request.events.append(event)
            is_call = self.monitor.streamed(request, event)
            if is_call or self.scenario.every_event:
                await request.wait("emit", event.get("item", {}).get("id", event["type"]), event=event)
            self.browser.receive(event)

    async def _expire(self, request: Request) -> None:
        current.set(request)
        server = cast("ClientToolServer[Any]", self.workers[request.worker].server)
        await sequencer_of(server).expire(server.store, THREAD, request)

    async def _dismiss(self, request: Request) -> None:
        current.set(request)
        server, bodies = cast("ClientToolServer[Any]", self.workers[request.worker].server), self.monitor.bodies
        tools = frozenset(bodies.promised)
        await sequencer_of(server).cancel(server.store, THREAD, request)
        bodies.are_dismissed(tools, durable(self.store))


def _finish(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")
