"""One conversation with a server, in which every step is held against the oracle."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.server import ClientToolServer
from chatkit_clienttools.testing.browser import FakeBrowser
from chatkit_clienttools.testing.browser._failures import BrokenLifecycleError
from chatkit_clienttools.testing.browser._handlers import bare

from ._oracle import ImpossibleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from chatkit.server import ChatKitServer

    from chatkit_clienttools.testing.browser._handlers import Delivery
    from chatkit_clienttools.testing.browser._page import Json

    from ._oracle import Change, Oracle


class Play:
    """A page, a server, and the oracle that knows what must come of it."""

    def __init__(
        self,
        server: ChatKitServer[Any],
        oracle: Oracle,
        *,
        answer: Callable[[str, int], Any],
        runs: Callable[[], int | None],
        context: Any,
        time_limit: float,
    ) -> None:
        self.forgives = isinstance(server, ClientToolServer)
        self.oracle = oracle
        self._answer = answer
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
        self.stopped: Callable[[], object] = lambda: None
        """Is called when Stop was pressed, before it takes hold of the server."""
        self._fails = False
        self._executed = 0
        self._keys: dict[str, str] = {}
        self._final: dict[str, Json] = {}
        self._was_cut_off = False
        self.may_be_claimed = False
        """Whether a request that was cut off may still hold what it had claimed."""
        self._is_certain = True

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

    async def retry(self, messages: Mapping[str, Sequence[str]]) -> None:
        """Have the last message answered again."""
        if not self._is_certain:
            await self.page.reload()  # one that was cut off may be stored without the page having seen it
        last = [item for item in self.page.items if item["type"] == "user_message"][-1]
        self._final.clear()  # what came after the message is removed
        asked = messages[last["content"][0]["text"]]
        await self.step(self.page.retry(), self.oracle.message(asked, retried=True))

    async def answer(
        self, number: int = -1, *, fails: bool = False, times: int = 1, cut: Callable[[], object] | None = None
    ) -> None:
        """Post the answer to a call, so many times at once if the server can tell them from others."""
        call = self.page.delivered[number]
        key = key_of(call)
        self._fails = fails
        answer = bare(await self.page.execute(number))
        failed = isinstance(answer, dict) and answer.keys() == {"error"}  # executed only now, or before
        # without a receipt a second answer could be taken for one to the next call
        is_last = all(len(world.waiting) <= 1 for world in self.oracle.worlds)
        times = times if call.receipt or is_last else 1
        posts = asyncio.gather(*(self.page.answer(number) for _ in range(times)))
        done = self.oracle.answer(key, fails=failed, may_still_run=self.may_be_claimed)
        await self.step(posts, done, cut, self.oracle.cut_answer(key, fails=failed), times=times)

    async def settle(self) -> None:
        """Let nothing go wrong any more, and see that every call is settled and the model knows it."""
        given = -1
        while given < len(self.page.delivered):
            given = len(self.page.delivered)
            if self.forgives:
                await self.look_after(self.page.reload())
                await self.resume()
            while self.last_is_pending:
                await self.answer()
        self._hold(lambda: self.oracle.all_settled(counts_runs=self._runs() is not None))

    async def resume(self) -> None:
        """Ask for a pending call again."""
        await self.step(self.page.resume(), self.oracle.goes_on, again=True)

    async def step(
        self,
        request: Awaitable[object],
        done: Change,
        cut: Callable[[], object] | None = None,
        cut_off: Change | None = None,
        *,
        again: bool = False,
        times: int = 1,
    ) -> None:
        """Make a request, and hold what comes of it against what it does: `done`, or `cut_off` if it was."""
        given = len(self.page.delivered)
        self._was_cut_off = False
        if cut is not None:
            cut()
        await request
        self.may_be_claimed = self.may_be_claimed or self._was_cut_off
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
        self._is_certain = not self.may_be_claimed

    async def look_after(self, request: Awaitable[object]) -> None:
        """Make a request that changes no call, and look."""
        await request
        await self._look()

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
        calls = {item["id"]: item for item in self._store_seen.items if item["type"] == "client_tool_call"}
        pending = [item_id for item_id, item in calls.items() if item["status"] == "pending"]
        if len(pending) > 1:
            self._break(f"{len(pending)} calls are pending at once: {pending}")
        keys = [self._keys[item_id] for item_id in pending if item_id in self._keys]
        self._hold(lambda: self.oracle.pending(keys))
        self._look_at_completed({item_id: item for item_id, item in calls.items() if item["status"] == "completed"})

    def _look_at_completed(self, completed: dict[str, Json]) -> None:
        for item_id, item in self._final.items():
            if completed.get(item_id) != item:
                became = "has changed since" if item_id in completed else "is gone"
                self._break(f"{item['name']} ({item_id}) was completed, and {became}")
        for item_id in completed.keys() - self._final.keys():
            item, output = completed[item_id], completed[item_id].get("output")
            key = item["arguments"].get("_receipt", item_id)
            answers = [bare(call.answer) for call in self.page.delivered if key_of(call) == key and call.is_executed]
            if bare(output) not in answers:
                self._break(f"{item['name']} ({item_id}) is completed with {output}; the page answered {answers}")
        self._final = completed

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
        return self._answer(name, self._executed)


def key_of(call: Delivery) -> str:
    """What the page knows a call by."""
    return call.receipt or call.item_id
