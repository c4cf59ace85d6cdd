"""A page and its user, who talk whatever becomes of the workers, and look at what the store has of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chatkit_clienttools._step.step import Steps
from chatkit_clienttools.receipts import ASKED
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser
from tests.processes.application import PAGE
from tests.processes.properties import (
    calls_among,
    finals,
    is_complete,
    mark_of,
    numbers_of,
    outputs_among,
    problems_of_reading,
    problems_of_thread,
    settled_among,
)
from tests.processes.tools import STEP, TOOLS, stop
from tests.processes.workers import SECONDS, EitherWorker

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from chatkit.types import ClientToolCallItem, ThreadItem

    from chatkit_clienttools import ClientToolSequencer
    from chatkit_clienttools.stores.sql import SQLStore
    from chatkit_clienttools.testing.browser import Answering
    from tests.processes.ledger import ModelRun, Reading
    from tests.processes.properties import Finals
    from tests.processes.workers import Workers

MAX_CALLS = 4
MAX_MESSAGES = 3
"""How many messages a user writes, not counting those that are posted again."""

ANSWERING: tuple[Answering, ...] = ("once", "once", "at once", "twice", "twice at once")

MAX_STEPS = 3
"""How many steps a tool takes at most between its calls."""

WAITING = 0.5
"""How often it is a tool that asks for the calls of a message, and waits for the answers."""

CROSSING = 0.3
"""How often a user writes again before all is done that the message before leads to."""

ROUNDS = 4 * MAX_CALLS + 4
"""How often a page may be loaded, with no worker killed meanwhile, until a thread is settled."""


class ViolationError(AssertionError):
    """Something is not as it was promised."""


@dataclass
class World:
    """What the conversations of a trial have in common."""

    workers: Workers
    store: SQLStore[Any]
    sequencer: ClientToolSequencer
    ledger: Reading
    lease: float
    """How many of our seconds the claim of a worker that was killed lasts at most."""
    executed: Counter[str] = field(default_factory=Counter)
    """How often the pages have executed each call."""
    recorded: set[str] = field(default_factory=set)
    """The calls that were found settled."""
    awaited: set[str] = field(default_factory=set)
    """Those among them that a tool has waited for."""
    returned: set[str] = field(default_factory=set)
    """The runs whose tool was found to have returned."""

    async def items(self, thread_id: str) -> list[ThreadItem]:
        page = await self.store.load_thread_items(thread_id, None, PAGE, "asc", None)
        assert not page.has_more
        return page.data

    async def is_settled(self, thread_id: str) -> bool:
        """Whether nothing is left to do: no call and no tool waits, none is out, the model has been told."""
        if await self.sequencer.snapshot(self.store, thread_id, None):
            return False
        thread, _ = await Steps(self.sequencer.rules, self.store, thread_id, None).look()
        plan = thread.at_rest
        if plan.calls or plan.tools or plan.body or thread.has_news:
            return False
        return all(call.status != "pending" for call in calls_among(await self.items(thread_id)))


class Conversation:
    """One user with one page."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._given_up: set[str] = set()
        self._crossed: dict[str, ModelRun] = {}
        """The runs whose calls a message has crossed."""
        self._settled: list[ClientToolCallItem] = []
        self._returned: set[str] = set()
        """The runs whose tool has returned."""
        self._answers_left = 0
        """How many calls the page answers before the user writes again."""
        self._finals: Finals = {}
        self.threads: set[str] = set()
        self._browser = FakeBrowser(
            "",
            handlers=self._on_client_tool,
            answering=rng.choice(ANSWERING),
            receipts=world.workers.setup.receipts,
            time_limit=2 * SECONDS,
        )
        self._browser._connection.wire = EitherWorker(world.workers, rng)

    async def hold(self) -> None:
        """Write a few messages, each when all that the last one has led to is done."""
        for number in range(self._rng.randint(1, MAX_MESSAGES)):
            if number and self._rng.random() < CROSSING:
                await self._write_and_go_on(self._message(f"{number} crossed"))
            await self._write(self._message(str(number)))
            self._check_crossed()
        # a message that has begun a thread, and is posted again, begins another one
        for thread_id in self.threads - {self._thread_id}:
            await self.take_over(thread_id)

    def _message(self, number: str) -> str:
        does = [self._rng.choice(list(TOOLS)) for _ in range(self._rng.randint(1, MAX_CALLS))]
        waits = self._rng.random() < WAITING
        for _ in range(self._rng.randint(1, MAX_STEPS) if waits else 0):
            does.insert(self._rng.randint(0, len(does)), STEP)
        return json.dumps({"number": number, "waits": waits, "does": does})

    async def _write_and_go_on(self, text: str) -> None:
        """Write a message, and do not wait for all that comes of it: the next message crosses its calls."""
        answering, self._answers_left = self._browser.answering, self._rng.randint(0, MAX_CALLS - 1)
        if not self._answers_left:
            self._browser.answering = "when told"
        try:
            await self._browser.send(text)
        except BrokenStreamError:
            if self._world.workers.broken_alive:
                raise self._violation("a stream of a living worker is broken") from None
        self._answers_left, self._browser.answering = 0, answering
        self._world.ledger.read_on()
        for run in self._asking(self._thread_id):
            self._crossed.setdefault(run.id, run)
        self._given_up |= self._crossed.keys()

    def _check_crossed(self) -> None:
        """Check what a message that came early must not take from a run that ended well.

        That is a required call, and a tool that waits: it returns all the same.
        """
        for run in self._crossed.values():
            required = [n for n, name in enumerate(run.asks, 1) if run.is_over and name == stop.name]
            missing = set(required) - set(numbers_of(run.id, self._settled))
            if missing:
                raise self._violation(f"required calls of {run.id} are lost: {sorted(missing)}")
            if run.is_over and run.waits and run.id not in self._returned:
                raise self._violation(f"the tool of {run.id} is lost")

    async def take_over(self, thread_id: str) -> None:
        """Open a thread that was left behind."""
        self._browser.thread_id = thread_id
        self._finals = {}
        await self._until_unbroken(self._load)
        items = await self._settle()
        self._world.ledger.read_on()
        for run in self._asking(thread_id):
            self._is_complete(run, items)

    @property
    def _thread_id(self) -> str:
        return self._browser.thread_id or ""

    def _on_client_tool(self, _name: str, params: dict[str, Any]) -> dict[str, str]:
        self.threads.add(self._thread_id)
        self._world.executed[params["mark"]] += 1
        self._answers_left -= 1
        if self._answers_left == 0:
            self._browser.answering = "when told"
        return {"mark": params["mark"]}

    async def _write(self, text: str) -> None:
        """Write a message, and write it again or have it answered again if it is lost with the worker that had it."""

        async def say() -> None:
            await self._browser.send(text)

        await self._until_unbroken(say)
        while True:
            self.threads.add(self._thread_id)
            items = await self._settle()
            message = _last_message(items)
            if message is None or message.content[0].text != text:
                await self._until_unbroken(say)
            elif self._is_answered(message.id, items):
                return
            else:
                await self._until_unbroken(self._retry)

    async def _settle(self) -> list[ThreadItem]:
        """Load the page until nothing is left to do. A claim of a worker that was killed ends with its lease."""
        rounds = 0
        while not await self._world.is_settled(self._thread_id):
            if rounds == ROUNDS:
                raise self._violation("stuck")
            kills = self._world.workers.kills
            await self._until_unbroken(self._load)
            await asyncio.sleep(self._world.lease / 8 if rounds else 0)
            rounds += kills == self._world.workers.kills
        return await self._look()

    async def _look(self) -> list[ThreadItem]:
        items = await self._world.items(self._thread_id)
        self._world.ledger.read_on()
        runs = self._world.ledger.by_thread[self._thread_id]
        problems = problems_of_thread(items, self._finals, self._world.executed) + problems_of_reading(items, runs)
        if problems or self._browser.errors:
            raise self._violation(f"{problems} {self._browser.errors}")
        self._finals = finals(items)
        self._settled, self._returned = settled_among(items), {*outputs_among(items)}
        self._world.recorded |= {mark_of(call) for call in self._settled}
        self._world.awaited |= {mark_of(call) for call in self._settled if call.call_id.startswith(ASKED)}
        self._world.returned |= self._returned
        return items

    def _is_answered(self, message_id: str, items: list[ThreadItem]) -> bool:
        """Whether all is done that the model has asked for; if it is not, nothing of it may have been begun."""
        self._world.ledger.read_on()
        asking = [run for run in self._asking(self._thread_id) if run.message == message_id]
        return bool(asking) and self._is_complete(asking[-1], items)

    def _asking(self, thread_id: str) -> list[ModelRun]:
        """The runs that have asked for calls, but for those that were given up."""
        runs = self._world.ledger.by_thread[thread_id]
        return [run for run in runs if run.after is None and run.id not in self._given_up]

    def _is_complete(self, run: ModelRun, items: list[ThreadItem]) -> bool:
        """Whether all its calls are recorded; if they are not, it was cut off, and none of them was begun."""
        if is_complete(run.id, items):
            return True
        executed = any(mark.startswith(run.id) for mark in self._world.executed)
        if run.is_over or executed or numbers_of(run.id, calls_among(items)):
            raise self._violation(f"calls of {run.id} are lost")
        return False

    async def _retry(self) -> None:
        """Have the message answered again: what came of it so far is given up."""
        await self._browser.reload()
        self._give_up()
        await self._browser.retry()

    def _give_up(self) -> None:
        self._world.ledger.read_on()
        self._given_up |= {run.id for run in self._world.ledger.by_thread[self._thread_id]}
        self._crossed.clear()  # a retry starts over, also without what is required
        self._finals = {}

    async def _load(self) -> None:
        await self._browser.reload(resume=True)

    async def _repost(self) -> None:
        if '"threads.retry_after_item"' in self._browser._last_request:
            self._give_up()
        await self._browser.repost()

    async def _until_unbroken(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step. As long as a stream breaks, do what pages do: post the request again, or be loaded anew."""
        while True:
            try:
                return await step()
            except BrokenStreamError:
                if self._world.workers.broken_alive:
                    raise self._violation("a stream of a living worker is broken") from None
                can_load, can_post = bool(self._thread_id), bool(self._browser._last_request)
                step = self._load if can_load and not (can_post and self._rng.random() < 0.5) else self._repost

    def _violation(self, what: str) -> ViolationError:
        return ViolationError(f"{what}\nthread {self._thread_id}\n{self._browser.transcript}")


def _last_message(items: list[ThreadItem]) -> Any:
    return next((item for item in reversed(items) if item.type == "user_message"), None)
