"""`LifecycleMachine`: random conversations with a server, each step held against an oracle. Needs Hypothesis."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing._factory import made_by
from chatkit_clienttools.testing._loop import cancel_all, close, new_loop

from ._oracle import Oracle
from ._play import Play
from ._server import ACTIONS, MESSAGES, TOOLS, RehearsalServer, rehearsal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from chatkit.server import ChatKitServer

    from chatkit_clienttools import ClientTool

    from ._server import Unhurried

T = TypeVar("T")

LEASE = 3600.0
"""After how many seconds whatever a request that was cut off had claimed is free again."""

EVENTS = 8
"""How many events of a response may pass before it is cut off."""

OPERATIONS = 8
"""How many operations of the store may still be done after the event at which Stop was pressed."""

WORLDS = 100
"""In how many states a thread may be for a request to be cut off: each cut adds to them, and hides what is wrong."""


def fitting(machine: LifecycleMachine, asks: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what can be said without asking for more calls than the server can queue."""
    room = machine.max_queued - max(len(world.waiting) for world in machine.play.oracle.worlds)
    return sorted(what for what, names in asks.items() if len(names) <= room)


a_message = st.runner().flatmap(lambda machine: st.sampled_from(fitting(machine, machine.messages)))
an_action = st.runner().flatmap(lambda machine: st.sampled_from(fitting(machine, machine.actions)))
a_call = st.runner().flatmap(lambda machine: st.sampled_from(machine.play.answerable))
some_events = st.integers(0, EVENTS)
some_operations = st.integers(0, OPERATIONS)


class LifecycleMachine(RuleBasedStateMachine):
    """A user, a page and a network that do what those do; an oracle says what must come of it.

    Subclass it, say how your store is made, and let pytest collect the test case that Hypothesis makes of it:

    ```python
    class MyStoreLifecycle(LifecycleMachine):
        def make_store(self):
            return MyStore()

    TestMyStore = MyStoreLifecycle.TestCase
    ```

    For a server of your own give `make_server` instead, and say what can be written to it and what it then asks for:
    `messages`, `tools`, and whatever of the rest is not as it is here.
    """

    messages: ClassVar[Mapping[str, Sequence[str]]] = MESSAGES
    """What can be written to the server, and the client tools that it then asks for, in order."""

    actions: ClassVar[Mapping[str, Sequence[str]]] = ACTIONS
    """The actions that the server has, by type, and the client tools that it then asks for."""

    tools: ClassVar[Sequence[ClientTool[..., Any]]] = TOOLS
    """The declarations of these tools: which of them want an answer, and which are required."""

    answers: ClassVar[Mapping[str, Any]] = {}
    """What the page answers, by tool: a value, or a function that makes another one of each number. Answers that differ
    let the machine see when one is recorded under another call; by default they are `{"number": 1}` and so
    on."""

    on_user_message: Literal["cancel", "keep"] = "cancel"
    """This option of the server's sequencer."""

    on_failure: Literal["continue", "abort"] = "continue"
    """This option of the server's sequencer."""

    max_queued: int = 64
    """This option of the server's sequencer: what would ask for more is not said."""

    receipts: bool = True
    """Whether the server that is brought along for a store sends receipts."""

    context: Any = None
    """What is passed to the server as `context`."""

    time_limit: float = 10.0
    """How many seconds the next event of a response may take, and making the server."""

    def make_store(self) -> Any:
        """Return a store, or an async context manager of one; may be async."""
        raise NotImplementedError(f"{type(self).__name__} has to say what is to be tried: make_store or make_server")

    def make_server(self) -> Any:
        """Return a server, or an async context manager of one; may be async. By default there is one on your store."""

    async def _made(self) -> Any:
        stack, limit = self._stack, self.time_limit
        if type(self).make_server is not LifecycleMachine.make_server:
            return await made_by(self.make_server, stack, time_limit=limit, wanted="a server", methods=["process"])
        return rehearsal(
            await made_by(self.make_store, stack, time_limit=limit),
            self.clock,
            tools=self.tools,
            messages=self.messages,
            actions=self.actions,
            on_user_message=self.on_user_message,
            on_failure=self.on_failure,
            max_queued=self.max_queued,
            receipts=self.receipts,
        )

    def model_runs(self) -> int | None:
        """Return how often `respond` and `action` have let the model run in all; None if that is not known."""
        return self.server.runs if isinstance(self.server, RehearsalServer) else None

    def clock(self) -> float:
        """Return the time in seconds since the epoch, with what was skipped of it.

        Give it to the sequencer of your server, `ClientToolSequencer(..., clock=self.clock)`. What a request had
        claimed that was cut off is free again after some time; requests are cut off only if that time can be skipped.
        """
        self._has_clock = True
        return time.time() + self._skipped

    def _refuse_what_cannot_be_said(self) -> None:
        declared, where = {tool.name for tool in self.tools}, type(self).__name__
        if not self.messages:
            raise UsageError(f"{where}.messages is empty: say what can be written, and which tools it then asks for")
        for said, names in (*self.messages.items(), *self.actions.items()):
            if not declared.issuperset(names):
                wanted = f"a list of names of tools: {sorted(declared)}"
                raise UsageError(f"{where}: {said!r} asks for {names!r}, and that has to be {wanted}")

    def __init__(self) -> None:
        super().__init__()
        self._refuse_what_cannot_be_said()
        self._skipped = 0.0
        self._has_clock = False
        self._loop = new_loop()
        self._stack = AsyncExitStack()
        self._is_broken = False
        self._own_tasks: set[asyncio.Task[Any]] = set()
        try:
            self.server: ChatKitServer[Any] = self._run(self._made())
        except BaseException:
            self._close()
            raise
        self._own_tasks |= asyncio.all_tasks(self._loop)  # whoever has started them ends them
        self.play = Play(
            self.server,
            Oracle(self.tools, self.on_user_message, self.on_failure),
            answer=self._answer,
            runs=self.model_runs,
            context=self.context,
            time_limit=self.time_limit,
        )
        self._stack.push_async_callback(self.play.page.aclose)

    @initialize(text=a_message)
    def user_begins(self, text: str) -> None:
        """The first message opens the thread."""
        self._write(text)

    @precondition(lambda self: bool(fitting(self, self.messages)))
    @rule(text=a_message)
    def user_writes(self, text: str) -> None:
        """Another message, whether a call is pending or not."""
        self._write(text)

    @precondition(lambda self: self._may_cut_off and bool(fitting(self, self.messages)))
    @rule(text=a_message, events=some_events, operations=some_operations)
    def user_stops_a_message(self, text: str, events: int, operations: int = 0) -> None:
        """Stop, somewhere in the response to a message."""
        self._write(text, lambda: self._stop(events, operations))

    @precondition(lambda self: self._may_cut_off and bool(fitting(self, self.messages)))
    @rule(text=a_message, events=some_events)
    def connection_of_a_message_is_lost(self, text: str, events: int) -> None:
        """The network goes away, somewhere in the response to a message."""
        self._write(text, lambda: self.play.page.drop(events, if_reached=True))

    @precondition(lambda self: self.on_user_message == "cancel")  # with "keep" it removes answers to older calls too
    @rule()
    def user_retries(self) -> None:
        """The last message again."""
        self._run(self.play.retry(self.messages))

    @precondition(lambda self: bool(fitting(self, self.actions)))
    @rule(kind=an_action)
    def user_presses(self, kind: str) -> None:
        """A button, in a widget or elsewhere in the page."""
        asked = self.play.oracle.action(self.actions[kind])
        self._run(self.play.step(self.play.page.action(kind), asked))

    @rule()
    def user_renames(self) -> None:
        """Another title, which saves the thread."""
        self._run(self.play.look_after(self.play.page.rename("Another title")))

    @rule()
    def user_reloads(self) -> None:
        """The page is loaded anew."""
        self._run(self.play.look_after(self.play.page.reload()))

    @precondition(lambda self: self.play.forgives)
    @rule()
    def page_resumes(self) -> None:
        """The page asks for a pending call again."""
        self._run(self.play.resume())

    @precondition(lambda self: self.play.last_is_pending)
    @rule(fails=st.booleans())
    def page_answers(self, *, fails: bool) -> None:
        """The pending call is answered, or the page reports that it could not."""
        self._run(self.play.answer(fails=fails))

    @precondition(lambda self: self.play.forgives and self.play.answerable)
    @rule(number=a_call, times=st.integers(1, 3))
    def page_answers_late_or_again(self, number: int, times: int) -> None:
        """Any call is answered, whatever has become of it since: also several times at once."""
        self._run(self.play.answer(number, times=times))

    @precondition(lambda self: self._may_cut_off and self.play.last_is_pending)
    @rule(events=some_events, operations=some_operations, fails=st.booleans())
    def user_stops_an_answer(self, events: int, operations: int = 0, *, fails: bool) -> None:
        """Stop, somewhere in the response to an answer."""
        self._run(self.play.answer(fails=fails, cut=lambda: self._stop(events, operations)))

    @precondition(lambda self: self._may_cut_off and self.play.last_is_pending)
    @rule(events=some_events, fails=st.booleans())
    def connection_of_an_answer_is_lost(self, events: int, *, fails: bool) -> None:
        """The network goes away, somewhere in the response to an answer."""
        self._run(self.play.answer(fails=fails, cut=lambda: self.play.page.drop(events, if_reached=True)))

    @precondition(lambda self: self._has_clock)
    @rule()
    def time_passes(self) -> None:
        """Whatever was claimed by a request that was cut off is free again."""
        self._skipped += LEASE
        self.play.may_be_claimed = False

    def teardown(self) -> None:
        """Let nothing go wrong any more: every call must be settled then."""
        try:
            if not self._is_broken:
                self._skipped += LEASE
                self._run(self.play.settle())
        finally:
            self._close()

    @property
    def _may_cut_off(self) -> bool:
        return self.play.forgives and self._has_clock and len(self.play.oracle.worlds) <= WORLDS

    def _write(self, text: str, cut: Callable[[], object] | None = None) -> None:
        play = self.play
        asked = play.oracle.message(self.messages[text])
        self._run(play.step(play.page.send(text), asked, cut, play.oracle.cut_message))

    def _answer(self, name: str, number: int) -> Any:
        answer = self.answers.get(name, {"number": number})
        answer = answer(number) if callable(answer) else answer
        (tool,) = (tool for tool in self.tools if tool.name == name)
        # what does not fit is refused by the server, and then nothing but refusals would be played
        if (problem := tool.problem_with(answer)) and not tool.report_in(answer):
            raise AssertionError(f"{type(self).__name__}.answers has to say what fits, not {answer!r}: {problem}")
        return answer

    def _stop(self, events: int, operations: int) -> None:
        """Press Stop at an event; it takes hold when the server has done so much more with our own slow store."""
        self.play.page.stop(events, if_reached=True)
        if isinstance(self.server, RehearsalServer):
            store = cast("Unhurried", self.server.store)
            self.play.stopped = lambda: setattr(store, "hurries", operations)

    def _close(self) -> None:
        """End what the server has still to do, while there is a store to do it with, and then the store."""
        try:
            cancel_all(self._loop, but=self._own_tasks)
            self._loop.run_until_complete(self._stack.aclose())
        finally:
            close(self._loop)

    def _run(self, step: Awaitable[T]) -> T:
        try:
            return self._loop.run_until_complete(step)
        except BaseException:
            self._is_broken = True
            raise
