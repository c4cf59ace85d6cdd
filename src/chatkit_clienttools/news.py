"""`News`: what the model has not read yet, where OpenAI, or a session of the Agents SDK, keeps the history.

A `Mark` says up to where a run has read its thread. It is made when the run has ended well, and kept in the metadata of
the thread. Whatever is not at or before the mark, and was not made by the run itself, is new.

A response never changes, so an older mark is as good as the newest one: after a run that failed or was stopped, and
after a retry, which deletes items. Conversations and sessions do change. So a mark of one names the newest item that
was in it: if there is another one now, nobody knows what it has, and it is filled anew.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent, ThreadItemRemovedEvent
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ._protocol.outputs import item_of, output_in
from ._step.planned import FAKE_IDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from agents import RunResultStreaming, TResponseInputItem
    from agents.memory import Session
    from chatkit.types import ThreadItem, ThreadMetadata, ThreadStreamEvent, UserMessageItem

KEY = "chatkit_clienttools.news"
"""Where the marks are in the metadata of a thread."""

MARKS = 20
"""How many marks a thread has: a retry goes back to one of them, or starts over."""

NO_ANSWER = "There is no answer."
"""What the model reads as the output of a call that nobody has answered: the API wants one for each call."""


class Mark(BaseModel):
    """Up to where a run that has ended well has read its thread."""

    model_config = ConfigDict(frozen=True)

    after: str | None
    """The item up to which it has read everything; None if it is the beginning."""
    seen: tuple[str, ...]
    """The later items that are no news: the run has read or made them."""
    response: str | None
    """The model's last response."""
    open: dict[str, Any]
    """The model's calls that wait for an output, by their ids, with what their functions have returned."""
    end: str | None = None
    """The newest item of the session."""

    def news_in(self, items: Sequence[ThreadItem]) -> list[ThreadItem] | None:
        """Return the new ones among the items of a thread, newest first; None if the mark does not hold any more."""
        ids = [item.id for item in items]
        if (self.after is not None and self.after not in ids) or not {*self.seen} <= {*ids}:
            return None
        later = items if self.after is None else items[: ids.index(self.after)]
        return [item for item in later if item.id not in self.seen]


_MARKS = TypeAdapter(tuple[Mark, ...])


class News:
    """What the next run of an agent has to send."""

    def __init__(
        self,
        thread: ThreadMetadata,
        items: Sequence[ThreadItem],
        input: list[TResponseInputItem],  # noqa: A002  that is its name in the Agents SDK
        marks: Sequence[Mark],
        session: Session | None,
    ) -> None:
        self.input = input
        """What is new, or the newest items of the thread if there is nothing to build on."""
        self.previous_response_id = marks[-1].response if marks else None
        """The response to build on, if no session keeps the history."""
        self._thread = thread
        self._items = items
        self._marks = marks
        self._session = session

    async def keep(
        self, result: RunResultStreaming, events: AsyncIterator[ThreadStreamEvent]
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Pass on what a run streams, and note in the thread's metadata what the model knows when it has ended well.

        ChatKit saves the thread then. `events` is what `stream_agent_response` returns.
        """
        made: dict[str, None] = {}
        async for event in events:
            match event:
                case ThreadItemDoneEvent(item=item) if not isinstance(item, ClientToolCallItem):
                    made[item.id] = None
                case ThreadItemRemovedEvent(item_id=item_id):
                    made.pop(item_id, None)
            yield event
        mark = await self._mark(result, made)
        if mark is not None:
            marks = [*self._marks, mark][-1 if self._session is not None else -MARKS :]
            self._thread.metadata = {**self._thread.metadata, KEY: _MARKS.dump_python(tuple(marks), mode="json")}

    async def _mark(self, result: RunResultStreaming, made: Iterable[str]) -> Mark | None:
        response = None if result.last_response_id in FAKE_IDS else result.last_response_id
        end = None if self._session is None else _end_of(await self._session.get_items(limit=1))
        if response is None and end is None:
            return None  # the provider keeps nothing
        read = [item.id for item in self._items]
        # a call that is at the browser is news when it is answered
        pending = [n for n, item in enumerate(self._items) if is_pending(item)]
        place = max(pending) + 1 if pending else 0
        after = read[place] if place < len(read) else None
        seen = [item.id for item in self._items[:place] if not is_pending(item)]
        return Mark(after=after, seen=(*seen, *made), response=response, open=_open_calls(result), end=end)


def marks_in(thread: ThreadMetadata, held: Sequence[TResponseInputItem] | None) -> tuple[Mark, ...]:
    """Return the marks of a thread, oldest first; with a session only one that it still agrees with."""
    try:
        marks = _MARKS.validate_python(thread.metadata.get(KEY, ()))
    except ValidationError:
        return ()
    if held is None:
        return marks
    return tuple(mark for mark in marks[-1:] if mark.end is not None and mark.end == _end_of(held))


def that_hold(marks: Sequence[Mark], items: Sequence[ThreadItem], message: UserMessageItem | None) -> tuple[Mark, ...]:
    """Return the marks up to the newest one that holds: its items are there, and the user's message is new to it."""
    for n in range(len(marks), 0, -1):
        news = marks[n - 1].news_in(items)
        if news is not None and (message is None or message.id in {item.id for item in news}):
            return tuple(marks[:n])
    return ()


def as_answers(items: Iterable[ThreadItem], waiting: Mapping[str, Any], held: Iterable[Any]) -> list[ThreadItem]:
    """Return items with each answer under a call id of its own, unless it is for one of the model's calls that wait.

    The model's call of the tool that has asked for it may be known under the same id, and has its output. What a tool
    has returned that is in the session already is left out.
    """
    outputs = _outputs_in(held)
    news = [item for item in items if not _is_in(outputs, item)]
    return [item if (call_id := call_id_of(item)) is None or call_id in waiting else renamed(item) for item in news]


def _is_in(outputs: Mapping[str, Any], item: ThreadItem) -> bool:
    output = output_in(item)
    return output is not None and output.call_id in outputs and outputs[output.call_id] == output.output


def call_id_of(item: ThreadItem) -> str | None:
    """Return the id of the call that the model reads for an item, if there is one."""
    output = output_in(item)
    return output.call_id if output else item.call_id if isinstance(item, ClientToolCallItem) else None


def renamed(item: ThreadItem) -> ThreadItem:
    """Return an item that the model reads as a call and its output, under another call id: always the same one."""
    call_id = f"call_{sha256(item.id.encode()).hexdigest()[:32]}"
    output = output_in(item)
    if output is not None:
        return item_of(item.id, output._replace(call_id=call_id), item.thread_id, item.created_at)
    return item.model_copy(update={"call_id": call_id})


def with_outputs(read: Sequence[Any], waiting: Mapping[str, Any]) -> list[TResponseInputItem]:
    """Return what the model reads with one output for each of its calls that wait, and without these calls."""
    answered = {item["call_id"] for item in read if item.get("type") == "function_call_output"}
    missing: list[Any] = [
        {"type": "function_call_output", "call_id": call_id, "output": NO_ANSWER if output is None else output}
        for call_id, output in waiting.items()
        if call_id not in answered
    ]
    news = [item for item in read if item.get("type") != "function_call" or item["call_id"] not in waiting]
    return [*missing, *news]


def waiting_in(held: Sequence[Any]) -> dict[str, Any]:
    """Return the ids of the model's calls in a session that have no output."""
    calls = {item["call_id"]: None for item in held if item.get("type") == "function_call"}
    outputs = _outputs_in(held)
    return {call_id: None for call_id in calls if call_id not in outputs}


def _outputs_in(held: Iterable[Any]) -> dict[str, Any]:
    return {item["call_id"]: item["output"] for item in held if item.get("type") == "function_call_output"}


def is_pending(item: ThreadItem) -> bool:
    """Whether an item is a call that is at the browser."""
    return isinstance(item, ClientToolCallItem) and item.status == "pending"


def _open_calls(result: RunResultStreaming) -> dict[str, Any]:
    """Return the calls of the model's last response, with what their functions have returned: it was not sent."""
    raw: list[Any] = [item.raw_item for item in result.new_items if item.type == "tool_call_output_item"]
    outputs = {item["call_id"]: item["output"] for item in raw if isinstance(item, dict) and "output" in item}
    last = result.raw_responses[-1].output if result.raw_responses else []
    return {item.call_id: outputs.get(item.call_id) for item in last if item.type == "function_call"}


def _end_of(held: Sequence[TResponseInputItem]) -> str | None:
    """Return what the newest item of a session is known by."""
    if not held:
        return None
    return sha256(json.dumps(held[-1], sort_keys=True, default=str).encode()).hexdigest()[:32]
