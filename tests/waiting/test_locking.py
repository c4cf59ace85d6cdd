"""The composer is locked while a tool waits for the browser, if that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.helpers.merak import calls, speaks
from tests.helpers.waiting import Waiting, tool, twice

if TYPE_CHECKING:
    from chatkit.store import Store

    from tests.helpers.conversation import Reply


def shown(reply: Reply) -> list[str]:
    """What a response has said of the thread's status, in order."""
    return [event["thread"]["status"]["type"] for event in reply.events if event["type"] == "thread.updated"]


async def test_from_ask_to_ask(store: Store[Any]) -> None:
    """The thread is active while the tool and the model run, and locked while the browser has what the tool asks."""
    page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice), locks_thread=True)

    replies = [await page.say(), await page.answer({"name": "Ada"}), await page.answer({"name": "Grace"})]

    assert [["active", "locked"], ["active", "locked"], ["active"]] == [shown(reply) for reply in replies]
