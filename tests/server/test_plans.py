"""A plan is not lost, whatever is saved meanwhile, and nobody but the server sees it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError, Store
from chatkit.types import Thread, ThreadMetadata

from chatkit_clienttools import ClientToolSequencer, StoreWrapper, ValidatingStore
from chatkit_clienttools._locks import ThreadLocks
from chatkit_clienttools._step.plans import PlansInMetadata, StoredPlan, keeper
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, selection
from tests.helpers.scripted import Scripted, asks, message, says, scripted
from tests.helpers.server import NAMES, RESUME, THREE
from tests.helpers.stores import LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEY = "chatkit_clienttools"

SOON = 10
"""How many seconds a test waits for what would hang."""

STORES: dict[str, Callable[[], Store[Any]]] = {
    "plain": PlainStore,
    "live": LiveStore,
    "plans": PlansStore,
    "valid plain": lambda: ValidatingStore(PlainStore()),
    "valid live": lambda: ValidatingStore(LiveStore()),
    "valid plans": lambda: ValidatingStore(PlansStore()),
}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


async def rest_of_three(chat: Conversation) -> list[str]:
    """Answer until nothing comes any more; return the names of the calls that came."""
    names = []
    while calls := (await chat.answer(["a"])).calls:
        names += [name for name, _ in calls]
    return names


class TestItIsNotLost:
    async def test_by_a_rename(self, store: Store[Any]) -> None:
        """`threads.update` loads the thread, sets the title and saves it: the calls that wait go out all the same."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")

        await chat.rename("a title")

        assert NAMES[1:] == await rest_of_three(chat)
        assert "a title" == (await chat.thread())["title"]

    async def test_by_a_stale_save(self, store: Store[Any]) -> None:
        """A copy of the thread that was loaded before the calls were asked for is saved after that."""
        server, chat = scripted(store, says("hello"), asks(*THREE), says("done"))
        await chat.say("hi")
        stale = (await server.store.load_thread(chat.thread_id or "", None)).model_copy(deep=True)
        await chat.say("go")

        stale.title = "a title"
        await server.store.save_thread(stale, None)

        assert NAMES[1:] == await rest_of_three(chat)
        assert "a title" == (await chat.thread())["title"]

    async def test_by_the_copy_of_an_older_plan(self, store: Store[Any]) -> None:
        """A copy that was loaded while other calls waited is saved after those are done with: they do not come back."""
        server, chat = scripted(store, asks(*THREE), says("done"), asks(selection()), says("done again"))
        await chat.say("go")
        stale = (await server.store.load_thread(chat.thread_id or "", None)).model_copy(deep=True)
        await rest_of_three(chat)
        await chat.say("go on")

        await server.store.save_thread(stale, None)

        assert ["done again"] == (await chat.answer(["a"])).texts
        assert [(name, "completed") for name in [*NAMES, "get_selected_canvas_nodes"]] == await chat.calls()

    async def test_by_chatkit_itself(self, store: Store[Any]) -> None:
        """The body sets the title: ChatKit saves the thread in mid-run, while an answer moves the plan on."""
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def titles(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            context.thread.title = "a title"
            yield message("titled", context.thread, "titled")
            context.thread.metadata["theirs"] = 1
            yield message("and more", context.thread, "more")

        _, chat = scripted(store, asks(*THREE), titles, says("done"))
        await chat.say("go")
        acting = asyncio.create_task(chat.act("title"))
        await begun.wait()
        second = await chat.answer()
        goes_on.set()
        reply = await acting

        assert [NAMES[1]] == [name for name, _ in second.calls]
        assert ["titled", "and more"] == reply.texts
        assert [NAMES[2]] == await rest_of_three(chat)
        thread = await chat.server.store.load_thread(chat.thread_id or "", None)
        assert ("a title", {"theirs": 1}) == (thread.title, dict(thread.metadata))

    async def test_by_an_application_that_replaces_the_metadata_in_a_run(self, store: Store[Any]) -> None:
        """`thread.metadata = {...}` in the body, before and after the calls of an earlier run: the calls go out."""

        async def replaces(server: Any, context: Any) -> AsyncIterator[Any]:
            context.thread.metadata = {"theirs": 1}
            yield message("one", context.thread, "one")
            context.thread.metadata = {}
            yield message("two", context.thread, "two")

        async def asks_and_replaces(server: Any, context: Any) -> AsyncIterator[Any]:
            context.thread.metadata = {"theirs": 0}
            server.sequencer.enqueue(context, *THREE)
            yield message("asked", context.thread, "asked")
            context.thread.metadata = {"theirs": 2}
            yield message("replaced", context.thread, "replaced")

        _, chat = scripted(store, asks_and_replaces, replaces, says("done"))
        await chat.say("go")

        await chat.act("replace")

        assert NAMES[1:] == await rest_of_three(chat)

    async def test_by_an_application_that_replaces_the_metadata_between_requests(self, store: Store[Any]) -> None:
        """An application that saves a thread with other metadata through `server.store` keeps what it does not see."""
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")

        thread = await server.store.load_thread(chat.thread_id or "", None)
        await server.store.save_thread(thread.model_copy(update={"metadata": {"theirs": 1}}), None)

        assert {"theirs": 1} == (await server.store.load_thread(chat.thread_id or "", None)).metadata
        assert NAMES[1:] == await rest_of_three(chat)
        assert {"theirs": 1} == (await server.store.load_thread(chat.thread_id or "", None)).metadata

    async def test_by_an_application_that_writes_the_key(self, store: Store[Any]) -> None:
        """The key is ours where the plan is in the metadata: what an application writes there is not taken for it."""
        if isinstance(getattr(store, "inner", store), PlansStore):
            pytest.skip("the metadata are the application's own")
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")

        thread = await server.store.load_thread(chat.thread_id or "", None)
        await server.store.save_thread(thread.model_copy(update={"metadata": {KEY: "theirs"}}), None)

        assert NAMES[1:] == await rest_of_three(chat)

    async def test_by_a_store_for_each_request(self) -> None:
        """Server and store are made anew for each request: a title that one of them saves does not cost the plan."""
        kept = PlainStore()
        sequencer = ClientToolSequencer(TOOLS)
        begun, goes_on = asyncio.Event(), asyncio.Event()

        def new_server(*bodies: Any) -> Conversation:
            store = PlainStore()
            vars(store).update(vars(kept))
            return Conversation(Scripted(store, sequencer, *bodies), thread_id=thread_id)

        async def titles(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            context.thread.title = "a title"
            yield message("titled", context.thread, "titled")

        thread_id = None
        first = new_server(asks(*THREE))
        await first.say("go")
        thread_id = first.thread_id
        acting = asyncio.create_task(new_server(titles).act("title"))
        await begun.wait()
        await new_server().answer()
        goes_on.set()
        await acting

        assert [NAMES[2]] == [name for name, _ in (await new_server().answer(["a"])).calls]
        assert "a title" == (await new_server().thread())["title"]

    @pytest.mark.parametrize("nth", range(1, 4))
    async def test_by_a_save_that_crosses_a_step(self, nth: int) -> None:
        """A save that was begun before a step, and waits in the database meanwhile, does not undo the step."""
        store = WatchedStore(PlainStore())
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        thread = await server.store.load_thread(chat.thread_id or "", None)
        gate = store.gate("save_thread", 1)
        saving = asyncio.create_task(server.store.save_thread(thread.model_copy(update={"title": "a title"}), None))
        await gate.reached.wait()

        answering = asyncio.create_task(chat.answer())
        for _ in range(nth):
            await asyncio.sleep(0)
        gate.open.set()
        await saving

        assert [NAMES[1]] == [name for name, _ in (await answering).calls]
        assert NAMES[2:] == await rest_of_three(chat)
        assert "a title" == (await chat.thread())["title"]

    @pytest.mark.parametrize("make", [PlainStore, lambda: ValidatingStore(PlainStore())])
    async def test_a_thread_that_is_deleted_meanwhile_stays_deleted(self, make: Any) -> None:
        """A step that has loaded the thread when it is deleted does not create it anew."""
        store = WatchedStore(make())
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        gate = store.gate("load_thread_items", 1)
        answering = asyncio.create_task(chat.answer())
        await gate.reached.wait()
        deleting = asyncio.create_task(server.store.delete_thread(chat.thread_id or "", None))
        await asyncio.sleep(0)

        gate.open.set()
        await asyncio.gather(answering, deleting)

        with pytest.raises(NotFoundError):
            await store.load_thread(chat.thread_id or "", None)


class TestNobodySeesIt:
    async def test_no_run_sees_the_plan(self, store: Store[Any]) -> None:
        """The plan's key is not in `respond`'s thread or the AgentContext's, in the first run or in a later one."""
        seen: list[dict[str, Any]] = []

        async def looks(server: Any, context: Any) -> AsyncIterator[Any]:
            seen.append(dict(context.thread.metadata))
            return
            yield

        async def asks_and_looks(server: Any, context: Any) -> AsyncIterator[Any]:
            context.thread.metadata["theirs"] = 1
            server.sequencer.enqueue(context, *THREE)
            yield message("asked", context.thread, "asked")
            seen.append(dict(context.thread.metadata))

        _, chat = scripted(store, asks_and_looks, looks, looks, looks)
        await chat.say("go")
        await chat.act("look")
        await rest_of_three(chat)
        await chat.say("look again")

        assert [{"theirs": 1}] * 4 == seen

    async def test_through_the_servers_store(self, store: Store[Any]) -> None:
        """`server.store` does not show the key, for one thread or for a list of them."""
        server, chat = scripted(store, asks(*THREE))
        await chat.say("go")

        thread = await server.store.load_thread(chat.thread_id or "", None)
        page = await server.store.load_threads(10, None, "desc", None)

        assert {} == thread.metadata
        assert [{}] == [each.metadata for each in page.data]

    async def test_on_the_wire(self, store: Store[Any]) -> None:
        """Nothing that reaches the browser has the key: no stream, no thread that is loaded, no list, no rename."""
        server, chat = scripted(store, asks(*THREE), says("done"))
        sent = [(await chat.say("go")).events, (await chat.act(RESUME)).events, (await chat.answer()).events]

        renamed: Any = await server.process(chat._request("threads.update", title="a title"), None)

        shown = [*sent, await chat.thread(), await chat.threads(), renamed.json]
        assert [] == [each for each in shown if KEY in repr(each)]
        assert [["a title"]] == [[each["title"] for each in (await chat.threads())["data"]]]

    async def test_past_the_server_it_is_one_key(self) -> None:
        """In the application's own store the plan is one key of the thread's metadata, as plain JSON values."""
        store = PlainStore()
        _, chat = scripted(store, asks(*THREE))
        await chat.say("go")

        metadata = store.threads[chat.thread_id or ""].metadata

        assert [KEY] == list(metadata)
        assert {"revision": int, "plan": str} == {name: type(value) for name, value in metadata[KEY].items()}

    async def test_a_store_with_plans_has_none(self) -> None:
        """In a store that keeps plans under a key of their own, the metadata are the application's alone."""
        store = PlansStore()
        _, chat = scripted(store, asks(*THREE))

        await chat.say("go")

        assert {} == store.threads[chat.thread_id or ""].metadata
        assert [chat.thread_id] == list(store.plans)


class TestAThreadWithItems:
    @pytest.mark.parametrize("make", [PlainStore, LiveStore, lambda: ValidatingStore(PlainStore())])
    async def test_a_title_in_the_first_run(self, make: Any) -> None:
        """ChatKit saves a thread WITH its items when the title changes in the first run; the page can still load it."""

        async def titles(server: Any, context: Any) -> AsyncIterator[Any]:
            assert isinstance(context.thread, Thread)
            context.thread.title = "a title"
            yield message("hello", context.thread, "hello")
            server.sequencer.enqueue(context, selection())

        async def note(name: str, args: tuple[Any, ...]) -> None:
            if name == "save_thread":
                saved.add(type(args[0]))

        saved: set[type[ThreadMetadata]] = set()
        store = WatchedStore(make())
        store.before = note
        _, chat = scripted(store, titles, says("done"))
        await chat.say("go")

        loaded = await chat.thread()

        assert "a title" == loaded["title"]
        assert ["user_message", "assistant_message", "client_tool_call"] == [
            item["type"] for item in loaded["items"]["data"]
        ]
        assert ["done"] == (await chat.answer(["a"])).texts
        assert {ThreadMetadata} == saved


def hiding(store: Store[Any]) -> Store[Any]:
    """Return a wrapper that passes on what ChatKit asks of a store, and nothing else."""

    def passing_on(name: str) -> Any:
        async def method(_: Any, *args: Any, **kwargs: Any) -> Any:
            return await getattr(store, name)(*args, **kwargs)

        return method

    made: Any = type("Hiding", (Store,), {name: passing_on(name) for name in Store.__abstractmethods__})
    wrapper: Store[Any] = made()
    return wrapper


class TestAWrapperAroundTheServersStore:
    """An application may put a wrapper of its own around `server.store`, which keeps the plan out of sight."""

    async def test_it_takes_its_place(self, store: Store[Any]) -> None:
        """A wrapper around `server.store` may be assigned to `server.store`: a conversation goes on through it."""
        server, chat = scripted(store, asks(*THREE), says("done"))
        server.store = StoreWrapper(server.store)

        await asyncio.wait_for(chat.say("go"), SOON)
        await asyncio.wait_for(chat.rename("a title"), SOON)

        assert NAMES[1:] == await asyncio.wait_for(rest_of_three(chat), SOON)
        assert ("a title", {}) == ((await chat.thread())["title"], (await chat.thread()).get("metadata", {}))

    @pytest.mark.parametrize("locked", [False, True])
    async def test_one_that_hides_the_plan(self, caplog: pytest.LogCaptureFixture, locked: bool) -> None:
        """A wrapper that passes on nothing but ChatKit's own methods would wait for itself: an error says so."""
        server, chat = scripted(PlainStore(), asks(*THREE), lock=ThreadLocks().held if locked else None)
        server.store = hiding(server.store)

        said = await asyncio.wait_for(chat.say("go"), SOON)

        assert ["error"] == [event["type"] for event in said.events if event["type"] == "error"]
        assert "hides `load_plan` and `save_plan`" in caplog.text
        assert "derive it from StoreWrapper" in caplog.text

    async def test_a_second_server_around_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """A second server that keeps plans where the first one keeps its own would lose calls: an error says so."""
        first, _ = scripted(PlainStore())
        _, chat = scripted(hiding(first.store), asks(*THREE))

        said = await asyncio.wait_for(chat.say("go"), SOON)

        assert (1, []) == (len(said.errors), said.calls)
        assert f"Thread {chat.thread_id}: a second server keeps its plans in metadata" in caplog.text

    async def test_a_copy_that_was_loaded_past_it(self) -> None:
        """A thread that was loaded from the store inside, with its plan, may be saved through `server.store`."""
        inside = PlainStore()
        server, chat = scripted(inside, asks(*THREE), says("done"))
        await chat.say("go")
        copy = await inside.load_thread(chat.thread_id or "", None)

        await server.store.save_thread(copy, None)

        assert KEY in copy.metadata
        assert NAMES[1:] == await rest_of_three(chat)

    async def test_the_sequencer_is_asked_with_it(self, store: Store[Any]) -> None:
        """`snapshot` and `cancel` take a wrapper around `server.store`, too."""
        server, chat = scripted(store, asks(*THREE))
        await chat.say("go")
        around: Any = StoreWrapper(server.store)

        shown = await server.sequencer.snapshot(around, chat.thread_id or "", None)
        gone = await asyncio.wait_for(server.sequencer.cancel(around, chat.thread_id or "", None, required=True), SOON)

        assert NAMES == [each.name for each in shown] == [each.name for each in gone]
        assert () == await server.sequencer.snapshot(around, chat.thread_id or "", None)

    @pytest.mark.parametrize("damage", [5, "nonsense", {"revision": 3}, {"revision": 3, "plan": "{"}])
    async def test_a_damaged_plan_is_dropped_through_it(self, damage: Any) -> None:
        """`cancel` with a wrapper around `server.store` drops whatever stands in the place of the plan."""
        store = PlainStore()
        server, chat = scripted(store, says("hello"), says("hello again"))
        await chat.say("hi")
        store.threads[chat.thread_id or ""].metadata[KEY] = damage

        await asyncio.wait_for(server.sequencer.cancel(StoreWrapper(server.store), chat.thread_id or "", None), SOON)

        assert ["hello again"] == (await chat.say("hello?")).texts


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_store_that_returns_none_for_a_thread(wrapped: bool) -> None:
    """A store that returns None for what it does not have: the application gets an error that names the thread."""

    class ReturnsNone(PlainStore):
        async def load_thread(self, thread_id: str, context: Any) -> Any:
            return self.threads.get(thread_id)

    server, _ = scripted(ReturnsNone())
    store: Store[Any] = StoreWrapper(server.store) if wrapped else server.store

    assert await store.load_thread("thr_1", None) is None
    with pytest.raises(NotFoundError, match=r"^Thread thr_\\n1 does not exist$"):
        await server.sequencer.snapshot(store, "thr_\n1", None)


async def test_the_revision_counts_the_saves(store: Store[Any]) -> None:
    """The revision of a plan says how often it was saved, and is 0 if there is none."""
    await store.save_thread(ThreadMetadata(id="thr_1", created_at=at(0)), None)
    plans = keeper(store, "thr_1", None)
    await plans.load()
    revisions = [plans.revision]
    for document in ("one", "two", "three"):
        assert await plans.save(document) is True
        revisions.append(plans.revision)

    assert [0, 1, 2, 3] == revisions
    assert StoredPlan(3, "three") == (await keeper(store, "thr_1", None).load()).plan


async def test_a_store_that_offers_one_half() -> None:
    """A store that can load plans, but not save them, keeps none of its own."""

    class LoadsOnly(PlainStore):
        async def load_plan(self, thread_id: str, context: Any) -> None:
            raise AssertionError

    _, chat = scripted(LoadsOnly(), asks(*THREE), says("done"))
    await chat.say("go")

    assert NAMES[1:] == await rest_of_three(chat)


async def test_what_a_list_of_threads_is_asked_for() -> None:
    """A page of threads is the one that was asked for, and says whether there are more."""
    store = WatchedStore(PlainStore())
    for n in range(4):
        await store.save_thread(ThreadMetadata(id=f"thr_{n}", created_at=at(n), metadata={KEY: "a plan"}), "ann")
    server, _ = scripted(store)

    page = await server.store.load_threads(2, "thr_0", "asc", "ann")

    assert (["thr_1", "thr_2"], True, "thr_2") == ([each.id for each in page.data], page.has_more, page.after)
    assert [{}, {}] == [each.metadata for each in page.data]
    assert {"ann"} == store.contexts


async def test_what_is_done_while_a_thread_is_held() -> None:
    """The adapter saves and deletes a thread while nobody else is at work on that one."""
    happened: list[str] = []

    @asynccontextmanager
    async def alone_on(thread_id: str) -> AsyncIterator[None]:
        happened.append(f"{thread_id} is held")
        yield
        happened.append("and let go")

    async def note(name: str, args: tuple[Any, ...]) -> None:
        happened.append(name)

    inner = WatchedStore(PlainStore())
    inner.before = note
    store = PlansInMetadata(inner, alone_on)

    await store.save_thread(ThreadMetadata(id="thr_1", created_at=at(0)), None)
    await store.delete_thread("thr_1", None)

    assert [
        *["thr_1 is held", "load_thread", "save_thread", "and let go"],
        *["thr_1 is held", "delete_thread", "and let go"],
    ] == happened


async def test_a_plan_is_saved_over_the_expected_revision_only() -> None:
    """The adapter compares revisions, as a store with plans of its own does."""
    store = PlansInMetadata(PlainStore(), ThreadLocks().held)
    await store.save_thread(ThreadMetadata(id="thr_1", created_at=at(0)), None)

    first = await store.save_plan("thr_1", StoredPlan(1, "one"), 0, None)
    late = await store.save_plan("thr_1", StoredPlan(1, "late"), 0, None)

    assert (True, False) == (first, late)
    assert StoredPlan(1, "one") == await store.load_plan("thr_1", None)


async def test_events_that_no_request_has_posted_are_chatkits_alone() -> None:
    """An application that lets ChatKit process events of its own, outside of a request, gets what ChatKit does."""
    server, chat = scripted(PlainStore(), says("hi"))
    await chat.say("hello")
    thread = await server.store.load_thread(chat.thread_id or "", None)

    async def events() -> AsyncIterator[Any]:
        yield message("by itself", thread, "msg_own")

    types = [event.type async for event in server._process_events(thread, None, events)]

    assert ["stream_options", "thread.item.done"] == types
