"""The checks of what a store does with items: what is kept, what is replaced, what is deleted."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.testing._factory import said

from ._bench import outcome, same, text_of
from ._rules import BrokenRuleError, Finding, check, expect
from ._samples import MOMENTS, TEXT, NoSampleError, item_types, sample
from ._threads import deleted_thread_is_not_found, thread_is_kept

if TYPE_CHECKING:
    from ._bench import Bench

LONG = 50_000
AT_ONCE = 10


@check(thread_is_kept, breaks="Messages are not there when the conversation is opened again.")
async def item_is_kept(bench: Bench) -> None:
    """An item that was added to a thread is found by its id, and is among the thread's items."""
    thread = await bench.thread()
    item = bench.message(thread)
    await bench.add(thread, item)

    same(item, await bench.store.load_item(thread.id, item.id), "load_item")
    page = await bench.page(thread)
    expect(len(page.data) == 1, f"one item was added, and load_thread_items gave {len(page.data)}")
    same(item, page.data[0], "load_thread_items")


@check(
    item_is_kept,
    breaks="A conversation that holds such an item cannot be opened any more, or shows it without its contents.",
)
async def every_type_of_item_is_kept(bench: Bench) -> str | None:
    """Every type of item the installed ChatKit has is loaded as it was saved, with all its fields."""
    thread = await bench.thread()
    problems, unknown, cause = [], [], None
    for kind in item_types():
        try:
            item = sample(kind, id=bench.new_id(), thread_id=thread.id, created_at=bench.tick())
            await bench.add(thread, item)
            same(item, await bench.store.load_item(thread.id, item.id), "load_item")
            listed = {found.id: found for found in (await bench.page(thread)).data}
            same(item, listed.get(item.id), "load_thread_items")
        except NoSampleError as error:
            unknown.append(f"no sample could be made of {error}")
        except BrokenRuleError as broken:
            problems.append(str(broken))
        except Exception as error:  # noqa: BLE001  # a union that lacks a type fails in its own way
            problems.append(f"{kind.__name__}: {bench.doing} raised {said(error)}")
            cause = cause or error
    expect(not problems, "; ".join(problems), cause)
    return "; ".join(unknown) or None


@check(item_is_kept, breaks="A long answer or an emoji ends in an error, or comes back cut off.")
async def long_text_is_kept(bench: Bench) -> None:
    """A text of fifty thousand characters, of any script, is loaded as it was saved."""
    thread = await bench.thread()
    text = (TEXT * LONG)[:LONG]
    item = bench.message(thread, text)
    await bench.add(thread, item)

    loaded = text_of(await bench.store.load_item(thread.id, item.id))

    expect(loaded == text, f"{len(text)} characters were saved; {len(loaded)} came back, or others")


@check(
    item_is_kept,
    breaks="ChatKit subtracts created_at from its own naive datetime.now() when it resumes a workflow: TypeError.",
)
async def time_of_an_item_is_kept(bench: Bench) -> None:
    """An item's created_at is loaded as the moment that was saved, to the second; a naive time stays naive."""
    for at in MOMENTS:
        thread = await bench.thread()
        item = bench.message(thread, created_at=at)
        await bench.add(thread, item)

        loaded = (await bench.store.load_item(thread.id, item.id)).created_at

        same = abs(loaded.timestamp() - at.timestamp()) <= 1 and (at.tzinfo or not loaded.tzinfo)
        expect(same, f"saved {at.isoformat()}, loaded {loaded.isoformat()}")


@check(item_is_kept, breaks="An action on a widget that is gone works on something that nobody has ever seen.")
async def unknown_item_is_not_found(bench: Bench) -> None:
    """Loading an item that is not there gives none."""
    thread, _ = await bench.conversation(1)

    await bench.not_found("item", "load_item of an unknown id", bench.store.load_item, thread.id, bench.new_id())


@check(item_is_kept, breaks="A tab that shows a deleted conversation gets somebody's messages.")
async def unknown_thread_has_no_items(bench: Bench) -> None:
    """A thread that is not there has no items."""
    items = await bench.page_or_nothing(await bench.new_thread())

    expect(not items, f"load_thread_items of an unknown thread gave {len(items)} items")


@check(
    unknown_thread_has_no_items,
    deleted_thread_is_not_found,
    breaks="A tab that still shows a deleted conversation brings it back, empty, into the history.",
)
async def reading_makes_no_thread(bench: Bench) -> None:
    """Reading the items of a thread that is not there, or was deleted, does not make that thread."""
    deleted = await bench.thread()
    await bench.store.delete_thread(deleted.id)
    for what, thread in (("an unknown", await bench.new_thread()), ("a deleted", deleted)):
        await bench.page_or_nothing(thread)
        await outcome(bench.store.load_item, thread.id, bench.new_id())

        seen = f"items of {what} thread were asked for, and load_thread gives that thread now"
        expect(not await bench.has("thread", thread.id), seen)


@check(
    item_is_kept,
    breaks="Providers reuse ids: a message in one conversation overwrites one in another, or cannot be saved.",
)
async def ids_are_per_thread(bench: Bench) -> None:
    """The same item id in two threads is two items."""
    one, two = await bench.thread(), await bench.thread()
    first = bench.message(one, "first")
    second = bench.message(two, "second", id=first.id)
    await bench.add(one, first)
    await bench.add(two, second)

    found = [[text_of(item) for item in (await bench.page(thread)).data] for thread in (one, two)]

    expect(found == [["first"], ["second"]], f"the two threads hold {found[0]} and {found[1]}")


@check(unknown_item_is_not_found, breaks="A request for one conversation reads or deletes what belongs to another one.")
async def items_are_reached_through_their_thread(bench: Bench) -> None:
    """An item cannot be loaded or deleted through any thread but its own."""
    one, (item_id,) = await bench.conversation(1)
    other = await bench.thread()

    await bench.not_found("item", "load_item through another thread", bench.store.load_item, other.id, item_id)
    await outcome(bench.store.delete_thread_item, other.id, item_id)  # refusing is right, however it is said
    expect(await bench.ids(one) == [item_id], "delete_thread_item with another thread's id deleted it")


@check(
    item_is_kept,
    breaks="ChatKit writes the answer into the call it has loaded: others see it before it is saved, or unsaved.",
)
async def loaded_item_is_a_copy(bench: Bench) -> None:
    """Changing an item that was loaded, alone or in a page, does not change the store."""
    thread = await bench.thread()
    call = bench.call(thread)
    await bench.add(thread, call)
    load = partial(bench.store.load_item, thread.id, call.id)
    before = (await load()).model_copy(deep=True)
    for how in ("load_item", "load_thread_items"):
        loaded: Any = (await bench.page(thread)).data[0] if how == "load_thread_items" else await load()
        loaded.status, loaded.output = "completed", "changed"
        loaded.arguments["list"].append("changed")

        same(before, await load(), f"an item from {how} was changed; load_item")


@check(
    item_is_kept,
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


@check(item_is_kept, breaks="Two people who write at the same time, or two tabs, get errors or lose messages.")
async def requests_can_overlap(bench: Bench) -> None:
    """Operations that are under way at the same time, on one store object, all do their work."""
    one, two = await bench.thread(), await bench.thread()
    messages = [bench.message(thread) for thread in (one, two) * (AT_ONCE // 2)]
    writes = (bench.store.add_thread_item(item.thread_id, item) for item in messages)
    reads = (bench.page(thread) for thread in (one, two))

    answers = await asyncio.gather(*writes, *reads, return_exceptions=True)

    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    in_words = "; ".join(sorted({said(error) for error in failed}))
    expect(not failed, f"{len(failed)} of {len(answers)} failed: {in_words}", failed[0] if failed else None)
    kept = len(await bench.ids(one)) + len(await bench.ids(two))
    expect(kept == AT_ONCE, f"{AT_ONCE} items were added at once, and {kept} are there")


@check(item_is_kept, breaks="ChatKit cannot add to this thread at all.")
async def adding_an_item_again(bench: Bench) -> Finding:
    """What add_thread_item does with an id that is already there: it raises, ignores, replaces or duplicates."""
    thread = await bench.thread()
    item = bench.message(thread, "first")
    await bench.add(thread, item)
    error = await outcome(bench.add, thread, bench.message(thread, "second", id=item.id))
    if isinstance(error, Exception):  # each store has its own
        return Finding(f"raises {said(error)}", _RAISES)
    found = [text_of(kept) for kept in (await bench.page(thread)).data]
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
