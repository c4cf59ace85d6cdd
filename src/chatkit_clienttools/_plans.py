"""Where a plan is kept: under its own key, in a store that offers it, or in the thread's metadata.

A store that implements `SupportsPlans` keeps the plan where no other write can reach it, and its compare-and-set makes
a claim exact across processes. Any other store keeps it under one key of `ThreadMetadata.metadata`, which every store
persists and ChatKit never sends to the browser.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from ._plan import Plan
from .errors import DamagedPlanError

if TYPE_CHECKING:
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata

METADATA_KEY = "chatkit_clienttools"
"""Where the plan is in a thread's metadata."""

WRITER = "write_plan_into_thread"
"""The method of a store that puts a plan there in one step."""

TContext_contra = TypeVar("TContext_contra", contravariant=True)


class StoredPlan(NamedTuple):
    """A plan as a store keeps it."""

    revision: int
    document: str


class SupportsPlans(Protocol[TContext_contra]):
    """What a `Store` may offer in addition: to keep the plan of a thread under its own key, with compare-and-set.

    The plan goes with its thread: `delete_thread` drops it. `StoredPlan` is in `chatkit_clienttools.stores`.
    """

    async def load_plan(self, thread_id: str, context: TContext_contra) -> StoredPlan | None:
        """Load the plan of a thread and its revision; None if there was never one."""
        ...

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: TContext_contra) -> bool:
        """Save `plan` if the stored revision is `expected` (0: there is none yet), in one step; say whether it was."""
        ...


class PlanKeeper(Protocol):
    """One thread's plan, wherever it is kept. A keeper serves one attempt: load, then save what was made of it."""

    compares: bool
    """Whether `save` notices that somebody else has saved since `load`."""

    revision: int
    """The revision that `load` has found, even if it could not read the rest."""

    async def load(self) -> Plan:
        """Load the plan; an empty one if there is none."""
        ...

    async def save(self, plan: Plan) -> bool:
        """Save the plan; False if `compares` and the stored revision is no longer the one that was loaded."""
        ...


def keeper(store: Store[Any], thread: ThreadMetadata, context: object) -> PlanKeeper:
    """Return the keeper of this thread's plan."""
    plans = plans_of(store)
    return _InMetadata(store, thread, context) if plans is None else _UnderItsOwnKey(plans, thread.id, context)


def plans_of(store: Store[Any]) -> SupportsPlans[Any] | None:
    """Return `store` as one that keeps plans, if it (or the store it wraps) is one."""
    # not isinstance(): a wrapper that passes attributes on is one exactly when what it wraps is one
    offers = callable(getattr(store, "load_plan", None)) and callable(getattr(store, "save_plan", None))
    return cast("SupportsPlans[Any]", store) if offers else None


def plan_in(thread: ThreadMetadata) -> Plan:
    """Read the plan in a thread's metadata; an empty one if there is none."""
    document = thread.metadata.get(METADATA_KEY)
    return Plan() if document is None else Plan.from_json(document, thread.id)


def revision_in(thread: ThreadMetadata) -> int:
    """Read the revision of the plan in a thread's metadata, however damaged the rest of it is; 0 if there is none."""
    document = thread.metadata.get(METADATA_KEY)
    revision = document.get("revision") if isinstance(document, dict) else None
    # some databases have one kind of number only
    return int(revision) if isinstance(revision, (int, float, Decimal)) else 0


def put_plan(thread: ThreadMetadata, document: object) -> None:
    """Put the document of a plan into a thread's metadata."""
    thread.metadata = {**thread.metadata, METADATA_KEY: document}


def put_plan_quietly(thread: ThreadMetadata, document: object) -> None:
    """Put the document of a plan, which is saved, onto a thread object that ChatKit watches for changes."""
    thread.metadata = _QuietMetadata({**thread.metadata, METADATA_KEY: document})


class _QuietMetadata(dict[str, Any]):
    """Metadata that compares equal whatever plan it holds.

    ChatKit saves a thread again when it differs from the copy it made before. The plan is saved by us, but it must be
    on the thread object too, for whoever saves that one next. Without this each plan would be written twice. A copy of
    it, pickled or deep, is a plain dictionary: a store that compares what it has with what it gets sees every change.
    """

    __hash__ = None  # like any dict

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and _without_plan(self) == _without_plan(other)

    def __ne__(self, other: object) -> bool:  # dict has one of its own, which would win
        return not self == other

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def _without_plan(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != METADATA_KEY}


class _UnderItsOwnKey:
    compares = True

    def __init__(self, store: SupportsPlans[Any], thread_id: str, context: object) -> None:
        self._store = store
        self._thread_id = thread_id
        self._context = context
        self.revision = 0

    async def load(self) -> Plan:
        stored = await self._store.load_plan(self._thread_id, self._context)
        if stored is None:
            return Plan()
        self.revision = stored.revision
        try:
            document = json.loads(stored.document)
        except ValueError:
            raise DamagedPlanError(self._thread_id, "it is not JSON") from None
        return Plan.from_json(document, self._thread_id)

    async def save(self, plan: Plan) -> bool:
        stored = StoredPlan(plan.revision, json.dumps(plan.to_json(), separators=(",", ":")))
        return await self._store.save_plan(self._thread_id, stored, self.revision, self._context)


class _InMetadata:
    compares = False

    def __init__(self, store: Store[Any], thread: ThreadMetadata, context: object) -> None:
        self._store = store
        self._thread = thread
        self._context = context
        self._fresh = thread
        self.revision = 0

    async def load(self) -> Plan:
        # the thread ChatKit handed over may be older than the request: what another one wrote is in the store
        self._fresh = await self._store.load_thread(self._thread.id, context=self._context)
        self.revision = revision_in(self._fresh)
        if METADATA_KEY in self._fresh.metadata and self._fresh is not self._thread:
            put_plan_quietly(self._thread, self._fresh.metadata[METADATA_KEY])
        return plan_in(self._fresh)

    async def save(self, plan: Plan) -> bool:
        document = plan.to_json()
        if hasattr(type(self._store), WRITER):  # not one that it wraps: a wrapper may change what it passes on
            await getattr(self._store, WRITER)(self._thread.id, document, self._context)
        else:
            put_plan(self._fresh, document)
            await self._store.save_thread(self._fresh, context=self._context)
        put_plan_quietly(self._thread, document)
        return True
