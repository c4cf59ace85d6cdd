"""One request's turn at a thread: look, decide, write.

Every entry point is that one step (`Turn._change`), under a lock that is held for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit.store import NotFoundError
from chatkit.types import ClientToolCallItem, ThreadItemRemovedEvent

from ._decide import Decider, Decision, View, waiting_since
from ._journal import read_journal
from ._lifecycle import State, advance
from ._plan import Claim, Plan, PlannedCall, reconcile
from ._plans import keeper
from ._requests import posted_here
from .errors import ContendedPlanError, DamagedPlanError, LifecycleViolationError, UsageError
from .observe import LifecycleEvent, announce, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkit.store import Store
    from chatkit.types import ThreadItem, ThreadMetadata, UserMessageItem

    from ._decide import Step
    from ._rules import Rules
    from ._runs import Run

ATTEMPTS = 20
"""How often a change is tried against other writers, and an id against those that are taken."""

Report = tuple[PlannedCall, State, float]
"""A call, its state, and since when it waits."""


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
        self._posted = posted_here()
        self._scope = f"{id(store)}:{thread.id}"  # two stores may use one thread id
        self._decider = Decider(rules, self._scope, thread.id, self._new_id)
        self._message: str | None = None
        self._told: tuple[str, ...] = ()
        self._claim: Claim | None = None

    async def begin_answer(self) -> Decision:
        """Go on after `respond(thread, None, context)`."""
        if self._posted is None:
            self._rules.warn_about_receipts()
        return await self._begin(lambda view: self._decider.on_answer(view, self._posted))

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

    async def withdraw(self) -> tuple[str, ...] | None:
        """Take the pending call back; return the items that are gone, or None if there is nothing to go on with."""
        _, decision = await self._change(self._decider.on_resume)
        return None if decision.is_over else decision.deletes

    async def begin_message(self, message: UserMessageItem) -> Decision:
        """Begin `respond(thread, message, context)`."""
        self._message = message.id
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
            lambda view: self._decider.at_end(view, asked, taken, self._told, self._message),
            then=self._keep_pending_newest,
        )
        return decision

    async def fail(self) -> None:
        """End a run whose body has raised: what it asked for is gone with it."""
        await self._change(lambda view: self._decider.at_failure(view, self._claim), then=self._keep_pending_newest)

    async def report(self) -> list[Report]:
        """Return every call of the plan as it is now."""
        view = await self._look(await keeper(self._store, self._thread, self._context).load(), whole=True)
        return [
            self._reported(view, call, state) for call, state in zip(view.plan.calls, view.progress.states, strict=True)
        ]

    async def cancel(self) -> list[Report]:
        """Drop what is left of the plan, and return it as it was."""
        try:
            view, decision = await self._change(self._decider.on_cancel, then=self._remove_items)
        except DamagedPlanError as error:
            logger.warning("thread %s: its unreadable plan is dropped (%s)", self._thread.id, error.reason)
            await self._drop_damaged()
            view, decision = await self._change(self._decider.on_cancel, then=self._remove_items)
        return [self._reported(view, step.call, step.previous) for step in decision.steps if step.previous]

    async def _begin(self, decide: Callable[[View], Decision], *, checks_turns: bool = False) -> Decision:
        view, decision = await self._change(decide, checks_turns=checks_turns)
        self._told = decision.tells_model
        if decision.runs_body:  # and may ask for more
            left = reconcile(decision.plan, view.journal.states).open
            self._run.already_open = len(left)
            self._run.already_bytes = sum(len(call.model_dump_json().encode()) for call in left)
        return decision

    async def _change(
        self,
        decide: Callable[[View], Decision],
        *,
        then: Callable[[View, Decision], Awaitable[None]] | None = None,
        checks_turns: bool = False,
    ) -> tuple[View, Decision]:
        async with self._rules.alone_on(self._scope, self._thread.id):
            for _ in range(ATTEMPTS):
                plans = keeper(self._store, self._thread, self._context)
                found = await self._look(await plans.load(), checks_turns=checks_turns)
                view, steps = self._decider.after_failure(found)
                decision = decide(view)
                plan = decision.plan
                for item_id in decision.deletes:
                    await self._store.delete_thread_item(self._thread.id, item_id, context=self._context)
                if plans.compares or self._rules.lock is not None:
                    if decision.claims:  # where other workers will read it
                        self._claim = self._rules.a_claim(decision.claims)
                        plan = plan.claimed(self._claim)
                else:
                    self._rules.warn_about_others(self._thread.id, found.plan)
                if plan.says_the_same_as(found.plan) or await plans.save(
                    plan.following(plans.revision, self._rules.worker)
                ):
                    break
            else:
                raise ContendedPlanError(self._thread.id, ATTEMPTS)
            if decision.claims:
                self._rules.claims.take(self._scope, decision.claims, self._run)
            if then is not None:
                await then(view, decision)
        for step in (*steps, *decision.steps):
            self._announce(step)
        return view, decision

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
        async with self._rules.alone_on(self._scope, self._thread.id):
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
        return call, State.FAILED if has_failed else state, waiting_since(view, call)

    async def _save_answer(self, _view: View, decision: Decision) -> None:
        answered = decision.completes
        if answered is None:
            return
        try:
            await self._store.save_item(self._thread.id, answered, context=self._context)
        except LifecycleViolationError:
            match await self._item(answered.id):
                case ClientToolCallItem(status="completed"):  # another worker was quicker
                    logger.info("thread %s: call %s was answered already", self._thread.id, answered.call_id)
                case _:
                    raise

    async def _keep_pending_newest(self, view: View, decision: Decision) -> None:
        """Put a pending call behind what the body has added: ChatKit takes an answer only for the newest item."""
        pending = view.journal.pending
        if self._posted is not None:
            return  # a ClientToolServer finds the call wherever it is
        if pending is None or view.journal.newest is pending or not decision.plan.holds(pending.id):
            return
        match await self._item(pending.id):
            case ClientToolCallItem(status="pending") as still_pending:
                newest = view.journal.time_after_newest(self._rules.clock())
                again = still_pending.model_copy(update={"created_at": newest})
                await self._store.delete_thread_item(self._thread.id, pending.id, context=self._context)
                await self._store.add_thread_item(self._thread.id, again, context=self._context)

    async def _remove_items(self, _view: View, decision: Decision) -> None:
        for item_id in [event.item_id for event in decision.events if isinstance(event, ThreadItemRemovedEvent)]:
            await self._store.delete_thread_item(self._thread.id, item_id, context=self._context)

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
