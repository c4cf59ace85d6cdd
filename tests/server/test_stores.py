"""Stores that report in their own way that something does not exist, and stores that are away."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ThreadItemDoneEvent, ThreadMetadata

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools import store as store_module
from chatkit_clienttools.errors import StoreUnavailableError
from chatkit_clienttools.store import find_thread
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation, at
from tests.helpers.merak import animation, selection
from tests.helpers.scripted import asks, foreign, message, says, scripted
from tests.helpers.server import NAMES, RESUME, THREE, lines, outputs
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store


def absent(kind: type[Exception] | None, base: type[PlainStore] = PlainStore) -> PlainStore:
    """A store that raises `kind`, or returns None, for an item or a thread that it does not have."""

    class Theirs(base):  # type: ignore[misc, valid-type]
        async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
            try:
                return await super().load_item(thread_id, item_id, context)
            except NotFoundError:
                return self._report(item_id)

        async def load_thread(self, thread_id: str, context: Any) -> Any:
            try:
                return await super().load_thread(thread_id, context)
            except NotFoundError:
                return self._report(thread_id)

        @staticmethod
        def _report(key: str) -> None:
            if kind is not None:
                raise kind(f"no {key}")

    store: PlainStore = Theirs()
    return store


def own_class(*bases: type[Exception]) -> type[Exception]:
    """A class of errors that was never seen before."""
    return type("MissingRowError", bases, {"__module__": "their.database"})


KINDS: dict[str, Callable[[], type[Exception] | None]] = {
    "ValueError": lambda: ValueError,
    "KeyError": lambda: KeyError,
    "a class of its own": lambda: own_class(Exception),
    "a class derived from KeyError": lambda: own_class(KeyError),
    "a class derived from NotFoundError": lambda: own_class(NotFoundError),
    "None": lambda: None,
}

WRAPS: dict[str, Callable[[PlainStore], Store[Any]]] = {
    "bare": lambda store: store,
    "validated": ValidatingStore,
    "validated twice": lambda store: ValidatingStore(ValidatingStore(store)),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> type[Exception] | None:
    made: type[Exception] | None = request.param()
    return made


@pytest.fixture(params=[PlainStore, PlansStore], ids=["plain", "plans"])
def base(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=list(WRAPS.values()), ids=list(WRAPS))
def wrap(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestAbsence:
    async def test_a_whole_conversation(self, kind: Any, base: Any, wrap: Any) -> None:
        """Three calls, a resume, a message in between, and the answer of the model: all as over any other store."""
        server, chat = scripted(wrap(absent(kind, base)), asks(*THREE), says("done"), asks(selection()), says("well"))

        replies = [await chat.say("go"), await chat.answer(), await chat.act(RESUME)]
        replies += [await chat.answer(["a"]), await chat.answer()]
        await chat.say("again")
        last = await chat.say("no, this")

        assert [[NAMES[0]], [NAMES[1]], [NAMES[1]], [NAMES[2]], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert (["done"], ["well"]) == (replies[-1].texts, last.texts)
        assert [(name, "completed") for name in NAMES] == await chat.calls()
        assert [] == [error for reply in (*replies, last) for error in reply.errors]
        assert 4 == server.runs

    async def test_a_call_of_plain_chatkit(self, kind: Any, base: Any, wrap: Any) -> None:
        """A call that an ordinary tool puts into ChatKit's slot is looked up once, and reaches the browser."""
        _, chat = scripted(wrap(absent(kind, base)), streams_a_call, says("done"))

        [item] = (await chat.say("go")).call_items

        assert "tc_foreign" == item["id"]
        assert ["done"] == (await chat.answer(["a"])).texts
        assert [["a"]] == await outputs(chat)

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
    async def test_a_message_that_is_gone(self, kind: Any, base: Any, wrap: Any) -> None:
        """With "keep" a retry cancels the calls of the message it starts over, and of those that are gone."""
        _, chat = scripted(
            wrap(absent(kind, base)), asks(selection()), asks(selection()), says("fresh"), on_user_message="keep"
        )
        await chat.say("first")
        await chat.say("second")
        [first, _] = [item.id for item in await chat.items() if item.type == "user_message"]

        reply = await chat.retry(first)

        assert (["fresh"], []) == (reply.texts, reply.calls)
        assert [] == (await chat.answer(["a"])).calls

    async def test_snapshot_and_cancel(self, kind: Any, base: Any, wrap: Any) -> None:
        """A support page sees the queue, and can cancel it, with the store that the application has at hand."""
        store = wrap(absent(kind, base))
        server, chat = scripted(store, asks(selection(), selection()))
        await chat.say("go")

        seen = await server.sequencer.snapshot(store, chat.thread_id or "", None)
        cancelled = await server.sequencer.cancel(store, chat.thread_id or "", None)

        assert ["pending", "queued"] == [call.state.value for call in seen]
        assert ["pending", "queued"] == [call.state.value for call in cancelled]
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)
        assert [] == await chat.calls()

    async def test_a_thread_that_does_not_exist(self, kind: Any, base: Any, wrap: Any) -> None:
        """An answer, a message and a resume for a thread that is gone are one error event each."""
        store = absent(kind, base)
        _, chat = scripted(wrap(store))
        chat.thread_id = "thr_gone"

        replies = [await chat.answer(), await chat.say("hi"), await chat.act(RESUME)]

        assert [1, 1, 1] == [len(reply.errors) for reply in replies]
        assert {} == store.threads

    @pytest.mark.parametrize("make", [lambda: None, lambda: own_class(NotFoundError)])
    async def test_the_user_reads_that_it_does_not_exist(self, make: Any, wrap: Any) -> None:
        """Where the store says so in a way that cannot be misread, the user reads that the conversation is gone."""
        _, chat = scripted(wrap(absent(make())))
        chat.thread_id = "thr_gone"

        for reply in [await chat.answer(), await chat.act(RESUME)]:
            assert ["This conversation, or a part of it, does not exist (any more)."] == [
                error["message"] for error in reply.errors
            ]


async def streams_a_call(server: Any, context: Any) -> Any:
    """A body that emits a call as plain ChatKit does."""
    yield ThreadItemDoneEvent(item=foreign(Conversation(server, thread_id=context.thread.id)))


class TestItIsNamedOnce:
    @pytest.mark.parametrize("bases", [(Exception,), (KeyError,)])
    async def test_a_class_of_its_own(self, bases: Any, log: pytest.LogCaptureFixture) -> None:
        """The class is named in one warning, however often it is raised, with the method and what to do."""
        store = ValidatingStore[Any](absent(own_class(*bases)))
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        for _ in THREE:
            await chat.answer(["a"])

        warnings = lines(log, at_least=logging.WARNING)

        assert 1 == len(warnings)
        level, line = warnings[0]
        assert "WARNING" == level
        for part in ("Theirs.load_", "their.database.MissingRowError", "chatkit.store.NotFoundError"):
            assert part in line

    async def test_a_builtin_one(self, log: pytest.LogCaptureFixture) -> None:
        """A class that cannot be changed is named as well: the store has to raise another one."""
        store_module._named.discard(ValueError)
        _, chat = scripted(ValidatingStore[Any](absent(ValueError)), asks(selection()))

        await chat.say("go")

        [(_, line)] = lines(log, at_least=logging.WARNING)
        assert "builtins.ValueError" in line
        assert "raise that" in line

    @pytest.mark.parametrize("make", [lambda: None, lambda: own_class(NotFoundError)], ids=["None", "NotFoundError"])
    async def test_what_is_clear_is_not_mentioned(self, make: Any, log: pytest.LogCaptureFixture) -> None:
        """A class that derives from NotFoundError, or None, cannot mean anything else: nothing is logged."""
        _, chat = scripted(ValidatingStore[Any](absent(make())), asks(selection()))

        await chat.say("go")

        assert [] == lines(log)


AWAY = {
    "ConnectionError": ConnectionError("the database is away"),
    "TimeoutError": TimeoutError(),
    "StoreUnavailableError": StoreUnavailableError("load an item", "the database", 1.0, "TimeoutError"),
}


class TestAway:
    @pytest.mark.parametrize("make", [PlainStore, PlansStore, MemoryStore])
    @pytest.mark.parametrize("error", list(AWAY.values()), ids=list(AWAY))
    @pytest.mark.parametrize("operation", ["load_item", "load_thread"])
    async def test_it_is_an_error(self, make: Any, error: Exception, operation: str) -> None:
        """A store that is away has not said that something does not exist: nothing is written over what it has."""
        store = WatchedStore(make())
        server, chat = scripted(ValidatingStore(store), asks(*THREE), says("done"))
        await chat.say("go")
        before = await chat.items()

        async def fail(name: str, _: Any) -> None:
            if name == operation:
                raise error

        store.before = fail
        reply = await chat.answer(["a"])
        store.before = None

        assert 1 == len(reply.errors)
        assert before == await chat.items()
        assert [NAMES[1]] == [name for name, _ in (await chat.answer(["a"])).calls]
        assert 1 == server.runs

    @pytest.mark.parametrize("error", list(AWAY.values()), ids=list(AWAY))
    async def test_a_rename_does_not_lose_the_plan(self, error: Exception) -> None:
        """A rename while the store is away fails; it does not save the thread without its plan."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        loads = 0

        async def fail(name: str, _: Any) -> None:
            nonlocal loads
            loads += name == "load_thread"
            if loads == 2:  # the first one is ChatKit's, the second one looks for the plan
                raise error

        store.before = fail
        with pytest.raises(type(error)):
            await chat.rename("a title")
        store.before = None

        assert [NAMES[1]] == [name for name, _ in (await chat.answer()).calls]

    async def test_a_foreign_error_for_what_exists_is_one(self) -> None:
        """An error of a class of its own means nothing if the newest items hold what was asked for."""

        class Flaky(PlainStore):
            fails = False

            async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
                if self.fails:
                    raise own_class(Exception)("try again")
                return await super().load_item(thread_id, item_id, context)

        store = Flaky()
        _, chat = scripted(ValidatingStore(store), asks(selection(), animation(state="stop")))
        await chat.say("go")
        store.fails = True
        reply = await chat.answer(["a"])
        store.fails = False

        assert 1 == len(reply.errors)
        assert [None] == await outputs(chat)


class TestAThreadThatCannotBeLoaded:
    """Whether an error of `load_thread` means that there is no such thread."""

    @staticmethod
    def store(items: Any) -> Any:
        class Theirs(PlainStore):
            async def load_thread(self, thread_id: str, context: Any) -> Any:
                raise LookupError(thread_id)

            async def load_thread_items(
                self, thread_id: str, after: str | None, limit: int, order: str, context: Any
            ) -> Any:
                if isinstance(items, Exception):
                    raise items
                return await super().load_thread_items(thread_id, after, limit, order, context)

        return Theirs()

    async def test_the_same_error_for_its_items_means_absent(self) -> None:
        """A store that reports the thread's items as missing in its own way has no such thread."""
        assert None is await find_thread(self.store(LookupError()), "thr_1", None)

    async def test_another_error_for_its_items_is_raised(self) -> None:
        """A store that fails in another way cannot be asked."""
        with pytest.raises(ArithmeticError):
            await find_thread(self.store(ArithmeticError()), "thr_1", None)

    async def test_a_thread_with_items_exists(self) -> None:
        """A thread whose items can be read is there: the error is no absence."""
        store = self.store(None)
        await store.add_thread_item(
            "thr_1", message("hi", ThreadMetadata(id="thr_1", created_at=at(0)), "msg_1").item, None
        )

        with pytest.raises(LookupError):
            await find_thread(store, "thr_1", None)
