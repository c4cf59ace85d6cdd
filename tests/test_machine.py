"""A server under random conversations, held against a dull model of what should happen."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatkit_clienttools import ClientTool, ClientToolSequencer, ValidatingStore
from chatkit_clienttools._protocol.plan import BODY_SECONDS
from chatkit_clienttools.receipts import RECEIPT
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation
from tests.helpers.scripted import Scripted, asks, fails
from tests.helpers.stores import LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from chatkit.store import Store

TOOLS = {
    "shows": ClientTool("shows", result=None),
    "stops": ClientTool("stops", result=None, required=True),
    "gets": ClientTool("gets", result=int),
}

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
"""How many conversations each machine plays; a long run takes more."""

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target)
"""No shrinking: it takes minutes, and the steps of a conversation read well enough as they are."""

asked = st.lists(st.sampled_from(sorted(TOOLS)), max_size=4)


@dataclass
class Call:
    """What the oracle knows of a call."""

    n: int
    tool: str
    turn: int
    state: str = "queued"
    is_told: bool = False
    """Whether the model knows its answer."""

    @property
    def is_open(self) -> bool:
        return self.state in ("queued", "pending")


@dataclass
class Oracle:
    """What should happen, in plain lists: it shares no code with what it checks."""

    policy: str
    on_failure: str
    plan: list[Call] = field(default_factory=list)
    """Its calls, the finished ones included until nothing is left to do and to tell."""
    items_are_gone: bool = False
    """Whether a retry has removed items since the plan was last empty: the snapshot shows finished calls by them."""
    shown: list[int] = field(default_factory=list)
    """The calls the browser should have got, in order."""
    runs: int = 0
    turn: int = 0
    next_n: int = 0

    def new(self, tools: list[str]) -> list[Call]:
        made = [Call(self.next_n + i, tool, self.turn) for i, tool in enumerate(tools)]
        self.next_n += len(made)
        return made

    @property
    def open(self) -> list[Call]:
        return [call for call in self.plan if call.is_open]

    @property
    def news(self) -> list[Call]:
        """The answers that the model wants and does not know."""
        return [call for call in self.plan if call.tool == "gets" and not call.is_open and not call.is_told]

    @property
    def pending(self) -> Call | None:
        return next((call for call in self.plan if call.state == "pending"), None)

    def release(self) -> None:
        if self.pending is None:
            for call in self.plan:
                if call.state == "queued":
                    call.state = "pending"
                    self.shown.append(call.n)
                    return

    def cancel(self) -> None:
        """A new message with "cancel", or `cancel()`."""
        self.plan = [call for call in self.plan if not call.is_open or call.tool == "stops"]
        for call in self.open:
            call.state = "queued"

    def tell(self, calls: list[Call]) -> None:
        for call in calls:
            call.is_told = True

    def rest(self) -> None:
        """The end of a step: finished calls are forgotten when nothing is left."""
        if not self.open and not self.news:
            self.plan = []
            self.items_are_gone = False

    def message(self, *, retried: bool = False) -> None:
        if retried:
            # the items after the message are gone, and with them what was released under it
            self.plan = [call for call in self.plan if call.turn != self.turn or not call.is_open]
            self.items_are_gone = True
            for call in self.open:
                call.state = "queued"
        else:
            self.turn += 1
            if CHATKIT_DROPS_PENDING_ON_MESSAGE and self.pending:
                self.pending.state = "queued"
        if self.policy == "cancel":
            self.cancel()
        self.rest()
        self.runs += 1

    def ended(self, new: list[Call], *, tells: list[Call]) -> None:
        self.tell(tells)
        self.plan += new
        self.release()
        self.rest()


class ServerMachine(RuleBasedStateMachine):
    """Whatever a user, a browser and a model do: order kept, nothing lost, nothing doubled, at most one pending."""

    make: type[Store[Any]] = PlainStore
    policy: Any = "cancel"
    on_failure: Any = "continue"
    receipts = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = WatchedStore(self.make())
        self.oracle = Oracle(self.policy, self.on_failure)
        self.bodies: list[Any] = []
        self.now = 1_700_000_000.0
        self.ran = 0
        self.seen: list[int] = []
        self.receipt: str | None = None
        self.chat: Conversation | None = None
        self.server = self.a_worker()
        logging.getLogger("chatkit").setLevel(logging.CRITICAL)  # failing runs are part of the game
        logging.getLogger("chatkit_clienttools").setLevel(logging.CRITICAL)

    def a_worker(self) -> Scripted:
        sequencer = ClientToolSequencer(
            TOOLS.values(),
            on_user_message=self.policy,
            on_failure=self.on_failure,
            max_queued=1000,
            receipts=self.receipts,
            clock=lambda: self.now,
        )
        server = Scripted(self.store, sequencer)
        server.bodies = self.bodies
        return server

    def teardown(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        logging.getLogger("chatkit").setLevel(logging.NOTSET)
        logging.getLogger("chatkit_clienttools").setLevel(logging.NOTSET)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        before = self.server.runs
        result = self.loop.run_until_complete(coroutine)
        self.ran += self.server.runs - before
        return result

    def post(self, coroutine: Coroutine[Any, Any, Any], *, errors: int = 0) -> Any:
        reply = self.run(coroutine)
        assert errors == len(reply.errors), reply.events
        self.sees(reply.call_items)
        return reply

    def sees(self, items: list[Any]) -> None:
        for item in items:
            self.seen.append(item["arguments"]["n"])
            self.receipt = item["arguments"].get(RECEIPT)

    def calls_of(self, new: list[Call]) -> list[Any]:
        return [TOOLS[call.tool](n=call.n) for call in new]

    @initialize()
    def begins(self) -> None:
        self.bodies.append(asks(says="hello"))
        self.chat = Conversation(self.server)
        self.oracle.message()
        self.post(self.chat.say("hello"))

    @property
    def talk(self) -> Conversation:
        assert self.chat
        self.chat.server = self.server
        return self.chat

    @rule(tools=asked)
    def user_writes(self, tools: list[str]) -> None:
        self.oracle.message()
        tells = self.oracle.news
        new = self.oracle.new(tools)
        self.bodies.append(asks(*self.calls_of(new), says=f"m{self.oracle.runs}"))
        self.post(self.talk.say("more"))
        self.oracle.ended(new, tells=tells)

    @rule(tools=asked)
    def the_run_of_a_message_fails(self, tools: list[str]) -> None:
        self.oracle.message()
        self.bodies.append(fails(*self.calls_of(self.oracle.new(tools))))
        self.post(self.talk.say("more"), errors=1)

    @precondition(lambda self: self.policy == "cancel")  # with "keep" a retry deletes answers of an older turn too
    @rule(tools=asked)
    def user_retries(self, tools: list[str]) -> None:
        items = self.run(self.talk.items())
        last = [item for item in items if item.type == "user_message"][-1]
        self.oracle.message(retried=True)
        new = self.oracle.new(tools)
        self.bodies.append(asks(*self.calls_of(new), says=f"m{self.oracle.runs}"))
        self.post(self.talk.retry(last.id))
        self.oracle.ended(new, tells=self.oracle.news)

    @rule(tools=asked)
    def user_presses(self, tools: list[str]) -> None:
        self.oracle.runs += 1
        new = self.oracle.new(tools)
        self.bodies.append(asks(*self.calls_of(new), says=f"a{self.oracle.runs}"))
        self.post(self.talk.act("press"))
        self.oracle.ended(new, tells=[])

    @rule()
    def user_renames(self) -> None:
        self.run(self.talk.rename("another title"))

    @rule()
    def worker_is_replaced(self) -> None:
        self.now += BODY_SECONDS
        self.server = self.a_worker()

    @rule()
    def support_cancels(self) -> None:
        assert self.chat
        self.run(self.server.sequencer.cancel(self.store, self.chat.thread_id or "", None))
        self.oracle.tell(self.oracle.news)
        self.oracle.cancel()
        self.oracle.rest()

    @precondition(lambda self: self.oracle.pending is not None)
    @rule(tools=asked, fits=st.booleans(), twice=st.booleans(), fails_once=st.booleans())
    def browser_answers(self, tools: list[str], *, fits: bool, twice: bool, fails_once: bool) -> None:
        call = self.oracle.pending
        assert call
        failed = call.tool == "gets" and not fits
        call.state = "failed" if failed else "completed"
        if failed and self.oracle.on_failure == "abort":
            self.oracle.plan = [c for c in self.oracle.plan if c.state != "queued" or c.tool == "stops"]
        result: Any = 7 if fits else "not a number"
        result = {RECEIPT: self.receipt, "result": result} if self.receipts else result
        posts = 2 if twice and self.receipts else 1
        if self.oracle.open:
            self.oracle.release()
            self.answered(result, posts)
        elif not self.oracle.news:
            self.oracle.rest()
            self.answered(result, posts)
        else:
            self.oracle.runs += 1
            new = self.oracle.new(tools)
            if fails_once:
                self.bodies.append(fails(*self.calls_of(new)))
                self.post(self.talk.answer(result), errors=1)
            else:
                self.bodies.append(asks(*self.calls_of(new), says=f"c{self.oracle.runs}"))
                self.answered(result, posts)
                self.oracle.ended(new, tells=self.oracle.news)

    def answered(self, result: Any, posts: int) -> None:
        """Post an answer once, or twice in lockstep; whoever repeats an answer is shown the pending call once more."""
        if posts == 2:
            self.store.take_turns()
        replies = self.run(self.all_of([self.talk.answer(result) for _ in range(posts)]))
        self.store.before = None
        assert [] == [reply.errors for reply in replies if reply.errors]
        self.sees(list({item["id"]: item for reply in replies for item in reply.call_items}.values()))

    async def all_of(self, posts: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*posts))

    @invariant()
    def browser_got_every_call_once_and_in_order(self) -> None:
        assert self.oracle.shown == self.seen

    @invariant()
    def model_ran_as_promised(self) -> None:
        assert self.oracle.runs == self.ran
        assert [] == self.bodies

    @invariant()
    def at_most_one_call_is_pending(self) -> None:
        if self.chat:
            pending = [name for name, status in self.run(self.chat.calls()) if status == "pending"]
            assert len(pending) == (self.oracle.pending is not None)

    @invariant()
    def the_snapshot_is_the_oracles_plan(self) -> None:
        if self.chat:
            shown = self.run(self.server.sequencer.snapshot(self.store, self.chat.thread_id or "", None))
            plan = self.oracle.open if self.oracle.items_are_gone else self.oracle.plan
            shown = [each for each in shown if not self.oracle.items_are_gone or not each.state.is_final]
            assert [(c.tool, c.state) for c in plan] == [(s.name, s.state.value) for s in shown]


def variant(name: str, **attributes: Any) -> Any:
    machine: Any = type(name, (ServerMachine,), attributes)
    case = machine.TestCase
    case.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None, phases=PHASES)
    # without coverage: it takes twice as long with it, and what it comes past differs
    return pytest.mark.long(pytest.mark.no_cover(case))


TestPlain = variant("Plain", make=PlainStore)
TestReceipts = variant("Receipts", make=PlainStore, receipts=True)
TestPlans = variant("Plans", make=PlansStore)
TestLive = variant("Live", make=staticmethod(lambda: ValidatingStore(LiveStore())))
TestValidatedPlans = variant(
    "ValidatedPlans", make=staticmethod(lambda: ValidatingStore(PlansStore())), on_failure="abort"
)
TestKeep = variant("Keep", make=PlainStore, policy="keep")
TestKeepAbort = variant("KeepAbort", make=PlansStore, policy="keep", on_failure="abort", receipts=True)
TestAbort = variant("Abort", make=PlainStore, on_failure="abort")


@pytest.mark.long
@pytest.mark.parametrize("break_it", ["drops", "doubles"])
def test_the_machine_notices(break_it: str) -> None:
    """The machine finds a sequencer that loses a call, and one that shows a call twice."""

    class Broken(ServerMachine):
        def post(self, coroutine: Any, *, errors: int = 0) -> Any:
            reply = super().post(coroutine, errors=errors)
            if reply.calls:
                self.seen = self.seen[:-1] if break_it == "drops" else [*self.seen, self.seen[-1]]
            return reply

    case = Broken.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=10, deadline=None, database=None, print_blob=False)
    with pytest.raises(AssertionError):
        case("runTest").runTest()
