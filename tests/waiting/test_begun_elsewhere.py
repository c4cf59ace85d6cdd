"""Tools that ask the browser in a run that no message has begun: that of a button, or of a form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools.errors import CallCancelledError
from tests.helpers.conversation import at
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.waiting import Waiting, chooses, tool, twice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]


async def gives_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """A body that returns when its call is cancelled."""
    try:
        return await chooses(sequencer, ctx)
    except CallCancelledError:
        return "given up"


class Acting(SequencedServer):
    """A server whose action lets the model run."""

    async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.respond(thread, None, context):
            yield event


class ActingPage(Waiting):
    kind = Acting


class TestRuns:
    async def test_an_action(self, store: Store[Any]) -> None:
        """A tool that the model calls in the run of an action asks, is woken, and its output is read after that."""
        page = ActingPage(store, [speaks("Hello."), [calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        first = await page.act("go on")
        second = await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert [1, 1, 0] == [len(reply.calls) for reply in (first, second, last)]
        assert ([], [], ["Good."]) == (first.texts, second.texts, last.texts)
        assert [("call", "twice", "{}"), ("output", "Ada, Grace")] == page.seen_by_model[-2:]
        assert ((), 3) == ((await page.plan()).tools, page.server.runs)

    async def test_a_message_after_an_action(self, store: Store[Any]) -> None:
        """A message cancels what a tool of an action's run asks for; the model reads its output before the message."""
        page = ActingPage(store, [speaks("Hello."), [calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say()
        await page.act("go on")
        reply = await page.say("never mind")

        assert (["Good."], []) == (reply.texts, reply.errors)
        assert [("output", "given up"), ("user", "never mind")] == page.seen_by_model[-2:]

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_a_form(self, store: Store[Any]) -> None:
        """A tool that the model calls in the run for a form that was filled in asks, and is woken by the answer."""
        page = Waiting(store, [speaks("Hello."), [calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        form = chatkit.types.StructuredInputItem(
            id="f", thread_id=page.chat.thread_id or "", created_at=at(1), inputs=[]
        )
        await page.chat.touch(form)
        asked = page._noted(await page.chat.fill_in("f"))
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], ["Good."]) == ([name for name, _ in asked.calls], last.texts)
        assert ("output", "Ada") == page.seen_by_model[-1]
