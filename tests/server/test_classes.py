"""Server classes: one that cannot work is refused when it is made, with the cure; what people derive works."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.server import ChatKitServer

from chatkit_clienttools import ClientToolSequencer, ClientToolServer, SequencedAgentContext
from chatkit_clienttools import server as server_module
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, selection
from tests.helpers.scripted import Scripted, asks, message, says, scripted
from tests.helpers.server import NAMES, NOTHING, RESUME, THREE
from tests.helpers.stores import PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Works(ClientToolServer[Any]):
    """A server class with nothing wrong."""

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        yield message("hello", thread, "hello")


async def no_yield(self: Any, thread: Any, input_user_message: Any, context: Any) -> Any:
    return [message("hello", thread, "hello")]


def synchronous(self: Any, thread: Any, input_user_message: Any, context: Any) -> Any:
    yield message("hello", thread, "hello")


async def keyword_only(self: Any, thread: Any, input_user_message: Any, *, context: Any) -> Any:
    yield message("hello", thread, "hello")


async def too_few(self: Any, thread: Any, context: Any) -> Any:
    yield message("hello", thread, "hello")


async def too_many(self: Any, thread: Any, input_user_message: Any, context: Any, more: Any) -> Any:
    yield message("hello", thread, "hello")


async def no_yield_in_action(self: Any, thread: Any, action: Any, sender: Any, context: Any) -> Any:
    return [message("hello", thread, "hello")]


async def action_like_respond(self: Any, thread: Any, action: Any, context: Any) -> Any:
    yield message("hello", thread, "hello")


class TestMethods:
    @pytest.mark.parametrize(
        ("name", "method", "words"),
        [
            ("respond", no_yield, ["Mine.respond has no `yield`", "it yields events"]),
            (
                "respond",
                synchronous,
                ["Mine.respond is not async", "`async def respond(self, thread, input_user_message, context)`"],
            ),
            (
                "respond",
                keyword_only,
                ["by position", "`async def respond(self, thread, input_user_message, context)`"],
            ),
            (
                "respond",
                too_few,
                ["cannot be called", "`async def respond(self, thread, input_user_message, context)`"],
            ),
            (
                "respond",
                too_many,
                ["cannot be called", "`async def respond(self, thread, input_user_message, context)`"],
            ),
            ("action", no_yield_in_action, ["Mine.action has no `yield`", "it yields events"]),
            ("agent_context", no_yield, ["Mine.agent_context is async", "`def agent_context(self, thread, context)`"]),
            (
                "action",
                action_like_respond,
                ["cannot be called", "`async def action(self, thread, action, sender, context)`"],
            ),
        ],
        ids=lambda value: getattr(value, "__name__", None),
    )
    def test_one_that_cannot_work_is_refused_with_its_cure(self, name: str, method: Any, words: list[str]) -> None:
        """A method that ChatKit could not call, or iterate over, raises as the class is made, not with a request."""
        with pytest.raises(UsageError) as raised:
            type("Mine", (Works,), {name: method})

        assert [] == [word for word in words if word not in str(raised.value)]

    def test_one_that_is_inherited_is_checked_too(self) -> None:
        """A server that somebody has already is checked when `ClientToolServer` is put before it."""

        class Existing(ChatKitServer[Any]):
            respond = synchronous

        with pytest.raises(UsageError, match=r"^Mine\.respond is not async"):
            type("Mine", (ClientToolServer, Existing), {})

    @pytest.mark.parametrize("method", ["respond", "action"])
    async def test_defaults_are_allowed(self, method: str) -> None:
        """`context=None` at the end, or `*everything`, can be called as ChatKit calls it."""

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any = None) -> AsyncIterator[Any]:
                yield message("respond", thread, "respond")

            async def action(self, thread: Any, *everything: Any) -> AsyncIterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
                yield message("action", thread, "action")

        chat = Conversation(Server(PlainStore()))
        replies = {"respond": await chat.say("hi"), "action": await chat.act("click")}

        assert [method] == replies[method].texts

    async def test_one_that_returns_an_iterator_is_allowed(self) -> None:
        """A plain `def respond` that returns what another method yields is what ChatKit can iterate over."""

        class Server(Works):
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                return super().respond(thread, input_user_message, context)

        assert ["hello"] == (await Conversation(Server(PlainStore())).say("hi")).texts

    async def test_a_static_method_is_allowed(self) -> None:
        """A `respond` that does not need `self` may be a static method."""

        class Server(ClientToolServer[Any]):
            @staticmethod
            async def respond(thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
                yield message("static", thread, "static")

        assert ["static"] == (await Conversation(Server(PlainStore())).say("hi")).texts

    def test_what_is_not_there_yet_is_not_checked(self) -> None:
        """A stub, an abstract method or a property is no reason to refuse a class."""

        class Abstract(ClientToolServer[Any]):
            @abstractmethod
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> Any: ...

            action: Any = property(lambda self: None)

        assert "respond" in Abstract.__abstractmethods__
        assert isinstance(Abstract.action, property)


NO_SEQUENCERS = [
    (ClientToolSequencer, "the class ClientToolSequencer"),
    (selection, "a ClientTool"),
    ([selection], "a list"),
    ((), "a tuple"),
]


class TestSequencers:
    @pytest.mark.parametrize(("value", "found"), NO_SEQUENCERS)
    def test_a_class_with_something_else_is_refused(self, value: Any, found: str) -> None:
        """A class, a tool or a list in the place of the sequencer raises as the server class is made."""
        with pytest.raises(UsageError) as raised:
            type("Mine", (Works,), {"client_tools": value})

        assert f"Mine.client_tools is {found}" in str(raised.value)
        assert "`sequencer = ClientToolSequencer([...])`" in str(raised.value)

    @pytest.mark.fails
    @pytest.mark.parametrize(("value", "found"), NO_SEQUENCERS)
    async def test_an_object_with_something_else_is_refused(self, value: Any, found: str) -> None:
        """A mistake that is made in `__init__` raises with the first request, before anything is stored."""
        store = PlainStore()
        server = Works(store)
        server.client_tools = value

        with pytest.raises(UsageError, match=f"Works.client_tools is {found}"):
            await Conversation(server).say("hi")

        assert {} == store.threads

    def test_one_under_another_name_is_refused(self) -> None:
        """A server looks for its sequencer under one name, and a class that gives it another one raises."""
        with pytest.raises(UsageError, match=r"Mine\.client_tool is not looked at: name it `client_tools`"):
            type("Mine", (Works,), {"client_tool": ClientToolSequencer(TOOLS)})

    def test_a_second_name_is_allowed(self) -> None:
        """A class may keep a sequencer under another name too, if the server finds one."""
        sequencer = ClientToolSequencer(TOOLS)

        both: Any = type("Both", (Works,), {"client_tools": sequencer, "tools": sequencer})
        child: Any = type("Child", (both,), {"others": ClientToolSequencer(TOOLS)})

        assert sequencer is both(PlainStore()).client_tools is child(PlainStore()).client_tools

    def test_two_inherited_ones_are_refused(self) -> None:
        """Two sequencers would not know of one another's calls: the class has to share one, or say which it is."""
        one = type("One", (Works,), {"client_tools": ClientToolSequencer(TOOLS)})
        two = type("Two", (Works,), {"client_tools": ClientToolSequencer(TOOLS)})

        with pytest.raises(UsageError, match="Both inherits two ClientToolSequencers: share one"):
            type("Both", (one, two), {})

    def test_two_are_allowed_if_the_class_says_which(self) -> None:
        """A class that names its sequencer takes it, whatever it inherits."""
        first, second = ClientToolSequencer(TOOLS), ClientToolSequencer(TOOLS)
        one = type("One", (Works,), {"client_tools": first})
        two = type("Two", (Works,), {"client_tools": second})

        both: Any = type("Both", (one, two), {"client_tools": second})

        assert second is both(PlainStore()).client_tools

    async def test_one_that_is_shared_is_inherited(self) -> None:
        """Two classes that share a sequencer can be combined, and what derives from them releases its calls."""
        sequencer = ClientToolSequencer(TOOLS)
        one = type("One", (Scripted,), {"client_tools": sequencer})
        two = type("Two", (Scripted,), {"client_tools": sequencer})
        both: Any = type("Both", (one, two), {})

        chat = Conversation(both(PlainStore(), sequencer, asks(selection())))

        assert ["get_selected_canvas_nodes"] == [name for name, _ in (await chat.say("go")).calls]

    async def test_a_class_may_replace_the_one_it_inherits(self) -> None:
        """A derived server brings a sequencer of its own, for the inherited methods too."""
        mine = ClientToolSequencer(TOOLS, receipts=True)

        class Base(ClientToolServer[Any]):
            client_tools = ClientToolSequencer(TOOLS)

            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
                own: Any = self.client_tools
                own.enqueue(agent_context, selection())
                return
                yield

        class Mine(Base):
            client_tools = mine

        [(_, arguments)] = (await Conversation(Mine(PlainStore())).say("go")).calls

        assert "_receipt" in arguments


class TestStores:
    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (PlainStore, ["Works needs a store, and PlainStore is a class: PlainStore(...)"]),
            (None, ["Works needs a store, and NoneType has no add_thread_item", "load_thread"]),
            ({}, ["Works needs a store, and dict has no add_thread_item"]),
        ],
    )
    def test_what_is_no_store_is_refused(self, value: Any, words: list[str]) -> None:
        """A class, or an object without the methods of a store, raises where it is handed over."""
        with pytest.raises(UsageError) as raised:
            Works(value)

        assert [] == [word for word in words if word not in str(raised.value)]

    async def test_one_that_was_never_given(self, caplog: pytest.LogCaptureFixture) -> None:
        """A server whose `__init__` forgets the one of its base class is told so, in the log of each request."""

        class Forgets(Works):
            def __init__(self) -> None:
                pass

        reply = await Conversation(Forgets()).say("hello")

        assert 1 == len(reply.errors)
        assert "Forgets has no store: call super().__init__(store) in Forgets.__init__" in caplog.text

    def test_it_is_refused_later_as_well(self) -> None:
        """Whenever a store is assigned it is checked, and the server keeps the one it had."""
        server = Works(PlainStore())
        before = server.store

        with pytest.raises(UsageError, match="PlainStore is a class"):
            server.store = PlainStore  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

        assert before is server.store

    async def test_one_that_is_assigned_later_keeps_plans(self) -> None:
        """A store that is assigned after the server was made hides and keeps plans like the first one."""
        server, chat = scripted(MemoryStore(), asks(*THREE), says("done"))
        server.store = later = PlainStore()

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert ["done"] == replies[3].texts
        assert [chat.thread_id] == list(later.threads)
        assert {} == (await server.store.load_thread(chat.thread_id or "", None)).metadata

    @pytest.mark.parametrize("make", [PlansStore, MemoryStore])
    def test_one_with_plans_of_its_own_stays_as_it_is(self, make: Any) -> None:
        """`server.store` is the application's own object if that keeps plans; otherwise it is behind `.inner`."""
        store, plain = make(), PlainStore()

        assert store is Works(store).store
        assert plain is Works(plain).store.inner  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def a_lock() -> asyncio.Lock:
    return asyncio.Lock()


async def an_async_lock(thread_id: str) -> None:
    raise NotImplementedError


class AnAsyncLock:
    async def __call__(self, thread_id: str) -> None:
        raise NotImplementedError


class TestLocks:
    @pytest.mark.parametrize(
        ("lock", "problem"),
        [
            (asyncio.Lock(), "cannot be called"),
            (asyncio.Lock, "does not take a thread id"),
            (an_async_lock, "is async"),
            (AnAsyncLock(), "is async"),
            (a_lock, "does not take a thread id"),
            ("a lock", "cannot be called"),
        ],
        ids=["a lock", "a class", "an async function", "an async object", "without a thread id", "a text"],
    )
    def test_what_makes_no_locks_is_refused(self, lock: Any, problem: str) -> None:
        """A lock in the place of a factory of locks raises as the sequencer is made, and says what is needed."""
        with pytest.raises(UsageError) as raised:
            ClientToolSequencer(TOOLS, lock=lock)

        assert problem in str(raised.value)
        assert "a function that takes a thread id and returns an async context manager" in str(raised.value)

    @pytest.mark.parametrize("lock", [MemoryStore().thread_lock, lambda thread_id: asyncio.Lock()])
    async def test_a_factory_is_taken(self, lock: Any) -> None:
        """A method or function that takes a thread id and returns an async context manager is what is needed."""
        _, chat = scripted(PlainStore(), asks(selection()), says("done"), lock=lock)
        await chat.say("go")

        assert ["done"] == (await chat.answer(["a"])).texts


class TestAnotherChatKit:
    @pytest.mark.long
    def test_without_a_method_there_is_one_error(self) -> None:
        """A ChatKit without a method that this builds on: one ImportError with its name and the supported range."""
        cases = [*([name] for name in server_module.NEEDED), [*server_module.NEEDED]]
        code = (
            "import sys\n"
            "from chatkit.server import ChatKitServer\n"
            f"for names in {cases}:\n"
            "    methods = {name: ChatKitServer.__dict__[name] for name in names}\n"
            "    for name in names: delattr(ChatKitServer, name)\n"
            "    try:\n"
            "        import chatkit_clienttools\n"
            "    except ImportError as error:\n"
            "        print(error)\n"
            "    for name, method in methods.items(): setattr(ChatKitServer, name, method)\n"
            "    for name in [*sys.modules]:\n"
            "        if name.startswith('chatkit_clienttools'): del sys.modules[name]\n"
        )

        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603

        lines = run.stdout.splitlines()
        assert len(cases) == len(lines)
        for names, line in zip(cases, lines, strict=True):
            assert [] == [name for name in names if f"ChatKitServer.{name}" not in line]
            assert "openai-chatkit>=1.4.1,<2" in line


class TestHierarchies:
    async def test_the_server_comes_before_one_that_exists(self) -> None:
        """Put before a server that somebody has already, it releases what its tools ask for."""
        sequencer = ClientToolSequencer(TOOLS)

        class Existing(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
                if input_user_message:
                    sequencer.enqueue(agent_context, *THREE)
                yield message("x", thread, f"x{bool(input_user_message)}")

        class Mine(ClientToolServer[Any], Existing):
            client_tools = sequencer

        chat = Conversation(Mine(PlainStore()))
        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert ["x"] == replies[3].texts

    async def test_a_method_that_calls_the_one_it_overrides(self) -> None:
        """The override is one run as a whole: nothing that it says lands behind the pending call."""

        class Titled(Scripted):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                async for event in super().respond(thread, input_user_message, context):
                    yield event
                yield message("a title", thread, f"title {self.runs}")

        chat = Conversation(Titled(PlainStore(), ClientToolSequencer(TOOLS), asks(*THREE), says("done")))

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert ["thread.item.done", "thread.item.done"] == replies[0].types[-2:]
        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert [["a title"], [], [], ["done", "a title"]] == [reply.texts for reply in replies]

    async def test_a_method_that_was_replaced(self) -> None:
        """A `respond` that somebody put onto the object is called; its answers are taken all the same."""
        server, chat = scripted(PlainStore(), asks(selection()))
        await chat.say("go")

        async def replaced(thread: Any, item: Any, context: Any) -> AsyncIterator[Any]:
            yield message("replaced", thread, "replaced")

        server.respond = replaced  # type: ignore[assignment, method-assign]

        assert ["replaced"] == (await chat.answer(["a"])).texts

    async def test_an_override_in_the_middle_is_not_hidden(self) -> None:
        """A class that comes to stand between the server and the one it derives from has its say."""

        class Quiet(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("quiet", thread, "quiet")

        class Louder(Quiet):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("LOUD", thread, "loud")

        class One(ClientToolServer[Any], Quiet):
            pass

        class Both(One, Louder):
            pass

        assert ["quiet"] == (await Conversation(One(PlainStore())).say("hi")).texts
        assert ["LOUD"] == (await Conversation(Both(PlainStore())).say("hi")).texts

    async def test_the_process_behind_it_is_called(self) -> None:
        """A `process` that checks who is there is not passed over."""

        class Checked(ChatKitServer[Any]):
            async def process(self, request: Any, context: Any) -> Any:
                if context != "alice":
                    raise PermissionError(context)
                return await super().process(request, context)

        class Mine(Works, Checked):
            pass

        server = Mine(PlainStore())
        with pytest.raises(PermissionError):
            await Conversation(server, "mallory").say("go")
        chat = Conversation(server, "alice")

        assert ["hello"] == (await chat.say("go")).texts
        assert NOTHING == (await chat.act(RESUME)).types


def test_a_lock_factory_without_a_signature_is_taken() -> None:
    """Of a factory that does not say what it takes, nothing is checked."""
    factory: Any = dict

    assert factory == ClientToolSequencer(lock=factory).rules.lock


def test_a_chatkit_without_what_we_build_on_is_refused() -> None:
    """One error names every method that is missing, and the versions that have it."""
    with pytest.raises(ImportError) as refused:
        server_module.check_chatkit(object)

    assert [True] * 6 == [name in str(refused.value) for name in (*server_module.NEEDED, server_module.SUPPORTED)]
