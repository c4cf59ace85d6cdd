"""One request's turn at a thread: look, decide, write.

Every entry point is that one step (`Turn._change`), under a lock that is held for nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chatkit.store import NotFoundError
from chatkit.types import ClientToolCallItem, ThreadItemRemovedEvent

from ._decide import Begun, Decider, Decision
from ._journal import View, read_journal
from ._lifecycle import State, advance
from ._plan import Plan, PlannedCall, reconcile
from ._plans import keeper
from ._requests import request_here
from .errors import ContendedPlanError, DamagedPlanError, LifecycleViolationError, UsageError
from .observe import LifecycleEvent, announce, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from chatkit.store import Store
    from chatkit.types import ThreadItem, ThreadMetadata, UserMessageItem

    from ._decide import Step
    from ._plan import What
    from ._plans import PlanKeeper
    from ._rules import Rules
    from ._runs import Run

ATTEMPTS = 20
"""How often a change is tried against other writers, and an id against those that are taken."""

Report = tuple[PlannedCall, State, float]
"""A call, its state, and since when it waits."""


async def _as_decided(_view: View, decision: Decision) -> Decision:
    return decision


class Turn:
    """What one request does with the plan of its thread."""

    def __init__(
        self, rules: Rules, store: Store[Any], thread: ThreadMetadata, context: object, run: Run | None = None
    ) -> None:
        self._rules = rules
        self._store = store
        self._thread = thread
        self._context = context
        self._run = run or rules.new_run(thread)
        self._request = request_here()
        self._decider = Decider(rules, thread.id, self._run, self._new_id)
        self._begun = Begun()

    async def begin_answer(self) -> Decision:
        """Go on after `respond(thread, None, context)`."""
        if self._request is None:
            self._rules.warn_about_receipts()
        posted = self._request.posted if self._request else None
        return await self._begin(lambda view: self._decider.on_answer(view, posted))

    async def take_answer(self, result: object) -> bool:
        """Record what the browser has answered; say whether there is something to go on with."""
        view, decision = await self._change(lambda view: self._decider.on_arrival(view, result), then=self._save_answer)
        if decision.is_over:
            pending = view.journal.pending
            logger.info(
                "thread %s: an answer that is repeated or late: %s; nothing was changed",
                self._thread.id,
                f"it has the receipt of another call than {pending.call_id}" if pending else "no call is pending",
            )
        return not decision.is_over

    async def withdraw(self) -> bool:
        """Take the pending call back; say whether there is something to go on with."""
        _, decision = await self._change(self._decider.on_resume)
        return not decision.is_over

    async def begin_message(self, message: UserMessageItem) -> Decision:
        """Begin `respond(thread, message, context)`."""
        self._begun = Begun(message=message.id)
        return await self._begin(lambda view: self._decider.on_message(view, message.id), checks_turns=True)

    async def begin_action(self) -> Decision:
        """Begin `action(thread, action, sender, context)`."""
        return await self._begin(self._decider.on_action)

    async def conclude(self) -> Decision:
        """End a run whose body has ended well."""
        asked = self._run.collect()
        self._run.ended = True
        taken = frozenset([each.item.id for each in asked if each.item and await self._exists(each.item.id)])
        _, decision = await self._change(
            lambda view: self._decider.at_end(view, asked, taken, self._begun),
            then=self._keep_pending_newest,
        )
        return decision

    async def fail(self) -> None:
        """End a run whose body has raised: what it asked for is gone with it."""
        await self._change(
            lambda view: self._decider.at_failure(view, self._begun.claims), then=self._keep_pending_newest
        )

    async def report(self) -> list[Report]:
        """Return every call of the plan as it is now."""
        view = await self._look(await keeper(self._store, self._thread, self._context).load(), whole=True)
        return [
            self._reported(view, call, state) for call, state in zip(view.plan.calls, view.progress.states, strict=True)
        ]

    async def cancel(self) -> list[Report]:
        """Drop what is left of the plan, and return it as it was."""
        try:
            view, decision = await self._change(self._decider.on_cancel, deletes=True)
        except DamagedPlanError as error:
            logger.warning("thread %s: its unreadable plan is dropped (%s)", self._thread.id, error.reason)
            await self._drop_damaged()
            view, decision = await self._change(self._decider.on_cancel, deletes=True)
        return [self._reported(view, step.call, step.previous) for step in decision.steps if step.previous]

    async def _begin(self, decide: Callable[[View], Decision], *, checks_turns: bool = False) -> Decision:
        view, decision = await self._change(decide, checks_turns=checks_turns)
        self._begun = replace(self._begun, told=decision.tells_model)
        if decision.runs_body:  # and may ask for more
            left = reconcile(decision.plan, view.journal.states).open
            self._run.already_open = len(left)
            self._run.already_bytes = sum(len(call.model_dump_json().encode()) for call in left)
        if self._request is None:  # plain ChatKitServer deletes an item when it is told to stream that
            removals = tuple(ThreadItemRemovedEvent(item_id=item_id) for item_id in decision.withdraws)
            decision = replace(decision, events=(*removals, *decision.events))
        return decision

    async def _change(
        self,
        decide: Callable[[View], Decision],
        *,
        then: Callable[[View, Decision], Awaitable[Decision]] = _as_decided,
        checks_turns: bool = False,
        deletes: bool = False,
    ) -> tuple[View, Decision]:
        async with self._rules.alone_on(self._thread.id):
            for _ in range(ATTEMPTS):
                plans = keeper(self._store, self._thread, self._context)
                found = await self._look(await plans.load(), checks_turns=checks_turns)
                view, steps = self._decider.after_failure(found)
                decision = decide(view)
                plan = self._claiming(plans, found.plan, decision)
                if plan.says_the_same_as(found.plan) or await plans.save(
                    plan.following(plans.revision, self._rules.worker)
                ):
                    break
            else:
                raise ContendedPlanError(self._thread.id, ATTEMPTS)
            for what, call in decision.claims:
                self._rules.claims.take(self._thread.id, what, call, self._run)
            if deletes or self._request is not None:
                await self._delete(decision.withdraws)
            decision = await then(view, decision)
        for step in (*steps, *decision.steps):
            self._announce(step)
        return view, decision

    def _claiming(self, plans: PlanKeeper, found: Plan, decision: Decision) -> Plan:
        """Return the decision's plan, with what other workers have to know before they read on."""
        has_lock = self._rules.lock is not None
        if not plans.compares and not has_lock:
            self._rules.warn_about_others(self._thread.id, found)
            return decision.plan
        # what is done to items is done under the lock, if there is one for all workers
        guards = () if has_lock else decision.guards
        claims: list[tuple[What, str]] = [*((what, call.item_id) for what, call in decision.claims), *guards]
        if not claims:
            return decision.plan
        made = tuple(self._rules.a_claim(what, item_id) for what, item_id in claims)
        self._begun = replace(self._begun, claims=made)
        return decision.plan.claimed(made, self._rules.clock())

    async def _delete(self, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            await self._store.delete_thread_item(self._thread.id, item_id, context=self._context)
            if self._request is not None:
                self._request.removed.append(item_id)

    async def _look(self, plan: Plan, *, checks_turns: bool = False, whole: bool = False) -> View:
        journal = await read_journal(self._store, self._thread.id, plan, self._context, whole=whole)
        turns = {call.turn for call in plan.calls if call.turn and not journal.holds(call.turn)} if checks_turns else ()
        vanished = frozenset([turn for turn in turns if not await self._exists(turn)])
        return View(plan, journal, reconcile(plan, journal.states), vanished)

    async def _exists(self, item_id: str) -> bool:
        return await self._item(item_id) is not None

    async def _item(self, item_id: str) -> ThreadItem | None:
        try:
            return await self._store.load_item(self._thread.id, item_id, context=self._context)
        except NotFoundError:
            return None

    async def _drop_damaged(self) -> None:
        """Put an empty plan in the place of one that cannot be read."""
        async with self._rules.alone_on(self._thread.id):
            plans = keeper(self._store, self._thread, self._context)
            try:
                await plans.load()
            except DamagedPlanError:
                await plans.save(Plan().following(plans.revision, self._rules.worker))

    def _new_id(self, is_free: Callable[[str], bool]) -> str:
        for _ in range(ATTEMPTS):
            item_id = self._store.generate_item_id("tool_call", self._thread, self._context)
            if is_free(item_id):
                return item_id
        raise UsageError(
            f"{type(self._store).__name__}.generate_item_id gave {ATTEMPTS} times an id that thread {self._thread.id} "
            "already has: it must return a new one at each call"
        )

    def _reported(self, view: View, call: PlannedCall, state: State) -> Report:
        has_failed = state is State.COMPLETED and self._decider.has_failed(view, call)
        return call, State.FAILED if has_failed else state, view.waiting_since(call)

    async def _save_answer(self, _view: View, decision: Decision) -> Decision:
        answered = decision.completes
        if answered is None:
            return decision
        try:
            await self._store.save_item(self._thread.id, answered, context=self._context)
        except LifecycleViolationError:
            match await self._item(answered.id):
                case ClientToolCallItem(status="completed"):  # another worker was quicker, and has announced it
                    logger.info("thread %s: call %s was answered already", self._thread.id, answered.call_id)
                    return replace(decision, steps=())
            raise
        return decision

    async def _keep_pending_newest(self, view: View, decision: Decision) -> Decision:
        """Put a pending call behind what the body has added: ChatKit takes an answer only for the newest item."""
        pending = view.journal.pending
        if self._request is not None:
            return decision  # a ClientToolServer finds the call wherever it is
        if pending is None or view.journal.newest is pending or not decision.plan.holds(pending.id):
            return decision
        match await self._item(pending.id):
            case ClientToolCallItem(status="pending") as still_pending:
                newest = view.journal.time_after_newest(self._rules.clock())
                again = still_pending.model_copy(update={"created_at": newest})
                await self._store.delete_thread_item(self._thread.id, pending.id, context=self._context)
                await self._store.add_thread_item(self._thread.id, again, context=self._context)
        return decision

    def _announce(self, step: Step) -> None:
        announce(
            LifecycleEvent(
                thread_id=self._thread.id,
                call_id=step.call.call_id,
                item_id=step.call.item_id,
                tool=step.call.name,
                position=step.position,
                previous=step.previous,
                state=advance(step.previous, step.event) if step.previous and step.event else State.QUEUED,
                waited_ms=max(0, round(step.waited * 1000)),
                reason=step.reason,
            ),
            self._rules.observers,
        )
