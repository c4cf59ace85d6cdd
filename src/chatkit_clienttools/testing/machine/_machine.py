"""`LifecycleMachine`: random conversations with a server, each step held against an oracle. Needs Hypothesis."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chatkit_clienttools.testing._factory import made_by
from chatkit_clienttools.testing._loop import cancel_all, close, new_loop

from ._play import Play
from ._script import refuse_a_script_of_another, script_of
from ._server import ACTIONS, MESSAGES, TOOLS, RehearsalServer, rehearsal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from chatkit.server import ChatKitServer
    from chatkit.store import Store

    from chatkit_clienttools import ClientTool

    from ._script import OnFailure, OnUserMessage
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

a_message = st.runner().flatmap(lambda machine: st.sampled_from(machine.play.messages))
an_action = st.runner().flatmap(lambda machine: st.sampled_from(machine.play.actions))
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

    on_user_message: OnUserMessage = "cancel"
    """This option of the server's sequencer."""

    on_failure: OnFailure = "continue"
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
        """Return a server, or an async context manager of one; may be async."""
        return self._rehearsal()

    async def _made(self) -> Any:
        is_ours = type(self).make_server is LifecycleMachine.make_server  # it waits for the store alone
        limit = None if is_ours else self.time_limit
        return await made_by(self.make_server, self._stack, time_limit=limit, wanted="a server", methods=["process"])

    async def _rehearsal(self) -> RehearsalServer:
        store: Store[Any] = await made_by(self.make_store, self._stack, time_limit=self.time_limit)
        return rehearsal(
            store,
            self.clock,
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

    def __init__(self) -> None:
        super().__init__()
        script = script_of(self)
        self._skipped = 0.0
        self._has_clock = False
        self._loop = new_loop()
        self._stack = AsyncExitStack()
        self._is_broken = False
        self._own_tasks: set[asyncio.Task[Any]] = set()
        try:
            self.server: ChatKitServer[Any] = self._run(self._made())
            refuse_a_script_of_another(self)
            self._own_tasks |= asyncio.all_tasks(self._loop)  # whoever has started them ends them
            self.play = Play(
                self.server, script, context=self.context, runs=self.model_runs, time_limit=self.time_limit
            )
        except BaseException:
            self._close()
            raise
        self._stack.push_async_callback(self.play.page.aclose)

    @initialize(text=a_message)
    def user_begins(self, text: str) -> None:
        """The first message opens the thread."""
        self._run(self.play.message(text))

    @precondition(lambda self: self.play.messages)
    @rule(text=a_message)
    def user_writes(self, text: str) -> None:
        """Another message, whether a call is pending or not."""
        self._run(self.play.message(text))

    @precondition(lambda self: self._may_cut_off and self.play.messages)
    @rule(text=a_message, events=some_events, operations=some_operations)
    def user_stops_a_message(self, text: str, events: int, operations: int = 0) -> None:
        """Stop, somewhere in the response to a message."""
        self._run(self.play.message(text, lambda: self._stop(events, operations)))

    @precondition(lambda self: self._may_cut_off and self.play.messages)
    @rule(text=a_message, events=some_events)
    def connection_of_a_message_is_lost(self, text: str, events: int) -> None:
        """The network goes away, somewhere in the response to a message."""
        self._run(self.play.message(text, lambda: self.play.page.drop(events, if_reached=True)))

    @precondition(lambda self: self.on_user_message == "cancel")  # with "keep" it removes answers to older calls too
    @rule()
    def user_retries(self) -> None:
        """The last message again."""
        self._run(self.play.retry())

    @precondition(lambda self: self.play.actions)
    @rule(kind=an_action)
    def user_presses(self, kind: str) -> None:
        """A button, in a widget or elsewhere in the page."""
        self._run(self.play.action(kind))

    @rule()
    def user_renames(self) -> None:
        """Another title, which saves the thread."""
        self._run(self.play.rename())

    @rule()
    def user_reloads(self) -> None:
        """The page is loaded anew."""
        self._run(self.play.reload())

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
        self.play.time_passes()

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

    def _stop(self, events: int, operations: int) -> None:
        """Press Stop at an event; it takes hold when the server has done so much more with our own slow store."""
        self.play.page.stop(events, if_reached=True)
        if isinstance(self.server, RehearsalServer):
            store = cast("Unhurried", self.server.store)
            self.play.stopped = lambda: store.hurry(operations)

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
