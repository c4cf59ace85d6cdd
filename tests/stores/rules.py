"""What every store of this package does: the rules, as tests of a fixture `store` that tells owners apart."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import Any, get_args

import chatkit.types
import pytest
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ImageAttachment,
    Page,
    Thread,
    ThreadItem,
    UserMessageItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import Card, Text
from pydantic import TypeAdapter

from chatkit_clienttools import ClientToolSequencer, ValidatingStore
from chatkit_clienttools._step.plans import StoredPlan, plans_of
from chatkit_clienttools.errors import (
    LifecycleViolationError,
    StoreUnavailableError,
    ThreadExistsError,
    UsageError,
)
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import THREE, TOOLS, animation, anything, profiles, selection
from tests.helpers.scripted import Scripted, asks, says
from tests.stores.values import (
    ADA,
    BOB,
    KNOWS_ATTACHED,
    User,
    answered,
    attachment,
    by_user,
    call,
    filled,
    item_ids,
    note,
    thread,
    thread_ids,
)

FORGED = "thr_\n\x1b[31mERROR forged"
"""An id that would add a red line of its own to the log."""

SHOWN = r"thr_\\n\\x1b\[31mERROR forged"
"""How a message shows it, as a regular expression."""

NASTY = ["a\0b", "\ud83d alone", "🧑‍🚀 Ω ж 漢", "'; DROP TABLE x; --", "\\u0000 %s :name ?", "\r\n\t\x1f\x7f"]


def one_of_each_kind() -> list[ThreadItem]:
    """An item of each member of ChatKit's union, whatever members it has."""
    special: dict[str, Any] = {
        "user_message": {
            "content": [{"type": "input_text", "text": "hi"}],
            "attachments": [attachment("a1", "thr").model_dump()],
            "inference_options": {"model": "m", "tool_choice": {"id": "t"}},
        },
        "assistant_message": {"content": [{"text": "hello", "annotations": []}]},
        "client_tool_call": {"call_id": "c", "name": "n", "arguments": {"deep": [{"x": None}]}},
        "widget": {"widget": Card(children=[Text(value="hi", streaming=True)], size="sm").model_dump()},
        "structured_input": {
            "inputs": [
                {"type": "multiple_choice", "id": "q", "question": "?", "options": [{"value": "o", "label": "L"}]}
            ]
        },
        "workflow": {"workflow": {"type": "custom", "tasks": [{"type": "custom", "title": "t"}]}},
        "task": {"task": {"type": "custom", "title": "t"}},
        "hidden_context_item": {"content": {"any": 1}},
        "sdk_hidden_context": {"content": "x"},
    }
    adapter: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
    union = get_args(get_args(ThreadItem)[0])
    items = []
    for member in union:
        kind = member.model_fields["type"].default
        fields = {"type": kind, "id": f"i_{kind}", "thread_id": "thr", "created_at": at(1), **special.get(kind, {})}
        items.append(adapter.validate_python(fields))
    return items


async def walk(store: Any, order: str, limit: int, context: Any = ADA) -> list[str]:
    """Page through the items of the thread."""
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await store.load_thread_items("thr", after, limit, order, context)
        seen += [item.id for item in page.data]
        if not page.has_more:
            return seen
        after = page.after


class ThreadRules:
    async def test_a_thread_comes_back_as_it_was_saved(self, store: Any) -> None:
        """All of a thread is kept: title, status, time, metadata."""
        saved = thread("t1", "Title", plan={"x": [1, None]})
        saved.status = chatkit.types.LockedStatus(reason="why")
        if "allowed_image_domains" in type(saved).model_fields:  # newer ChatKits have it
            saved.allowed_image_domains = ["a.example"]
        await store.save_thread(saved, ADA)

        assert saved == await store.load_thread("t1", ADA)

    async def test_a_thread_with_items_is_saved_without_them(self, store: Any) -> None:
        """ChatKit saves a `Thread` where it says `ThreadMetadata`: what is loaded has no items."""
        await store.save_thread(Thread(**thread().model_dump(), items=Page(data=[note("i1")])), ADA)

        assert thread() == await store.load_thread("thr", ADA)
        assert [] == await item_ids(store)

    async def test_a_thread_that_is_saved_again_keeps_its_place(self, store: Any) -> None:
        """A rename does not move a thread."""
        for name in ("t1", "t2", "t3"):
            await store.save_thread(thread(name), ADA)
        await store.save_thread(thread("t1", "renamed"), ADA)

        assert ["t1", "t2", "t3"] == await thread_ids(store)
        assert ["t3", "t2", "t1"] == await thread_ids(store, order="desc")
        assert "renamed" == (await store.load_thread("t1", ADA)).title

    async def test_threads_page_in_both_directions(self, store: Any) -> None:
        """A page says whether there are more threads, and where to go on."""
        for n in range(5):
            await store.save_thread(thread(f"t{n}"), ADA)

        first = await store.load_threads(2, None, "desc", ADA)
        second = await store.load_threads(2, first.after, "desc", ADA)
        third = await store.load_threads(2, second.after, "desc", ADA)

        assert (["t4", "t3"], True, "t3") == ([t.id for t in first.data], first.has_more, first.after)
        assert (["t2", "t1"], True, "t1") == ([t.id for t in second.data], second.has_more, second.after)
        assert (["t0"], False, None) == ([t.id for t in third.data], third.has_more, third.after)
        assert ["t3", "t4"] == [t.id for t in (await store.load_threads(9, "t2", "asc", ADA)).data]

    async def test_an_unknown_thread_is_not_found(self, store: Any) -> None:
        """Neither the thread nor anything in it: also where an item is to be added."""
        for attempt in (
            store.load_thread("no", ADA),
            store.load_thread_items("no", None, 1, "desc", ADA),
            store.load_thread_items("no", "i", 1, "desc", ADA),
            store.load_item("no", "i", ADA),
            store.add_thread_item("no", note("i"), ADA),
            store.save_item("no", note("i"), ADA),
            store.load_threads(1, "no", "desc", ADA),
            store.save_plan("no", StoredPlan(1, "{}"), 0, ADA),
            store.save_plan("no", StoredPlan(2, "{}"), 1, ADA),
        ):
            with pytest.raises(NotFoundError, match=r"'(no|i)' not found"):
                await attempt
        assert await store.load_plan("no", ADA) is None

    async def test_deleting_what_is_not_there_changes_nothing(self, store: Any) -> None:
        """A repeated delete is no error, and neither is one of an item that was streamed but never stored."""
        await filled(store, note("i1"))

        await store.delete_thread("no", ADA)
        await store.delete_thread_item("no", "i1", ADA)
        await store.delete_thread_item("thr", "no", ADA)
        await store.delete_attachment("no", ADA)

        assert ["i1"] == await item_ids(store)

    async def test_a_deleted_thread_takes_everything_with_it(self, store: Any) -> None:
        """Items, plan and attachments go with their thread, and do not come back with a new one of that id."""
        await filled(store, note("i1"), call())
        await store.save_plan("thr", StoredPlan(1, "{}"), 0, ADA)
        await store.save_attachment(attachment("mine", "thr"), ADA)
        await store.save_attachment(attachment("free"), ADA)

        await store.delete_thread("thr", ADA)

        with pytest.raises(NotFoundError):
            await store.load_thread("thr", ADA)
        await filled(store)
        assert ([], None) == (await item_ids(store), await store.load_plan("thr", ADA))
        if KNOWS_ATTACHED:
            with pytest.raises(NotFoundError):
                await store.load_attachment("mine", ADA)
        assert "free" == (await store.load_attachment("free", ADA)).id

    async def test_ids_have_128_random_bits(self, store: Any) -> None:
        """Ids keep ChatKit's prefixes and have 32 random hexadecimal digits after them, instead of 8."""
        for prefix, generated in (
            ("thr", store.generate_thread_id(ADA)),
            ("msg", store.generate_item_id("message", thread(), ADA)),
            ("tc", store.generate_item_id("tool_call", thread(), ADA)),
        ):
            assert re.fullmatch(rf"{prefix}_[0-9a-f]{{32}}", generated)
        many = [store.generate_thread_id(ADA) for _ in range(500)]
        assert 32 * [16] == [len(set(digits)) for digits in list(zip(*many, strict=True))[4:]]

    async def test_a_thread_under_the_id_of_another_one(self, store: Any) -> None:
        """A thread that was created at another time is another thread: it is refused, and nothing is merged."""
        await filled(store, note("i1"))
        other = thread(title="somebody else's")
        for created_at in (at(1), at(0).replace(microsecond=1)):
            other.created_at = created_at
            with pytest.raises(ThreadExistsError, match=r"Thread thr is stored already, .*generate_thread_id"):
                await store.save_thread(other, ADA)

        assert thread() == await store.load_thread("thr", ADA)
        assert ["thr"] == await thread_ids(store)

    @pytest.mark.parametrize(
        ("stored", "saved"),
        [
            ("2026-01-01T12:00:00.000001", "2026-01-01T12:00:00.000001"),
            ("2026-01-01T12:00:00Z", "2026-01-01T13:00:00+01:00"),
            ("2026-01-01T12:00:00", "2026-01-01T11:00:00Z"),
            ("2026-01-01T12:00:00Z", "2026-01-01T11:00:00"),
        ],
        ids=["same", "other zone", "naive then aware", "aware then naive"],
    )
    async def test_a_thread_whose_time_is_told_otherwise(self, store: Any, stored: str, saved: str) -> None:
        """One moment in two time zones is one thread; so is a naive and an aware time, which cannot be compared."""
        for title, created_at in (("before", stored), ("after", saved)):
            again = thread(title=title)
            again.created_at = datetime.fromisoformat(created_at.replace("Z", "+00:00"))
            await store.save_thread(again, ADA)

        assert "after" == (await store.load_thread("thr", ADA)).title

    async def test_of_two_threads_created_under_one_id_one_is_stored(self, store: Any) -> None:
        """Of threads that are created under one id at the same moment the first wins; the others are told."""
        threads = [thread("same", str(n)) for n in range(8)]
        for n, each in enumerate(threads):
            each.created_at = at(n)

        results = await asyncio.gather(*[store.save_thread(each, ADA) for each in threads], return_exceptions=True)

        assert 1 == results.count(None)
        assert 7 == sum(isinstance(result, ThreadExistsError) for result in results)
        assert str(results.index(None)) == (await store.load_thread("same", ADA)).title


class ItemRules:
    async def test_every_kind_of_item_comes_back_as_it_was(self, store: Any) -> None:
        """Each member of ChatKit's union of items is kept whole."""
        items = one_of_each_kind()
        await filled(store, *items)

        assert items == (await store.load_thread_items("thr", None, 100, "asc", ADA)).data
        assert items == [await store.load_item("thr", item.id, ADA) for item in items]

    @pytest.mark.parametrize("text", NASTY)
    async def test_any_text_is_kept(self, store: Any, text: str) -> None:
        """NUL, half of a surrogate pair, emojis and SQL are text like any other."""
        await store.save_thread(thread("thr", text, key=text), ADA)
        await store.add_thread_item("thr", note("i1", text), ADA)
        await store.add_thread_item("thr", call("i2", arguments={"key": [text]}), ADA)

        assert thread("thr", text, key=text) == await store.load_thread("thr", ADA)
        assert text == (await store.load_item("thr", "i1", ADA)).content
        assert {"key": [text]} == (await store.load_item("thr", "i2", ADA)).arguments

    async def test_a_large_item_is_kept(self, store: Any) -> None:
        """An item of a megabyte is an item."""
        await filled(store, note("i1", "Ω" * 1_000_000))

        assert 1_000_000 == len((await store.load_item("thr", "i1", ADA)).content)

    async def test_what_is_not_json_is_refused(self, store: Any) -> None:
        """An output that no JSON can hold is a clear error, without its contents, and nothing is written."""
        await filled(store, call())
        circle: list[Any] = []
        circle.append(circle)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]

        for output in (object(), circle, {"secret": object()}, {"\ud83d": 1}, 10**5000, deep):
            with pytest.raises(UsageError, match="Item 'tc' cannot be stored: it is not JSON") as refused:
                await store.save_item("thr", answered(call(), output), ADA)
            assert "secret" not in str(refused.value)

        while deep:  # or taking it apart would need as deep a stack as it has lists
            deep = deep.pop()
        assert "pending" == (await store.load_item("thr", "tc", ADA)).status

    async def test_a_field_of_another_type_is_kept_if_it_can_be_read(self, store: Any) -> None:
        """What ChatKit's type would not say, but takes for the same, is stored; anything else is refused."""
        item = note("i1")
        item.created_at = "2026-01-01T12:00:00"  # type: ignore[assignment]
        await filled(store, item)
        wrong = AssistantMessageItem(
            id="i2", thread_id="thr", created_at=at(0), content=[AssistantMessageContent(text="x")]
        )
        wrong.content[0].text = {"not": "text"}  # type: ignore[assignment]

        with pytest.raises(UsageError, match=r"Item 'i2' cannot be stored.*content\.0\.text: Input should be"):
            await store.add_thread_item("thr", wrong, ADA)

        assert [at(0)] == [i.created_at for i in (await store.load_thread_items("thr", None, 9, "asc", ADA)).data]

    async def test_the_order_is_that_of_insertion(self, store: Any) -> None:
        """Neither a clock nor an id decides; an upsert keeps the place, and what is deleted and added again is new."""
        await filled(store, note("c"), note("a"), note("b"))
        await store.save_item("thr", note("c", "changed"), ADA)
        await store.add_thread_item("thr", note("a", "changed"), ADA)

        assert ["c", "a", "b"] == await item_ids(store)
        assert ["b", "a", "c"] == await item_ids(store, order="desc")
        await store.delete_thread_item("thr", "c", ADA)
        await store.add_thread_item("thr", note("c"), ADA)
        assert ["a", "b", "c"] == await item_ids(store)

    async def test_save_item_inserts_what_is_new(self, store: Any) -> None:
        """ChatKit calls `save_item` an upsert, and it is one."""
        await filled(store)
        await store.save_item("thr", note("i1"), ADA)

        assert ["i1"] == await item_ids(store)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_pages_neither_skip_nor_repeat(self, store: Any, order: str) -> None:
        """Whatever is added and deleted while somebody pages, what was there and stays is shown once."""
        await filled(store, *[note(f"i{n}") for n in range(10)])
        stays = [f"i{n}" for n in range(10) if n not in {1, 5, 8}]

        page = await store.load_thread_items("thr", None, 3, order, ADA)
        seen = [item.id for item in page.data]
        for n in (1, 5, 8):
            await store.delete_thread_item("thr", f"i{n}", ADA)
        while page.has_more:
            page = await store.load_thread_items("thr", page.after, 3, order, ADA)
            seen += [item.id for item in page.data]
            if len(seen) < 8:
                await store.add_thread_item("thr", note(f"new{len(seen)}"), ADA)

        assert len(seen) == len(set(seen))
        assert stays == sorted(i for i in seen if i in stays)
        assert "i5" not in seen

    @pytest.mark.parametrize("limit", [1, 2, 5, 6])
    async def test_walking_shows_everything_once(self, store: Any, limit: int) -> None:
        """Pages of any size, in both directions, add up to the thread."""
        names = [f"i{n}" for n in range(5)]
        await filled(store, *map(note, names))

        assert names == await walk(store, "asc", limit)
        assert names[::-1] == await walk(store, "desc", limit)

    async def test_an_unknown_cursor_is_not_found(self, store: Any) -> None:
        """A cursor that is not, or no longer, in the thread does not start over: that would repeat items for ever."""
        await filled(store, note("i1"), note("i2"))
        await store.save_thread(thread("other"), ADA)
        await store.add_thread_item("other", note("elsewhere"), ADA)
        await store.delete_thread_item("thr", "i1", ADA)

        for cursor in ("no", "i1", "elsewhere", "a\0b"):
            with pytest.raises(NotFoundError):
                await store.load_thread_items("thr", cursor, 9, "asc", ADA)
        with pytest.raises(NotFoundError):
            await store.load_threads(9, "a\0b", "asc", ADA)

    async def test_limits_and_orders_that_make_no_sense(self, store: Any) -> None:
        """A limit below one shows nothing and ends the paging, a huge one shows all; another order is refused."""
        await filled(store, note("i1"), note("i2"))

        for limit in (0, -1, -(10**30)):
            page = await store.load_thread_items("thr", None, limit, "asc", ADA)
            assert ([], False, None) == (page.data, page.has_more, page.after)
        assert 2 == len((await store.load_thread_items("thr", None, 10**30, "asc", ADA)).data)
        for attempt in (
            store.load_thread_items("thr", None, 9, "newest", ADA),
            store.load_threads(9, None, "newest", ADA),
        ):
            with pytest.raises(UsageError, match="order must be 'asc' or 'desc', not 'newest'"):
                await attempt

    async def test_nothing_is_shared(self, store: Any) -> None:
        """What is done with an object after it was handed in, or out, does not change the store."""
        item, saved, file = call(), thread(key=[1]), attachment()
        await store.save_thread(saved, ADA)
        await store.add_thread_item("thr", item, ADA)
        await store.save_attachment(file, ADA)

        item.arguments["n"] = saved.metadata["key"][0] = file.name = "changed"
        (await store.load_item("thr", "tc", ADA)).status = "completed"
        (await store.load_thread_items("thr", None, 9, "asc", ADA)).data[0].arguments.clear()
        (await store.load_thread("thr", ADA)).metadata.clear()
        (await store.load_threads(9, None, "asc", ADA)).data[0].metadata.clear()
        (await store.load_attachment("atc", ADA)).name = "changed"

        assert call() == await store.load_item("thr", "tc", ADA)
        assert thread(key=[1]) == await store.load_thread("thr", ADA)
        assert attachment() == await store.load_attachment("atc", ADA)

    async def test_ids_that_no_database_holds(self, store: Any) -> None:
        """An id with NUL, without UTF-8, empty or too long is not found, deletes nothing, and is refused when new."""
        await filled(store)
        for bad in ("a\0b", "\ud83d", "", "x" * 256):
            for attempt in (
                store.load_thread(bad, ADA),
                store.load_item("thr", bad, ADA),
                store.load_item(bad, "i", ADA),
                store.load_attachment(bad, ADA),
                store.add_thread_item(bad, note("i"), ADA),
            ):
                with pytest.raises(NotFoundError):
                    await attempt
            for attempt in (
                store.save_thread(thread(bad), ADA),
                store.add_thread_item("thr", note(bad), ADA),
                store.save_attachment(attachment(bad), ADA),
            ):
                with pytest.raises(UsageError, match="an id has 1 to 255 bytes in UTF-8 and no NUL"):
                    await attempt
            await store.delete_thread(bad, ADA)
            await store.delete_thread_item("thr", bad, ADA)
            await store.delete_attachment(bad, ADA)
        assert ["thr"] == await thread_ids(store)


class CallRules:
    async def test_a_call_is_answered_once(self, store: Any) -> None:
        """A completed call never changes: the same answer again changes nothing, another one is refused."""
        await filled(store, call())
        await store.save_item("thr", answered(call(), {"x": (1, 2)}), ADA)
        await store.save_item("thr", answered(call(), {"x": (1, 2)}), ADA)

        for change in (answered(call(), "other"), call()):
            with pytest.raises(LifecycleViolationError, match=r"Thread thr, client tool call call_tc .*completed ->"):
                await store.save_item("thr", change, ADA)

        assert {"x": [1, 2]} == (await store.load_item("thr", "tc", ADA)).output

    async def test_an_identical_pending_call_is_the_same_call(self, store: Any) -> None:
        """A call that is released again keeps its place and its time."""
        await filled(store, call(), note("i1"))
        again = call()
        again.created_at = at(30)
        await store.add_thread_item("thr", again, ADA)

        assert ["tc", "i1"] == await item_ids(store)
        assert at(0) == (await store.load_item("thr", "tc", ADA)).created_at

    async def test_one_call_is_pending_per_thread(self, store: Any) -> None:
        """A second pending call is refused with the name of the first; another thread has a call of its own."""
        await filled(store, note("i1"), call())
        await store.save_thread(thread("other"), ADA)
        await store.add_thread_item("other", call(), ADA)

        with pytest.raises(LifecycleViolationError, match=r"Call call_tc \(item tc\) is still pending.*enqueue") as no:
            await store.add_thread_item("thr", call("tc2"), ADA)

        assert ("thr", "tc2", "call_tc2") == (no.value.thread_id, no.value.item_id, no.value.call_id)
        assert ["i1", "tc"] == await item_ids(store)
        await store.save_item("thr", answered(call()), ADA)
        await store.add_thread_item("thr", call("tc2"), ADA)
        assert ["i1", "tc", "tc2"] == await item_ids(store)

    async def test_what_was_asked_for_never_changes(self, store: Any) -> None:
        """Name, call id and arguments of a call are fixed, and its id is its own."""
        await filled(store, call(), note("i1"))

        for change in (call(name="other"), call(call_id="other"), answered(call(arguments={})), note("tc"), call("i1")):
            with pytest.raises(LifecycleViolationError):
                await store.save_item("thr", change, ADA)

        assert [call(), note("i1")] == (await store.load_thread_items("thr", None, 9, "asc", ADA)).data

    @pytest.mark.parametrize("write", ["add_thread_item", "save_item"])
    async def test_a_call_is_not_stored_as_completed(self, store: Any, write: str) -> None:
        """A call that is completed where no call is stored is refused, and the error says how to import one."""
        await filled(store)

        with pytest.raises(LifecycleViolationError, match=r"no item -> completed .*add the call as pending, then save"):
            await getattr(store, write)("thr", answered(call()), ADA)

        assert [] == await item_ids(store)

    async def test_a_late_answer_to_a_deleted_call(self, store: Any) -> None:
        """A write that comes after its call was deleted is refused: a completed call never comes back."""
        await filled(store, call())
        await store.delete_thread_item("thr", "tc", ADA)

        with pytest.raises(LifecycleViolationError, match="no item -> completed"):
            await store.save_item("thr", answered(call()), ADA)

        assert [] == await item_ids(store)

    async def test_a_completed_call_is_imported_in_two_steps(self, store: Any) -> None:
        """An old conversation is imported call by call: first pending, then completed."""
        await filled(store)
        for name in ("tc", "tc2"):
            await store.add_thread_item("thr", call(name), ADA)
            await store.save_item("thr", answered(call(name)), ADA)

        items = (await store.load_thread_items("thr", None, 9, "asc", ADA)).data
        assert [answered(call()), answered(call("tc2"))] == items

    async def test_a_call_that_is_pending_far_back(self, store: Any) -> None:
        """A second pending call is refused however many items the thread has after the first."""
        await filled(store, call(), *[note(f"i{n}") for n in range(50)])

        with pytest.raises(LifecycleViolationError, match=r"Call call_tc \(item tc\) is still pending"):
            await store.add_thread_item("thr", call("tc2"), ADA)

    async def test_answers_at_the_same_moment(self, store: Any) -> None:
        """Of many different answers given at once one is stored; the others are told."""
        await filled(store, call())

        results = await asyncio.gather(
            *[store.save_item("thr", answered(call(), n), ADA) for n in range(8)], return_exceptions=True
        )

        assert 1 == results.count(None)
        assert 7 == sum(isinstance(result, LifecycleViolationError) for result in results)
        assert results.index(None) == (await store.load_item("thr", "tc", ADA)).output

    async def test_calls_added_at_the_same_moment(self, store: Any) -> None:
        """Of many calls released at once one is stored."""
        await filled(store)

        results = await asyncio.gather(
            *[store.add_thread_item("thr", call(f"tc{n}"), ADA) for n in range(8)], return_exceptions=True
        )

        assert 1 == results.count(None)
        assert [f"tc{results.index(None)}"] == await item_ids(store)

    async def test_writes_at_the_same_moment_are_all_kept(self, store: Any) -> None:
        """Items and threads that are added at once are all there, each once."""
        await filled(store)
        names = [f"i{n}" for n in range(20)]
        await asyncio.gather(
            *[store.add_thread_item("thr", note(name), ADA) for name in names],
            *[store.save_thread(thread(name), ADA) for name in names],
            *[store.save_thread(thread("same"), ADA) for _ in names],
        )

        assert sorted(names) == sorted(await item_ids(store))
        assert sorted(["thr", "same", *names]) == sorted(await thread_ids(store))


class MessageRules:
    async def test_an_id_cannot_forge_a_line_of_the_log(self, store: Any) -> None:
        """Line breaks and terminal escapes in an id are escaped in every message that quotes it."""
        await store.save_thread(thread(FORGED), ADA)
        await store.add_thread_item(FORGED, call(FORGED, thread_id=FORGED), ADA)

        for attempt in (
            store.load_thread(f"no {FORGED}", ADA),
            store.load_threads(9, FORGED[1:], "asc", ADA),
            store.load_item(FORGED, f"no {FORGED}", ADA),
            store.load_thread_items(FORGED, None, 9, FORGED, ADA),
            store.load_attachment(FORGED, ADA),
            store.save_item(FORGED, answered(call(FORGED, name="other")), ADA),
            store.add_thread_item(FORGED, call("tc2"), ADA),
            store.save_thread(thread(f"{FORGED}\0"), ADA),
            store.add_thread_item(FORGED, note(FORGED, object()), ADA),  # type: ignore[arg-type]
        ):
            with pytest.raises((NotFoundError, LifecycleViolationError, UsageError), match=SHOWN[4:]) as raised:
                await attempt
            assert str(raised.value).isprintable()

    async def test_an_id_cannot_forge_the_error_of_a_lock(self, hasty: Any) -> None:
        """The error of a lock that is not free in time shows a thread's id in one printable line."""
        async with hasty.thread_lock(FORGED):
            with pytest.raises(StoreUnavailableError, match=rf"lock thread {SHOWN} in") as raised:
                async with hasty.thread_lock(FORGED):
                    pytest.fail("nobody gets here")
        assert str(raised.value).isprintable()


class OwnerRules:
    async def test_what_belongs_to_another_owner_does_not_exist(self, store: Any) -> None:
        """Another owner's thread, item, plan and attachment are not found, not listed and no cursor."""
        await filled(store, note("i1"))
        await store.save_plan("thr", StoredPlan(1, "{}"), 0, ADA)
        await store.save_attachment(attachment(), ADA)
        await store.save_thread(thread("own"), BOB)

        for attempt in (
            store.load_thread("thr", BOB),
            store.load_thread_items("thr", None, 9, "asc", BOB),
            store.load_thread_items("own", "i1", 9, "asc", BOB),
            store.load_threads(9, "thr", "asc", BOB),
            store.load_item("thr", "i1", BOB),
            store.load_attachment("atc", BOB),
            store.add_thread_item("thr", note("i2"), BOB),
            store.save_item("thr", note("i1", "stolen"), BOB),
            store.save_plan("thr", StoredPlan(2, "{}"), 1, BOB),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        assert (["own"], None) == (await thread_ids(store, BOB), await store.load_plan("thr", BOB))

    async def test_what_belongs_to_another_owner_cannot_be_deleted(self, store: Any) -> None:
        """Deleting another owner's thread, item or attachment deletes nothing."""
        await filled(store, note("i1"))
        await store.save_attachment(attachment("atc", "thr"), ADA)
        await store.save_plan("thr", StoredPlan(1, "{}"), 0, ADA)

        await store.delete_thread_item("thr", "i1", BOB)
        await store.delete_attachment("atc", BOB)
        await store.delete_thread("thr", BOB)

        assert (["thr"], ["i1"]) == (await thread_ids(store), await item_ids(store))
        assert ("atc", 1) == (
            (await store.load_attachment("atc", ADA)).id,
            (await store.load_plan("thr", ADA)).revision,
        )

    async def test_an_id_that_others_use_is_no_conflict(self, store: Any) -> None:
        """Two owners, and two threads of one owner, use the same ids, and a delete takes one's own only."""
        for user in (ADA, BOB):
            for name in ("thr", "other"):
                await store.save_thread(thread(name, f"{user.user_id} {name}"), user)
                await store.add_thread_item(name, note("i1", f"{user.user_id} {name}"), user)
                await store.add_thread_item(name, call("tc"), user)
            await store.save_attachment(attachment("atc", "thr", f"{user.user_id}.txt"), user)
            assert await store.save_plan("thr", StoredPlan(1, user.user_id), 0, user)

        await store.delete_thread("thr", BOB)

        assert "ada thr" == (await store.load_item("thr", "i1", ADA)).content
        assert "bob other" == (await store.load_item("other", "i1", BOB)).content
        assert "ada.txt" == (await store.load_attachment("atc", ADA)).name
        assert StoredPlan(1, "ada") == await store.load_plan("thr", ADA)
        assert ["other"] == await thread_ids(store, BOB)

    @pytest.mark.parametrize("nobody", [None, "", "a\0b", object(), b"ada"])
    async def test_a_context_without_an_owner_is_refused(self, store: Any, nobody: Any) -> None:
        """Nobody's rows are not everybody's: a context without a user is an error."""
        with pytest.raises(UsageError, match=r"owner\(context\) must return the user's id"):
            await store.load_threads(9, None, "asc", User(nobody))

    async def test_an_owner_may_be_a_number(self, store: Any) -> None:
        """A user id of the application's database is one."""
        await store.save_thread(thread(), User(7))

        assert ["thr"] == await thread_ids(store, User(7))


class AttachmentRules:
    async def test_attachments_come_back_as_they_were(self, store: Any) -> None:
        """All of an attachment is kept, the application's own metadata too; saving it again changes it."""
        picture = ImageAttachment(
            id="img",
            name="p.png",
            mime_type="image/png",
            preview_url="https://example.com/p.png",  # type: ignore[arg-type]
            upload_descriptor={"url": "https://example.com/up", "method": "PUT"},  # type: ignore[arg-type]
        )
        await store.save_attachment(picture, ADA)
        await store.save_attachment(attachment(), ADA)
        await store.save_attachment(attachment(thread_id="thr", name="b.txt"), ADA)

        assert picture == await store.load_attachment("img", ADA)
        assert attachment(thread_id="thr", name="b.txt") == await store.load_attachment("atc", ADA)

    async def test_a_deleted_attachment_is_not_found(self, store: Any) -> None:
        """It is gone, and one that never was is as much so."""
        await store.save_attachment(attachment(), ADA)
        await store.delete_attachment("atc", ADA)

        for name in ("atc", "no"):
            with pytest.raises(NotFoundError):
                await store.load_attachment(name, ADA)


class PlanRules:
    async def test_a_plan_is_replaced_only_if_it_is_the_expected_one(self, store: Any) -> None:
        """Compare-and-set: a stale writer is told, and writes nothing."""
        await filled(store)
        assert await store.load_plan("thr", ADA) is None

        assert [True, False, False, True, False] == [
            await store.save_plan("thr", StoredPlan(1, "one"), 0, ADA),
            await store.save_plan("thr", StoredPlan(1, "late"), 0, ADA),
            await store.save_plan("thr", StoredPlan(9, "wrong"), 8, ADA),
            await store.save_plan("thr", StoredPlan(2, "two\ud83d"[:3]), 1, ADA),
            await store.save_plan("thr", StoredPlan(2, "late"), 1, ADA),
        ]
        assert StoredPlan(2, "two") == await store.load_plan("thr", ADA)

    @pytest.mark.parametrize("expected", [0, 1])
    async def test_one_of_many_writers_wins(self, store: Any, expected: int) -> None:
        """Of many who save a plan at once exactly one does."""
        await filled(store)
        if expected:
            await store.save_plan("thr", StoredPlan(1, ""), 0, ADA)

        won = await asyncio.gather(
            *[store.save_plan("thr", StoredPlan(expected + 1, str(n)), expected, ADA) for n in range(8)]
        )

        assert 1 == won.count(True)
        assert str(won.index(True)) == (await store.load_plan("thr", ADA)).document

    async def test_a_save_of_the_thread_keeps_the_plan(self, store: Any) -> None:
        """No copy of the thread, however old, can overwrite the plan."""
        await filled(store)
        await store.save_plan("thr", StoredPlan(1, "one"), 0, ADA)
        await store.save_thread(thread(title="renamed"), ADA)

        assert StoredPlan(1, "one") == await store.load_plan("thr", ADA)

    def test_the_store_is_one_that_keeps_plans(self, store: Any) -> None:
        """The sequencer finds the plans, through `ValidatingStore` too."""
        assert plans_of(store) is not None
        assert plans_of(ValidatingStore(store)) is not None


class LockRules:
    async def test_one_holds_the_lock_of_a_thread(self, store: Any) -> None:
        """Those who ask for the lock of a thread hold it one after the other."""
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            async with store.thread_lock("thr"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*[work() for _ in range(10)])

        assert (0, 1) == (inside, most)

    async def test_the_store_works_while_a_lock_is_held(self, store: Any) -> None:
        """Who holds the lock reads and writes, and so does everybody who did not ask for it."""
        async with store.thread_lock("thr"):
            await filled(store, note("i1"))
            assert ["i1"] == await item_ids(store)

    async def test_a_lock_that_is_taken_twice_is_an_error_within_the_limit(self, hasty: Any) -> None:
        """It does not hang: after the time limit there is an error that says what to look for."""
        async with hasty.thread_lock("thr"):
            with pytest.raises(StoreUnavailableError, match=r"lock thread thr .* \(time limit 0.2 s\): somebody else"):
                async with hasty.thread_lock("thr"):
                    pytest.fail("nobody gets here")
        async with hasty.thread_lock("thr"):
            pass

    async def test_an_error_inside_gives_the_lock_back(self, hasty: Any) -> None:
        """The lock goes with the block, however that ends."""
        with pytest.raises(ZeroDivisionError):
            async with hasty.thread_lock("thr"):
                raise ZeroDivisionError
        async with hasty.thread_lock("thr"):
            pass

    async def test_a_cancelled_holder_gives_the_lock_back(self, hasty: Any) -> None:
        """A request that is cancelled, holding the lock or waiting for it, leaves nothing behind."""
        held, for_ever = asyncio.Event(), asyncio.Event()

        async def holds() -> None:
            async with hasty.thread_lock("thr"):
                held.set()
                await for_ever.wait()

        holder = asyncio.create_task(holds())
        await held.wait()
        waiter = asyncio.create_task(holds())
        await asyncio.sleep(0)
        waiter.cancel()
        holder.cancel()
        await asyncio.gather(holder, waiter, return_exceptions=True)

        async with hasty.thread_lock("thr"):
            pass


class ServerRules:
    @pytest.mark.parametrize("validating", [False, True])
    @pytest.mark.parametrize("locking", [False, True])
    async def test_a_conversation_of_three_calls(self, store: Any, *, validating: bool, locking: bool) -> None:
        """Over wire JSON: three calls reach the browser one by one, and the model answers once after the last."""
        guarded = ValidatingStore(store) if validating else store
        sequencer = ClientToolSequencer(TOOLS, lock=store.thread_lock if locking else None)
        asking = asks(animation(state="start"), profiles(agents=["Ada"]), selection(), says="Here they are.")
        server = Scripted(guarded, sequencer, asking, says("You chose a."))
        chat = Conversation(server, ADA)

        replies = [await chat.say("search"), await chat.answer(), await chat.answer(), await chat.answer(["a"])]

        wanted = [[THREE[0]], [THREE[1]], [("get_selected_canvas_nodes", {})], []]
        assert wanted == [reply.calls for reply in replies]
        assert ["Here they are."] == replies[0].texts
        assert ["You chose a."] == replies[3].texts
        assert 2 == server.runs
        assert ["completed"] * 3 == [status for _, status in await chat.calls()]
        assert () == await sequencer.snapshot(guarded, chat.thread_id or "", ADA)

    async def test_every_request_of_chatkit(self, store: Any) -> None:
        """Rename, list, retry, delete: what ChatKit asks of a store by its own requests works."""
        server = Scripted(store, ClientToolSequencer(TOOLS), asks(anything()), says("again"))
        chat = Conversation(server, ADA)
        await chat.say("hi")
        message = (await chat.items())[0]
        await chat.rename("Title")
        await chat.retry(message.id)

        async def ask(kind: str, **params: Any) -> Any:
            request = json.dumps({"type": kind, "params": params})
            return json.loads((await server.process(request, ADA)).json)  # type: ignore[union-attr]

        listed = await ask("threads.list", limit=9)
        got = await ask("threads.get_by_id", thread_id=chat.thread_id)
        assert ["Title"] == [each["title"] for each in listed["data"]]
        assert ["user_message", "assistant_message"] == [item["type"] for item in got["items"]["data"]]
        await ask("threads.delete", thread_id=chat.thread_id)
        assert [] == (await ask("threads.list", limit=9))["data"]

    @pytest.mark.skipif(not KNOWS_ATTACHED, reason="this ChatKit does not say which thread an attachment belongs to")
    async def test_an_attachment_of_a_message_gets_its_thread(self, store: Any) -> None:
        """A message with an attachment saves it with the thread, and the thread's end is its end."""
        await store.save_attachment(attachment(), ADA)
        chat = Conversation(Scripted(store, ClientToolSequencer(TOOLS), says("thanks")), ADA)
        request = json.loads(chat.say_request("look"))
        request["params"]["input"]["attachments"] = ["atc"]

        _ = [event async for event in chat.stream(json.dumps(request))]

        assert chat.thread_id == (await store.load_attachment("atc", ADA)).thread_id
        message = (await chat.items())[0]
        assert isinstance(message, UserMessageItem)
        assert {"path": "s3://a"} == message.attachments[0].metadata
        await store.delete_thread(chat.thread_id, ADA)
        with pytest.raises(NotFoundError):
            await store.load_attachment("atc", ADA)

    async def test_a_workflow_that_is_added_again_keeps_its_place(self, store: Any) -> None:
        """ChatKit adds a workflow twice under one id; it is one item, where it was."""
        flow = WorkflowItem(
            id="wf", thread_id="thr", created_at=at(0), workflow=Workflow(type="custom", tasks=[], expanded=True)
        )
        await filled(store, flow, note("i1"))
        flow.workflow.expanded = False
        await store.add_thread_item("thr", flow, ADA)

        assert ["wf", "i1"] == await item_ids(store)
        assert (await store.load_item("thr", "wf", ADA)).workflow.expanded is False


class StoreRules(
    ThreadRules,
    ItemRules,
    CallRules,
    MessageRules,
    OwnerRules,
    AttachmentRules,
    PlanRules,
    LockRules,
    ServerRules,
):
    """All of them."""


__all__ = ["StoreRules", "by_user"]
