"""One conversation with a server, in which every step is held against the oracle."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from chatkit_clienttools._step.requests import RESUME
from chatkit_clienttools.server import ClientToolServer
from chatkit_clienttools.testing.browser import FakeBrowser
from chatkit_clienttools.testing.browser._failures import BrokenLifecycleError
from chatkit_clienttools.testing.browser._handlers import bare

from ._oracle import ImpossibleError, Oracle
from ._script import is_report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from chatkit.server import ChatKitServer

    from chatkit_clienttools.testing.browser._handlers import Delivery
    from chatkit_clienttools.testing.browser._page import Json

    from ._oracle import Change
    from ._script import Script


class Play:
    """A page, a server, and the oracle that knows what must come of it."""

    def __init__(
        self,
        server: ChatKitServer[Any],
        script: Script,
        *,
        context: Any = None,
        runs: Callable[[], int | None] = lambda: None,
        time_limit: float = 10.0,
    ) -> None:
        self.forgives = isinstance(server, ClientToolServer)
        self._script = script
        self._runs = runs
        self.page = FakeBrowser(
            server,
            context=context,
            handlers=self._on_client_tool,
            answering="when told",
            observer=self._observe,
            time_limit=time_limit,
        )
        self._store_seen = FakeBrowser(server, context=context, time_limit=time_limit)
        self.oracle = Oracle(
            {name: script.tool(name) for name in script.names()}, script.on_user_message, script.on_failure
        )
        self.stopped: Callable[[], object] = lambda: None
        """Is called when Stop was pressed, before it takes hold of the server."""
        self._fails = False
        self._executed = 0
        self._keys: dict[str, str] = {}
        self._final: dict[str, Json] = {}
        self._was_cut_off = False
        self._may_be_claimed = False
        self._is_certain = True

    @property
    def messages(self) -> list[str]:
        """What can be written without asking for more than the server can queue."""
        return self._within_limit(self._script.messages)

    @property
    def actions(self) -> list[str]:
        """What can be pressed without asking for more than the server can queue."""
        return self._within_limit(self._script.actions)

    @property
    def answerable(self) -> list[int]:
        """The places, in `page.delivered`, of the calls that an answer may be posted to, whatever has become of them.

        Without receipts an answer counts for whichever call is pending. And plain ChatKit breaks off at an answer when
        none is.
        """
        delivered = self.page.delivered
        if self.forgives and delivered and delivered[-1].receipt:
            return list(range(len(delivered)))
        is_open = any(world.waiting for world in self.oracle.worlds)
        may_repeat = self.forgives and not is_open
        return [len(delivered) - 1] if delivered and (self.last_is_pending or may_repeat) else []

    @property
    def last_is_pending(self) -> bool:
        """Whether the last call that the page was given still waits for its answer, for all that is known."""
        delivered = self.page.delivered
        return bool(delivered) and all(world.pending == [key_of(delivered[-1])] for world in self.oracle.worlds)

    async def message(self, text: str, cut: Callable[[], object] | None = None) -> None:
        """Write a message."""
        asked = self._script.messages[text]
        await self._step(self.page.send(text), self.oracle.message(asked), cut, self.oracle.cut_message)

    async def retry(self) -> None:
        """Have the last message answered again."""
        if not self._is_certain:
            await self.page.reload()  # one that was cut off may be stored without the page having seen it
        last = [item for item in self.page.items if item["type"] == "user_message"][-1]
        asked = self._script.messages[last["content"][0]["text"]]
        self._final.clear()  # what came after the message is removed
        await self._step(self.page.retry(), self.oracle.message(asked, retried=True))

    async def action(self, kind: str) -> None:
        """Press a button."""
        await self._step(self.page.action(kind), self.oracle.action(self._script.actions[kind]))

    async def answer(
        self, number: int = -1, *, fails: bool = False, times: int = 1, cut: Callable[[], object] | None = None
    ) -> None:
        """Post the answer to a call, so many times at once if the server can tell them from others."""
        call = self.page.delivered[number]
        self._fails = fails
        await self.page.execute(number)
        failed = has_failed(call)
        times = times if self._may_repeat(call) else 1
        posts = asyncio.gather(*(self.page.answer(number) for _ in range(times)))
        recorded = self.oracle.cut_answer(key_of(call), fails=failed)
        done = self.oracle.answer(key_of(call), fails=failed, may_still_run=self._may_be_claimed)
        await self._step(posts, done, cut, recorded, times=times)

    async def resume(self) -> None:
        """Ask for a pending call again."""
        await self._step(self.page.action(RESUME), self.oracle.goes_on, again=True)

    async def reload(self) -> None:
        """Load the thread anew."""
        await self.page.reload()
        await self._look()

    async def rename(self) -> None:
        """Give the thread another title."""
        await self.page.rename("Another title")
        await self._look()

    def time_passes(self) -> None:
        """What a request that was cut off had claimed is free again."""
        self._may_be_claimed = False

    async def settle(self) -> None:
        """Let nothing go wrong any more, and see that every call is settled and the model knows it."""
        given = -1
        while given < len(self.page.delivered):
            given = len(self.page.delivered)
            if self.forgives:
                await self.reload()
                await self.resume()
            while self.last_is_pending:
                await self.answer()
        self._hold(lambda: self.oracle.all_settled(counts_runs=self._runs() is not None))

    def _may_repeat(self, call: Delivery) -> bool:
        """Whether a second answer cannot be taken for one to the next call: it has a receipt, or no call is next."""
        return bool(call.receipt) or all(len(world.waiting) <= 1 for world in self.oracle.worlds)

    def _within_limit(self, asks: Mapping[str, Sequence[str]]) -> list[str]:
        room = self._script.max_queued - max(len(world.waiting) for world in self.oracle.worlds)
        return sorted(what for what, names in asks.items() if len(names) <= room)

    async def _step(
        self,
        request: Awaitable[object],
        done: Change,
        cut: Callable[[], object] | None = None,
        cut_off: Change | None = None,
        *,
        again: bool = False,
        times: int = 1,
    ) -> None:
        given = len(self.page.delivered)
        self._was_cut_off = False
        if cut is not None:
            cut()
        await request
        self._may_be_claimed = self._may_be_claimed or self._was_cut_off
        self._is_certain = self._is_certain and not self._was_cut_off
        self.oracle.became(done, cut_off=cut_off if self._was_cut_off else None)
        came = self.page.delivered[given:]
        # who repeats an answer is shown the call that is pending: once in each response
        if any(count > times for count in Counter(call.item_id for call in came).values()):
            self._break(f"the page was given a call twice: {[f'{call.name} ({call.item_id})' for call in came]}")
        for call in came:
            self._give(call, again=again)
            if times > 1:  # what was sent again for one of the posts may have been answered by the next
                self.oracle.became(done, cut_off=done)
        await self._look()

    def _give(self, call: Delivery, *, again: bool) -> None:
        key = self._keys[call.item_id] = key_of(call)
        self._hold(lambda: self.oracle.given(call.name, key, again=again))
        self._is_certain = not self._may_be_claimed

    async def _look(self) -> None:
        """Hold what the server shows against the oracle."""
        if self.page.errors:
            self._break(f"the chat shows an error: {self.page.errors[-1]}")
        runs = self._runs()
        if runs is not None:
            self._hold(lambda: self.oracle.ran(runs))
        if self._is_certain:
            self._hold(self.oracle.nothing_is_due)
        self._store_seen.thread_id = self.page.thread_id
        await self._store_seen.reload()
        calls = [item for item in self._store_seen.items if item["type"] == "client_tool_call"]
        self._look_at_pending([item for item in calls if item["status"] == "pending"])
        self._look_at_completed({item["id"]: item for item in calls if item["status"] == "completed"})

    def _look_at_pending(self, pending: list[Json]) -> None:
        if len(pending) > 1:
            self._break(f"{len(pending)} calls are pending at once: {[item['id'] for item in pending]}")
        keys = [self._keys[item["id"]] for item in pending if item["id"] in self._keys]
        self._hold(lambda: self.oracle.pending(keys))

    def _look_at_completed(self, completed: dict[str, Json]) -> None:
        for item_id, item in self._final.items():
            if completed.get(item_id) != item:
                became = "has changed since" if item_id in completed else "is gone"
                self._break(f"{item['name']} ({item_id}) was completed, and {became}")
        for item_id, item in completed.items():
            if item_id not in self._final:
                self._look_at_answer(item)
        self._final = completed

    def _look_at_answer(self, item: Json) -> None:
        key = item["arguments"].get("_receipt", item["id"])
        answers = [bare(call.answer) for call in self.page.delivered if key_of(call) == key and call.is_executed]
        if bare(item.get("output")) not in answers:
            self._break(
                f"{item['name']} ({item['id']}) is completed with {item.get('output')}; the page answered {answers}"
            )

    def _hold(self, check: Callable[[], None]) -> None:
        try:
            check()
        except ImpossibleError as error:
            self._break(str(error))

    def _break(self, what: str) -> None:
        raise BrokenLifecycleError(what, self.page.transcript)

    def _observe(self, kind: str, _what: Any) -> None:
        self._was_cut_off = self._was_cut_off or kind in {"stops", "drops"}
        if kind == "stops":
            self.stopped()

    def _on_client_tool(self, name: str, _params: Json) -> Any:
        self._executed += 1
        if self._fails:
            raise RuntimeError(f"the page cannot do it ({self._executed})")
        return self._script.answer(name, self._executed)


def key_of(call: Delivery) -> str:
    """What the page knows a call by."""
    return call.receipt or call.item_id


def has_failed(call: Delivery) -> bool:
    """Whether the page could not do what it was asked for."""
    return is_report(bare(call.answer))
