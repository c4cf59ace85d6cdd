"""`StoreWrapper` passes everything on; `ValidatingStore` keeps the lifecycle and is otherwise not to be noticed."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import pickle
from typing import TYPE_CHECKING, Any, Literal

import pytest
from chatkit.store import NotFoundError, Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    FileAttachment,
    HiddenContextItem,
    ThreadMetadata,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chatkit_clienttools import StoreWrapper, ValidatingStore
from chatkit_clienttools._step.plans import StoredPlan, plans_of
from chatkit_clienttools.errors import LifecycleViolationError, UsageError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import at
from tests.helpers.stores import LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkit.types import Attachment, ThreadItem

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did

METHODS = [name for name, value in vars(Store).items() if inspect.isfunction(value) and not name.startswith("_")]
WRITES = ["add_thread_item", "save_item"]


def thread(thread_id: str = "thr_1", **fields: Any) -> ThreadMetadata:
    return ThreadMetadata(id=thread_id, created_at=at(0), **fields)


def call(item_id: str = "tc_1", **fields: Any) -> ClientToolCallItem:
    ours = {"name": "show", "arguments": {"of": SECRET}, "call_id": f"call_{item_id}", "created_at": at(1), **fields}
    return ClientToolCallItem(id=item_id, thread_id="thr_1", **ours)


def answered(item_id: str = "tc_1", output: Any = SECRET, **fields: Any) -> ClientToolCallItem:
    return call(item_id, status="completed", output=output, **fields)


def note(item_id: str = "note_1", content: str = "x") -> HiddenContextItem:
    return HiddenContextItem(id=item_id, thread_id="thr_1", created_at=at(1), content=content)


def parameters(owner: type, method: str) -> list[str]:
    return list(inspect.signature(getattr(owner, method)).parameters)


async def holding(inner: Store[Any], *items: ThreadItem) -> Store[Any]:
    await inner.save_thread(thread(), None)
    for item in items:
        await inner.add_thread_item("thr_1", item, None)
    return inner


async def items_of(store: Store[Any], thread_id: str = "thr_1") -> list[ThreadItem]:
    return (await store.load_thread_items(thread_id, None, 100, "asc", None)).data


def recording() -> tuple[Store[Any], list[tuple[str, dict[str, Any]]]]:
    """Return a store that does nothing but note what it was asked, and its notes; it answers with the notes."""
    notes: list[tuple[str, dict[str, Any]]] = []

    def method(name: str) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            _, *given = inspect.signature(getattr(Store, name)).bind(*args, **kwargs).arguments.items()
            notes.append((name, dict(given)))
            return notes

        async def asked_async(*args: Any, **kwargs: Any) -> Any:
            return asked(*args, **kwargs)

        return asked_async if inspect.iscoroutinefunction(getattr(Store, name)) else asked

    return type("Recording", (Store,), {name: method(name) for name in METHODS})(), notes


class TestWrapper:
    def test_it_delegates_every_method_itself(self) -> None:
        """Every public method of `Store` is the wrapper's own: an inherited default would silently win."""
        assert {"load_thread", "generate_thread_id", "generate_item_id"} <= set(METHODS)
        assert [] == [name for name in METHODS if name not in vars(StoreWrapper)]

    @pytest.mark.parametrize("owner", [StoreWrapper, ValidatingStore])
    @pytest.mark.parametrize("method", METHODS)
    def test_parameters_are_called_what_chatkit_calls_them(self, method: str, owner: type) -> None:
        """Methods are called with keywords as well: the names of ChatKit's parameters are kept."""
        assert parameters(Store, method) == parameters(owner, method)

    @pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by position"])
    @pytest.mark.parametrize("method", METHODS)
    async def test_it_passes_everything_on(self, method: str, by_name: bool) -> None:
        """Each method asks the inner store once, with the same arguments; what reads returns what it says."""
        inner, notes = recording()
        arguments = {name: object() for name in parameters(Store, method)[1:]}

        ours = getattr(StoreWrapper(inner), method)
        result = ours(**arguments) if by_name else ours(*arguments.values())
        result = await result if inspect.isawaitable(result) else result

        writes = method.startswith(("add_", "save_", "delete_"))
        assert [(method, arguments)] == notes
        assert result is (None if writes else notes)

    @pytest.mark.parametrize("wrap", [StoreWrapper, ValidatingStore])
    def test_it_passes_on_what_else_a_store_has(self, wrap: Callable[[Any], Any]) -> None:
        """What only the inner store has, an application's own methods, is there too; what it has not is not."""

        class History(PlainStore):
            pages = 3

            def history(self, *, of: str) -> str:
                return f"history of {of}"

        store = wrap(wrap(History()))

        assert (3, "history of x") == (store.pages, store.history(of="x"))
        assert not hasattr(store, "future")

    def test_ids_are_the_inner_stores(self) -> None:
        """A store that makes its own ids makes them through any number of wrappers."""

        class Counting(PlainStore):
            def generate_thread_id(self, context: Any) -> str:
                return f"thread of {context}"

            def generate_item_id(self, item_type: Any, thread: ThreadMetadata, context: Any) -> str:
                return f"{item_type} in {thread.id} of {context}"

        store = ValidatingStore[Any](StoreWrapper(Counting()))

        assert "thread of Ada" == store.generate_thread_id("Ada")
        assert "tool_call in thr_1 of Ada" == store.generate_item_id("tool_call", thread(), "Ada")

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])  # noqa: S301  our own
    async def test_it_can_be_copied(self, duplicate: Callable[[Store[Any]], Any]) -> None:
        """A wrapper can be copied and pickled: half built, it does not look for its inner store in itself."""
        store = StoreWrapper[Any](await holding(PlainStore(), note()))

        other = duplicate(store)

        assert [StoreWrapper, PlainStore] == [type(other), type(other.inner)]
        assert [note()] == await items_of(other)

    def test_half_built_it_has_nothing(self) -> None:
        """Before it has an inner store it has no attributes of one, and does not look for them for ever."""
        half_built = StoreWrapper.__new__(StoreWrapper)

        assert not hasattr(half_built, "history")
        with pytest.raises(AttributeError, match="inner"):
            _ = half_built.inner

    def test_how_the_inner_store_is_copied_is_its_own_business(self) -> None:
        """The special methods of the inner store are not the wrapper's: a copy of it is wrapped as well."""

        class Single(PlainStore):
            def __deepcopy__(self, memo: Any) -> Single:
                return self

        store = StoreWrapper[Any](Single())

        assert StoreWrapper is type(copy.deepcopy(store))

    def test_a_validating_store_keeps_validating_when_copied(self) -> None:
        """A copy guards the same threads: it shares the locks."""
        store = ValidatingStore[Any](PlainStore(), mode="observe")

        other = copy.copy(store)

        assert (store.inner, store.mode, store._locks) == (other.inner, other.mode, other._locks)
        assert store._locks is other._locks


async def replay(store: Store[Any], *writes: tuple[str, ThreadItem]) -> WatchedStore:
    """Make `writes` through a ValidatingStore, and return the inner store with its counts from then on."""
    inner = WatchedStore(store)
    guarded = ValidatingStore[Any](inner)
    for method, item in writes:
        inner.counts.clear()
        await getattr(guarded, method)("thr_1", item, None)
    return inner


class TestWhatIsAllowed:
    @pytest.mark.parametrize("write", WRITES)
    async def test_a_call_is_answered(self, write: str) -> None:
        """A call enters as pending and is completed once, however it is written."""
        inner = await replay(PlainStore(), (write, call()), (write, answered()))

        assert [answered()] == await items_of(inner)

    async def test_an_answer_may_be_nothing(self) -> None:
        """A handler that returns nothing has answered."""
        inner = await replay(PlainStore(), ("add_thread_item", call()), ("save_item", answered(output=None)))

        assert [answered(output=None)] == await items_of(inner)

    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("made_at", [at(1), at(9)], ids=["at the same time", "later"])
    async def test_the_same_pending_call_again_is_written_once(self, write: str, made_at: Any) -> None:
        """A call that is released twice is one item: the second write is allowed, and nothing is written."""
        inner = await replay(PlainStore(), ("add_thread_item", call()), (write, call(created_at=made_at)))

        assert 0 == inner.counts["add_thread_item"] + inner.counts["save_item"]
        assert [call()] == await items_of(inner)

    @pytest.mark.parametrize("write", WRITES)
    async def test_the_same_answer_again_is_written_once(self, write: str) -> None:
        """A completed call that is saved unchanged is allowed, and nothing is written."""
        inner = await replay(PlainStore(), ("add_thread_item", call()), ("save_item", answered()), (write, answered()))

        assert 0 == inner.counts["add_thread_item"] + inner.counts["save_item"]
        assert [answered()] == await items_of(inner)

    async def test_one_call_after_another(self) -> None:
        """When a call is answered the next one may be released."""
        inner = await replay(
            PlainStore(),
            ("add_thread_item", call("tc_1")),
            ("save_item", answered("tc_1")),
            ("add_thread_item", call("tc_2")),
        )

        assert [answered("tc_1"), call("tc_2")] == await items_of(inner)

    async def test_a_call_that_was_withdrawn_makes_room(self) -> None:
        """When the pending call is deleted another one may be released, or the same one again."""
        store = ValidatingStore[Any](await holding(PlainStore(), call("tc_1")))

        await store.delete_thread_item("thr_1", "tc_1", None)
        await store.add_thread_item("thr_1", call("tc_2"), None)
        await store.delete_thread_item("thr_1", "tc_2", None)
        await store.add_thread_item("thr_1", call("tc_2", created_at=at(5)), None)

        assert [call("tc_2", created_at=at(5))] == await items_of(store)

    async def test_each_thread_has_its_own(self) -> None:
        """A call that is pending in one thread is nothing to another."""
        store = ValidatingStore[Any](await holding(PlainStore(), call("tc_1")))

        await store.add_thread_item("thr_2", call("tc_2"), None)

        assert [call("tc_2")] == await items_of(store, "thr_2")

    @pytest.mark.parametrize("write", WRITES)
    async def test_other_items_are_written_as_they_come(self, write: str) -> None:
        """Messages, widgets and the rest may change as often as they like, with a call pending or not."""
        message = AssistantMessageItem(
            id="msg_1", thread_id="thr_1", created_at=at(2), content=[AssistantMessageContent(text="Hi")]
        )

        inner = await replay(
            PlainStore(), (write, note()), ("add_thread_item", call()), (write, message), (write, note(content="y"))
        )

        assert [note(content="y"), call(), message] == await items_of(inner)


VIOLATIONS: dict[str, tuple[list[ThreadItem], ThreadItem, tuple[str, str, str]]] = {
    "completed without having been pending": (
        [],
        answered(),
        ("no item", "completed", "A call is stored as pending and completed by the browser's answer"),
    ),
    "a second pending call": (
        [call("tc_0"), note()],
        call(),
        ("no item", "pending", "Call call_tc_0 (item tc_0) is still pending"),
    ),
    "a second pending call, far behind the first": (
        [call("tc_0"), *[note(f"note_{n}") for n in range(19)]],
        call(),
        ("no item", "pending", "Queue the calls: sequencer.enqueue(ctx, ...)."),
    ),
    "a second pending call, in a long thread": (
        [*[note(f"note_{n}") for n in range(30)], call("tc_0")],
        call(),
        ("no item", "pending", "and the browser's answer does not say which call it is for"),
    ),
    "a second answer": (
        [answered()],
        answered(output="other"),
        ("completed", "completed with another output", "A call changes once, from pending to completed"),
    ),
    "an answer taken back": (
        [answered()],
        call(),
        ("completed", "pending", "A call changes once, from pending to completed"),
    ),
    "an empty answer taken back": (
        [answered(output=None)],
        call(),
        ("completed", "pending", "to ask again, enqueue another call"),
    ),
    "an output while pending": (
        [call()],
        call(output=SECRET),
        ("pending", "pending with another output", "A call changes once, from pending to completed"),
    ),
    "another name": (
        [call()],
        answered(name="hide"),
        ("pending", "completed with other contents", "Only status and output of a call ever change"),
    ),
    "another call id": (
        [call()],
        answered(call_id="call_9"),
        ("pending", "completed with other contents", "Only status and output of a call ever change"),
    ),
    "other arguments": (
        [call()],
        call(arguments={}),
        ("pending", "pending with other contents", "Only status and output of a call ever change"),
    ),
    "other arguments after the answer": (
        [answered()],
        answered(arguments={}),
        ("completed", "completed with other contents", "add another call under an id of its own"),
    ),
    "a call over another item": (
        [note("tc_1")],
        call(),
        ("a hidden_context_item", "pending", "The id is taken by another item of this thread"),
    ),
    "another item over a call": (
        [answered()],
        note("tc_1"),
        ("completed", "a hidden_context_item", "The id is taken by another item of this thread"),
    ),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("held", "item", "said"), VIOLATIONS.values(), ids=VIOLATIONS)
class TestWhatIsNot:
    async def test_strict_raises_and_writes_nothing(
        self, write: str, held: list[ThreadItem], item: ThreadItem, said: tuple[str, str, str]
    ) -> None:
        """A violation names thread, call, both states and the cure, shows no data, and writes nothing."""
        inner = WatchedStore(await holding(PlainStore(), *held))
        was, becomes, cure = said
        call_id = getattr(item, "call_id", "call_tc_1")

        with pytest.raises(LifecycleViolationError) as raised:
            await getattr(ValidatingStore(inner), write)("thr_1", item, None)

        error = raised.value
        assert ("thr_1", "tc_1", call_id) == (error.thread_id, error.item_id, error.call_id)
        assert (was, becomes) == (error.was, error.becomes)
        assert cure in error.cure
        assert (
            f"Thread thr_1, client tool call {call_id} (item tc_1): {was} -> {becomes} is not allowed. {error.cure}"
        ) == str(error)
        assert SECRET not in str(error)
        assert held == await items_of(inner)
        assert 0 == inner.counts["add_thread_item"] + inner.counts["save_item"]

    async def test_observe_logs_and_writes(
        self,
        caplog: pytest.LogCaptureFixture,
        write: str,
        held: list[ThreadItem],
        item: ThreadItem,
        said: tuple[str, str, str],
    ) -> None:
        """To observe is to warn with the same sentence, once, and to let the inner store do what it does."""
        strict = ValidatingStore[Any](await holding(PlainStore(), *held))
        with pytest.raises(LifecycleViolationError) as raised:
            await getattr(strict, write)("thr_1", item, None)
        store = ValidatingStore[Any](await holding(PlainStore(), *held), mode="observe")

        await getattr(store, write)("thr_1", item, None)

        assert item == await store.load_item("thr_1", item.id, None)
        assert [("chatkit_clienttools", logging.WARNING, str(raised.value))] == caplog.record_tuples


@pytest.mark.parametrize("mode", ["strict", "observe"])
async def test_what_is_allowed_is_not_mentioned(
    caplog: pytest.LogCaptureFixture, mode: Literal["strict", "observe"]
) -> None:
    """A legal life of a call leaves no line in the log, in either mode."""
    store = ValidatingStore[Any](PlainStore(), mode=mode)

    for item in (note(), call(), call(), answered(), answered()):
        await store.add_thread_item("thr_1", item, None)

    assert [] == caplog.records
    assert [note(), answered()] == await items_of(store)


async def test_the_cure_for_a_call_stored_as_completed() -> None:
    """What most backends do wrong at first has its cure in full."""
    with pytest.raises(LifecycleViolationError) as raised:
        await ValidatingStore[Any](PlainStore()).add_thread_item("thr_1", answered(), None)

    assert (
        "A call is stored as pending and completed by the browser's answer; that answer fails for one that was stored "
        "as completed. For what needs no answer use ClientTool(..., result=None) or a ClientEffect. To import an old "
        "conversation, add the call as pending, then save it as completed."
    ) == raised.value.cure


def test_another_mode_is_refused() -> None:
    """A misspelt mode is not silently taken for one of the two."""
    with pytest.raises(UsageError, match="mode must be 'strict' or 'observe', not 'stict'"):
        ValidatingStore(PlainStore(), mode="stict")  # type: ignore[arg-type]


async def test_errors_of_the_inner_store_are_its_own() -> None:
    """What the inner store raises goes through as it is."""

    class Away(PlainStore):
        async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:
            raise ConnectionError("the database is away")

    store = ValidatingStore[Any](Away())

    with pytest.raises(ConnectionError, match="the database is away"):
        await store.add_thread_item("thr_1", note(), None)
    with pytest.raises(NotFoundError):
        await store.load_thread("thr_9", None)


def scoped() -> Store[Any]:
    """Return a store that serves Ann and nobody else."""

    def anns(name: str) -> Callable[..., Any]:
        async def method(*args: Any, **kwargs: Any) -> Any:
            asked = inspect.signature(getattr(Store, name)).bind(*args, **kwargs).arguments
            assert "Ann" == asked["context"]
            assert asked.get("order", "asc") in {"asc", "desc"}
            return await getattr(PlainStore, name)(*args, **kwargs)

        return method

    methods = [name for name in METHODS if inspect.iscoroutinefunction(getattr(Store, name))]
    store: Store[Any] = type("Scoped", (PlainStore,), {name: anns(name) for name in methods})()
    return store


async def test_it_asks_for_who_asked() -> None:
    """Whatever the inner store is asked, it hears whose request it is, and one of the two orders."""
    store = ValidatingStore[Any](scoped())

    for title in ("new", "renamed"):
        await store.save_thread(thread(title=title), "Ann")
    await store.add_thread_item("thr_1", call(), "Ann")
    await store.save_item("thr_1", answered(), "Ann")
    await store.save_attachment(attachment(), "Ann")

    assert "renamed" == (await store.load_thread("thr_1", "Ann")).title
    assert ["thr_1"] == [each.id for each in (await store.load_threads(9, None, "asc", "Ann")).data]
    assert [answered()] == (await store.load_thread_items("thr_1", None, 9, "asc", "Ann")).data
    assert answered() == await store.load_item("thr_1", "tc_1", "Ann")
    assert attachment() == await store.load_attachment("atc_1", "Ann")

    await store.delete_attachment("atc_1", "Ann")
    await store.delete_thread_item("thr_1", "tc_1", "Ann")
    assert [] == (await store.load_thread_items("thr_1", None, 9, "asc", "Ann")).data
    await store.delete_thread("thr_1", "Ann")
    assert [] == (await store.load_threads(9, None, "asc", "Ann")).data


def attachment(name: str = "a.txt") -> Attachment:
    return FileAttachment(id="atc_1", name=name, mime_type="text/plain", metadata={"of": []})


class TestCopies:
    """Over a store that hands out what it holds."""

    @pytest.mark.parametrize(
        "load",
        [
            lambda store: store.load_thread("thr_1", None),
            lambda store: store.load_threads(9, None, "asc", None),
            lambda store: store.load_thread_items("thr_1", None, 9, "asc", None),
            lambda store: store.load_item("thr_1", "tc_1", None),
            lambda store: store.load_attachment("atc_1", None),
        ],
        ids=["thread", "threads", "items", "item", "attachment"],
    )
    async def test_what_goes_out_is_a_copy(self, load: Callable[[Store[Any]], Awaitable[Any]]) -> None:
        """What a caller does with what it has loaded, however deep, does not change the store."""
        inner = await holding(LiveStore(), call())
        await inner.save_thread(thread(metadata={"of": []}), None)
        await inner.save_attachment(attachment(), None)
        store = ValidatingStore[Any](inner)
        before = (await load(store)).model_dump()

        loaded = await load(store)
        for value in getattr(loaded, "data", [loaded]):
            value.id = "changed"
            data = value.arguments if isinstance(value, ClientToolCallItem) else getattr(value, "metadata", {})
            data["of"] = "changed"  # the attachments of older ChatKits have no metadata

        assert before != loaded.model_dump()
        assert before == (await load(store)).model_dump()

    @pytest.mark.parametrize("write", WRITES)
    async def test_an_item_comes_in_as_a_copy(self, write: str) -> None:
        """What a caller does with an item it has written does not change the store."""
        store = ValidatingStore[Any](LiveStore())
        item = call()

        await getattr(store, write)("thr_1", item, None)
        item.status = "completed"
        item.arguments.clear()

        assert [call()] == await items_of(store)

    async def test_a_thread_comes_in_as_a_copy(self) -> None:
        """What a caller does with a thread it has saved does not change the store."""
        store = ValidatingStore[Any](LiveStore())
        mine = thread(metadata={"of": []})

        await store.save_thread(mine, None)
        mine.title = "changed"
        mine.metadata["of"].append(1)

        assert thread(metadata={"of": []}) == await store.load_thread("thr_1", None)

    async def test_an_attachment_comes_in_as_a_copy(self) -> None:
        """What a caller does with an attachment it has saved does not change the store."""
        store = ValidatingStore[Any](LiveStore())
        mine = attachment()

        await store.save_attachment(mine, None)
        mine.name = "changed"
        getattr(mine, "metadata", {"of": []})["of"].append(1)  # those of older ChatKits have none

        assert attachment() == await store.load_attachment("atc_1", None)

    async def test_chatkits_own_change_is_seen(self) -> None:
        """ChatKit changes the item it has loaded and saves it: that is one step from pending to completed."""
        store = ValidatingStore[Any](await holding(LiveStore(), call()))
        loaded: Any = await store.load_item("thr_1", "tc_1", None)
        loaded.status, loaded.output = "completed", "first"

        await store.save_item("thr_1", loaded, None)
        loaded.output = "second"
        with pytest.raises(LifecycleViolationError, match="completed -> completed with another output"):
            await store.save_item("thr_1", loaded, None)

        assert [answered(output="first")] == await items_of(store)


class TestAtOnce:
    async def at_the_gate(
        self, inner: WatchedStore, operation: str, first: Awaitable[None], second: Awaitable[None]
    ) -> list[Any]:
        """Hold `first` right before it writes until `second` has come as far as it can; return how each ended."""
        gate = inner.gate(operation)
        both = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
        await gate.reached.wait()  # tasks run in the order they were made: by now the second one has had its step
        gate.open.set()
        return await asyncio.gather(*both, return_exceptions=True)

    async def test_of_two_pending_calls_one_wins(self) -> None:
        """Check and write are one step: two calls that are released at once do not both get in."""
        inner = WatchedStore(await holding(PlainStore()))
        store = ValidatingStore[Any](inner)

        results = await self.at_the_gate(
            inner,
            "add_thread_item",
            store.add_thread_item("thr_1", call("tc_1"), None),
            store.add_thread_item("thr_1", call("tc_2"), None),
        )

        assert [type(None), LifecycleViolationError] == [type(result) for result in results]
        assert [call("tc_1")] == await items_of(store)

    async def test_of_two_answers_one_wins(self) -> None:
        """Two answers to one call that are saved at once do not overwrite each other."""
        inner = WatchedStore(await holding(PlainStore(), call()))
        store = ValidatingStore[Any](inner)

        results = await self.at_the_gate(
            inner,
            "save_item",
            store.save_item("thr_1", answered(output=1), None),
            store.save_item("thr_1", answered(output=2), None),
        )

        assert [type(None), LifecycleViolationError] == [type(result) for result in results]
        assert [answered(output=1)] == await items_of(store)

    async def test_what_is_deleted_stays_deleted(self) -> None:
        """An answer on its way into the store does not bring back a call that is withdrawn meanwhile."""
        inner = WatchedStore(await holding(PlainStore(), call()))
        store = ValidatingStore[Any](inner)

        await self.at_the_gate(
            inner,
            "save_item",
            store.save_item("thr_1", answered(), None),
            store.delete_thread_item("thr_1", "tc_1", None),
        )

        assert [] == await items_of(store)

    async def test_a_deleted_thread_stays_deleted(self) -> None:
        """An answer on its way into the store does not bring back the items of a thread that is deleted meanwhile."""
        inner = WatchedStore(await holding(PlainStore(), call()))
        store = ValidatingStore[Any](inner)

        await self.at_the_gate(
            inner, "save_item", store.save_item("thr_1", answered(), None), store.delete_thread("thr_1", None)
        )

        assert [] == await items_of(store)

    async def test_other_threads_do_not_wait(self) -> None:
        """The lock is the thread's: a slow write to one holds nobody else up, and nothing is left of it."""
        inner = WatchedStore(await holding(PlainStore()))
        store = ValidatingStore[Any](inner)
        gate = inner.gate("add_thread_item")

        slow = asyncio.create_task(store.add_thread_item("thr_1", call("tc_1"), None))
        await gate.reached.wait()
        await store.add_thread_item("thr_2", call("tc_2"), None)
        before = await items_of(store, "thr_1"), await items_of(store, "thr_2")
        gate.open.set()
        await slow
        del slow

        assert ([], [call("tc_2")]) == before
        assert [call("tc_1")] == await items_of(store, "thr_1")
        assert [{}] == [dict(locks) for locks in store._locks._by_loop.values()]


class TestAroundOurOwnStores:
    @pytest.mark.parametrize("mode", ["strict", "observe"])
    async def test_a_store_that_keeps_the_lifecycle_itself_is_not_asked_first(
        self, mode: Literal["strict", "observe"]
    ) -> None:
        """Around a MemoryStore a strict one reads nothing before it writes; one that observes has to see for itself."""
        inner = MemoryStore[Any]()
        store = ValidatingStore(inner, mode=mode)
        await store.save_thread(thread(), None)
        reads = Reads(inner)

        await store.add_thread_item("thr_1", call(), None)

        assert {"strict": 0, "observe": 2}[mode] == reads.count

    async def test_a_store_that_is_derived_from_one_is_asked(self) -> None:
        """What derives from a MemoryStore may do anything: there the lifecycle is checked."""

        class Derived(MemoryStore[Any]):
            pass

        inner = Derived()
        store = ValidatingStore(inner)
        await store.save_thread(thread(), None)
        reads = Reads(inner)

        await store.add_thread_item("thr_1", call(), None)

        assert 2 == reads.count

    async def test_its_own_rules_hold(self) -> None:
        """A second pending call, and a second answer, are refused and change nothing around a MemoryStore too."""
        inner = MemoryStore[Any]()
        store = ValidatingStore(inner)
        await store.save_thread(thread(), None)
        await store.add_thread_item("thr_1", call(), None)

        with pytest.raises(LifecycleViolationError):
            await store.add_thread_item("thr_1", call("tc_2"), None)
        await store.save_item("thr_1", answered(), None)
        with pytest.raises(LifecycleViolationError):
            await store.save_item("thr_1", answered(output="another"), None)

        assert answered() == (await inner.load_thread_items("thr_1", None, 5, "asc", None)).data[0]
        assert 1 == len((await inner.load_thread_items("thr_1", None, 5, "asc", None)).data)


class Reads:
    """Counts what is read of a store's items."""

    def __init__(self, store: Store[Any]) -> None:
        self.count = 0
        for name in ("load_item", "load_thread_items"):
            setattr(store, name, self._counting(getattr(store, name)))

    def _counting(self, method: Any) -> Any:
        def counting(*args: Any, **options: Any) -> Any:
            self.count += 1
            return method(*args, **options)

        return counting


class TestPlans:
    async def test_a_store_with_plans_of_its_own_keeps_them(self) -> None:
        """The methods of such a store are reached through the wrapper, compare-and-set and all."""
        inner = PlansStore()
        plans = plans_of(ValidatingStore[Any](inner))
        assert plans

        saved = [
            await plans.save_plan("thr_1", StoredPlan(n, "{}"), expected, None) for n, expected in [(1, 0), (2, 0)]
        ]

        assert [True, False] == saved
        assert StoredPlan(1, "{}") == await plans.load_plan("thr_1", None)
        assert {"thr_1": StoredPlan(1, "{}")} == inner.plans

    def test_a_store_without_plans_has_none(self) -> None:
        """The wrapper offers plans exactly when what it wraps does."""
        assert plans_of(ValidatingStore[Any](PlainStore())) is None

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_metadata_are_nothing_special(self, make: Callable[[], Store[Any]]) -> None:
        """A thread is saved as it comes, without a look at the one before, whatever its metadata hold."""
        inner = WatchedStore(make())
        store = ValidatingStore[Any](inner)
        await store.save_thread(thread(metadata={"chatkit_clienttools": {"revision": 2}}), None)

        await store.save_thread(thread(metadata={"theirs": 1}), None)

        assert {"save_thread": 2} == inner.counts
        assert {"theirs": 1} == (await store.load_thread("thr_1", None)).metadata


class TestAbsence:
    """Stores report in their own way that they do not have an item."""

    @staticmethod
    def reporting(error: Exception | None) -> Store[Any]:
        class Theirs(PlainStore):
            async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
                found = self.items.get(thread_id, {}).get(item_id)
                if found is None and error is not None:
                    raise error
                return found

        return Theirs()

    @pytest.mark.parametrize("error", [ValueError(), KeyError("tc_1"), LookupError(), None], ids=repr)
    async def test_a_new_item_is_new(self, error: Exception | None) -> None:
        """Whatever the store raises, or None, for an item that it does not have: the item can be added."""
        store = ValidatingStore[Any](self.reporting(error))

        for item in (call(), answered(), note()):
            await store.save_item("thr_1", item, None)

        assert [answered(), note()] == await items_of(store)

    @pytest.mark.parametrize("error", [ValueError(), KeyError("tc_1"), LookupError(), None], ids=repr)
    async def test_the_rule_holds_all_the_same(self, error: Exception | None) -> None:
        """A call that is stored as completed at once is refused there, too."""
        store = ValidatingStore[Any](self.reporting(error))

        with pytest.raises(LifecycleViolationError, match="no item -> completed"):
            await store.add_thread_item("thr_1", answered(), None)

    async def test_what_the_store_says_goes_through(self) -> None:
        """Who loads what does not exist gets what the inner store says: its own error, or None."""
        with pytest.raises(LookupError):
            await ValidatingStore[Any](self.reporting(LookupError())).load_item("thr_1", "tc_1", None)

        assert await ValidatingStore[Any](self.reporting(None)).load_item("thr_1", "tc_1", None) is None


threads = st.sampled_from(["thr_1", "thr_2"])
numbers = st.integers(min_value=0, max_value=3)
limits = st.integers(min_value=1, max_value=4)
orders = st.sampled_from(["asc", "desc"])
titles = st.none() | st.text(max_size=3)


class TransparencyMachine(RuleBasedStateMachine):
    """As long as everybody keeps the rules a ValidatingStore returns exactly what the bare store does."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.inner = PlainStore(), PlainStore()
        self.guarded = ValidatingStore[Any](self.inner)
        self.calls: dict[str, list[ClientToolCallItem]] = {"thr_1": [], "thr_2": []}
        self.released = 0

    def both(self, method: str, *args: Any) -> None:
        async def outcome(store: Store[Any]) -> Any:
            try:
                return await getattr(store, method)(*copy.deepcopy(args), context=None)
            except NotFoundError as error:
                return "not found", error.args

        async def outcomes() -> list[Any]:
            return [await outcome(store) for store in (self.bare, self.guarded)]

        expected, actual = asyncio.run(outcomes())
        assert expected == actual
        assert type(expected) is type(actual)

    @rule(thread_id=threads, title=titles, metadata=st.dictionaries(st.text(max_size=2), numbers, max_size=2))
    def save_thread(self, thread_id: str, title: str | None, metadata: dict[str, Any]) -> None:
        self.both("save_thread", thread(thread_id, title=title, metadata=metadata))

    @rule(thread_id=threads)
    def load_thread(self, thread_id: str) -> None:
        self.both("load_thread", thread_id)

    @rule(limit=limits, after=st.none() | threads, order=orders)
    def load_threads(self, limit: int, after: str | None, order: str) -> None:
        self.both("load_threads", limit, after, order)

    @rule(thread_id=threads)
    def delete_thread(self, thread_id: str) -> None:
        self.both("delete_thread", thread_id)
        self.calls[thread_id] = []

    @rule(thread_id=threads, write=st.sampled_from(WRITES), n=numbers, content=st.text(max_size=3))
    def write_another_item(self, thread_id: str, write: str, n: int, content: str) -> None:
        self.both(write, thread_id, note(f"note_{n}", content))

    @rule(thread_id=threads, write=st.sampled_from(WRITES), output=st.none() | st.text(max_size=3))
    def release_or_answer(self, thread_id: str, write: str, output: Any) -> None:
        calls = self.calls[thread_id]
        if calls and calls[-1].status == "pending":
            calls[-1] = answered(calls[-1].id, output)
        else:
            self.released += 1
            calls.append(call(f"tc_{self.released}"))
        self.both(write, thread_id, calls[-1])

    @rule(thread_id=threads, write=st.sampled_from(WRITES))
    def write_calls_again(self, thread_id: str, write: str) -> None:
        for item in self.calls[thread_id][-3:]:
            self.both(write, thread_id, item)

    @rule(thread_id=threads, data=st.data())
    def delete_item(self, thread_id: str, data: st.DataObject) -> None:
        one = self.some_item(thread_id, data)
        self.both("delete_thread_item", thread_id, one)
        self.calls[thread_id] = [item for item in self.calls[thread_id] if item.id != one]

    @rule(thread_id=threads, data=st.data())
    def load_item(self, thread_id: str, data: st.DataObject) -> None:
        self.both("load_item", thread_id, self.some_item(thread_id, data))

    @rule(thread_id=threads, data=st.data(), limit=limits, order=orders, from_start=st.booleans())
    def load_items(self, thread_id: str, data: st.DataObject, limit: int, order: str, from_start: bool) -> None:
        after = None if from_start else self.some_item(thread_id, data)
        self.both("load_thread_items", thread_id, after, limit, order)

    @rule(name=st.text(max_size=3))
    def save_attachment(self, name: str) -> None:
        self.both("save_attachment", attachment(name))

    @rule(method=st.sampled_from(["load_attachment", "delete_attachment"]))
    def use_attachment(self, method: str) -> None:
        self.both(method, "atc_1")

    def some_item(self, thread_id: str, data: st.DataObject) -> str:
        known = [item.id for item in self.calls[thread_id]]
        return data.draw(st.sampled_from([*known, "note_0", "note_1", "unknown"]))

    @invariant()
    def both_hold_the_same(self) -> None:
        assert list(self.bare.threads.items()) == list(self.inner.threads.items())
        assert self.bare.attachments == self.inner.attachments
        assert [(thread_id, list(items.items())) for thread_id, items in self.bare.items.items()] == [
            (thread_id, list(items.items())) for thread_id, items in self.inner.items.items()
        ]


TestTransparency = TransparencyMachine.TestCase
TestTransparency.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)


def test_a_class_is_no_store() -> None:
    """The usual slip, a class in the place of its object, is said where it is made."""
    with pytest.raises(UsageError, match=r"^ValidatingStore wraps a store, and PlainStore is a class: Plain"):
        ValidatingStore(PlainStore)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Lookalike:
    """Has the methods of a store, and does not say that it is one."""

    def __getattr__(self, name: str) -> Any:
        if name not in Store.__abstractmethods__:
            raise AttributeError(name)
        return getattr(PlainStore(), name)


@pytest.mark.parametrize("wrap", [StoreWrapper, ValidatingStore])
def test_nothing_is_no_store(wrap: Callable[[Any], Any]) -> None:
    """What has none of the methods is refused where it is handed over, with the names of all of them."""
    with pytest.raises(UsageError) as raised:
        wrap(None)

    names = ", ".join(sorted(Store.__abstractmethods__))
    assert f"{wrap.__name__} wraps a store, and NoneType has no {names}" == str(raised.value)


@pytest.mark.parametrize("name", sorted(Store.__abstractmethods__))
@pytest.mark.parametrize("instead", [None, "a column of that name"])
def test_a_method_is_missing(name: str, instead: str | None) -> None:
    """One method that cannot be called is enough to be refused, and is the one that is named."""
    almost = Lookalike()
    setattr(almost, name, instead)

    with pytest.raises(UsageError, match=rf"^ValidatingStore wraps a store, and Lookalike has no {name}$"):
        ValidatingStore(almost)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_two_methods_are_missing() -> None:
    """Several are named in the order of the alphabet, whatever else is there."""

    class Half(Lookalike):
        save_thread = load_item = None

    with pytest.raises(UsageError, match=r"and Half has no load_item, save_thread$"):
        StoreWrapper(Half())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("wrap", [StoreWrapper, ValidatingStore])
def test_what_has_the_methods_is_a_store(wrap: Callable[[Any], Any]) -> None:
    """Whatever it derives from: an object with the methods is wrapped."""
    inner = Lookalike()

    assert wrap(inner).inner is inner
