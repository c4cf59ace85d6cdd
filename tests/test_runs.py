"""Runs: what is left of one that fails, what they share a thread with, and how their servers may look."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper, function_tool
from agents.testing import function_call
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.errors import CustomStreamError
from chatkit.types import (
    ClientToolCallItem,
    ProgressUpdateEvent,
    ThreadItemDoneEvent,
    ThreadMetadata,
)

from chatkit_clienttools import (
    ClientToolSequencer,
    ClientToolServer,
    ValidatingStore,
)
from chatkit_clienttools._step.plans import METADATA_KEY
from chatkit_clienttools.errors import (
    NotSequencedError,
)
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, SequencedServer, animation, anything, selection, speaks
from tests.helpers.scripted import Scripted, answers_itself, asks, fails, hidden, message, says, scripted
from tests.helpers.server import RESUME, lines
from tests.helpers.stores import LiveStore, PlainStore, PlansStore, WatchedStore
from tests.helpers.waiting import left_behind_is_done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]


@pytest.fixture(params=[PlainStore, PlansStore, LiveStore], ids=["plain", "plans", "live"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


async def saved_thread(store: Store[Any]) -> ThreadMetadata:
    thread = ThreadMetadata(id="thr_1", created_at=at(0))
    await store.save_thread(thread, None)
    return await store.load_thread("thr_1", None)


class TestRuns:
    async def test_a_run_that_fails_leaves_nothing(self, store: Store[Any]) -> None:
        """Calls enqueued by a run that fails are dropped with it."""
        server, chat = scripted(store, fails(anything(), text="half"), asks(animation(state="start")))

        reply = await chat.say("go")

        assert ([], 1) == (reply.calls, len(reply.errors))
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)
        assert [("run_search_animation", {"state": "start"})] == (await chat.say("again")).calls

    async def test_the_log_says_what_a_run_that_fails_drops(self, caplog: pytest.LogCaptureFixture) -> None:
        """What a run enqueued that has failed is dropped, and the log says how many calls that are."""
        _, chat = scripted(PlainStore(), fails(anything(), anything(), text="half"))

        with caplog.at_level(logging.INFO, "chatkit_clienttools"):
            await chat.say("go")

        said = f"thread {chat.thread_id}: a run has not come to its end: what it enqueued is dropped (2)"
        assert ("INFO", said) in lines(caplog)

    @pytest.mark.parametrize("is_away", [False, True])
    async def test_a_long_run_is_not_taken_for_dead(self, is_away: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A run that streams for longer than 120 seconds keeps its claim: a reload starts no second one."""
        now, store = [1_000_000.0], WatchedStore(PlansStore())
        refused: list[str] = []
        loaded: list[Any] = []

        async def refuse_once(name: str, _: Any) -> None:
            if is_away and name == "save_plan" and not refused:
                refused.append(name)
                raise ConnectionError

        async def thinks(server: Scripted, context: Any) -> AsyncIterator[Any]:
            store.before = refuse_once
            for n in range(6):
                now[0] += 60
                yield ProgressUpdateEvent(text=f"{n}")
                if n == 4:
                    loaded.append(await Conversation(server, thread_id=chat.thread_id).act(RESUME))
            yield message("done", context.thread, "done")

        server, chat = scripted(store, asks(selection()), thinks, clock=lambda: now[0])

        await chat.say("go")
        reply = await chat.answer(["a"])

        assert (["done"], 2) == (reply.texts, server.runs)
        assert [[]] == [page.errors for page in loaded]
        said = f"thread {chat.thread_id}: a long run could not claim more time (ConnectionError)"
        assert [said] * is_away == [line for line in caplog.messages if "claim more time" in line]

    async def test_a_body_that_fails_after_its_call_was_made(self, store: Store[Any]) -> None:
        """A pending call that ChatKit has made already is held back, and gone when the rest of the body fails."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield ThreadItemDoneEvent(
                item=ClientToolCallItem(
                    id="tc", thread_id=context.thread.id, created_at=at(1), call_id="c", name="x", arguments={}
                )
            )
            raise RuntimeError("the title task failed")

        _, chat = scripted(store, body)

        assert [] == (await chat.say("go")).calls
        assert [] == await chat.calls()

    async def test_the_run_after_the_last_answer_can_be_repeated_when_it_failed(self, store: Store[Any]) -> None:
        """A failed continuation gives its claim back: the next one runs, and no call is released again."""
        _, chat = scripted(store, asks(selection()), fails(anything()), answers_itself, says("done"))
        await chat.say("go")
        failed = await chat.answer([])

        assert 1 == len(failed.errors)
        assert ["done"] == (await chat.act("continue")).texts
        assert [("get_selected_canvas_nodes", "completed")] == await chat.calls()

    async def test_parameters_have_any_names(self, store: Store[Any]) -> None:
        """A `respond` names its parameters as it likes, since ChatKit calls it by position."""
        given: list[Any] = []

        class Server(ClientToolServer[Any]):
            async def respond(  # pyright: ignore[reportIncompatibleMethodOverride]  the names are the test
                self, a_thread: Any, item: Any, ctx: Any
            ) -> AsyncIterator[Any]:
                given.append((a_thread.id, item.type, ctx))
                return
                yield

        chat = Conversation(Server(store), context="me")
        await chat.say("go")

        assert [(chat.thread_id, "user_message", "me")] == given

    async def test_a_body_may_be_a_plain_function(self, store: Store[Any]) -> None:
        """A `respond` that returns an async iterator may enqueue before it returns, as one that is a generator."""
        sequencer = ClientToolSequencer(TOOLS)

        class Server(ClientToolServer[Any]):
            client_tools = sequencer

            def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                sequencer.enqueue(AgentContext(thread=thread, store=self.store, request_context=context), anything())
                return self.nothing()

            async def nothing(self) -> AsyncIterator[Any]:
                return
                yield

        chat = Conversation(Server(store))

        assert [("anything", {})] == (await chat.say("go")).calls

    async def test_an_action_that_calls_respond_is_one_run(self, store: Store[Any]) -> None:
        """An action that calls `respond` is one run with it: no deadlock, one queue, one pending call at the end."""

        async def nested(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1))
            async for event in server.respond(context.thread, None, context.request_context):
                yield event
            server.sequencer.enqueue(context, anything(n=3))

        _, chat = scripted(store, says("hi"), nested, asks(anything(n=2), says="inner"), says("done"))
        await chat.say("go")

        reply = await asyncio.wait_for(chat.act("press"), 5)
        seen = reply.calls + (await chat.answer()).calls + (await chat.answer()).calls

        assert ["inner"] == reply.texts
        assert [1, 2, 3] == [arguments["n"] for _, arguments in seen]

    async def test_two_requests_that_share_a_thread_object_are_two_runs(self) -> None:
        """A store with live references hands both the same object; what one enqueues is not the other's."""
        store = LiveStore()
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield message("working", context.thread, "working")
            started.set()
            await go_on.wait()
            server.sequencer.enqueue(context, anything(n=2))

        server, chat = scripted(store, says("hi"), slow, asks(anything(n=1)))
        await chat.say("hello")
        other = Conversation(server, thread_id=chat.thread_id)
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()

        second = await other.act("quick")
        go_on.set()

        assert [1] == [arguments["n"] for _, arguments in second.calls]
        assert [] == (await first).calls
        assert [2] == [arguments["n"] for _, arguments in (await chat.answer()).calls]

    async def test_an_optional_parameter(self, store: Store[Any]) -> None:
        """A `respond` may have an optional parameter of its own."""
        given: list[Any] = []

        class Server(ClientToolServer[Any]):
            async def respond(
                self, thread: Any, input_user_message: Any, context: Any, verbose: bool = False
            ) -> AsyncIterator[Any]:
                given.append((context, verbose))
                return
                yield

        await Conversation(Server(store), context="me").say("go")

        assert [("me", False)] == given

    async def test_a_body_that_is_iterable(self, store: Store[Any]) -> None:
        """A `respond` may return anything that can be iterated over, as in plain ChatKit."""

        class Events:
            def __init__(self, thread: ThreadMetadata) -> None:
                self.thread = thread

            def __aiter__(self) -> AsyncIterator[Any]:
                return self.events()

            async def events(self) -> AsyncIterator[Any]:
                yield message("hello", self.thread, "hello")

        class Server(ClientToolServer[Any]):
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> Any:
                return Events(thread)

        assert ["hello"] == (await Conversation(Server(store)).say("go")).texts

    async def test_closing_the_events_closes_the_body(self, store: Store[Any]) -> None:
        """What a body does at its end is done when nobody reads its response any more."""
        closed = asyncio.Event()

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    yield message("one", thread, "one")
                finally:
                    closed.set()

        chat = Conversation(Server(store))
        events = chat.stream(chat.say_request("go"))
        while (await anext(events)).get("item", {}).get("id") != "one":
            pass
        del events
        gc.collect()

        assert await asyncio.wait_for(closed.wait(), 5)

    async def test_closing_the_events_closes_a_body_that_is_kept(self, store: Store[Any]) -> None:
        """A body that the application holds on to is closed with its response all the same."""
        closed: list[str] = []

        class Server(ClientToolServer[Any]):
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                self.kept = self.events(thread)
                return self.kept

            async def events(self, thread: ThreadMetadata) -> AsyncIterator[Any]:
                try:
                    yield message("one", thread, "one")
                finally:
                    closed.append("events")

        chat = Conversation(Server(store))
        events: Any = chat.stream(chat.say_request("go"))
        while (await anext(events)).get("item", {}).get("id") != "one":
            pass
        await events.aclose()
        await left_behind_is_done()

        assert ["events"] == closed

    async def test_an_action_after_a_run_that_failed(self, store: Store[Any]) -> None:
        """An action does not let the model run by itself, though the run after the last answer has failed."""
        server, chat = scripted(store, asks(selection()), fails(), says("pressed"), says("never"))
        await chat.say("go")
        await chat.answer([])

        reply = await chat.act("press")

        assert (["pressed"], [], 3) == (reply.texts, reply.errors, server.runs)

    async def test_the_bodys_own_error_is_the_one_that_is_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        """When the store is away too, the user reads what the body had to say, and the log has both."""
        store = WatchedStore(PlainStore())

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async def away(name: str, args: tuple[Any, ...]) -> None:
                raise ConnectionError

            store.before = away
            raise CustomStreamError("Your quota is used up.")
            yield

        _, chat = scripted(store, asks(selection()), body)
        await chat.say("go")

        reply = await chat.answer([])

        assert ["Your quota is used up."] == [error["message"] for error in reply.errors]
        said = f"thread {chat.thread_id}: a failed run still counts as running (ConnectionError)"
        assert [said] == [record.getMessage() for record in caplog.records if record.name == "chatkit_clienttools"]

    async def test_chatkits_own_save_does_not_bring_a_cancelled_plan_back(self, store: Store[Any]) -> None:
        """A run that cancels the plan and changes the thread has the thread saved as it is then."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            await server.sequencer.cancel(server.store, context.thread.id, None)
            context.thread.title = "stopped"
            yield message("ok", context.thread, "ok")
            yield message("ok2", context.thread, "ok2")

        server, chat = scripted(store, asks(anything(n=1), anything(n=2)), body)
        await chat.say("go")

        assert [] == (await chat.act("stop")).calls
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)

    @pytest.mark.parametrize("at_the_end", [True, False], ids=["at its end", "in its middle"])
    @pytest.mark.parametrize("guard", [lambda store: store, ValidatingStore], ids=["bare", "validated"])
    async def test_a_slow_run_that_changes_the_thread_keeps_the_plan_of_a_quick_one(
        self, store: Store[Any], guard: Any, at_the_end: bool
    ) -> None:
        """When ChatKit saves its older copy of a thread, the plan that another run has written meanwhile stays."""
        store = guard(store)
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            started.set()
            await go_on.wait()
            context.thread.title = "late"
            if not at_the_end:
                yield ProgressUpdateEvent(text="done")

        server, chat = scripted(store, says("hi"), slow, asks(anything(n=1), anything(n=2)), says("done"))
        await chat.say("hello")
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()
        other = Conversation(server, thread_id=chat.thread_id)
        await other.act("quick")
        go_on.set()

        assert "thread.updated" in (await first).types
        assert [("anything", {"n": 2})] == (await chat.answer()).calls
        assert "late" == (await store.load_thread(chat.thread_id or "", None)).title

    async def test_what_a_slow_run_adds_does_not_keep_an_answer_out(self, store: Store[Any]) -> None:
        """A call that another run has released can be answered when a slow run has written items behind it."""
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            started.set()
            await go_on.wait()
            yield message("late", context.thread, "late")

        server, chat = scripted(store, says("hi"), slow, asks(selection()), says("done"))
        await chat.say("hello")
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()
        await Conversation(server, thread_id=chat.thread_id).act("quick")
        go_on.set()
        await first

        assert ["done"] == (await chat.answer([])).texts

    async def test_a_store_that_saves_what_has_changed(self) -> None:
        """A store that saves only what has changed, as an ORM does, sees that a plan has changed."""

        class Comparing(PlainStore):
            async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:
                known = self.threads.get(thread.id)
                if known is None or known.metadata != thread.metadata or known.title != thread.title:
                    await super().save_thread(thread, context)

        _, chat = scripted(Comparing(), asks(anything(n=1), anything(n=2)), says("done"))
        await chat.say("go")

        assert [("anything", {"n": 2})] == (await chat.answer()).calls
        assert ["done"] == (await chat.answer()).texts

    @pytest.mark.parametrize("guard", [lambda store: store, ValidatingStore], ids=["bare", "validated"])
    async def test_a_store_that_returns_none(self, guard: Any) -> None:
        """A store that returns None for what is not there loses no call."""

        class Nothing(PlainStore):
            async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
                return self.items[thread_id].get(item_id)

            async def load_thread(self, thread_id: str, context: Any) -> Any:
                return self._out(self.threads[thread_id]) if thread_id in self.threads else None

        _, chat = scripted(guard(Nothing()), asks(anything(n=1)), says("pressed"), says("done"))
        await chat.say("go")
        await chat.act("press")

        assert ["done"] == (await chat.answer()).texts

    async def test_two_stores_with_equal_ids_do_not_block_each_other(self) -> None:
        """With one sequencer over a store for each tenant, a run of one tenant holds up nobody of the other."""

        class Counting(PlainStore):
            count = 0

            def generate_thread_id(self, context: Any) -> str:
                return "thr_1"

            def generate_item_id(self, item_type: Any, thread: Any, context: Any) -> str:
                self.count += 1
                return f"{item_type}_{self.count}"

        sequencer = ClientToolSequencer(TOOLS)
        chats = [Conversation(Scripted(Counting(), sequencer, asks(anything(n=n)))) for n in (1, 2)]
        frozen = chats[0].stream(chats[0].say_request("go"))
        while (await anext(frozen)).get("item", {}).get("type") != "client_tool_call":
            pass

        assert [("anything", {"n": 2})] == (await chats[1].say("go")).calls

    async def test_a_repeat_that_comes_after_the_model_has_answered(self, store: Store[Any]) -> None:
        """A repeat of the last answer does not run the model again, whatever was written since."""
        server, chat = scripted(store, asks(selection()), says("done"), says("twice"))
        await chat.say("go")
        await chat.answer([])
        at_once = await chat.answer([])
        await chat.touch(hidden(chat, 1))
        later = await chat.answer([])

        assert [] == at_once.done + at_once.errors + later.done + later.errors
        assert 2 == server.runs

    async def test_an_old_id_is_not_adopted(self, store: Store[Any]) -> None:
        """An item id that ChatKit chose and that the thread has had long ago is not used again."""

        @function_tool
        async def select(ctx: Ctx) -> str:
            """Ask for the selection."""
            ctx.context.client_tool_call = ClientToolCall(name="get_selected_canvas_nodes", arguments={})
            return "asked"

        call = function_call("select", {}, call_id="call_0", item_id="fc_0")
        server = SequencedServer(store, [[call], speaks("1"), speaks("2"), [call], speaks("3"), speaks("4")], [select])
        chat = Conversation(server)
        await chat.say("go")
        await chat.answer(["a"])
        for n in range(25):
            await chat.touch(hidden(chat, n))

        await chat.say("again")
        await chat.answer(["b"])

        assert [["a"], ["b"]] == [item.output for item in await chat.items() if item.type == "client_tool_call"]

    async def test_a_stale_thread_object_does_no_harm(self, store: Store[Any]) -> None:
        """A copy of the thread that is older than its plan may be saved: the plan stays, and the copy is saved."""
        server, chat = scripted(store, asks(anything(n=1), anything(n=2)), says("done"))
        stale = (await saved_thread(store)).model_copy(deep=True)
        chat.thread_id = stale.id
        await chat.say("go")
        stale.title, stale.metadata = "Search", {"mine": 1}

        await server.store.save_thread(stale, None)
        stored = await server.store.load_thread(stale.id, None)

        assert ("Search", {"mine": 1}) == (stored.title, stored.metadata)
        assert [("anything", {"n": 2})] == (await chat.answer()).calls

    async def test_a_rename_keeps_the_plan(self, store: Store[Any]) -> None:
        """A thread that is renamed while calls wait keeps its plan and gets its title."""
        _, chat = scripted(store, asks(anything(n=1), anything(n=2)))
        await chat.say("go")

        await chat.rename("Search")

        assert [("anything", {"n": 2})] == (await chat.answer()).calls
        assert "Search" == (await store.load_thread(chat.thread_id or "", None)).title

    async def test_a_thread_without_items(self, store: Store[Any]) -> None:
        """A run in a thread that has no item yet releases its call."""
        _, chat = scripted(store, asks(anything(n=1)))
        chat.thread_id = (await saved_thread(store)).id

        assert [("anything", {"n": 1})] == (await chat.act("press")).calls

    @pytest.mark.fails
    @pytest.mark.parametrize("how", ["cancelled", "failed"])
    async def test_a_run_that_ends_early_takes_no_more_calls(self, how: str, caplog: pytest.LogCaptureFixture) -> None:
        """What its body has started may go on for a while, as a tool of the SDK does; that is nobody's mistake."""
        caplog.set_level("INFO", "chatkit_clienttools")
        stuck, over = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async def late() -> None:
                await over.wait()
                server.sequencer.enqueue(context, anything())

            tasks.append(asyncio.create_task(late()))
            stuck.set()
            if how == "failed":
                raise RuntimeError
            await asyncio.Event().wait()
            yield

        _, chat = scripted(PlainStore(), body)
        run = asyncio.create_task(chat.say("go"))
        await stuck.wait()
        if how == "cancelled":
            run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        over.set()

        said = (
            f"Thread {chat.thread_id}: a client tool call is not queued. Its run was cut off before, by Stop or a lost "
            "connection, or has failed."
        )
        with pytest.raises(NotSequencedError) as error:
            await tasks[0]
        assert said == str(error.value)
        assert [("INFO", said)] == [
            (record.levelname, record.getMessage()) for record in caplog.records if "queued" in record.getMessage()
        ]

    async def test_a_changed_thread_is_saved_with_its_plan(self, store: Store[Any]) -> None:
        """What ChatKit saves of a thread that the body has changed does not lose the plan."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            context.thread.title = "A title"
            server.sequencer.enqueue(context, anything(n=1), anything(n=2))
            return
            yield

        _, chat = scripted(store, body, says("done"))

        reply = await chat.say("go")

        assert "thread.updated" in reply.types
        assert [("anything", {"n": 2})] == (await chat.answer()).calls

    async def test_the_browser_never_sees_the_plan(self, store: Store[Any]) -> None:
        """The plan is in the thread's metadata or under its own key, and in no event and no response."""
        _, chat = scripted(store, asks(anything(note="s3cret")), says("done"))
        await chat.say("go")
        await chat.rename("x")

        shown = await chat.server.process(chat._request("threads.get_by_id"), None)

        assert "s3cret" not in getattr(shown, "json", b"").decode().replace('"arguments":{"note":"s3cret"}', "")
        assert METADATA_KEY not in getattr(shown, "json", b"").decode()


async def test_a_request_that_is_cut_off_by_its_first_step() -> None:
    """The run that an answer calls for is free at once, if the request of the answer ends before that has begun."""
    store = WatchedStore(PlainStore())
    _, chat = scripted(store, asks(selection()), says("done"))
    await chat.say("go")
    gate = store.gate("save_item")

    request = asyncio.create_task(chat.answer([]))
    await gate.reached.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    gate.open.set()
    await left_behind_is_done()

    assert [("get_selected_canvas_nodes", "completed")] == await chat.calls()
    assert ["done"] == (await chat.act(RESUME)).texts


class TestADeletedThread:
    """A thread that is deleted while something is done in it stays deleted."""

    @pytest.mark.parametrize("operation", ["save_thread", "save_item", "add_thread_item"])
    async def test_while_a_step_writes(self, operation: str) -> None:
        """A thread that is deleted while its plan is loaded and saved is not created anew for its plan."""
        store = WatchedStore(PlainStore())
        server, chat = scripted(store, asks(anything(n=1), anything(n=2)))
        await chat.say("go")
        gate = store.gate(operation)
        answer = asyncio.create_task(chat.answer())
        await gate.reached.wait()
        deletion = asyncio.create_task(server.process(chat._request("threads.delete"), None))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(answer, deletion)

        assert [] == (await store.load_threads(10, None, "asc", None)).data

    async def test_while_its_body_runs(self) -> None:
        """When the body of a deleted thread ends, its calls are not stored, and the user reads why."""
        store = PlainStore()
        started, go_on = asyncio.Event(), asyncio.Event()

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            started.set()
            await go_on.wait()
            server.sequencer.enqueue(context, anything())
            return
            yield

        server, chat = scripted(store, says("hi"), body)
        await chat.say("hello")
        run = asyncio.create_task(chat.act("press"))
        await started.wait()
        await server.process(chat._request("threads.delete"), None)
        go_on.set()

        [error] = (await run).errors

        assert "This conversation, or a part of it, does not exist (any more)." == error["message"]
        assert [] == (await store.load_threads(10, None, "asc", None)).data


FORGED = "thr\n2026-01-01 CRITICAL root: forged\r\x1b[31m\u2028\x00" + "x" * 5000


class TestForgedIds:
    """A thread id is chosen by the browser. It never reaches the log as it is."""

    @pytest.mark.fails
    @pytest.mark.parametrize("what", ["unknown", "damaged", "store", "tool", "late", "cancel", "lease", "call"])
    async def test_no_line_of_the_log_is_forged(self, what: str, caplog: pytest.LogCaptureFixture) -> None:
        """Line breaks and escapes in a thread id are written as text, and a very long id is cut off."""
        caplog.set_level("DEBUG", "chatkit_clienttools")
        store = WatchedStore(PlansStore())
        server, chat = scripted(store, asks(anything(n=1), anything(n=2)), asks(anything(n=3)), receipts=True)
        chat.thread_id = FORGED
        if what != "unknown":
            await store.save_thread(ThreadMetadata(id=FORGED, created_at=at(0)), None)
            await chat.act("press")

        match what:
            case "damaged":
                store.inner.plans[FORGED] = store.inner.plans[FORGED]._replace(document="{")  # type: ignore[attr-defined]
                await chat.answer()
                await server.sequencer.cancel(store, FORGED, None)
            case "store":
                store.before = away
                await chat.answer()
            case "lease":
                await fails_after_the_first_write(store)
                await chat.answer()
            case "tool":
                server.bodies = [asks(anything(n=float("nan"))), asks(*[anything()] * 100)]
                await chat.act("press")
                await chat.act("press")
            case "cancel":
                await server.sequencer.cancel(store, FORGED, None)
            case "call":
                with pytest.raises(NotSequencedError) as raised:
                    server.sequencer.enqueue(
                        AgentContext(thread=await store.load_thread(FORGED, None), store=store, request_context=None)
                    )
                assert str(raised.value).isprintable()
            case _:
                await chat.answer({"_receipt": "x", "result": 1})

        said = [record.getMessage() for record in caplog.records if record.name == "chatkit_clienttools"]
        assert [] == [message for message in said if not message.isprintable() or len(message) > 2000]
        assert any("forged" in message for message in said)


async def away(name: str, args: tuple[Any, ...]) -> None:
    raise ConnectionError


async def fails_after_the_first_write(store: WatchedStore) -> None:
    """Let the store go away for good once it has been asked to save an item."""
    is_away = False

    async def fail(name: str, args: tuple[Any, ...]) -> None:
        nonlocal is_away
        is_away = is_away or name == "save_item"
        if is_away:
            raise ConnectionError

    store.before = fail
