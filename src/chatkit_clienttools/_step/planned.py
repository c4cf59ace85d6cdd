"""What a call that was asked for will be known by: its own id, and those that its item gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chatkit_clienttools._protocol.plan import PlannedCall
from chatkit_clienttools.receipts import new_call_id
from chatkit_clienttools.store import find_item

if TYPE_CHECKING:
    from chatkit.types import ClientToolCallItem

    from .body import RunningBody
    from .queued import QueuedCall
    from .run import Run

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""

PRINTABLE_ID = re.compile(r"[!-~]{1,200}")
"""Which ids of others may be those of a call: they are in the log, too."""


async def planned(queued: QueuedCall, body: RunningBody) -> PlannedCall:
    """Give a call the ids that it will have; the step replaces those that the thread already has."""
    rules, is_awaited = body.rules, queued.awaited_by is not None
    tool = rules.tool(queued.call.name)
    if not is_awaited:
        rules.warn_about_unknown(queued.call.name)
    own_id = queued.own_id or new_call_id()
    proposed = queued.item.call_id if queued.item else queued.tool_call_id if tool.answer_wanted else None
    return PlannedCall(
        id=own_id,
        name=queued.call.name,
        arguments=queued.call.arguments,
        base_item_id=own_id if is_awaited else await _item_id(queued.item, body.run) or own_id,
        call_id=proposed if proposed and _is_usable(proposed) else own_id,
        wanted=tool.answer_wanted and not is_awaited,
        required=tool.required,
        turn=body.turn,
        at=queued.at,
        awaited_by=queued.awaited_by,
    )


async def _item_id(item: ClientToolCallItem | None, run: Run) -> str | None:
    if item is not None and _is_usable(item.id):
        known = await find_item(run.store, run.thread.id, item.id, run.context)
        if known is None:
            return item.id
    generated: str = run.store.generate_item_id("tool_call", run.thread, run.context)
    return generated


def _is_usable(other_id: str) -> bool:
    """Whether an id that somebody else has chosen can be that of a call."""
    return other_id not in FAKE_IDS and PRINTABLE_ID.fullmatch(other_id) is not None
