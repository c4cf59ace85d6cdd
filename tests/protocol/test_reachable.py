"""Any events in any order, and steps that die at any write: what holds of every thread that can come of it.

The store is a list of items and a text, written as a step writes them: the plan first, then the items, then the plan at
rest. The oracle is plain: what was asked for, what the items say was answered, and what was announced.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatkit_clienttools._protocol.decide import (
    Acted,
    Answered,
    AtWork,
    Cancelled,
    Ended,
    Expired,
    FilledIn,
    Resumed,
    Stopped,
    Wrote,
)
from chatkit_clienttools._protocol.plan import BODY_SECONDS, Plan
from chatkit_clienttools._protocol.states import State
from chatkit_clienttools._protocol.thread import Thread, transitions
from chatkit_clienttools.answers import has_expired
from chatkit_clienttools.receipts import RECEIPT, receipt_for
from tests.protocol.values import NOW, THREAD, TOOLS, call, message, pending, policy, tool

if TYPE_CHECKING:
    from chatkit.types import ClientToolCallItem, ThreadItem

    from chatkit_clienttools._protocol.decide import Event
    from chatkit_clienttools._protocol.plan import PlannedCall
    from chatkit_clienttools._protocol.thread import Transition

pytestmark = pytest.mark.no_cover  # it takes twice as long with coverage

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
"""How many threads are tried in a long run, others each time; the suite tries 60, and 300 in its long tests."""

WAITS = 60
"""How many seconds the browser has for one of the tools."""

PAGE = 3
"""How many items are read at least."""

names = st.lists(st.sampled_from(sorted(TOOLS)), min_size=1, max_size=3)
whole = st.none()
cut = st.integers(0, 4)
"""How many writes a step makes before it dies; None: all of them."""
deaths = st.one_of(whole, whole, cut)


class ThreadMachine(RuleBasedStateMachine):
    """One thread, and everything that can happen to it."""

    @initialize(keeps=st.booleans(), aborts=st.booleans(), receipts=st.booleans(), leases=st.booleans())
    def begins(self, *, keeps: bool, aborts: bool, receipts: bool, leases: bool) -> None:
        self.policy = policy(keeps=keeps, aborts=aborts, receipts=receipts)
        self.leases = leases
        self.text = Plan().to_text()
        self.items: list[ThreadItem] = []
        self.now = NOW
        self.n = 0
        self.calls: dict[str, PlannedCall] = {}
        self.answered: dict[str, ClientToolCallItem] = {}
        self.cancelled: set[str] = set()
        self.gone: set[str] = set()
        self.runs: dict[str, int] = {}
        self.last: str | None = None
        self.shown = 0
        self.sent: list[ClientToolCallItem] = []
        self.released: dict[str, float] = {}
        self.user_writes()

    def new_id(self) -> str:
        self.n += 1
        return f"{self.n:032x}"

    # a step

    def read(self) -> tuple[Plan, Thread]:
        """Read no further back than it takes to see how far the plan has come."""
        stored = Plan.from_text(self.text, THREAD)
        newest_first: list[ThreadItem] = []
        for item in reversed(self.items):
            newest_first.append(item.model_copy())
            is_enough = item.id == stored.mark or stored.calls.position(item.id) is not None
            if is_enough and len(newest_first) >= PAGE:
                break
        found = Thread.read(THREAD, stored.but(lease=None), newest_first, self.now, frozenset(self.gone))
        return stored, found.adopting_stranger(lambda name: tool(name).answer_wanted)

    def take(self, event: Event, death: int | None = None) -> Thread | None:
        """Take a step, or as much of it as there is time for."""
        stored, before = self.read()
        after = self.policy.decide(before, event)
        assert after == self.policy.decide(before, event)
        assert 1 >= sum(item.status == "pending" for item in after.items)
        assert after.plan == Plan.from_text(after.plan.to_text(), THREAD)
        found = list(transitions(before, after, self.policy.has_failed))
        writes = after.writes_after(before)
        has_news = after.plan.calls != stored.calls or after.plan.removed != stored.removed
        todo: list[Any] = [after.plan] if writes and (self.leases or has_news) else []
        todo += [*writes, after.at_rest]
        for one in todo[:death]:
            self.carry_out(one)
        self.note(found, is_whole=death is None or death >= len(todo), is_planned=death != 0 and todo[0] is after.plan)
        return after if death is None or death >= len(todo) else None

    def carry_out(self, write: Any) -> None:
        if isinstance(write, Plan):
            self.text = write.to_text()
            self.calls = {each.id: each for each in write.calls} | self.calls
            return
        ids = [item.id for item in self.items]
        if write.kind == "delete":
            self.items = [item for item in self.items if item.id != write.item.id]
        elif write.kind == "complete":
            assert write.item.id not in self.answered
            self.items[ids.index(write.item.id)] = write.item
            self.answered[write.item.id] = write.item
            self.last = self.own_id(write.item)
            if has_expired(write.item.output):
                assert self.calls[self.last].name == "waits"
                assert self.released[self.last] + WAITS <= self.now
        else:
            assert write.item.id not in ids
            self.items.append(write.item)
            self.sent.append(write.item)
            self.released.setdefault(self.own_id(write.item), self.now)
            assert all(item.created_at < write.item.created_at for item in self.items[:-1])

    def note(self, found: list[Transition], *, is_whole: bool, is_planned: bool) -> None:
        """What the plan does not hold any more was cancelled."""
        if is_whole or is_planned:
            self.cancelled |= {each.call.id for each in found if each.state is State.CANCELLED}

    # what happens

    @rule(death=deaths)
    def user_writes(self, death: int | None = None) -> None:
        self.new_id()
        self.items.append(message(f"msg_{self.n}").model_copy(update={"created_at": self.next_time()}))
        self.run(Wrote(f"msg_{self.n}", by=f"run {self.n}"), death)

    @rule(death=deaths, back=st.integers(0, 2))
    def user_retries(self, death: int | None, back: int) -> None:
        """ChatKit deletes what came after the message, recorded answers and later messages as well."""
        places = [n for n, item in enumerate(self.items) if item.type == "user_message"][-1 - back :]
        deleted = self.items[places[0] + 1 :]
        self.items = self.items[: places[0] + 1]
        self.gone |= {item.id for item in deleted if item.type == "user_message"}
        left = {call.item_id for call in Plan.from_text(self.text, THREAD).calls}
        for item in deleted:
            if item.id in left:  # its step has died: nobody has counted the answer, and the call goes out again
                self.forget(item.id)
        self.new_id()
        self.run(Wrote(self.items[-1].id, by=f"run {self.n}"), death)

    @rule(death=deaths)
    def user_presses(self, death: int | None) -> None:
        self.new_id()
        self.run(Acted(), death)

    @rule(death=deaths)
    def user_fills_in_a_form(self, death: int | None) -> None:
        self.new_id()
        self.run(FilledIn(by=f"run {self.n}"), death)

    @rule(death=deaths)
    def page_resumes(self, death: int | None) -> None:
        self.new_id()
        self.run(Resumed(by=f"run {self.n}"), death)

    @rule(death=deaths, fits=st.booleans(), with_receipt=st.booleans())
    def page_answers(self, death: int | None, *, fits: bool, with_receipt: bool) -> None:
        """The pending call, as the page has it."""
        found = [item for item in self.items if item.type == "client_tool_call" and item.status == "pending"]
        if found:
            self.answers(found[-1], death, fits=fits, with_receipt=with_receipt)

    @precondition(lambda self: self.policy.receipts and self.sent)
    @rule(death=deaths, data=st.data())
    def page_answers_late_or_again(self, death: int | None, data: st.DataObject) -> None:
        self.answers(data.draw(st.sampled_from(self.sent)), death, fits=True, with_receipt=True)

    def answers(self, item: ClientToolCallItem, death: int | None, *, fits: bool, with_receipt: bool) -> None:
        result: Any = 7 if fits else "no number"
        if with_receipt and RECEIPT in item.arguments:
            result = {RECEIPT: item.arguments[RECEIPT], "result": result}
        self.new_id()
        before, overdue = len(self.answered), self.read()[1].overdue
        self.run(Answered(result, by=f"run {self.n}"), death)
        assert len(self.answered) <= before + 1
        if overdue and overdue.id in self.answered:
            assert has_expired(self.answered[overdue.id].output)

    @precondition(lambda self: self.runs)
    @rule(death=deaths, data=st.data(), asks=st.one_of(st.just([]), names))
    def body_ends(self, death: int | None, data: st.DataObject, asks: list[str]) -> None:
        by = data.draw(st.sampled_from(sorted(self.runs)))
        sees, new = self.runs.pop(by), []
        for name in asks:
            letter = self.new_id()
            new.append(call(letter, name, id=f"call_{letter}", turn=self.newest_message(), at=self.now))
        _, before = self.read()
        open_before = [each.id for each in before.plan.calls[before.settled :]]
        self.shown = max(self.shown, sees)
        self.take(Ended(by, sees, tuple(new)), death)
        planned = [each.id for each in Plan.from_text(self.text, THREAD).calls]
        if new and new[0].id in planned:
            assert [*open_before, *(each.id for each in new)] == planned[-len(open_before) - len(new) :]

    @precondition(lambda self: self.runs)
    @rule(death=deaths, data=st.data())
    def body_fails(self, death: int | None, data: st.DataObject) -> None:
        by = data.draw(st.sampled_from(sorted(self.runs)))
        del self.runs[by]
        self.take(Stopped(by), death)

    @precondition(lambda self: self.runs)
    @rule(death=deaths, data=st.data())
    def body_is_at_work(self, death: int | None, data: st.DataObject) -> None:
        """A body claims more time; one that others have taken for dead gets nothing back."""
        by = data.draw(st.sampled_from(sorted(self.runs)))
        _, before = self.read()
        after = self.take(AtWork(by), death)
        if after:
            assert (before.plan.body and before.plan.body.by) == (after.plan.body and after.plan.body.by)

    @rule(death=deaths)
    def application_cancels(self, death: int | None) -> None:
        after = self.take(Cancelled(), death)
        self.shown = len(self.answered)  # one may have expired just now
        if after:
            assert not after.has_news

    @rule(death=deaths)
    def application_expires(self, death: int | None) -> None:
        self.take(Expired(), death)

    @rule(name=st.sampled_from([*sorted(TOOLS), "theirs"]))
    def somebody_adds_a_call(self, name: str) -> None:
        letter = self.new_id()
        item = pending(call(letter, name, id=f"call_{letter}"), receipt=False)
        self.items.append(item.model_copy(update={"created_at": self.next_time()}))

    @rule(data=st.data())
    def a_write_is_late(self, data: st.DataObject) -> None:
        """An item that had to go is there again."""
        removed = [item for item in self.sent if item.id in Plan.from_text(self.text, THREAD).removed]
        here = {item.id for item in self.items}
        late = [item for item in removed if item.id not in here and item.id not in self.answered]
        if late:
            self.items.append(data.draw(st.sampled_from(late)).model_copy(update={"created_at": self.next_time()}))

    @rule()
    def an_answer_is_overwritten(self) -> None:
        """A store that checks nothing takes a late write of a call's release, before its answer was counted."""
        planned = {each.item_id for each in Plan.from_text(self.text, THREAD).calls}
        for n, item in enumerate(self.items):
            if item.id in planned & self.answered.keys() and len(self.items) - n <= PAGE:
                self.items[n] = item.model_copy(update={"status": "pending", "output": None})
                self.forget(item.id)
                return

    def forget(self, item_id: str) -> None:
        if self.answered.pop(item_id, None):
            self.last = None

    @rule()
    def time_passes(self) -> None:
        self.now += BODY_SECONDS

    def run(self, event: Any, death: int | None) -> None:
        after = self.take(event, death)
        if after:
            by = getattr(event, "by", f"run {self.n}")
            if isinstance(event, (Wrote, Acted, FilledIn)) or (after.plan.body and after.plan.body.by == by):
                self.runs[by] = 0 if isinstance(event, Acted) else after.answers

    def next_time(self) -> Any:
        last = self.items[-1].created_at if self.items else None
        made = Thread.read(THREAD, Plan(), self.items[-1:], self.now, frozenset()).releasing(call("x"), {})
        assert last is None or made.items[0].created_at > last
        return made.items[0].created_at

    def newest_message(self) -> str:
        return next(item.id for item in reversed(self.items) if item.type == "user_message")

    # what holds

    @invariant()
    def what_is_read_is_what_is_written(self) -> None:
        stored, _ = self.read()
        assert stored == Plan.from_text(stored.to_text(), THREAD)

    @invariant()
    def nothing_is_lost_and_every_answer_is_counted_once(self) -> None:
        """A step that is not cut off leaves each call open, answered or cancelled, and counts what was answered."""
        _, before = self.read()
        after = self.policy.decide(before, Stopped("nobody"))
        answered = [self.calls[self.own_id(item)] for item in self.answered.values()]
        assert len([each for each in answered if each.wanted]) == after.answers
        open_calls = {each.id for each in after.plan.calls[after.settled :]}
        assert set() == self.calls.keys() - open_calls - self.cancelled - {each.id for each in answered}
        assert set() == open_calls & {each.id for each in answered}
        assert after.plan.told <= min(after.answers, self.shown)

    def own_id(self, item: ClientToolCallItem) -> str:
        return next(key for key, each in self.calls.items() if item.id.partition("-")[0] == each.base_item_id)

    @invariant()
    def a_finished_call_never_changes(self) -> None:
        for item in self.items:
            if item.id in self.answered:
                assert self.answered[item.id] == item

    @invariant()
    def a_page_that_is_loaded_goes_on(self) -> None:
        """Once no body is at work, it gets the call that is due, or the model is told."""
        self.goes_on(Resumed("last run"))

    @invariant()
    def a_repeat_of_the_last_answer_goes_on(self) -> None:
        """A request that was cut off is posted again, and does what is left to do."""
        if self.last and self.policy.receipts:
            self.goes_on(Answered({RECEIPT: receipt_for(THREAD, self.last)}, "last run"))

    def goes_on(self, event: Event) -> None:
        _, before = self.read()
        after = self.policy.decide(replace(before, now=self.now + 2 * BODY_SECONDS), event)
        if after.plan.calls[after.settled :]:
            assert after.pending
        else:
            assert not after.has_news or (after.plan.body and after.plan.body.by == "last run")

    @invariant()
    def asking_twice_is_asking_once(self) -> None:
        """An answer that is repeated changes nothing more."""
        _, before = self.read()
        found = before.pending
        if found and self.policy.receipts:
            item = before.item(found)
            if item and item.arguments.get(RECEIPT) == receipt_for(THREAD, found.id):
                event = Answered({RECEIPT: receipt_for(THREAD, found.id), "result": 7}, "once")
                once = self.policy.decide(before, event)
                rested = replace(once, plan=once.at_rest)
                assert rested is self.policy.decide(rested, replace(event, by="again"))


class ManyThreads(ThreadMachine):
    """More of them, in the long tests."""


TestThreads = ThreadMachine.TestCase
TestThreads.settings = settings(
    deadline=None, max_examples=EXAMPLES or 60, stateful_step_count=40, derandomize=not EXAMPLES, database=None
)
TestManyThreads = pytest.mark.long(ManyThreads.TestCase)
TestManyThreads.settings = settings(TestThreads.settings, max_examples=EXAMPLES or 300)
