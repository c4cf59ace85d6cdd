"""Where a plan is kept: under its own key in a store that offers it, or in the thread's metadata.

`SupportsPlans` is the only protocol. Every other store is wrapped in `PlansInMetadata`, which keeps the plan under one
key of `ThreadMetadata.metadata`, hides that key from everybody, and puts the plan back whenever somebody saves the
thread. So a rename, the save of an old copy, or an application that replaces `thread.metadata` cannot lose it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, cast

from chatkit.store import NotFoundError
from chatkit.types import Thread, ThreadMetadata
from typing_extensions import TypeVar

from chatkit_clienttools.errors import UsageError, printable
from chatkit_clienttools.store import StoreWrapper, find_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chatkit.store import Store
    from chatkit.types import Page

    AloneOn = Callable[[str], AbstractAsyncContextManager[None]]
    """What keeps others off a thread, by its id."""

METADATA_KEY = "chatkit_clienttools"
"""Where the plan is in a thread's metadata."""

_TWO_ADAPTERS = (
    "Thread {}: a second server keeps its plans in metadata, in a wrapper around the `server.store` of another one, "
    "which keeps its own there. Give it the store itself, or derive the wrapper from StoreWrapper, which passes "
    "`load_plan` and `save_plan` on"
)

TContext = TypeVar("TContext", default=Any)
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


def plans_of(store: Store[Any]) -> SupportsPlans[Any] | None:
    """Return `store` as one that keeps plans, if it (or the store it wraps) is one."""
    # not isinstance(): a wrapper that passes attributes on is one exactly when what it wraps is one
    offers = callable(getattr(store, "load_plan", None)) and callable(getattr(store, "save_plan", None))
    return cast("SupportsPlans[Any]", store) if offers else None


def with_plans(store: Store[TContext], alone_on: AloneOn) -> Store[TContext]:
    """Return a store that keeps plans: this one, or this one in an adapter."""
    return store if plans_of(store) is not None else PlansInMetadata(store, alone_on)


class Found(NamedTuple):
    """A thread and its plan, as they were loaded."""

    thread: ThreadMetadata | None
    plan: StoredPlan | None


class PlanKeeper:
    """One thread's plan, for one step: load, then save what was made of it, once or more."""

    compares = True
    """Whether `save` is exact across processes."""

    revision: int
    """What the stored plan had when it was loaded or saved last; 0 if there was none."""

    def __init__(self, store: Any, thread_id: str, context: object) -> None:
        self._store = store
        self._thread_id = thread_id
        self._context = context

    async def load(self, *, with_thread: bool = False) -> Found:
        """Load the plan, and its thread if that is asked for or comes with it."""
        thread = await self._load_thread() if with_thread else None
        plan: StoredPlan | None = await self._store.load_plan(self._thread_id, self._context)
        self.revision = plan.revision if plan else 0
        return Found(thread, plan)

    async def _load_thread(self) -> ThreadMetadata:
        thread: ThreadMetadata | None = await self._store.load_thread(self._thread_id, context=self._context)
        if thread is None:  # as some stores report that there is none
            raise NotFoundError(f"Thread {printable(self._thread_id)} does not exist")
        return thread

    async def save(self, document: str) -> bool:
        """Save the plan; False if somebody else has saved one since it was loaded."""
        plan = StoredPlan(self.revision + 1, document)
        is_saved: bool = await self._store.save_plan(self._thread_id, plan, self.revision, self._context)
        if is_saved:
            self.revision = plan.revision
        return is_saved


def keeper(store: Store[Any], thread_id: str, context: object) -> PlanKeeper:
    """Return the keeper of one thread's plan."""
    if isinstance(store, PlansInMetadata):
        return _InMetadata(store.inner, thread_id, context)
    return (_InMetadata if plans_of(store) is None else PlanKeeper)(store, thread_id, context)


class _InMetadata(PlanKeeper):
    """It saves the thread that it has loaded: while a step is at work, nobody else saves it through the adapter."""

    compares = False
    _thread: ThreadMetadata

    async def load(self, *, with_thread: bool = False) -> Found:  # noqa: ARG002  the plan comes with its thread
        self._thread = thread = await self._load_thread()
        self.revision = revision_in(thread)
        return Found(without_plan(thread), plan_in(thread))

    async def save(self, document: str) -> bool:
        plan = StoredPlan(self.revision + 1, document)
        self._thread = with_plan(self._thread, plan)
        await self._store.save_thread(self._thread, context=self._context)
        self.revision = plan.revision
        return True


class PlansInMetadata(StoreWrapper[TContext], Generic[TContext]):
    """A store that keeps plans, around one that does not: they are in the metadata of their threads, out of sight.

    Nothing that is saved through it can lose a plan, within one process and, with `ClientToolSequencer(lock=...)`,
    among several. Save threads through it, as `self.store` of the server: what is saved past it replaces the metadata,
    and the plan with it.

    Args:
        inner: The store that keeps everything.
        alone_on: What keeps steps on a thread, and saves of it, apart: that of the sequencer.
    """

    def __init__(self, inner: Store[TContext], alone_on: AloneOn) -> None:
        super().__init__(inner)
        self._alone_on = alone_on

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        return without_plan(await super().load_thread(thread_id, context))

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        page = await super().load_threads(limit, after, order, context)
        return page.model_copy(update={"data": [without_plan(thread) for thread in page.data]})

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        async with self._alone_on(thread.id):
            stored = await find_thread(self.inner, thread.id, context)
            if stored is not None and revision_in(thread) > revision_in(stored):
                raise UsageError(_TWO_ADAPTERS.format(printable(thread.id)))
            await super().save_thread(_with_document(thread, stored and stored.metadata.get(METADATA_KEY)), context)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        async with self._alone_on(thread_id):
            await super().delete_thread(thread_id, context)

    # what wraps this adapter is taken for a store with plans of its own: a step asks these two, and holds the thread

    async def load_plan(self, thread_id: str, context: TContext) -> StoredPlan | None:
        """Load the plan of a thread and its revision; None if there was never one."""
        return (await keeper(self, thread_id, context).load()).plan

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: TContext) -> bool:
        """Save `plan` if the stored revision is `expected`. That is exact for who keeps others off the thread."""
        plans = keeper(self, thread_id, context)
        await plans.load()
        return plans.revision == expected and await plans.save(plan.document)


def plan_in(thread: ThreadMetadata) -> StoredPlan | None:
    """Return what stands in the place of the plan in a thread's metadata."""
    document = thread.metadata.get(METADATA_KEY)
    if document is None:
        return None
    plan: Any = document.get("plan") if isinstance(document, dict) else document
    return StoredPlan(revision_in(thread), plan)


def revision_in(thread: ThreadMetadata) -> int:
    """Read the revision of a plan, however damaged the rest of it is; 0 if there is none."""
    document = thread.metadata.get(METADATA_KEY)
    revision = document.get("revision") if isinstance(document, dict) else None
    # some databases have one kind of number only
    return int(revision) if isinstance(revision, (int, float, Decimal)) else 0


def without_plan(thread: ThreadMetadata) -> ThreadMetadata:
    """Return a thread as everybody but us sees it."""
    # some stores return None for a thread that they do not have
    return _with_document(thread, None) if METADATA_KEY in getattr(thread, "metadata", ()) else thread


def with_plan(thread: ThreadMetadata, plan: StoredPlan) -> ThreadMetadata:
    """Return a copy of a thread that holds a plan."""
    return _with_document(thread, {"revision": plan.revision, "plan": plan.document})


def _with_document(thread: ThreadMetadata, document: object) -> ThreadMetadata:
    metadata = {key: value for key, value in thread.metadata.items() if key != METADATA_KEY}
    if document is not None:
        metadata[METADATA_KEY] = document
    if isinstance(thread, Thread):  # ChatKit saves one with its items when a title changes in the first run
        thread = ThreadMetadata.model_validate(thread.model_dump())
    return thread.model_copy(update={"metadata": metadata})
