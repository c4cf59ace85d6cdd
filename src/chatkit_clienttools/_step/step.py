"""One step: read a thread, decide, write the difference, announce it. The unit of work; one for each event.

The order of writes is the plan first, if it holds anything new, then the items, then the plan as it is at rest. In a
store that compares before it saves, the first write takes the lease and the last one drops it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from chatkit.types import ClientToolCallItem

from chatkit_clienttools._protocol.decide import Answered, Ended, Event, Resumed, StepTaken, WentOn, Wrote, recorded
from chatkit_clienttools._protocol.plan import CLOCK_SKEW_SECONDS, Plan
from chatkit_clienttools._protocol.states import State
from chatkit_clienttools._protocol.thread import Thread, Transition, Write, transitions
from chatkit_clienttools.errors import (
    ContendedPlanError,
    DamagedPlanError,
    LifecycleViolationError,
    UsageError,
    printable,
)
from chatkit_clienttools.observe import LifecycleEvent, announce, logger, tell
from chatkit_clienttools.receipts import answer_of
from chatkit_clienttools.store import find_item, newest_items

from .exclusion import LEASE_SECONDS, Patience, to_the_end
from .plans import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chatkit.store import Store
    from chatkit.types import ThreadItem, ThreadMetadata

    from chatkit_clienttools._protocol.plan import Trace, WaitingTool

    from .plans import Found, PlanKeeper
    from .rules import Rules

ATTEMPTS = 20
"""How often a step is tried against other writers."""

HANDFUL = 5
"""How many items are read at first: the pending call is the newest one, as a rule."""

PAGE = 20
"""How many items are read at once beyond that, and how far a pending call is looked for that nobody planned."""

ANSWERS_READ = 100
"""How many items are read at once where the answers to a waiting tool are looked for further back."""

FOR_EACH_ANSWER = 3
"""How many items are read for each answer that a waiting tool has had: there may be others between them."""


@dataclass(frozen=True)
class Outcome:
    """What a step has done."""

    before: Thread
    after: Thread
    metadata: ThreadMetadata | None
    """The thread as ChatKit knows it, if it was loaded."""

    writes: tuple[Write, ...]
    """What was done to the items."""
    sent_again: ClientToolCallItem | None
    """The pending call, if the page has lost the response in which it was."""

    @property
    def is_noop(self) -> bool:
        """Whether the event changes nothing."""
        return self.after is self.before and not self.writes

    @property
    def has_completed(self) -> bool:
        """Whether a call has been completed: by an answer, or because its time was over."""
        return any(write.kind == "complete" for write in self.writes)

    @property
    def released(self) -> ClientToolCallItem | None:
        """The call to be streamed; one that was added, unless another worker has removed it meanwhile."""
        items = [write.item for write in self.writes if write.kind == "add"]
        added = [item for item in items if isinstance(item, ClientToolCallItem)]
        there = {item.id for item in self.after.items}
        return next((item for item in added if item.id in there), self.sent_again)


class Steps:
    """The steps that one request takes on one thread."""

    def __init__(self, rules: Rules, store: Store[Any], thread_id: str, context: object) -> None:
        self._rules = rules
        self._store = store
        self._thread_id = thread_id
        self._context = context
        self.has_saved = False
        """Whether a plan was saved, or may have been."""
        self.removed: list[str] = []
        """The items that are gone, of which the browser has to hear, also if a step fails after that."""
        self.newest: ThreadItem | None = None
        """The item that the request has streamed last."""
        self._latest: _Draft
        """What the step before has done."""
        self._completed: set[str] = set()
        """The calls that were stored as completed."""

    async def take(self, event: Event, *, with_thread: bool = False) -> Outcome:
        """Take the step for one event. Once begun it comes to its end, even if the request is cancelled.

        A step of a woken tool begins where the one before has ended, without reading the items again. If somebody else
        has come in between, a store that compares says so when the plan is saved; of others the revision is read.
        """
        return await to_the_end(self._take(event, with_thread=with_thread))

    def begin_new(self) -> Outcome:
        """Say where a thread stands that this request has made: nobody else knows of it, and nothing has to be read."""
        thread = Thread(self._thread_id, Plan(), (), self._rules.clock())
        return Outcome(thread, thread, None, (), None)

    async def look(self, *, whole: bool = False) -> tuple[Thread, list[ThreadItem]]:
        """Read the thread without changing anything; `whole` goes back as far as the plan's finished calls."""
        plans = keeper(self._store, self._thread_id, self._context)
        plan = self._plan_in(await plans.load())
        items = await self._items(plan, depth=PAGE, finished=plan.finished if whole else 0)
        return self._thread(plan, items), items

    async def newest_message(self) -> str | None:
        """Look for the newest user message further back than a step has to read."""
        page = await self._store.load_thread_items(self._thread_id, None, PAGE, "desc", self._context)
        return next((item.id for item in page.data if item.type == "user_message"), None)

    async def drop_damaged(self) -> None:
        """Put an empty plan in the place of one that cannot be read."""
        async with self._rules.alone_on(self._thread_id):
            plans = keeper(self._store, self._thread_id, self._context)
            try:
                list(self._plan_in(await plans.load()).calls)
            except DamagedPlanError:
                await plans.save(Plan(writer=self._rules.worker).to_text())

    async def _take(self, event: Event, *, with_thread: bool) -> Outcome:
        drafts: list[_Draft] = []
        try:
            async with self._rules.alone_on(self._thread_id):
                return await self._carry_out(event, drafts, with_thread=with_thread)
        finally:  # an observer is code of the application: it is called when nothing is held any more
            for draft in drafts:
                self._announce_all(draft)

    async def _carry_out(self, event: Event, drafts: list[_Draft], *, with_thread: bool) -> Outcome:
        """Decide and write, and again from what has been done if another worker comes in between."""
        depth = PAGE if isinstance(event, (Answered, Resumed)) else HANDFUL
        refusal: BaseException | None = None
        known = self._latest if isinstance(event, (StepTaken, WentOn)) else None
        for _ in range(ATTEMPTS):
            if known is not None and await _stands(known.plans):
                draft = self._decided_after(known, event)
            else:
                draft = await self._decided(event, depth, with_thread=with_thread)
            known = None
            # what is not in the table raises here, before anything is written
            changes = list(transitions(draft.before, draft.after, self._rules.policy.has_failed))
            drafts.append(draft)
            try:
                await self._write(draft)
                draft.changes = changes
            except _OvertakenError as overtaken:
                refusal = overtaken.__cause__
                depth *= PAGE  # what is in the way may be further back
                event = draft.rest_of(event)
            else:
                self._latest = draft
                writes = tuple(write for each in drafts for write in each.done)
                again = self._rules.policy.sends_again(draft.after, event)
                return Outcome(draft.before, draft.after, draft.metadata, writes, again)
        raise refusal or ContendedPlanError(self._thread_id, ATTEMPTS)

    async def _decided(self, event: Event, depth: int, *, with_thread: bool) -> _Draft:
        """Read the thread, and decide what the event makes of it."""
        plans = keeper(self._store, self._thread_id, self._context)
        stored, metadata = await self._load(plans, with_thread=with_thread)
        items = await self._items(stored, depth=depth)
        gone = await self._gone(stored, items) if isinstance(event, Wrote) else frozenset[str]()
        thread = self._thread(stored.but(lease=None) if stored.lease else stored, items, gone)
        if thread.pending is not None and thread.pending.item_id in self._completed:
            raise UsageError(
                f"The store has not kept that item {thread.pending.item_id} is completed: it is pending again. "
                "`chatkit-clienttools doctor` says what a store has to keep"
            )
        before = thread.adopting_stranger(lambda name: self._rules.tool(name).answer_wanted)
        return _Draft(plans, stored, before, self._after(before, event), metadata)

    def _decided_after(self, known: _Draft, event: Event) -> _Draft:
        """Decide what the event makes of the thread as the step before has left it."""
        newest = self.newest or known.after.newest
        before = replace(known.after, now=self._rules.clock(), newest=newest)
        after, stored = self._after(before, event), known.after.at_rest
        return _Draft(known.plans, stored, before, after, None, is_assumed=known.plans.compares)

    def _after(self, before: Thread, event: Event) -> Thread:
        after, tracer = self._rules.policy.decide(before, event), self._rules.tracer
        return after if tracer is None else after.traced(before, tracer.here())

    # reading

    async def _load(self, plans: PlanKeeper, *, with_thread: bool) -> tuple[Plan, ThreadMetadata | None]:
        """Load the plan, once no other worker's step is at work on it."""
        patience = Patience(self._rules.monotonic)
        while True:
            found = await plans.load(with_thread=with_thread)
            plan = self._plan_in(found)
            if not plans.compares and not self._rules.lock:
                self._rules.warn_about_others(self._thread_id, plan)
            # what was written under a lease of our own is over: a lock keeps those steps apart
            if plan.lease in {None, self._rules.holder} or await patience.is_over((plan.lease, plans.revision)):
                return plan, found.thread

    def _plan_in(self, found: Found) -> Plan:
        """Read the plan that was loaded; an empty one if there was never one."""
        return Plan.from_text(found.plan.document, self._thread_id) if found.plan else Plan()

    async def _items(self, plan: Plan, *, depth: int, finished: int = 0) -> list[ThreadItem]:
        """Read the newest items, newest first, as far as it takes to see how far the plan has come.

        Without a plan a pending call is looked for among the newest `depth` items.
        """
        # what waiting tools were answered is read with the rest: one of them may go on now, from the top
        limit = HANDFUL + FOR_EACH_ANSWER * sum(len(tool.answers) for tool in plan.tools)

        def is_enough(items: Mapping[str, ThreadItem]) -> bool:
            calls = [item for item in items.values() if isinstance(item, ClientToolCallItem)]
            return _shows(plan, items, calls, depth) and _completed(calls) >= finished

        return await self._newest(is_enough, limit)

    async def answers_of(self, waiting: WaitingTool, known: Iterable[ThreadItem]) -> dict[str, ClientToolCallItem]:
        """Return the items with the answers that a tool has had, by their ids; one that is gone is not among them."""
        wanted, begun = set(waiting.answers), waiting.at - CLOCK_SKEW_SECONDS

        def is_enough(items: Mapping[str, ThreadItem]) -> bool:
            return wanted.issubset(items) or any(item.created_at.timestamp() < begun for item in items.values())

        items = list(known)
        if not wanted.issubset(item.id for item in items):
            items = await self._newest(is_enough, ANSWERS_READ)
        return {item.id: item for item in items if isinstance(item, ClientToolCallItem)}

    async def _newest(self, is_enough: Callable[[Mapping[str, ThreadItem]], bool], limit: int) -> list[ThreadItem]:
        then = max(PAGE, limit)
        return await newest_items(
            self._store, self._thread_id, self._context, first=limit, then=then, is_enough=is_enough
        )

    def _thread(self, plan: Plan, items: list[ThreadItem], gone: frozenset[str] = frozenset()) -> Thread:
        return Thread.read(self._thread_id, plan, items, self._rules.clock(), gone)

    async def _gone(self, plan: Plan, items: list[ThreadItem]) -> frozenset[str]:
        """Which messages are gone, deleted by a retry, of those under which something of a plan was asked for."""
        turns = {each.turn for each in (*plan.calls, *plan.tools) if each.turn} - {item.id for item in items}
        return frozenset([turn for turn in turns if not await self._exists(turn)])

    async def _exists(self, item_id: str) -> bool:
        return await find_item(self._store, self._thread_id, item_id, self._context) is not None

    # writing

    async def _write(self, draft: _Draft) -> None:
        """Write what differs, or raise `_OvertakenError`: then everything has to be read again."""
        writes = draft.after.writes_after(draft.before)
        if not writes:
            await self._save(draft.plans, draft.stored, draft.after.at_rest)
            return
        is_leasing = draft.plans.compares and self._rules.lock is None
        plan = draft.after.plan.but(lease=self._rules.holder if is_leasing else None)
        is_first = is_leasing or draft.is_assumed or _has_news(plan, draft.stored)
        if is_first:
            await self._save(draft.plans, draft.stored, plan)
            draft.is_recorded = True
        deadline = self._rules.monotonic() + LEASE_SECONDS if is_leasing else inf
        try:
            for write in writes:
                if self._rules.monotonic() >= deadline:
                    raise _OvertakenError  # noqa: TRY301  whoever comes next gives the lease back
                await self._put(write)
                draft.done.append(write)
        except LifecycleViolationError as error:
            logger.info("thread %s: somebody else was quicker: %s", printable(self._thread_id), error)
            await self._give_back(draft.plans, plan)
            raise _OvertakenError from error
        except BaseException:
            await self._give_back(draft.plans, plan)
            raise
        await self._save(draft.plans, plan if is_first else draft.stored, draft.after.at_rest)

    async def _save(self, plans: PlanKeeper, stored: Plan, plan: Plan) -> None:
        plan = plan.but(writer=self._rules.worker)
        if plan.is_same_as(stored):
            return
        self.has_saved = True
        if not await plans.save(plan.to_text()):
            raise _OvertakenError

    async def _put(self, write: Write) -> None:
        match write.kind:
            case "delete":
                await self._store.delete_thread_item(self._thread_id, write.item.id, context=self._context)
                self.removed.append(write.item.id)
            case "complete":
                await self._store.save_item(self._thread_id, write.item, context=self._context)
                self._completed.add(write.item.id)
            case _:
                await self._store.add_thread_item(self._thread_id, write.item, context=self._context)

    async def _give_back(self, plans: PlanKeeper, plan: Plan) -> None:
        """Drop the lease of a step that has failed, so that nobody waits for it."""
        try:
            await self._save(plans, plan, plan.but(lease=None))
        except _OvertakenError:
            pass  # another worker has written since: the lease is gone
        except Exception as error:  # noqa: BLE001  the step's own error is the one to be raised; the lease runs out
            why = type(error).__name__
            logger.warning("thread %s: the lease of a failed step stays (%s)", printable(self._thread_id), why)

    # announcing

    def _announce_all(self, draft: _Draft) -> None:
        """Announce what was done, also when the step did not come to its end."""
        reached, changes = draft.after, draft.changes
        if changes is None:
            reached = draft.reached
            changes = list(transitions(draft.before, reached, self._rules.policy.has_failed))
        trace, tracer = draft.before.plan.trace, self._rules.tracer
        for change in changes:
            self._announce(change, reached, trace)
        if tracer and trace and draft.changes is not None and draft.after.at_rest.trace is None:
            tell(trace, [tracer.of_plan(self._thread_id)])

    def _announce(self, change: Transition, after: Thread, trace: Trace | None) -> None:
        waited = 0.0 if change.previous is None else after.now - change.since
        item, is_failed = after.item(change.call), change.state is State.FAILED
        event = LifecycleEvent(
            thread_id=self._thread_id,
            call_id=change.call.call_id,
            item_id=change.call.item_id,
            tool=change.call.name,
            position=change.position,
            attempt=change.call.attempt,
            previous=change.previous,
            state=change.state,
            waited_ms=max(0, round(waited * 1000)),
            reason=self._rules.tool(item.name).why_it_failed(answer_of(item)) if item and is_failed else None,
        )
        tracer = self._rules.tracer
        announce(event, [*self._rules.observers, *([tracer.of_call(change.call, item, trace)] if tracer else ())])


async def has_pending(rules: Rules, store: Store[Any], thread_id: str, context: object) -> bool:
    """Whether the browser has a call of a thread, and time to answer it."""
    try:
        thread, _ = await Steps(rules, store, thread_id, context).look()
    except DamagedPlanError:  # the page is told that when it posts something
        return False
    return thread.pending is not None and thread.overdue is None


@dataclass
class _Draft:
    """What was read, what was decided about it, and how much of that is written."""

    plans: PlanKeeper
    stored: Plan
    before: Thread
    after: Thread
    metadata: ThreadMetadata | None
    is_assumed: bool = False
    """Whether nothing was read: the plan has to be saved before anything else, to see that this is how things are."""
    is_recorded: bool = False
    """Whether the plan is written."""
    done: list[Write] = field(default_factory=list)
    """What was done to the items."""
    changes: list[Transition] | None = None
    """What is to be announced, once all of it is written."""

    def rest_of(self, event: Event) -> Event:
        """What is left to do of an event, when this much of it is written."""
        is_completed = any(write.kind == "complete" for write in self.done)
        is_planned = self.is_recorded and isinstance(event, (Ended, WentOn))
        return recorded(event) if is_planned or is_completed else event

    @property
    def reached(self) -> Thread:
        """The thread as far as it is written."""
        return self.before.having(self.after.plan if self.is_recorded else self.before.plan, self.done)


async def _stands(plans: PlanKeeper) -> bool:
    """Whether a plan may be taken for what it was when it was saved last."""
    revision = plans.revision
    if not plans.compares:
        await plans.load()
    return plans.revision == revision


class _OvertakenError(Exception):
    """Another worker has come in between."""


def _shows(plan: Plan, items: Mapping[str, ThreadItem], calls: list[ClientToolCallItem], depth: int) -> bool:
    """Whether these items show how far a plan has come, or, without one, that nothing is pending.

    A pending call is all there is to know. Without one a whole page is looked at, since some stores order items by the
    second, and give the oldest ones of it first; and more, if a store has refused a call because another is pending.
    """
    if any(item.status == "pending" for item in calls):
        return not plan.calls or any(plan.calls.position(item.id) is not None for item in calls)
    if not plan.calls:
        return len(items) >= depth
    is_located = plan.mark in items or any(plan.calls.position(item.id) is not None for item in calls)
    return is_located and len(items) >= max(depth, PAGE)


def _completed(calls: list[ClientToolCallItem]) -> int:
    return sum(item.status == "completed" for item in calls)


def _has_news(plan: Plan, stored: Plan) -> bool:
    """Whether the plan holds what must be known before the items are written."""
    return plan.calls != stored.calls or plan.removed != stored.removed
