"""`ClientToolServer`: a store that fails, a plan that is damaged, a thread that does not exist."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.errors import ErrorCode, StreamError

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools._step.plans import StoredPlan
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.merak import selection
from tests.helpers.scripted import asks, says, scripted
from tests.helpers.server import NAMES, RESUME, THREE, lines, old_call, outputs
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OPERATIONS = {PlainStore: 5, PlansStore: 7}
"""How many operations an answer costs that releases the next call."""

LAST = {PlainStore: 4, PlansStore: 6}
"""How many the last answer costs before the body runs."""


def failing_at(store: WatchedStore, moment: str, nth: int) -> list[str]:
    """Let the nth operation from now on fail, before or after it is done; return the list of all operations."""
    seen: list[str] = []

    async def count(name: str, _: Any) -> None:
        seen.append(name)
        if moment == "before" and len(seen) == nth + 1:
            raise ConnectionError("secret password in the address")

    async def fail(name: str, _: Any) -> None:
        if moment == "after" and len(seen) == nth + 1:
            raise ConnectionError("secret password in the address")

    store.before, store.after = count, fail
    return seen


class TestFailingStores:
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(("make", "nth"), [(make, n) for make, count in OPERATIONS.items() for n in range(count)])
    async def test_one_error_that_a_person_can_read(
        self, make: Callable[[], Any], nth: int, moment: str, log: pytest.LogCaptureFixture
    ) -> None:
        """Whichever operation fails, before or after it is done: one error event, one line, and the thread goes on."""
        store = WatchedStore(make())
        server, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["arguments"]["_receipt"]
        log.clear()

        seen = failing_at(store, moment, nth)
        reply = await chat.answer({"_receipt": receipt, "result": None})
        store.before = store.after = None

        [error] = reply.errors
        assert "Try again in a moment." in error["message"]
        assert error["allow_retry"]
        [(level, line)] = lines(log, at_least=logging.WARNING)
        where = f"could not be carried out: ConnectionError ({Path(__file__).name}, line"
        assert ("ERROR", True) == (level, where in line)
        assert "secret" not in log.text
        await chat.answer({"_receipt": receipt, "result": None})
        assert [NAMES[1]] == [name for name, _ in (await chat.act(RESUME)).calls]
        assert [(NAMES[0], "completed"), (NAMES[1], "pending")] == await chat.calls()
        assert 1 == server.runs
        # of a write that was done, and said that it was not, nobody can know
        assert (("after", "save_item") != (moment, seen[nth])) == log.text.count("pending -> completed")

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(("make", "nth"), [(make, n) for make, count in LAST.items() for n in range(count)])
    async def test_nobody_waits_for_a_run_that_has_not_begun(
        self, make: Callable[[], Any], nth: int, moment: str
    ) -> None:
        """Whichever operation of the last answer fails: the same answer, posted again, lets the model run at once."""
        store = WatchedStore(make())
        _, chat = scripted(store, asks(selection()), says("done"), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["arguments"]["_receipt"]
        failing_at(store, moment, nth)
        failed = await chat.answer({"_receipt": receipt, "result": ["a"]})
        store.before = store.after = None

        again = await chat.answer({"_receipt": receipt, "result": ["a"]})

        assert 1 == len(failed.errors)
        assert ["done"] == again.texts
        assert [["a"]] == await outputs(chat)

    @pytest.mark.parametrize(("operations", "wanted"), [(OPERATIONS, THREE), (LAST, [selection()])])
    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_every_operation_was_tried(self, make: Any, operations: dict[Any, int], wanted: Any) -> None:
        """The operations above are all that such an answer makes before the body runs."""
        store = WatchedStore(make())
        seen: list[str] = []
        before: list[int] = []

        async def body(server: Any, context: Any) -> AsyncIterator[Any]:
            before.append(len(seen))
            return
            yield

        _, chat = scripted(store, asks(*wanted), body)
        await chat.say("go")
        seen = failing_at(store, "never", 0)

        await chat.answer(["a"])

        assert [operations[make]] == (before or [len(seen)])

    async def test_one_that_comes_after_a_call_was_withdrawn(self) -> None:
        """The page hears of what was deleted, also when the request fails right after that."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, says("hello"), says("done"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        async def fail(name: str, _: Any) -> None:
            if name == "save_item":
                raise ConnectionError

        store.before = fail
        reply = await chat.answer([])
        store.before = None

        assert 1 == len(reply.errors)
        assert ["o1"] == reply.removed
        assert [("old2", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer([])).texts

    async def test_one_that_a_run_meets(self, log: pytest.LogCaptureFixture) -> None:
        """What fails as a run begins is one error event too, and the body is not run."""
        store = WatchedStore(PlainStore())
        server, chat = scripted(store, says("hello"), says("again"))
        await chat.say("hi")

        async def fail(name: str, _: Any) -> None:
            if name == "load_thread_items":
                raise ConnectionError

        store.before = fail
        [error] = (await chat.say("hello?")).errors

        assert ("custom", True) == (error["code"], error["allow_retry"])
        [(level, line)] = lines(log)
        assert ("ERROR", True) == (level, f"thread {chat.thread_id}: the request could not" in line)
        assert 1 == server.runs

    @pytest.mark.parametrize(("operation", "is_known"), [("save_thread", False), ("add_thread_item", True)])
    async def test_one_that_a_first_message_meets(
        self, operation: str, is_known: bool, log: pytest.LogCaptureFixture
    ) -> None:
        """The log names the thread of a first message as soon as there is one, and calls it new before."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, says("hello"))

        async def fail(name: str, _: Any) -> None:
            if name == operation:
                raise ConnectionError

        store.before = fail
        reply = await chat.say("hi")

        [error] = reply.errors
        assert "Try again in a moment." in error["message"]
        created = [event["thread"]["id"] for event in reply.events if event["type"] == "thread.created"]
        assert is_known == bool(created)
        [(level, line)] = lines(log)
        assert ("ERROR", True) == (level, line.startswith(f"thread {created[0] if created else '(new)'}: the request"))

    async def test_one_before_anything_is_read(self, log: pytest.LogCaptureFixture) -> None:
        """The log names the thread of a message that could not even be loaded."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, says("hello"))
        await chat.say("hi")
        log.clear()

        async def fail(name: str, _: Any) -> None:
            raise ConnectionError

        store.before = fail
        reply = await chat.say("hi again")

        assert 1 == len(reply.errors)
        [(_, line)] = lines(log)
        assert line.startswith(f"thread {chat.thread_id}: the request")

    @pytest.mark.fails
    async def test_one_that_chatkit_itself_meets(self) -> None:
        """What the body says cannot be stored: ChatKit logs it, and its error event has a sentence too."""
        store = WatchedStore(PlainStore())
        server, chat = scripted(store, asks(selection()), says("done"), says("done"))
        await chat.say("go")

        async def fail(name: str, _: Any) -> None:
            if name == "add_thread_item":
                raise ConnectionError

        store.before = fail
        reply = await chat.answer(["a"])
        store.before = None

        assert ["Something went wrong on the server. Try again."] == [error["message"] for error in reply.errors]
        assert ["done"] == (await chat.answer(["a"])).texts
        assert 3 == server.runs

    async def test_a_validator_that_refuses(self, log: pytest.LogCaptureFixture) -> None:
        """What a validator says is logged; the person reads that the step does not fit."""

        class Frozen(ValidatingStore[Any]):
            async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
                changed = item.model_copy(update={"name": "another"})
                await super().save_item(thread_id, changed, context)

        _, chat = scripted(Frozen(PlainStore()), asks(selection()))
        await chat.say("go")
        log.clear()

        [error] = (await chat.answer(["private"])).errors

        assert "Reload the page." in error["message"]
        assert not error["allow_retry"]
        assert ["ERROR"] == [level for level, _ in lines(log, at_least=logging.WARNING)]
        assert "Only status and output of a call ever change" in log.text
        assert "private" not in log.text

    async def test_a_store_that_does_not_keep_an_answer(self, log: pytest.LogCaptureFixture) -> None:
        """A call that was completed and is pending again is an error that names the cure: nothing else would say so."""

        class Forgets(MemoryStore[Any]):
            async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
                pass

        _, chat = scripted(Forgets(), asks(selection(), selection()), says("done"))
        [item] = (await chat.say("go")).call_items

        [error] = (await chat.answer(["a"])).errors

        assert "Try again in a moment." in error["message"]
        level, line = lines(log)[-1]
        assert "ERROR" == level
        assert (
            f"thread {chat.thread_id}: the request could not be carried out: The store has not kept that item "
            f"{item['id']} is completed: it is pending again. `chatkit-clienttools doctor` says what a store has to "
            "keep; set this logger to DEBUG for the traceback"
        ) == line

    async def test_a_stream_error_keeps_its_code(self) -> None:
        """What an application says in ChatKit's own words goes out as it is."""

        class Away(PlainStore):
            async def load_thread(self, thread_id: str, context: Any) -> Any:
                raise StreamError(ErrorCode.STREAM_ERROR, allow_retry=False)

        _, chat = scripted(Away())
        chat.thread_id = "thr_1"

        [error] = (await chat.answer()).errors

        assert ("stream.error", False) == (error["code"], error["allow_retry"])


class TestDamagedPlans:
    @staticmethod
    async def damaged(store: Any, thread_id: str) -> None:
        """Replace the plan by one that cannot be read."""
        if isinstance(store, PlansStore):
            store.plans[thread_id] = store.plans[thread_id]._replace(document="{")
        else:
            store.threads[thread_id].metadata["chatkit_clienttools"] = {"revision": 3, "plan": "{"}

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_the_user_reads_a_short_sentence(self, make: Any, log: pytest.LogCaptureFixture) -> None:
        """An end user is not told what the operator has to do: no thread id, no name of a function."""
        store = make()
        _, chat = scripted(store, asks(selection()))
        await chat.say("go")
        await self.damaged(store, chat.thread_id or "")

        for reply in [await chat.answer(), await chat.say("hello?"), await chat.act(RESUME)]:
            [error] = reply.errors
            assert 0 < len(error["message"]) < 100
            for word in ("sequencer", "cancel", "chatkit", "JSON", chat.thread_id or ""):
                assert word not in error["message"]

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_the_log_has_the_cure(self, make: Any, log: pytest.LogCaptureFixture) -> None:
        """The log names the thread, what is wrong with its plan, and the call that drops it."""
        store = make()
        _, chat = scripted(store, asks(selection()))
        await chat.say("go")
        await self.damaged(store, chat.thread_id or "")
        log.clear()

        await chat.answer()

        [(level, line)] = lines(log)
        assert "WARNING" == level
        for part in (chat.thread_id or "", "it is not JSON", "Nothing was changed", "await sequencer.cancel("):
            assert part in line

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_cancel_drops_it(self, make: Any) -> None:
        """After `sequencer.cancel` the thread goes on: the pending call is removed, and a message is answered."""
        store = make()
        server, chat = scripted(store, asks(selection()), says("hello again"))
        await chat.say("go")
        await self.damaged(store, chat.thread_id or "")

        cancelled = await server.sequencer.cancel(server.store, chat.thread_id or "", None)

        assert ["get_selected_canvas_nodes"] == [call.name for call in cancelled]
        assert [] == await chat.calls()
        assert ["hello again"] == (await chat.say("hello?")).texts

    @pytest.mark.parametrize("document", [5, [], {"revision": 1}, {"plan": 5}, "no JSON", {"version": 1, "calls": []}])
    async def test_whatever_it_is(self, document: Any) -> None:
        """Whatever stands in its place in the metadata, it is a damaged plan, and can be dropped."""
        store = PlainStore()
        server, chat = scripted(store, says("hello"), says("hello again"))
        await chat.say("hi")
        store.threads[chat.thread_id or ""].metadata["chatkit_clienttools"] = document
        assert 1 == len((await chat.say("hello?")).errors)

        await server.sequencer.cancel(server.store, chat.thread_id or "", None)

        assert ["hello again"] == (await chat.say("hello?")).texts

    async def test_the_rest_of_the_thread_can_be_read(self) -> None:
        """A page that loads a thread with a damaged plan, or the list of threads, gets it."""
        store = PlainStore()
        _, chat = scripted(store, says("hello"))
        await chat.say("hi")
        await self.damaged(store, chat.thread_id or "")

        assert chat.thread_id == (await chat.thread())["id"]
        assert [chat.thread_id] == [each["id"] for each in (await chat.threads())["data"]]


class TestThreads:
    async def test_a_thread_that_does_not_exist(self, log: pytest.LogCaptureFixture) -> None:
        """Another user's thread, or one that was deleted: a sentence, no traceback, no retry."""
        _, chat = scripted(PlainStore())
        chat.thread_id = "thr_of_somebody_else"

        for reply in [await chat.answer(), await chat.say("hi"), await chat.act(RESUME)]:
            [error] = reply.errors
            assert "does not exist" in error["message"]
            assert not error["allow_retry"]
        assert ["WARNING"] * 3 == [level for level, _ in lines(log)]

    async def test_no_line_of_the_log_is_forged(self, log: pytest.LogCaptureFixture) -> None:
        """A thread's id is the browser's to choose: what is not printable is escaped, what is long is cut."""
        _, chat = scripted(PlainStore())
        chat.thread_id = "x\n2026-01-01 CRITICAL root: " + "y" * 5000

        await chat.answer()

        [(_, line)] = lines(log)
        assert "\n" not in line
        assert len(line) < 500

    async def test_a_damaged_plan_forges_none(self, log: pytest.LogCaptureFixture) -> None:
        """The line that has the cure for a damaged plan quotes the thread's id as printable text, too."""
        store = PlansStore()
        _, chat = scripted(store, says("hello"))
        await chat.say("hi")
        forged = "x\n2026-01-01 CRITICAL root: \x1b[31m" + "y" * 5000
        store.threads[forged] = store.threads[chat.thread_id or ""].model_copy(update={"id": forged})
        store.plans[forged] = StoredPlan(1, "{")
        chat.thread_id = forged
        log.clear()

        await chat.answer()

        [(_, line)] = lines(log)
        assert line.isprintable()
        assert len(line) < 1200

    async def test_chatkits_own_refusals_are_no_errors(self, log: pytest.LogCaptureFixture) -> None:
        """A retry of an item that is no message is the browser's mistake: a warning, and no use to try again."""
        _, chat = scripted(PlainStore(), asks(selection()))
        [item] = (await chat.say("go")).call_items

        [error] = (await chat.retry(item["id"])).errors

        assert not error["allow_retry"]
        assert ["WARNING"] == [level for level, _ in lines(log)]
