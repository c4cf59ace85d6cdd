"""One run's turn at a thread: what it finds in the store, what it decides, and what it writes.

Every entry point is the same step (`Turn._change`): look, decide, write, under a lock that is held for just that. The
deciders (`_on_answer`, `_on_message`, `_at_end`, `_on_cancel`) do no I/O: they turn a `View` into a `Decision`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4
from weakref import WeakValueDictionary

from chatkit.store import NotFoundError
from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent, ThreadItemRemovedEvent

from ._journal import Journal, read_journal
from ._lifecycle import Event, State, advance
from ._plan import MODEL, Claim, Plan, PlannedCall, Progress, reconcile
from ._plans import keeper
from ._runs import LEASE_SECONDS, Asked, Claims, Run
from .errors import ContendedPlanError, DamagedPlanError, UsageError
from .observe import LifecycleEvent, Observer, announce, logger
from .tools import ClientTool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

RELEASE_LEASE_SECONDS = 10.0
"""How long another worker may take to store a call that it has claimed."""

ATTEMPTS = 20
"""How often a change is tried against other writers."""

FAKE_IDS = frozenset({"", "__fake_id__"})
"""What providers without ids of their own give."""

_UNDECLARED: ClientTool[...] = ClientTool("undeclared")


@dataclass
class Rules:
    """What a sequencer was built with, and what its runs share in this process."""

    tools: Mapping[str, ClientTool[...]]
    on_user_message: Literal["cancel", "keep"]
    on_failure: Literal["continue", "abort"]
    max_queued: int
    lock: Callable[[str], AbstractAsyncContextManager[Any]] | None
    observers: Sequence[Observer]
    clock: Callable[[], float]
    claims: Claims = field(default_factory=Claims)
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    has_warned: bool = False

    @property
    def worker(self) -> str:
        """What this process is known by: other after a fork, and on another machine."""
        return f"{os.getpid()}-{self.name}"

    def tool(self, name: str) -> ClientTool[...]:
        """The declared tool of that name, or one that takes any answer."""
        return self.tools.get(name, _UNDECLARED)

    @asynccontextmanager
    async def alone_on(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Keep the other requests on this thread out: those of this process, and with `lock` everybody's."""
        # setdefault() and the local name keep the lock alive for as long as somebody waits for it
        mine = self.locks.setdefault(thread_id, asyncio.Lock())
        async with mine, self.lock(thread_id) if self.lock else nullcontext():
            yield


@dataclass(frozen=True)
class View:
    """What the store shows of a thread."""

    plan: Plan
    journal: Journal
    progress: Progress
    vanished: frozenset[str] = frozenset()
    """Messages under which calls were asked for, and which a retry has deleted since."""


@dataclass(frozen=True)
class Step:
    """One step of one call, to be announced once it is written."""

    call: PlannedCall
    position: int
    previous: State | None = None
    event: Event | None = None
    waited: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What is to be written, streamed and announced."""

    plan: Plan
    events: tuple[ThreadStreamEvent, ...] = ()
    steps: tuple[Step, ...] = ()
    runs_body: bool = False
    claims: str | None = None
    tells_model: tuple[str, ...] = ()
    """The items of the settled calls that the body's run lets the model see."""


Report = tuple[PlannedCall, State, float]
"""A call, its state, and since when it waits."""


class Turn:
    """What one request does with the plan of its thread."""

    def __init__(self, rules: Rules, store: Store[Any], thread: ThreadMetadata, context: object, run: Run) -> None:
        self._rules = rules
        self._store = store
        self._thread = thread
        self._context = context
        self._run = run
        self._message: str | None = None
        self._told: tuple[str, ...] = ()
        self._asked: list[Asked] = []
        self._must_conclude = False
        self._checks_turns = False
        self._claim: Claim | None = None

    # the entry points

    async def begin_answer(self) -> Decision:
        """Go on after `respond(thread, None, context)`: an answer was posted."""
        return await self._begin(self._on_answer)

    async def begin_message(self, message: UserMessageItem) -> Decision:
        """Begin `respond(thread, message, context)`: the user wrote, or wants the turn again."""
        self._message = message.id
        self._checks_turns = True
        return await self._begin(self._on_message)

    async def begin_action(self) -> Decision:
        """Begin `action(...)`: it leaves the open calls alone."""
        return await self._begin(lambda view: Decision(view.plan, runs_body=True))

    async def conclude(self) -> Decision:
        """End a run whose body has ended well: write what it asked for, and release the next call."""
        self._asked = self._run.collect()
        self._run.ended = True
        if not self._asked and not self._must_conclude:
            return Decision(Plan())
        _, decision = await self._change(self._at_end, then=self._keep_pending_newest)
        return decision

    async def fail(self) -> None:
        """End a run whose body has raised: what it asked for is gone, what it had claimed is free again."""
        self._run.ended = True
        self._rules.claims.give_back(self._thread.id, MODEL)
        if self._claim is not None:
            mine = self._claim
            await self._change(lambda view: Decision(view.plan.claimed(None) if view.plan.claim == mine else view.plan))

    async def report(self) -> list[Report]:
        """Return every call of the plan as it is now."""
        view = await self._view(await keeper(self._store, self._thread, self._context).load())
        return [
            self._reported(view, call, state) for call, state in zip(view.plan.calls, view.progress.states, strict=True)
        ]

    async def cancel(self) -> list[Report]:
        """Drop what is left of the plan, and return it as it was."""
        given_up: list[Report] = []

        def decide(view: View) -> Decision:
            decision = self._dropping(view, view.plan)
            given_up[:] = [self._reported(view, step.call, step.previous) for step in decision.steps if step.previous]
            return decision

        try:
            await self._change(decide, then=self._remove_items)
        except DamagedPlanError as error:
            logger.warning("thread %s: its unreadable plan is dropped (%s)", self._thread.id, error.reason)
            await self._overwrite()
        return given_up

    # look, decide, write

    async def _begin(self, decide: Callable[[View], Decision]) -> Decision:
        view, decision = await self._change(decide)
        self._checks_turns = False
        self._told = decision.tells_model
        open_calls = [call for call in decision.plan.calls if call.item_id not in decision.tells_model]
        self._run.already_open = len(open_calls)
        self._run.already_bytes = sum(len(call.model_dump_json()) for call in open_calls)
        self._must_conclude = bool(decision.plan.calls) or view.journal.pending is not None
        return decision

    async def _change(
        self,
        decide: Callable[[View], Decision],
        then: Callable[[View, Decision], Any] | None = None,
    ) -> tuple[View, Decision]:
        async with self._rules.alone_on(self._thread.id):
            for _ in range(ATTEMPTS):
                plans = keeper(self._store, self._thread, self._context)
                view = await self._view(await plans.load())
                decision = decide(view)
                persists = plans.compares or self._rules.lock is not None
                plan, claim = self._with_claim(view, decision, persists=persists)
                if not plan.says_the_same_as(view.plan) and not await plans.save(
                    plan.following(plans.revision, self._rules.worker)
                ):
                    continue
                self._warn_about_others(view.plan, persists=persists)
                if decision.claims:
                    self._claim = claim
                    self._rules.claims.take(self._thread.id, decision.claims, self._run)
                if then is not None:
                    await then(view, decision)
                break
            else:
                raise ContendedPlanError(self._thread.id, ATTEMPTS)
        self._announce(decision.steps)
        return view, decision

    async def _view(self, plan: Plan) -> View:
        journal = await read_journal(self._store, self._thread.id, plan, self._context)
        vanished = frozenset[str]()
        if self._checks_turns:
            turns = {call.turn for call in plan.calls if call.turn and not journal.holds(call.turn)}
            vanished = frozenset([turn for turn in turns if not await self._exists(turn)])
        return View(plan, journal, reconcile(plan, journal.states), vanished)

    async def _exists(self, item_id: str) -> bool:
        try:
            await self._store.load_item(self._thread.id, item_id, context=self._context)
        except NotFoundError:
            return False
        return True

    async def _overwrite(self) -> None:
        """Put an empty plan in the place of one that cannot be read."""
        async with self._rules.alone_on(self._thread.id):
            plans = keeper(self._store, self._thread, self._context)
            try:
                await plans.load()
            except DamagedPlanError:
                if not await plans.save(Plan().following(plans.revision, self._rules.worker)):
                    raise ContendedPlanError(self._thread.id, 1) from None
            view = await self._view(Plan())
            await self._remove_items(view, self._dropping(view, view.plan))

    def _with_claim(self, view: View, decision: Decision, *, persists: bool) -> tuple[Plan, Claim | None]:
        """Write the claim into the plan where other workers read it; otherwise this process knows."""
        if not (decision.claims and persists):
            return decision.plan, None
        lease = LEASE_SECONDS if decision.claims == MODEL else RELEASE_LEASE_SECONDS
        claim = Claim(what=decision.claims, by=self._rules.worker, until=self._rules.clock() + lease)
        return decision.plan.claimed(claim), claim

    def _is_claimed(self, plan: Plan, what: str) -> bool:
        now = self._rules.clock()
        if self._rules.claims.are_held(self._thread.id, what, now):
            return True
        claim = plan.claim
        return claim is not None and claim.what == what and claim.by != self._rules.worker and now < claim.until

    def _warn_about_others(self, plan: Plan, *, persists: bool) -> None:
        if persists or self._rules.has_warned or not plan.calls or plan.writer == self._rules.worker:
            return
        self._rules.has_warned = True
        logger.warning(
            "thread %s: its plan was written by another process. After a restart that is fine. With several workers two "
            "of them can release the same call: use a store with plans of its own (SupportsPlans), or give the "
            "ClientToolSequencer a lock= that all workers share.",
            self._thread.id,
        )

    # what to do; no I/O from here on

    def _on_answer(self, view: View) -> Decision:
        plan, journal, progress = view.plan, view.journal, view.progress
        if progress.pending:
            # somebody else's answer was quicker, and the next call is out; or the user has filled in a form meanwhile
            return Decision(plan, runs_body=journal.has_answered_form)
        if not plan.calls:
            newest = journal.newest
            is_repeat = newest is not None and newest.id == plan.last and not journal.has_answered_form
            return Decision(plan, runs_body=not is_repeat)
        steps = [self._answer_step(view, call) for call in progress.settled[-1:]]
        if self._rules.on_failure == "abort" and any(step.event is Event.FAIL for step in steps):
            progress, given_up = self._abort(view)
            steps += given_up
        return self._release_next(view, progress, steps) or self._after_last(view, progress, steps)

    def _after_last(self, view: View, progress: Progress, steps: list[Step]) -> Decision:
        plan = progress.plan
        if progress.open or view.journal.strangers(plan):
            return Decision(plan)  # another run is at it, or has to be answered first
        done = tuple(call.item_id for call in plan.calls)
        if not any(call.wanted for call in plan.calls):
            return Decision(plan.done_with(done), steps=tuple(steps))
        if self._is_claimed(plan, MODEL):
            return Decision(plan)
        return Decision(plan, steps=tuple(steps), runs_body=True, claims=MODEL, tells_model=done)

    def _on_message(self, view: View) -> Decision:
        def is_retried(call: PlannedCall) -> bool:
            return call.turn is not None and (call.turn == self._message or call.turn in view.vanished)

        settled = tuple(call.item_id for call in view.progress.settled)
        plan = view.plan.keeping(lambda call: call.item_id in settled or not is_retried(call))
        if self._rules.on_user_message == "cancel":
            return self._dropping(view, plan.done_with(settled))
        steps = self._cancelled(view, [call for call in view.progress.open if is_retried(call)])
        return Decision(plan, (), tuple(steps), runs_body=True, tells_model=settled)

    def _dropping(self, view: View, plan: Plan) -> Decision:
        """Give up what `plan` leaves open but the required calls, which go out again later."""
        pending = [call.item_id for call in view.progress.open if call.item_id in view.journal.states]
        pending += [item.id for item in view.journal.strangers(view.plan)]
        settled = {call.item_id for call in view.progress.settled}
        again = [
            call.model_copy(update={"item_id": self._new_id(view)}) if call.item_id in pending else call
            for call in plan.calls
            if call.required and call.item_id not in settled
        ]
        staying = {call.item_id for call in again}
        gone = [call for call in view.progress.open if call.item_id not in staying]
        fresh = [call for call in again if not view.plan.holds(call.item_id)]
        rest = plan.done_with(settled).keeping(lambda _: False).adding(again)
        steps = self._cancelled(view, gone) + [Step(call, n) for n, call in enumerate(again) if call in fresh]
        removed = tuple(ThreadItemRemovedEvent(item_id=item_id) for item_id in pending)
        return Decision(rest.claimed(None), removed, tuple(steps), runs_body=True)

    def _at_end(self, view: View) -> Decision:
        plan = view.plan.done_with(self._told)
        new = self._planned(view)
        if new or plan.calls:
            plan = self._adopting(view, plan)
        first = len(plan.calls)
        progress = reconcile(plan.adding(new), view.journal.states)
        steps = [Step(call, first + n) for n, call in enumerate(new)]
        return self._release_next(view, progress, steps) or Decision(progress.plan, steps=tuple(steps))

    def _release_next(self, view: View, progress: Progress, steps: list[Step]) -> Decision | None:
        """Hand the next call to ChatKit: as the item that its own slot would have made."""
        call = progress.next
        if call is None or view.journal.strangers(progress.plan) or self._is_claimed(progress.plan, call.item_id):
            return None
        now = self._rules.clock()
        item = ClientToolCallItem(
            id=call.item_id,
            thread_id=self._thread.id,
            created_at=view.journal.time_after_newest(now),
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
        )
        step = Step(call, progress.plan.calls.index(call), State.QUEUED, Event.RELEASE, now - call.at)
        return Decision(
            progress.plan,
            (ThreadItemDoneEvent(item=item),),
            (*steps, step),
            claims=call.item_id,
            tells_model=self._told,
        )

    def _abort(self, view: View) -> tuple[Progress, list[Step]]:
        """A call has failed: give up those after it but the required ones."""
        queued = [call for call in view.progress.open if not call.required]
        plan = view.plan.keeping(lambda call: call not in queued)
        return reconcile(plan, view.journal.states), self._cancelled(view, queued)

    # helpers of the deciders

    def _planned(self, view: View) -> list[PlannedCall]:
        """Give every call that the run asked for the ids it will have."""
        taken = {call.call_id for call in view.journal.calls} | {call.call_id for call in view.plan.calls}
        turn = self._message or view.journal.message or (view.plan.calls[-1].turn if view.plan.calls else None)
        planned = []
        for asked in self._asked:
            tool = self._rules.tool(asked.call.name)
            own = asked.item
            item_id = own.id if own and self._is_free(view, own.id) else self._new_id(view, planned)
            candidate = own.call_id if own else (asked.invocation if tool.answer_wanted else None)
            call_id = candidate if candidate and candidate not in taken | FAKE_IDS else item_id
            taken.add(call_id)
            planned.append(
                PlannedCall(
                    name=asked.call.name,
                    arguments=asked.call.arguments,
                    item_id=item_id,
                    call_id=call_id,
                    wanted=tool.answer_wanted,
                    required=tool.required,
                    turn=turn,
                    at=asked.at,
                )
            )
        return planned

    def _adopting(self, view: View, plan: Plan) -> Plan:
        """Take pending calls that no plan has put there into the queue, before what still waits in it."""
        strangers = [
            PlannedCall(
                name=item.name,
                arguments=item.arguments,
                item_id=item.id,
                call_id=item.call_id,
                wanted=self._rules.tool(item.name).answer_wanted,
                turn=view.journal.message,
                at=item.created_at.timestamp(),
            )
            for item in view.journal.strangers(plan)
        ]
        released = [call for call in plan.calls if call.item_id in view.journal.states]
        waiting = [call for call in plan.calls if call not in released]
        return plan.model_copy(update={"calls": (*released, *strangers, *waiting)})

    def _is_free(self, view: View, item_id: str | None, planned: Iterable[PlannedCall] = ()) -> bool:
        return not (
            item_id in FAKE_IDS
            or view.journal.holds(str(item_id))
            or view.plan.holds(str(item_id))
            or any(call.item_id == item_id for call in planned)
        )

    def _new_id(self, view: View, planned: Sequence[PlannedCall] = ()) -> str:
        for _ in range(ATTEMPTS):
            item_id = self._store.generate_item_id("tool_call", self._thread, self._context)
            if self._is_free(view, item_id, planned):
                return item_id
        raise UsageError(
            f"{type(self._store).__name__}.generate_item_id gave {ATTEMPTS} times an id that thread {self._thread.id} "
            "already has: it must return a new one at each call"
        )

    def _answer_step(self, view: View, call: PlannedCall) -> Step:
        return self._step(view, call, State.PENDING, Event.FAIL if self._has_failed(view, call) else Event.ANSWER)

    def _has_failed(self, view: View, call: PlannedCall) -> bool:
        item = view.journal.call(call.item_id)
        return item is not None and self._rules.tool(call.name).problem_with(item.output) is not None

    def _reported(self, view: View, call: PlannedCall, state: State) -> Report:
        """The items say that a call was answered; whether the answer is one is for its tool to say."""
        if state is State.COMPLETED and self._has_failed(view, call):
            state = State.FAILED
        return call, state, _since(view, call)

    def _cancelled(self, view: View, calls: Iterable[PlannedCall]) -> list[Step]:
        pending = view.progress.pending
        return [
            self._step(view, call, State.PENDING if call is pending else State.QUEUED, Event.CANCEL) for call in calls
        ]

    def _step(self, view: View, call: PlannedCall, previous: State, event: Event) -> Step:
        return Step(call, view.plan.calls.index(call), previous, event, self._rules.clock() - _since(view, call))

    # what is done besides writing the plan

    async def _keep_pending_newest(self, view: View, decision: Decision) -> None:
        """Put a pending call behind what the body has added: ChatKit takes an answer only for the newest item."""
        pending = view.journal.pending
        if pending is None or decision.events or view.journal.newest is pending:
            return
        again = pending.model_copy(update={"created_at": view.journal.time_after_newest(self._rules.clock())})
        await self._store.delete_thread_item(self._thread.id, pending.id, context=self._context)
        await self._store.add_thread_item(self._thread.id, again, context=self._context)

    async def _remove_items(self, _view: View, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, ThreadItemRemovedEvent):
                await self._store.delete_thread_item(self._thread.id, event.item_id, context=self._context)

    def _announce(self, steps: Iterable[Step]) -> None:
        for step in steps:
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
                ),
                self._rules.observers,
            )


def _since(view: View, call: PlannedCall) -> float:
    """When the call was released, or asked for if it was not."""
    item = view.journal.call(call.item_id)
    return item.created_at.timestamp() if item else call.at
