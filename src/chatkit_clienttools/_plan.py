"""The plan of a thread: which calls were asked for, in order. It knows neither ChatKit nor asyncio nor a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ._lifecycle import State
from .errors import DamagedPlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

VERSION: Literal[1] = 1
"""The format of the document. A document with another version is refused, never guessed at."""

What = Literal["release", "turn", "model", "answer", "withdrawal"]
"""What a worker may be doing about a call: store it as pending; run the body of a message that it has to wait for; tell
the model all answers up to its own; record its answer; delete its item."""


class _Frozen(BaseModel):
    # a field this version does not know would be lost with the next write: refuse the document instead
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedCall(_Frozen):
    """One call, with the ids it will have when it is released."""

    name: str
    arguments: dict[str, Any]
    item_id: str
    call_id: str
    wanted: bool
    """Whether the model gets the answer."""
    required: bool = False
    """Whether it is still released when the rest of the plan is cancelled."""
    behind: str | None = None
    """The item that was the newest when it was asked for: its own is younger."""
    turn: str | None = None
    """The user message it was asked for under: a retry of that message starts over without the call."""
    at: float
    """When it was asked for, in seconds since the epoch."""


class Claim(_Frozen):
    """A worker's word that it is doing something about a call right now."""

    what: What
    item_id: str
    by: str
    until: float


class Plan(_Frozen):
    """The calls of a thread that are not yet behind us. Calls are added at the end and dropped; they never change."""

    version: Literal[1] = VERSION
    calls: tuple[PlannedCall, ...] = ()
    revision: int = 0
    last: str | None = None
    """The item of the last call that was dropped after it was settled: what a repeated answer to it is known by."""
    aborted: str | None = None
    """The item of the failed call for which calls were given up: that is done once, whatever is repeated."""
    claims: tuple[Claim, ...] = ()
    writer: str = ""
    """The process that wrote this revision."""

    def call(self, item_id: str) -> PlannedCall | None:
        """Return the call that has, or will have, the item `item_id`."""
        return next((call for call in self.calls if call.item_id == item_id), None)

    def holds(self, item_id: str) -> bool:
        """Whether a call of this plan has, or will have, the item `item_id`."""
        return self.call(item_id) is not None

    def adding(self, calls: Iterable[PlannedCall]) -> Plan:
        """Return this plan with `calls` at its end."""
        return self.model_copy(update={"calls": (*self.calls, *calls)})

    def keeping(self, keep: Callable[[PlannedCall], bool]) -> Plan:
        """Return this plan with only the calls for which `keep` is true."""
        return self.model_copy(update={"calls": tuple(call for call in self.calls if keep(call))})

    def replacing(self, call: PlannedCall, other: PlannedCall) -> Plan:
        """Return this plan with `other` in the place of `call`."""
        return self.model_copy(update={"calls": tuple(other if each is call else each for each in self.calls)})

    def done_with(self, item_ids: Iterable[str]) -> Plan:
        """Return this plan without the settled calls `item_ids`, remembering the last of them."""
        settled = frozenset(item_ids)
        done = [call.item_id for call in self.calls if call.item_id in settled]
        if not done:
            return self
        claims = tuple(claim for claim in self.claims if claim.item_id not in settled)
        return self.keeping(lambda call: call.item_id not in settled).model_copy(
            update={"last": done[-1], "claims": claims}
        )

    def claimed(self, claims: Iterable[Claim], now: float) -> Plan:
        """Return this plan with `claims` besides those that it has, and without those that are over."""
        new = tuple(claims)
        taken = {(claim.what, claim.item_id) for claim in new}
        rest = (claim for claim in self.claims if now < claim.until and (claim.what, claim.item_id) not in taken)
        return self.model_copy(update={"claims": (*rest, *new)})

    def freed(self, claims: Iterable[Claim]) -> Plan:
        """Return this plan without `claims`."""
        given_back = tuple(claims)
        return self.model_copy(update={"claims": tuple(claim for claim in self.claims if claim not in given_back)})

    def says_the_same_as(self, other: Plan) -> bool:
        """Whether writing this plan over `other` would change nothing but the revision."""
        return (self.calls, self.last, self.aborted, self.claims) == (
            other.calls,
            other.last,
            other.aborted,
            other.claims,
        )

    def following(self, revision: int, writer: str) -> Plan:
        """Return this plan as the revision after `revision`."""
        return self.model_copy(update={"revision": revision + 1, "writer": writer})

    def to_json(self) -> dict[str, Any]:
        """Return the document to be stored."""
        return {**self.model_dump(mode="json", exclude_defaults=True), "version": self.version}

    @classmethod
    def from_json(cls, document: object, thread_id: str) -> Plan:
        """Read a stored document, or raise `DamagedPlanError` and name the thread."""
        if not isinstance(document, dict):
            raise DamagedPlanError(thread_id, f"it is a {type(document).__name__}, not a JSON object")
        version = document.get("version")
        if version != VERSION:
            found = version if isinstance(version, int) else f"a {type(version).__name__}"
            raise DamagedPlanError(thread_id, f"its format version is {found}, and this code knows {VERSION}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            # name the first damaged field, without its value: a plan holds what users did
            first = error.errors(include_input=False, include_url=False)[0]
            raise DamagedPlanError(thread_id, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


class Progress:
    """How far a plan has come: its calls, each with the state that the thread's items show."""

    def __init__(self, plan: Plan, states: tuple[State, ...]) -> None:
        """Hold `states` against the calls of `plan`."""
        self.plan = plan
        self.states = states

    def _first(self, state: State) -> PlannedCall | None:
        return next((call for call, its in zip(self.plan.calls, self.states, strict=True) if its is state), None)

    @property
    def pending(self) -> PlannedCall | None:
        """The call the browser has, if there is one."""
        return self._first(State.PENDING)

    @property
    def next(self) -> PlannedCall | None:
        """The call to be released now: the first in the queue, unless one is pending."""
        return None if self.pending else self._first(State.QUEUED)

    @property
    def settled(self) -> tuple[PlannedCall, ...]:
        """The calls that were answered."""
        return tuple(call for call, its in zip(self.plan.calls, self.states, strict=True) if its.is_final)

    @property
    def open(self) -> tuple[PlannedCall, ...]:
        """The calls that were not."""
        return tuple(call for call, its in zip(self.plan.calls, self.states, strict=True) if not its.is_final)


def reconcile(plan: Plan, items: Mapping[str, State]) -> Progress:
    """Read the progress of `plan` from the items of its thread. Pure and idempotent.

    `items` holds the state of each client tool call item among the newest of the thread: enough of them to reach the
    latest one of this plan. Calls go out in order, so a call before that one is settled even if its item is out of
    sight.
    """
    latest = max((n for n, call in enumerate(plan.calls) if call.item_id in items), default=-1)
    return Progress(
        plan,
        tuple(
            items.get(call.item_id, State.COMPLETED if n < latest else State.QUEUED)
            for n, call in enumerate(plan.calls)
        ),
    )
