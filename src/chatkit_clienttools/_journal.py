"""The newest items of a thread, read as the journal of its client tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem

from ._lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store
    from chatkit.types import ThreadItem

    from ._plan import Plan, PlannedCall, Progress

PAGE = 20
"""How many items are read at once: as many as ChatKit itself looks through for pending calls."""

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""

_BY_OTHERS = frozenset({"user_message", "hidden_context_item", "sdk_hidden_context"})
"""Items that the user or the application adds for the model to read."""

_STATES = {"pending": State.PENDING, "completed": State.COMPLETED}


class Journal:
    """The newest items of a thread, newest first."""

    def __init__(self, items: list[ThreadItem]) -> None:
        self.items = items
        self.calls = [item for item in items if isinstance(item, ClientToolCallItem)]
        self.states = {call.id: _STATES[call.status] for call in self.calls}

    @property
    def newest(self) -> ThreadItem | None:
        """The newest item."""
        return self.items[0] if self.items else None

    @property
    def pending(self) -> ClientToolCallItem | None:
        """The newest pending call, whoever has put it there."""
        return next((call for call in self.calls if call.status == "pending"), None)

    @property
    def message(self) -> str | None:
        """The id of the newest user message."""
        return next((item.id for item in self.items if item.type == "user_message"), None)

    @property
    def has_answered_form(self) -> bool:
        """Whether the user has filled in (or skipped) a form since the newest message: the model has to be told."""
        said = (
            item.type
            for item in self.items
            if item.type == "user_message" or (item.type == "structured_input" and item.status != "pending")
        )
        return next(said, None) == "structured_input"

    def is_repeat_of(self, item_id: str | None) -> bool:
        """Whether nothing but an answer of the model has come since the call `item_id` was completed."""
        for item in self.items:
            if item.type in _BY_OTHERS or (item.type == "client_tool_call" and item.id != item_id):
                return False
            if item.id == item_id:
                return True
        return False

    def holds(self, item_id: str) -> bool:
        """Whether the item is among these."""
        return any(item.id == item_id for item in self.items)

    def call(self, item_id: str) -> ClientToolCallItem | None:
        """The item of a call, if it is among these."""
        return next((call for call in self.calls if call.id == item_id), None)

    def strangers(self, plan: Plan) -> list[ClientToolCallItem]:
        """The pending calls that no plan has put there, oldest first."""
        return [call for call in reversed(self.calls) if call.status == "pending" and not plan.holds(call.id)]

    def time_after_newest(self, now: float) -> datetime:
        """Return `now`, or just after the newest item: a store that orders by time takes the older of two on a tie."""
        if self.newest is None:
            return datetime.fromtimestamp(now)  # noqa: DTZ006  naive local time, as ChatKit itself writes it
        newest = self.newest.created_at
        return max(datetime.fromtimestamp(now, newest.tzinfo), newest + timedelta(microseconds=1))


@dataclass(frozen=True)
class View:
    """What the store shows of a thread."""

    plan: Plan
    journal: Journal
    progress: Progress
    vanished: frozenset[str] = frozenset()
    """Messages under which calls were asked for, and which a retry has deleted since."""

    def waiting_since(self, call: PlannedCall) -> float:
        """When a call was released, or asked for if it was not."""
        item = self.journal.call(call.item_id)
        return item.created_at.timestamp() if item else call.at

    def free_ids(self, also_taken: frozenset[str] = frozenset()) -> Callable[[str], bool]:
        """Return a check for item ids that are new to the thread, and that takes each id it has let through."""
        taken = {item.id for item in self.journal.items} | {call.item_id for call in self.plan.calls}
        taken |= FAKE_IDS | also_taken

        def is_free(item_id: str) -> bool:
            if item_id in taken:
                return False
            taken.add(item_id)
            return True

        return is_free


async def read_journal(
    store: Store[Any], thread_id: str, plan: Plan, context: object, *, whole: bool = False
) -> Journal:
    """Read the newest items of a thread, far enough to see how far `plan` has come, or its `whole` story.

    One page is enough for the former as long as nothing but a few items came after the plan's latest call. Beyond that
    this reads on, at most to what was the newest item when the oldest of its calls was asked for.
    """
    seen = {call.item_id for call in (plan.calls[:1] if whole else plan.calls)}
    seen |= {item_id for call in plan.calls[:1] for item_id in (call.turn, call.behind) if item_id}
    items: dict[str, ThreadItem] = {}
    after: str | None = None
    while True:
        page = await store.load_thread_items(thread_id, after, PAGE, "desc", context)
        older = {item.id: item for item in page.data if item.id not in items}
        items.update(older)
        # a store whose cursor starts over brings nothing new: do not follow it for ever
        if not page.has_more or not older or not plan.calls or not seen.isdisjoint(older):
            return Journal(list(items.values()))
        after = page.after
