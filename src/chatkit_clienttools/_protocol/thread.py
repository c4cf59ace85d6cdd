"""A thread as a value: what the store shows of it, and what two such values differ in."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from chatkit.types import ClientToolCallItem, SDKHiddenContextItem

from chatkit_clienttools.receipts import id_in_receipt, unstamped

from .outputs import Output, item_of
from .plan import Entry, Plan, PlannedCall, Trace, WaitingTool
from .states import Change, State, change_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chatkit.types import ThreadItem

    HasFailed = Callable[[ClientToolCallItem], bool]
    """Whether what the browser answered is an error, or not what its tool asks for."""


class Write(NamedTuple):
    """One item to be written, or deleted."""

    kind: Literal["delete", "complete", "add"]
    item: ClientToolCallItem | SDKHiddenContextItem


class Transition(NamedTuple):
    """One change of one call's state. Without a previous state and a change: the call is new."""

    call: PlannedCall
    position: int
    state: State
    previous: State | None = None
    change: Change | None = None
    since: float = 0.0
    """When the call came into its previous state."""


@dataclass(frozen=True)
class Thread:
    """What the store shows of a thread at one moment, as far as client tool calls are concerned."""

    id: str
    plan: Plan
    items: tuple[ClientToolCallItem, ...]
    """The client tool calls among the newest items, newest first."""
    now: float
    newest: ThreadItem | None = None
    message: str | None = None
    """The newest user message."""
    gone: frozenset[str] = frozenset()
    """Messages under which calls were asked for, and which a retry has deleted since."""
    outputs: tuple[SDKHiddenContextItem, ...] = ()
    """What tools have returned that are in the plan still."""

    @classmethod
    def read(cls, thread_id: str, plan: Plan, items: list[ThreadItem], now: float, gone: frozenset[str]) -> Thread:
        """Make the value from a plan and the newest items, newest first."""
        tools = {tool.id for tool in plan.tools}
        return cls(
            id=thread_id,
            plan=plan,
            items=tuple(item for item in items if isinstance(item, ClientToolCallItem)),
            now=now,
            newest=items[0] if items else None,
            message=next((item.id for item in items if item.type == "user_message"), None),
            gone=gone,
            outputs=tuple(item for item in items if isinstance(item, SDKHiddenContextItem) and item.id in tools),
        )

    # progress: read from the items

    def item(self, call: PlannedCall) -> ClientToolCallItem | None:
        """The item of a call, if it is in sight."""
        return next((item for item in self.items if item.id == call.item_id), None)

    @cached_property
    def _in_sight(self) -> dict[int, ClientToolCallItem]:
        """The items of planned calls, by the places of these calls."""
        places = [(self.plan.calls.position(item.id), item) for item in self.items]
        return {place: item for place, item in places if place is not None}

    @cached_property
    def latest(self) -> int:
        """The place of the latest call that has an item; -1 if none has."""
        return max(self._in_sight, default=-1)

    @cached_property
    def _pending_place(self) -> int | None:
        """The place of the call that the browser has."""
        return max((place for place, item in self._in_sight.items() if item.status == "pending"), default=None)

    @property
    def pending(self) -> PlannedCall | None:
        """The call that the browser has."""
        return None if self._pending_place is None else self.plan.calls[self._pending_place]

    @property
    def pending_item(self) -> ClientToolCallItem | None:
        """The item of the call that the browser has."""
        return None if self._pending_place is None else self._in_sight[self._pending_place]

    @property
    def overdue(self) -> ClientToolCallItem | None:
        """The item of the call that the browser has had for too long."""
        return self.pending_item if self.pending is not None and self.pending.is_overdue(self.now) else None

    @property
    def settled(self) -> int:
        """How many calls at the beginning of the plan are answered."""
        return self.latest + 1 if self._pending_place is None else self._pending_place

    @property
    def next(self) -> PlannedCall | None:
        """The call to be released now: the first in the queue, unless one is pending."""
        place = self.latest + 1
        return None if self.pending or place >= len(self.plan.calls) else self.plan.calls[place]

    @property
    def answers(self) -> int:
        """How many wanted answers the thread has had, ever; what a tool that waited has returned is one too."""
        asked = sum(call.wanted for call in self.plan.calls[: self.settled])
        return self.plan.answers + asked + len(self.outputs)

    @property
    def has_news(self) -> bool:
        """Whether there is an answer that the model wants and has not been told."""
        return self.answers > self.plan.told

    @cached_property
    def tools(self) -> tuple[WaitingTool, ...]:
        """The tools that wait, each with what has become of its calls."""
        return tuple(self._up_to_date(tool) for tool in self._without_item if tool.output is None)

    @property
    def _without_item(self) -> list[WaitingTool]:
        """The tools of the plan that have not returned, or whose output is no item yet."""
        known = {item.id for item in self.outputs}
        return [tool for tool in self.plan.tools if tool.id not in known]

    @property
    def ready(self) -> WaitingTool | None:
        """The first tool that waits and can go on."""
        return next((tool for tool in self.tools if tool.is_ready), None)

    def state_at(self, place: int, has_failed: HasFailed) -> State:
        """The state of the call at a place of the plan."""
        state, item = self._progress_at(place), self.item(self.plan.calls[place])
        return State.FAILED if state is State.COMPLETED and item is not None and has_failed(item) else state

    def fate_of(self, call: PlannedCall, has_failed: HasFailed) -> State:
        """What has become of a call that has left the plan."""
        item = self.item(call)
        if item is None or item.status == "pending":
            return State.CANCELLED
        return State.FAILED if has_failed(item) else State.COMPLETED

    def since(self, call: PlannedCall) -> float:
        """When a call was released, or asked for if it was not."""
        item = self.item(call)
        return item.created_at.timestamp() if item else call.at

    def _progress_at(self, place: int) -> State:
        item = self.item(self.plan.calls[place])
        if item is None:
            return State.COMPLETED if place < self.latest else State.QUEUED
        return State.PENDING if item.status == "pending" else State.COMPLETED

    def _up_to_date(self, tool: WaitingTool) -> WaitingTool:
        if tool.is_ready:
            return tool
        return tool.but(journal=tuple(self._what_became_of(entry) for entry in tool.journal))

    def _what_became_of(self, entry: Entry) -> Entry:
        """Return a line of a journal, with the answer if there is one: a call that has left the plan is cancelled."""
        if not entry.is_open or entry.call is None:
            return entry
        place = self.plan.calls.find(entry.call)
        if place is None:
            return entry.model_copy(update={"is_cancelled": True})
        return entry.model_copy(update={"item_id": self.plan.calls[place].item_id}) if place < self.settled else entry

    # changes

    def planning(self, **changes: object) -> Thread:
        """Return this thread with changes to its plan."""
        return replace(self, plan=self.plan.but(**changes))

    def having(self, plan: Plan, writes: Iterable[Write]) -> Thread:
        """Return this thread with another plan, and with some of the writes done."""
        items = {item.id: item for item in self.items}
        outputs = {item.id: item for item in self.outputs}
        for write in writes:
            if write.kind == "delete":
                items.pop(write.item.id, None)
            elif isinstance(write.item, ClientToolCallItem):
                items[write.item.id] = write.item
            else:
                outputs[write.item.id] = write.item
        return replace(self, plan=plan, items=tuple(items.values()), outputs=tuple(outputs.values()))

    def completing(self, item: ClientToolCallItem) -> Thread:
        """Return this thread with a pending item completed."""
        return replace(self, items=tuple(item if each.id == item.id else each for each in self.items))

    def releasing(self, call: PlannedCall, arguments: dict[str, object]) -> Thread:
        """Return this thread with the item of a call, as ChatKit's own slot would have made it."""
        item = ClientToolCallItem(
            id=call.item_id,
            thread_id=self.id,
            created_at=self._time_after_newest(),
            call_id=call.call_id,
            name=call.name,
            arguments=arguments,
        )
        return replace(self, items=(item, *self.items), newest=item)

    def timing_next(self, expires_after: timedelta | None) -> Thread:
        """Return this thread with the time of its next call, which is to be released now."""
        place, calls = self.latest + 1, self.plan.calls
        call = calls[place].released(self.now, expires_after)
        return self if call is calls[place] else self.planning(calls=calls.replacing(place, call, at=place))

    def traced(self, before: Thread, request: str | None) -> Thread:
        """Return this thread with the request that began its plan, and the one that released its pending call."""
        asked = (*self.plan.calls[self.settled : self.settled + 1], *self.tools)
        if self is before or not asked:
            return self
        trace = self.plan.trace or Trace(began=min(each.at for each in asked), asked=request)
        item = self.pending_item
        if item is not None and item is not before.pending_item:
            trace = trace.model_copy(update={"item": item.id, "released": request})
        return self if trace is self.plan.trace else self.planning(trace=trace)

    def with_outputs(self, before: str | None = None) -> Thread:
        """Return this thread with an item for each tool that has returned; a step may have died before it wrote one.

        The model reads them before the user message `before`, which was written meanwhile.
        """
        thread = self
        for tool in self._without_item:
            if tool.output is not None:
                output = Output(tool.call_id, tool.name, tool.arguments, json.loads(tool.output), tool.before or before)
                item = item_of(tool.id, output, self.id, thread._time_after_newest())
                thread = replace(thread, outputs=(*thread.outputs, item), newest=item)
        return thread

    def adopting_stranger(self, wanted: Callable[[str], bool]) -> Thread:
        """Return this thread with the newest pending call in its plan, if nobody planned it.

        Plain ChatKit put it there, or the application did.
        """
        item = next(iter(self._live), None)
        if item is None or self.plan.calls.position(item.id) is not None:
            return self
        call = PlannedCall(
            id=id_in_receipt(item) or item.call_id,
            name=item.name,
            arguments=unstamped(item),
            base_item_id=item.id,
            call_id=item.call_id,
            wanted=wanted(item.name),
            turn=self.message,
            at=item.created_at.timestamp(),
        )
        return self.planning(calls=self.plan.calls.with_inserted(self.settled, [call]), mark=item.id)

    def without_strays(self) -> Thread:
        """Return this thread with one pending item at most.

        A pending item that had to go before goes now: its deletion was cut off, or the item was written late. Of
        several others only the newest stays; two workers without a lock can leave them.
        """
        stays, thread = self._live[:1], self
        for item in self.items:
            if item.status == "pending" and item not in stays:
                thread = thread.withdrawing(item)
        return thread

    def withdrawing(self, item: ClientToolCallItem) -> Thread:
        """Return this thread without a pending item; the call that it belongs to waits for a new attempt.

        If a later call has an item, it waits behind that one: what is before such a call counts as finished.
        """
        place = self.plan.calls.position(item.id)
        thread = replace(
            self,
            items=tuple(each for each in self.items if each is not item),
            plan=self.plan.removing(item.id),
        )
        if place is None:
            return thread
        again = self.plan.calls[place].new_attempt()
        while self._has_id(again.item_id):
            again = again.new_attempt()
        return thread.planning(calls=self.plan.calls.replacing(place, again, at=max(place, thread.latest)))

    def without_finished(self) -> Thread:
        """Return this thread without the finished calls that a step has left in the plan, because it was cut off."""
        return replace(self, plan=self.at_rest, outputs=()) if self.settled or self.outputs else self

    def _has_id(self, item_id: str) -> bool:
        known = item_id in self.plan.removed or any(item.id == item_id for item in self.items)
        return known or self.plan.calls.position(item_id) is not None

    @property
    def _live(self) -> list[ClientToolCallItem]:
        """The pending items that do not have to go, newest first."""
        return [item for item in self.items if item.status == "pending" and item.id not in self.plan.removed]

    def _time_after_newest(self) -> datetime:
        """Now, or just after the newest item: a store that orders by time takes the older of two on a tie."""
        if self.newest is None:
            return datetime.fromtimestamp(self.now)  # noqa: DTZ006  naive local time, as ChatKit itself writes it
        newest = self.newest.created_at
        return max(datetime.fromtimestamp(self.now, newest.tzinfo), newest + timedelta(microseconds=1))

    @cached_property
    def at_rest(self) -> Plan:
        """The plan as it is kept once the items are written: finished calls leave it, and a dead worker's body."""
        done = list(self.plan.calls[: self.settled])
        calls = self.plan.calls[self.settled :]
        finished = self.plan.finished + len(done)
        body = self.plan.body if self.plan.body and self.plan.body.is_alive(self.now) else None
        is_over = not calls and not self.tools and self.answers <= self.plan.told and body is None
        tools = tuple(self._up_to_date(tool) for tool in self._without_item)
        return self.plan.but(
            trace=self.plan.trace if calls or tools else None,
            body=body,
            calls=calls,
            tools=tools,
            finished=0 if is_over else finished,
            answers=self.answers,
            last=done[-1].id if done else self.plan.last,
            turn=done[-1].turn if done else self.plan.turn,
            mark=done[-1].item_id if done else self.plan.mark,
        )

    # differences

    def writes_after(self, before: Thread) -> list[Write]:
        """What has to be done to the items for the store to show this thread instead of the one before."""
        was = {item.id: item for item in before.items}
        now = {item.id: item for item in self.items}
        deleted = [Write("delete", item) for key, item in was.items() if key not in now]
        completed = [Write("complete", item) for key, item in now.items() if key in was and item is not was[key]]
        added = [Write("add", item) for key, item in now.items() if key not in was]
        outputs = [Write("add", item) for item in self.outputs if item not in before.outputs]
        return [*deleted, *completed, *outputs, *added]


def transitions(before: Thread, after: Thread, has_failed: HasFailed) -> Iterator[Transition]:
    """Each change of a call's state between two values of a thread, in the order in which they happen."""
    is_same_plan = before.plan.calls is after.plan.calls
    # if the plan holds the same calls, only those can differ whose items do
    changed = [write.item.id for write in after.writes_after(before)] if is_same_plan else None
    was = {place.call.id: place for place in _places(before, changed, has_failed)}
    now = {place.call.id: place for place in _places(after, changed, has_failed)}
    for key, (n, call, state) in was.items():
        _, current, becomes = now.get(key) or (n, call, state if state.is_final else after.fate_of(call, has_failed))
        if becomes is not state or (state is State.PENDING and current.attempt != call.attempt):
            yield Transition(current, n, becomes, state, change_between(state, becomes), before.since(call))
    new = [place for key, place in now.items() if key not in was]
    for n, call, _ in new:
        yield Transition(call, n, State.QUEUED)
    for n, call, state in new:
        if state is not State.QUEUED:
            yield Transition(call, n, state, State.QUEUED, change_between(State.QUEUED, state), call.at)


class _Place(NamedTuple):
    position: int
    call: PlannedCall
    state: State


def _places(thread: Thread, item_ids: Iterable[str] | None, has_failed: HasFailed) -> Iterator[_Place]:
    """The calls of a thread with their states: those that have one of the items, or all."""
    calls = thread.plan.calls
    if item_ids is None:
        places: Iterable[int | None] = range(len(calls))
    else:
        places = dict.fromkeys(calls.position(item_id) for item_id in item_ids)
    for n in places:
        if n is not None:
            yield _Place(thread.plan.finished + n, calls[n], thread.state_at(n, has_failed))
