"""Small builders: the values that the protocol is about, each in one line, and what becomes of them as words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    InferenceOptions,
    UserMessageItem,
)

from chatkit_clienttools import ClientTool
from chatkit_clienttools._protocol.decide import Answered, Policy
from chatkit_clienttools._protocol.plan import Body, Calls, Plan, PlannedCall
from chatkit_clienttools._protocol.thread import Thread, transitions
from chatkit_clienttools.receipts import RECEIPT, receipt_for, stamped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chatkit.types import ThreadItem

THREAD = "thr_1"
NOW = 1_700_000_100.0
RELEASED = 1_700_000_040.0
ASKED = 1_700_000_000.0

ME, OTHER = "my run", "another run"

TOOLS = {
    "gets": ClientTool("gets", result=int),
    "shows": ClientTool("shows", result=None),
    "stops": ClientTool("stops", result=None, required=True),
    "waits": ClientTool("waits", result=int, expires_after=timedelta(seconds=60)),
}


def tool(name: str) -> ClientTool[..., Any]:
    """The declared tools, and any other."""
    return TOOLS.get(name) or ClientTool(name)


def policy(*, keeps: bool = False, aborts: bool = False, receipts: bool = True) -> Policy:
    return Policy(tool=tool, keeps=keeps, aborts=aborts, receipts=receipts)


def own_id(letter: str) -> str:
    """An id of our own, as `new_call_id` makes them."""
    return f"call_{letter * 32}"


def call(letter: str, name: str = "gets", **fields: Any) -> PlannedCall:
    """The call of a letter: its item is `tc_a`, and the provider knows it by `provider's a`."""
    return PlannedCall(
        **{
            "id": own_id(letter),
            "name": name,
            "arguments": {"of": letter},
            "base_item_id": f"tc_{letter}",
            "call_id": f"provider's {letter}",
            "wanted": tool(name).answer_wanted,
            "required": tool(name).required,
            "at": ASKED,
            **fields,
        }
    )


def gets(letter: str, **fields: Any) -> PlannedCall:
    """A call whose answer the model wants."""
    return call(letter, "gets", **fields)


def shows(letter: str, **fields: Any) -> PlannedCall:
    """A call whose answer nobody wants."""
    return call(letter, "shows", **fields)


def stops(letter: str, **fields: Any) -> PlannedCall:
    """A required call."""
    return call(letter, "stops", **fields)


def waits(letter: str, **fields: Any) -> PlannedCall:
    """A call whose time is limited, and whose answer the model wants."""
    return call(letter, "waits", **fields)


def plan(*calls: PlannedCall, **fields: Any) -> Plan:
    return Plan(calls=Calls(calls, THREAD), **fields)


def body(by: str = ME, *, sees: int = 0, holds: Iterable[PlannedCall] = (), until: float = NOW + 60) -> Body:
    return Body(by=by, sees=sees, until=until, holds=tuple(each.id for each in holds))


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds)  # noqa: DTZ006  naive local time, as ChatKit writes it


def pending(of: PlannedCall, *, receipt: bool = True, at: float = RELEASED) -> ClientToolCallItem:
    """The item of a call that the browser has."""
    return ClientToolCallItem(
        id=of.item_id,
        thread_id=THREAD,
        created_at=moment(at),
        call_id=of.call_id,
        name=of.name,
        arguments=stamped(of.arguments, receipt_for(THREAD, of.id)) if receipt else of.arguments,
    )


def done(of: PlannedCall, output: Any = 7, *, receipt: bool = True) -> ClientToolCallItem:
    """The item of a call that was answered."""
    return pending(of, receipt=receipt).model_copy(update={"status": "completed", "output": output})


def stranger(letter: str = "f", name: str = "theirs") -> ClientToolCallItem:
    """A pending call that nobody planned."""
    return pending(call(letter, name), receipt=False)


def message(item_id: str) -> UserMessageItem:
    return UserMessageItem(
        id=item_id,
        thread_id=THREAD,
        created_at=moment(ASKED),
        content=[],
        attachments=[],
        inference_options=InferenceOptions(),
    )


def text(item_id: str) -> AssistantMessageItem:
    return AssistantMessageItem(id=item_id, thread_id=THREAD, created_at=moment(RELEASED), content=[])


def thread(planned: Plan, *items: ThreadItem, gone: Iterable[str] = (), adopts: bool = True) -> Thread:
    """What the store shows, with the items in the order in which they came; a step adopts what nobody planned."""
    read = Thread.read(THREAD, planned, list(reversed(items)), NOW, frozenset(gone))
    return read.adopting_stranger(lambda name: tool(name).answer_wanted) if adopts else read


def answer(output: Any = 7, *, to: PlannedCall | None = None) -> Answered:
    """An answer with the receipt of a call, or without any."""
    result = output if to is None else {RECEIPT: receipt_for(THREAD, to.id), "result": output}
    return Answered(result, by=ME)


# as words


def letter_of(item_id: str) -> str:
    """`a` for the item `tc_a`, and `a-2` for that of its second attempt."""
    return item_id.removeprefix("tc_")


def states(of: Thread, by: Policy) -> list[str]:
    """Each call of the plan with its state: `a pending`."""
    calls = enumerate(of.plan.calls)
    return [f"{letter_of(each.item_id)} {of.state_at(n, by.has_failed).value}" for n, each in calls]


def writes(before: Thread, after: Thread) -> list[str]:
    """What is done to the items: `complete a`, `add b`."""
    return [f"{write.kind} {letter_of(write.item.id)}" for write in after.writes_after(before)]


def changes(before: Thread, after: Thread, by: Policy) -> list[str]:
    """What is announced: `a 0: pending -> completed`, with its position; a new call has no previous state."""
    return [
        f"{letter_of(each.call.item_id)} {each.position}: "
        f"{each.previous.value if each.previous else 'new'} -> {each.state.value}"
        for each in transitions(before, after, by.has_failed)
    ]
