"""The checks of what a store does with items: what is kept, what is replaced, what is deleted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from chatkit.types import AssistantMessageItem, ClientToolCallItem

from ._check_threads import thread_is_kept
from ._factory import said
from ._rules import BrokenRuleError, Finding, check, expect
from ._samples import TEXT, NoSampleError, item_types, sample

if TYPE_CHECKING:
    from chatkit.types import ThreadItem, ThreadMetadata
    from pydantic import BaseModel

    from ._bench import Bench

LONG = 50_000
AT_ONCE = 10


@check("base", rests_on=(thread_is_kept,), breaks="Messages are not there when the conversation is opened again.")
async def item_is_kept(bench: Bench) -> None:
    """An item that was added to a thread is found by its id, and is among the thread's items."""
    thread = await bench.thread()
    item = bench.message(thread)
    await bench.add(thread, item)

    _same(item, await bench.loaded(thread, item.id), "load_item")
    page = await bench.page(thread)
    expect(len(page.data) == 1, f"one item was added, and load_thread_items gave {len(page.data)}")
    _same(item, page.data[0], "load_thread_items")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="A conversation that holds such an item cannot be opened any more, or shows it without its contents.",
)
async def every_type_of_item_is_kept(bench: Bench) -> str | None:
    """Every type of item the installed ChatKit has is loaded as it was saved, with all its fields."""
    thread = await bench.thread()
    problems, unknown = [], []
    for kind in item_types():
        try:
            item: Any = sample(kind, id=bench.new_id(), thread_id=thread.id, created_at=bench.tick())
        except NoSampleError as error:
            unknown.append(f"no sample could be made of {error}")
            continue
        problems += await _kept(bench, thread, item)
    expect(not problems, "; ".join(problems))
    return "; ".join(unknown) or None


@check("base", rests_on=(item_is_kept,), breaks="A long answer or an emoji ends in an error, or comes back cut off.")
async def long_text_is_kept(bench: Bench) -> None:
    """A text of fifty thousand characters, of any script, is loaded as it was saved."""
    thread = await bench.thread()
    text = (TEXT * LONG)[:LONG]
    item = bench.message(thread, text)
    await bench.add(thread, item)

    loaded = _text(await bench.loaded(thread, item.id))

    expect(loaded == text, f"{len(text)} characters were saved; {len(loaded)} came back, or others")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="ChatKit subtracts created_at from its own naive datetime.now() when it resumes a workflow: TypeError.",
)
async def time_of_an_item_is_kept(bench: Bench) -> None:
    """An item's created_at is loaded as the moment that was saved, to the second; a naive time stays naive."""
    for at in (datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)):  # noqa: DTZ001
        thread = await bench.thread()
        item = bench.message(thread, created_at=at)
        await bench.add(thread, item)

        loaded = (await bench.loaded(thread, item.id)).created_at

        same = abs(loaded.timestamp() - at.timestamp()) <= 1 and (at.tzinfo or not loaded.tzinfo)
        expect(same, f"saved {at.isoformat()}, loaded {loaded.isoformat()}")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="An action on a widget that is gone ends in an error the server does not expect.",
)
async def unknown_item_is_not_found(bench: Bench) -> None:
    """Loading an item that is not there raises NotFoundError."""
    thread, _ = await bench.conversation(1)

    await bench.not_found("load_item of an unknown id", bench.loaded(thread, bench.new_id()))


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="Providers reuse ids: a message in one conversation overwrites one in another, or cannot be saved.",
)
async def ids_are_per_thread(bench: Bench) -> None:
    """The same item id in two threads is two items."""
    one, two = await bench.thread(), await bench.thread()
    first = bench.message(one, "first")
    second = bench.message(two, "second", id=first.id)
    await bench.add(one, first)
    await bench.add(two, second)

    found = [[_text(item) for item in (await bench.page(thread)).data] for thread in (one, two)]

    expect(found == [["first"], ["second"]], f"the two threads hold {found[0]} and {found[1]}")


@check(
    "base",
    rests_on=(unknown_item_is_not_found,),
    breaks="A request for one conversation reads or deletes what belongs to another one.",
)
async def items_are_reached_through_their_thread(bench: Bench) -> None:
    """An item is NotFoundError in any thread but its own, and cannot be deleted through another one."""
    one, (item_id,) = await bench.conversation(1)
    other = await bench.thread()

    await bench.not_found("load_item through another thread", bench.loaded(other, item_id))
    with suppress(Exception):  # refusing is right, however it is said
        await bench.store.delete_thread_item(other.id, item_id, bench.context)
    expect(await bench.ids(one) == [item_id], "delete_thread_item with another thread's id deleted it")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="ChatKit writes the answer into the call it has loaded: others see it before it is saved, or unsaved.",
)
async def loaded_item_is_a_copy(bench: Bench) -> None:
    """Changing an item that was loaded, alone or in a page, does not change the store."""
    thread = await bench.thread()
    call = _call(bench, thread)
    before = call.model_copy(deep=True)
    await bench.add(thread, call)
    for how in ("load_item", "load_thread_items"):
        loaded = await bench.loaded(thread, call.id) if how == "load_item" else (await bench.page(thread)).data[0]
        _change(cast("ClientToolCallItem", loaded))

        _same(before, await bench.loaded(thread, call.id), f"an item from {how} was changed; load_item")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="What a response changes in an item after it was streamed is in the store, saved or not.",
)
async def added_item_is_a_copy(bench: Bench) -> None:
    """Changing an item after add_thread_item or save_item does not change the store."""
    thread = await bench.thread()
    for how in (bench.store.add_thread_item, bench.store.save_item):
        message = bench.message(thread)
        before = message.model_copy(deep=True)
        await how(thread.id, message, bench.context)
        message.content[0].text = "changed"
        message.content.append(message.content[0])

        _same(before, await bench.loaded(thread, message.id), "an item was changed after it was saved; load_item")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="One request empties the page another one reads: messages vanish until the process is restarted.",
)
async def page_is_a_copy(bench: Bench) -> None:
    """Changing a page that was loaded does not change the pages loaded later."""
    thread, ids = await bench.conversation(2)
    page = await bench.page(thread)
    page.data.clear()
    page.has_more = True

    again = await bench.page(thread)

    seen = f"a page was emptied; loaded again it has {len(again.data)} of 2 items, has_more {again.has_more}"
    expect([item.id for item in again.data] == ids and not again.has_more, seen)


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="The browser's answer is lost or is an error after it was taken: the call stays pending and the chat stuck.",
)
async def save_item_replaces(bench: Bench) -> None:
    """save_item of an item that is there replaces its contents."""
    thread = await bench.thread()
    item = bench.message(thread, "first")
    await bench.add(thread, item)
    await bench.store.save_item(thread.id, bench.message(thread, "second", id=item.id), bench.context)

    alone = _text(await bench.loaded(thread, item.id))
    listed = [_text(found) for found in (await bench.page(thread)).data]

    expect(alone == "second", f'"second" was saved over "first"; load_item gives "{alone}"')
    expect("second" in listed, f'"second" was saved over "first"; load_thread_items gives {listed}')


@check(
    "base",
    rests_on=(save_item_replaces,),
    breaks="The conversation shows a message twice, and the model reads it twice.",
)
async def save_item_makes_no_second_item(bench: Bench) -> None:
    """save_item of an item that is there leaves one item under its id."""
    thread, ids = await bench.conversation(3)
    await bench.store.save_item(thread.id, bench.message(thread, id=ids[1]), bench.context)

    found = (await bench.ids(thread)).count(ids[1])

    expect(found == 1, f"after save_item there are {found} items with that id")


@check(
    "base",
    rests_on=(save_item_replaces,),
    breaks="An old widget that is updated jumps to the end, behind the pending call: its answer is then a ValueError.",
)
async def save_item_keeps_the_place(bench: Bench) -> None:
    """save_item of an item that is there leaves it where it was among the items."""
    thread, ids = await bench.conversation(3)
    old = await bench.loaded(thread, ids[0])
    await bench.store.save_item(thread.id, old, bench.context)

    now = list(dict.fromkeys(await bench.ids(thread)))

    expect(now == ids, f"the first of 3 items was saved again; it is now number {now.index(ids[0]) + 1}")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="An item that is replaced before it was ever stored, as a streamed widget can be, is lost.",
)
async def save_item_inserts(bench: Bench) -> None:
    """save_item of an item that is not there adds it, as the newest."""
    thread, ids = await bench.conversation(1)
    item = bench.message(thread)
    await bench.store.save_item(thread.id, item, bench.context)

    now = await bench.ids(thread)

    expect(item.id in now, "save_item of a new item was made, and the item is not in the thread")
    expect(now == [*ids, item.id], "save_item of a new item did not put it last")


@check(
    "base",
    rests_on=(save_item_replaces,),
    breaks="The model never hears what the browser answered, or the browser is asked again.",
)
async def answer_is_kept(bench: Bench) -> None:
    """A client tool call is pending until it is saved as completed, and then keeps its output, whatever that is."""
    thread = await bench.thread()
    for output in ({"nodes": [{"id": 1, "text": TEXT}]}, [1, None, "two"], "done", 0, False, None):
        call = _call(bench, thread)
        await bench.add(thread, call)
        answered = cast("ClientToolCallItem", await bench.loaded(thread, call.id)).model_copy(deep=True)
        expect(answered.status == "pending", f"a pending call was added; it is {answered.status}")
        answered.status, answered.output = "completed", output
        await bench.store.save_item(thread.id, answered, bench.context)

        now = cast("ClientToolCallItem", await bench.loaded(thread, call.id))

        seen = f"saved completed with {output!r}, loaded {now.status} with {now.output!r}"
        expect((now.status, now.output) == ("completed", output), seen)


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="Retry answers an old question twice: ChatKit deletes what came after the message, and it is still there.",
)
async def deleted_item_is_gone(bench: Bench) -> None:
    """An item that was deleted is no longer in the thread and cannot be loaded; the others stay as they were."""
    thread, ids = await bench.conversation(3)
    await bench.store.delete_thread_item(thread.id, ids[1], bench.context)

    now = await bench.ids(thread)

    expect(now == [ids[0], ids[2]], f"the second of 3 items was deleted, and {len(now)} are left")
    expect(not await bench.holds(thread, ids[1]), "load_item still gives an item that was deleted")


@check(
    "base",
    rests_on=(deleted_item_is_gone,),
    breaks="When a guardrail trips ChatKit removes items it may never have stored: that ends in an error.",
)
async def unknown_item_can_be_deleted(bench: Bench) -> None:
    """Deleting an item that is not there, or was deleted before, is no error and changes nothing."""
    thread, ids = await bench.conversation(2)
    await bench.store.delete_thread_item(thread.id, ids[0], bench.context)
    await bench.store.delete_thread_item(thread.id, ids[0], bench.context)
    await bench.store.delete_thread_item(thread.id, bench.new_id(), bench.context)

    now = await bench.ids(thread)

    expect(now == ids[1:], f"one item should be left; there are {len(now)}")


@check(
    "base",
    rests_on=(item_is_kept,),
    breaks="Two people who write at the same time, or two tabs, get errors or lose messages.",
)
async def requests_can_overlap(bench: Bench) -> None:
    """Operations that are under way at the same time, on one store object, all do their work."""
    one, two = await bench.thread(), await bench.thread()
    messages = [bench.message(thread) for thread in (one, two) * (AT_ONCE // 2)]
    writes = (bench.store.add_thread_item(item.thread_id, item, bench.context) for item in messages)
    reads = (bench.page(thread) for thread in (one, two))

    answers = await asyncio.gather(*writes, *reads, return_exceptions=True)

    failed = [said(answer) for answer in answers if isinstance(answer, BaseException)]
    expect(not failed, f"{len(failed)} of {len(answers)} failed: {'; '.join(sorted(set(failed)))}")
    kept = len(await bench.ids(one)) + len(await bench.ids(two))
    expect(kept == AT_ONCE, f"{AT_ONCE} items were added at once, and {kept} are there")


@check(
    "detected",
    rests_on=(item_is_kept,),
    breaks="ChatKit cannot add to this thread at all.",
)
async def adding_an_item_again(bench: Bench) -> Finding:
    """What add_thread_item does with an id that is already there: it raises, ignores, replaces or duplicates."""
    thread = await bench.thread()
    item = bench.message(thread, "first")
    await bench.add(thread, item)
    try:
        await bench.add(thread, bench.message(thread, "second", id=item.id))
    except Exception as error:  # noqa: BLE001  # each store has its own
        return Finding(f"raises {said(error)}", _RAISES)
    found = [_text(kept) for kept in (await bench.page(thread)).data]
    if len(found) > 1:
        return Finding(f"duplicates it: there are {len(found)} items with that id", _DUPLICATES)
    return Finding("ignores it", _IGNORES) if found == ["first"] else Finding("replaces it", _REPLACES)


_RAISES = (
    "Ids that repeat are seen at once, and of two workers only one can release a call. But ChatKit adds a workflow it "
    "resumes again under its id, and some providers give every message one id: such a response ends in an error."
)
_IGNORES = (
    "A repeated release of a call is harmless. But ChatKit adds a workflow it resumes again under its id, and some "
    "providers give every message one id: what came later is lost without a word."
)
_REPLACES = (
    "A repeated release of a call is harmless, and so is a workflow ChatKit resumes and adds again. With a provider "
    "that gives every message one id the newer message takes the place of the older one: put ids of your own on them."
)
_DUPLICATES = (
    "A call that is released again and a workflow that is resumed are in the thread twice, and the model reads both. "
    "ValidatingStore keeps calls from it; better is a unique key on thread and item id."
)

CHECKS = (
    item_is_kept,
    every_type_of_item_is_kept,
    long_text_is_kept,
    time_of_an_item_is_kept,
    unknown_item_is_not_found,
    ids_are_per_thread,
    items_are_reached_through_their_thread,
    loaded_item_is_a_copy,
    added_item_is_a_copy,
    page_is_a_copy,
    save_item_replaces,
    save_item_makes_no_second_item,
    save_item_keeps_the_place,
    save_item_inserts,
    answer_is_kept,
    deleted_item_is_gone,
    unknown_item_can_be_deleted,
    requests_can_overlap,
    adding_an_item_again,
)


def _call(bench: Bench, thread: ThreadMetadata) -> ClientToolCallItem:
    return ClientToolCallItem(
        id=bench.new_id("tc"),
        thread_id=thread.id,
        created_at=bench.tick(),
        call_id=bench.new_id("call"),
        name="a_check",
        arguments={"list": []},
    )


def _change(call: ClientToolCallItem) -> None:
    call.status, call.output = "completed", "changed"
    call.arguments["list"].append("changed")


def _text(item: ThreadItem) -> str:
    return cast("AssistantMessageItem", item).content[0].text


def _same(saved: BaseModel, loaded: object, how: str) -> None:
    expect(isinstance(loaded, type(saved)), f"{how} gave a {type(loaded).__name__}, not a {type(saved).__name__}")
    wanted, found = _comparable(saved), _comparable(cast("BaseModel", loaded))
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    expect(not names, f"{how} gave a {type(saved).__name__} with another {', '.join(names)}")


def _comparable(item: BaseModel) -> dict[str, Any]:
    return item.model_dump(mode="json", exclude={"created_at"})  # times have a rule of their own


async def _kept(bench: Bench, thread: ThreadMetadata, item: ThreadItem) -> list[str]:
    """Say what is wrong with how this one item is kept: each type is tried, whatever came of the one before."""
    name = type(item).__name__
    try:
        await bench.add(thread, item)
        _same(item, await bench.loaded(thread, item.id), "load_item")
        newest = (await bench.page(thread, order="desc", limit=1)).data
        _same(item, newest[0] if newest else None, "load_thread_items")
    except BrokenRuleError as broken:
        return [str(broken)]
    except Exception as error:  # noqa: BLE001  # a union that lacks a type fails in its own way
        return [f"{name}: {bench.doing} raised {said(error)}"]
    return []
