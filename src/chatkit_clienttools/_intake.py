"""How calls come into a plan: those that a run has asked for, and those that are found pending in the thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

from ._journal import FAKE_IDS
from ._lifecycle import State
from ._plan import PlannedCall, reconcile
from .receipts import unstamped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chatkit.types import ClientToolCallItem

    from ._journal import View
    from ._plan import Plan
    from ._rules import Rules
    from ._runs import Asked

PRINTABLE_ID = re.compile(r"[!-~]{1,200}")
"""What a call may be known by, in the log too."""

UNIQUE_ID = re.compile(r"([a-z]+_)?[A-Za-z0-9-]{20,100}")
"""Ids that are made of enough chance; some providers count the calls of a turn instead."""


class Intake:
    """Gives each call the ids it has from then on; `new_id` makes one for an item that a check lets through."""

    def __init__(self, rules: Rules, new_id: Callable[[Callable[[str], bool]], str]) -> None:
        self._rules = rules
        self._new_id = new_id

    def planned(
        self, view: View, asked: Sequence[Asked], taken: frozenset[str], message: str | None
    ) -> list[PlannedCall]:
        """Give every call that a run asked for the ids it will have."""
        is_free = view.free_ids(taken)
        call_ids = {call.call_id for call in view.journal.calls} | {call.call_id for call in view.plan.calls} | FAKE_IDS
        turn = message or view.journal.message or (view.plan.calls[-1].turn if view.plan.calls else None)
        planned: list[PlannedCall] = []
        for each in asked:
            tool = self._rules.tool(each.call.name)
            self._rules.warn_about_unknown(each.call.name)
            item_id = each.item.id if each.item and is_free(each.item.id) else self._new_id(is_free)
            proposed = each.item.call_id if each.item else each.invocation if tool.answer_wanted else None
            call_id = proposed if proposed and proposed not in call_ids and self._may_be_taken(proposed) else None
            call_id = call_id or self._own_call_id(item_id)
            call_ids |= {call_id}
            planned.append(
                PlannedCall(
                    name=each.call.name,
                    arguments=each.call.arguments,
                    item_id=item_id,
                    call_id=call_id,
                    wanted=tool.answer_wanted,
                    required=tool.required,
                    behind=view.journal.newest.id if view.journal.newest else None,
                    turn=turn,
                    at=each.at,
                )
            )
        return planned

    def adopting(self, view: View, plan: Plan, strangers: Iterable[ClientToolCallItem]) -> Plan:
        """Take pending calls that no plan has put there into it, before those that still wait in the queue.

        One with the call id of a call that waits is an earlier attempt at it, whose withdrawal was cut off.
        """
        attempts = {item.call_id: item for item in strangers}
        if not attempts:
            return plan
        states = reconcile(plan, view.journal.states).states
        waiting = [call for call, state in zip(plan.calls, states, strict=True) if state is State.QUEUED]
        back = [
            call.model_copy(update={"item_id": attempts.pop(call.call_id).id})
            for call in waiting
            if call.call_id in attempts
        ]
        adopted = [
            PlannedCall(
                name=item.name,
                arguments=unstamped(item),
                item_id=item.id,
                call_id=item.call_id,
                wanted=self._rules.tool(item.name).answer_wanted,
                turn=view.journal.message,
                at=item.created_at.timestamp(),
            )
            for item in attempts.values()
        ]
        returned = {call.call_id for call in back}
        rest = [call for call in waiting if call.call_id not in returned]
        return plan.keeping(lambda call: call not in waiting).adding([*adopted, *back, *rest])

    def afresh(self, view: View, call: PlannedCall) -> PlannedCall:
        """Return the call for a new attempt at it: the same to a browser that honours receipts, in a new item."""
        return call.model_copy(update={"item_id": self._new_id(view.free_ids())})

    def _may_be_taken(self, call_id: str) -> bool:
        """Whether a provider's id can be that of a call: a receipt has to be the only one of its kind, for ever."""
        pattern = UNIQUE_ID if self._rules.receipts else PRINTABLE_ID
        return pattern.fullmatch(call_id) is not None

    def _own_call_id(self, item_id: str) -> str:
        return f"call_{uuid4().hex}" if self._rules.receipts else item_id
