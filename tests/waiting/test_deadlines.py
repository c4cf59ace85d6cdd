"""A tool that waits for a browser that does not answer in time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools.errors import CallCancelledError, CallExpiredError
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.waiting import Waiting, stop, tool
from tests.helpers.workers import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]

sign = ClientTool("sign_transaction", result=str, expires_after=timedelta(minutes=1))


async def signs(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The body of a tool that asks once more if nobody answers in time."""
    try:
        return await sequencer.ask(ctx, sign())
    except CallExpiredError as error:
        return f"{error.tool} {error.reason}, then {await sequencer.ask(ctx, sign())}"


async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The body of a tool that lets nothing be raised."""
    try:
        return await sequencer.ask(ctx, sign())
    except CallExpiredError:
        return "expired"
    except CallCancelledError:
        return "cancelled"


async def stops_in_the_end(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The body of a tool that asks for two things, the second of which is required."""
    said = await insists(sequencer, ctx)
    await sequencer.ask(ctx, stop())
    return said


class Pressed(SequencedServer):
    """A server with a button that does nothing."""

    async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        return
        yield


class Slow(Waiting):
    """A page on which nobody answers in time."""

    kind = Pressed

    @classmethod
    def of(cls, store: Store[Any], body: Any, *said: str, **options: Any) -> Slow:
        steps = [[calls(body.__name__)], *map(speaks, said)]
        return cls(store, steps, tool(body), clock=Clock(), tools=(sign, stop), **options)

    @property
    def clock(self) -> Clock:
        clock = self.options["clock"]
        assert isinstance(clock, Clock)
        return clock

    async def expire(self) -> list[str]:
        ended = await self.sequencer.expire(self.server.store, self.chat.thread_id or "", None)
        return [call.name for call in ended]


async def test_the_body_is_told(store: Store[Any]) -> None:
    """A late answer wakes the body with a CallExpiredError; it may ask again, and gets that answer."""
    page = Slow.of(store, signs, "Signed.")
    await page.say()

    page.clock.now += 60
    second = await page.answer("too late")
    last = await page.answer("0x1")

    assert (["sign_transaction"], ["Signed."]) == ([name for name, _ in second.calls], last.texts)
    assert ("output", "sign_transaction expired, then 0x1") == page.seen_by_model[-1]


async def test_nobody_catches_it(store: Store[Any]) -> None:
    """A CallExpiredError that nobody catches ends the tool, as every error does."""

    async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return await sequencer.ask(ctx, sign())

    page = Slow.of(store, asks, "Nobody has signed.")
    await page.say()

    page.clock.now += 60
    last = await page.reload()

    assert (["Nobody has signed."], 2) == (last.texts, page.server.runs)


async def test_each_ask_has_its_own_time(store: Store[Any]) -> None:
    """The time of a second ask begins when that goes out."""
    page = Slow.of(store, signs, "Signed.")
    await page.say()
    page.clock.now += 60
    await page.reload()

    page.clock.now += 59
    last = await page.answer("0x1")

    assert ["Signed."] == last.texts


async def test_after_expire_the_body_waits_for_a_request(store: Store[Any]) -> None:
    """`expire` does not run the body: the next request that can go on with it does, in whatever process."""
    page = Slow.of(store, insists, "Nobody has signed.")
    await page.say()
    page.clock.now += 60

    ended, runs = await page.expire(), page.server.runs
    page.restart()
    last = await page.reload()

    assert (["sign_transaction"], 1) == (ended, runs)
    assert (["Nobody has signed."], ("output", "expired")) == (last.texts, page.seen_by_model[-1])


async def test_an_action_wakes_the_body(store: Store[Any]) -> None:
    """An action after the time is over brings the body's way on, and then the model's word, once."""
    page = Slow.of(store, insists, "Nobody has signed.")
    await page.say()

    page.clock.now += 60
    reply = await page.act("press")
    again = await page.reload()

    assert (["Nobody has signed."], [], 2) == (reply.texts, again.texts, page.server.runs)
    assert ("output", "expired") == page.seen_by_model[-1]


@pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="older ChatKits delete the call before we are asked")
async def test_a_message(store: Store[Any]) -> None:
    """A message after the time is over: the body hears that its call has expired, and not that it was cancelled."""
    page = Slow.of(store, insists, "I see.")
    await page.say()

    page.clock.now += 60
    reply = await page.say("well?")

    assert (["I see."], 2) == (reply.texts, page.server.runs)
    assert ("output", "expired") in page.seen_by_model


async def test_the_rest_of_the_body_goes_on_by_on_failure(store: Store[Any]) -> None:
    """With on_failure="abort" the body still goes on: only what is queued is cancelled."""
    page = Slow.of(store, stops_in_the_end, "I see.", on_failure="abort")
    await page.say()

    page.clock.now += 60
    reply = await page.reload()
    last = await page.answer()

    assert (["stop_everything"], ["I see."]) == ([name for name, _ in reply.calls], last.texts)


async def test_cancel_drops_the_tool(store: Store[Any]) -> None:
    """`cancel` drops a tool that waits for a call whose time is over, as it drops every other."""
    page = Slow.of(store, insists)
    await page.say()

    page.clock.now += 60
    await page.sequencer.cancel(page.server.store, page.chat.thread_id or "", None)

    assert ((), 1) == ((await page.plan()).tools, page.server.runs)
    assert ["stream_options"] == (await page.reload()).types
