"""The checks of what a store does when an item is saved again or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._bench import same, text_of
from ._items import item_is_kept
from ._rules import check, expect
from ._samples import TEXT
from ._threads import deleted_thread_is_not_found

if TYPE_CHECKING:
    from ._bench import Bench


@check(
    item_is_kept,
    breaks="The browser's answer is lost or is an error after it was taken: the call stays pending and the chat stuck.",
)
async def save_item_replaces(bench: Bench) -> None:
    """save_item of an item that is there replaces its contents."""
    thread = await bench.thread()
    item = bench.message(thread, "first")
    await bench.add(thread, item)
    await bench.store.save_item(thread.id, bench.message(thread, "second", id=item.id))

    alone = text_of(await bench.store.load_item(thread.id, item.id))
    listed = [text_of(found) for found in (await bench.page(thread)).data]

    expect(alone == "second", f'"second" was saved over "first"; load_item gives "{alone}"')
    expect("second" in listed, f'"second" was saved over "first"; load_thread_items gives {listed}')


@check(
    save_item_replaces, breaks="What a response changes in an item after it was streamed is in the store, saved or not."
)
async def saved_item_is_a_copy(bench: Bench) -> None:
    """Changing an item after add_thread_item or save_item does not change the store."""
    thread = await bench.thread()
    message = bench.message(thread)
    for how in (bench.store.add_thread_item, bench.store.save_item):
        await how(thread.id, message)
        before = message.model_copy(deep=True)
        message.content[0].text += " changed"
        message.content.append(message.content[0])

        same(
            before,
            await bench.store.load_item(thread.id, message.id),
            "an item was changed after it was saved; load_item",
        )


@check(save_item_replaces, breaks="The conversation shows a message twice, and the model reads it twice.")
async def save_item_makes_no_second_item(bench: Bench) -> None:
    """save_item of an item that is there leaves one item under its id."""
    thread, ids = await bench.conversation(3)
    await bench.store.save_item(thread.id, bench.message(thread, id=ids[1]))

    found = (await bench.ids(thread)).count(ids[1])

    expect(found == 1, f"after save_item there are {found} items with that id")


@check(
    save_item_replaces,
    breaks="An old widget that is updated jumps to the end, behind the pending call: its answer is then a ValueError.",
)
async def save_item_keeps_the_place(bench: Bench) -> None:
    """save_item of an item that is there leaves it where it was among the items."""
    thread, ids = await bench.conversation(3)
    old = await bench.store.load_item(thread.id, ids[0])
    await bench.store.save_item(thread.id, old)

    now = list(dict.fromkeys(await bench.ids(thread)))

    expect(now == ids, f"the first of 3 items was saved again; it is now number {now.index(ids[0]) + 1}")


@check(
    save_item_replaces,
    breaks="An item that is replaced before it was ever stored, as a streamed widget can be, is lost.",
)
async def save_item_inserts(bench: Bench) -> None:
    """save_item of an item that is not there adds it, as the newest."""
    thread, ids = await bench.conversation(1)
    item = bench.message(thread)
    await bench.store.save_item(thread.id, item)

    now = await bench.ids(thread)

    expect(item.id in now, "save_item of a new item was made, and the item is not in the thread")
    expect(now == [*ids, item.id], "save_item of a new item did not put it last")


@check(save_item_replaces, breaks="The model never hears what the browser answered, or the browser is asked again.")
async def answer_is_kept(bench: Bench) -> None:
    """A client tool call is pending until it is saved as completed, and then keeps its output, whatever that is."""
    thread = await bench.thread()
    for output in ({"nodes": [{"id": 1, "text": TEXT}]}, [1, None, "two"], "done", 0, False, None):
        call = bench.call(thread)
        await bench.add(thread, call)
        answered = (await bench.store.load_item(thread.id, call.id)).model_copy(deep=True)
        expect(answered.status == "pending", f"a pending call was added; it is {answered.status}")
        answered.status, answered.output = "completed", output
        await bench.store.save_item(thread.id, answered)

        now = await bench.store.load_item(thread.id, call.id)

        seen = f"saved completed with {output!r}, loaded {now.status} with {now.output!r}"
        expect((now.status, now.output) == ("completed", output), seen)


@check(
    item_is_kept,
    breaks="Retry answers an old question twice: ChatKit deletes what came after the message, and it is still there.",
)
async def deleted_item_is_gone(bench: Bench) -> None:
    """An item that was deleted is no longer in the thread and cannot be loaded; the others stay as they were."""
    thread, ids = await bench.conversation(3)
    await bench.store.delete_thread_item(thread.id, ids[1])

    now = await bench.ids(thread)

    expect(now == [ids[0], ids[2]], f"the second of 3 items was deleted, and {len(now)} are left")
    expect(not await bench.has("item", thread.id, ids[1]), "load_item still gives an item that was deleted")


@check(
    deleted_item_is_gone,
    breaks="When a guardrail trips ChatKit removes items it may never have stored: that ends in an error.",
)
async def unknown_item_can_be_deleted(bench: Bench) -> None:
    """Deleting an item that is not there, or was deleted before, is no error and changes nothing."""
    thread, ids = await bench.conversation(2)
    await bench.store.delete_thread_item(thread.id, ids[0])
    await bench.store.delete_thread_item(thread.id, ids[0])
    await bench.store.delete_thread_item(thread.id, bench.new_id())

    now = await bench.ids(thread)

    expect(now == ids[1:], f"one item should be left; there are {len(now)}")


@check(
    item_is_kept,
    deleted_thread_is_not_found,
    breaks="What a user has deleted is kept, and whoever knows the thread's id still reads it.",
)
async def deleted_thread_takes_its_items(bench: Bench) -> None:
    """Deleting a thread deletes its items: they can be loaded neither as a page nor one by one."""
    thread, (item_id,) = await bench.conversation(1)
    await bench.store.delete_thread(thread.id)

    expect(not await bench.has("item", thread.id, item_id), "load_item gives an item of the deleted thread")
    expect(not await bench.page_or_nothing(thread), "load_thread_items gives the items of the deleted thread")


@check(item_is_kept, deleted_thread_is_not_found, breaks="Deleting one conversation loses another one.")
async def deleted_thread_leaves_the_others(bench: Bench) -> None:
    """Deleting a thread leaves the other threads and their items alone."""
    thread, _ = await bench.conversation(1)
    other, ids = await bench.conversation(2)
    await bench.store.delete_thread(thread.id)

    loaded = await bench.store.load_thread(other.id)

    expect(loaded.id == other.id, f"load_thread of the other thread gave {loaded.id}")
    kept = await bench.ids(other)
    expect(kept == ids, f"the other thread had 2 items, now it has {len(kept)}")
