"""What the tests of `ClientToolServer` have in common."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import at
from tests.helpers.merak import animation, selection
from tests.helpers.stores import ClockStore, InsertStore, LiveStore, PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from chatkit.store import Store

    from tests.helpers.conversation import Conversation

STORES: dict[str, Callable[[], Store[Any]]] = {
    "plain": PlainStore,
    "plans": PlansStore,
    "live": LiveStore,
    "clock": ClockStore,
    "insert": InsertStore,
    "memory": MemoryStore,
    "valid plain": lambda: ValidatingStore(PlainStore()),
    "valid plans": lambda: ValidatingStore(PlansStore()),
    "valid live": lambda: ValidatingStore(LiveStore()),
    "valid memory": lambda: ValidatingStore(MemoryStore()),
}

THREE = [animation(state="start"), selection(), animation(state="stop")]
NAMES = [call.name for call in THREE]

RESUME = "chatkit_clienttools.resume"
"""The action that a page sends when it has loaded a thread."""

NOTHING = ["stream_options"]
"""The events of a stream in which nothing happens."""


def lines(log: pytest.LogCaptureFixture, *, at_least: int = logging.INFO) -> list[tuple[str, str]]:
    """What was logged besides the changes of calls: level and text."""
    return [
        (record.levelname, record.getMessage())
        for record in log.records
        if record.name.startswith("chatkit_clienttools")
        and record.levelno >= at_least
        and not record.getMessage().startswith("client tool call ")
    ]


async def everything(chat: Conversation) -> Any:
    """What the store holds of the thread."""
    thread = await chat.server.store.load_thread(chat.thread_id or "", None)
    return thread.model_dump(), [item.model_dump() for item in await chat.items()]


async def outputs(chat: Conversation) -> list[Any]:
    """What the store holds of the answers, oldest first."""
    return [item.output for item in await chat.items() if item.type == "client_tool_call"]


def old_call(chat: Conversation, n: int) -> ClientToolCallItem:
    """A pending call that no plan has put into the thread."""
    thread_id = chat.thread_id or ""
    return ClientToolCallItem(
        id=f"o{n}", thread_id=thread_id, created_at=at(n), call_id=f"c{n}", name=f"old{n}", arguments={}
    )


async def answered_by_a_process_that_died(chat: Conversation, output: Any = None) -> None:
    """Leave the store as a process does that dies just after it has written an answer."""
    pending = next(item for item in await chat.items() if item.type == "client_tool_call" and item.status == "pending")
    done = pending.model_copy(update={"status": "completed", "output": output})
    await chat.server.store.save_item(chat.thread_id or "", done, None)
