"""The checks of what goes further: how a store is called, what it offers beyond `Store`, and who else sees a write."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chatkit.store import NotFoundError, Store
from pydantic import BaseModel

from ._bench import PLENTY, outcome, same
from ._items import item_is_kept
from ._rules import NotOfferedError, check, expect
from ._samples import attachment_types
from ._threads import thread_is_kept, unknown_thread_is_not_found

if TYPE_CHECKING:
    from chatkit.types import ThreadMetadata

    from ._bench import Bench

IN_TURN = (
    *("save_thread", "load_thread", "load_threads", "add_thread_item", "save_item", "load_item", "load_thread_items"),
    *("delete_thread_item", "delete_thread", "save_attachment", "load_attachment", "delete_attachment"),
)
"""Every operation, when there is something for it to do."""


@check(item_is_kept, breaks="ChatKit names the arguments it passes: TypeError in every request.")
async def arguments_have_chatkits_names(bench: Bench) -> None:
    """Every method takes its arguments by ChatKit's names as well as by position."""
    thread, attachment = await bench.new_thread(), await bench.new_attachment()
    item = bench.message(thread)
    known = {"thread": thread, "thread_id": thread.id, "item": item, "item_id": item.id}
    known |= {"attachment": attachment, "attachment_id": attachment.id, "after": None, "limit": PLENTY, "order": "asc"}
    for operation in IN_TURN:
        if operation == "save_item":
            known["item"] = bench.message(thread)  # some stores can only add an item
        names = [name for name in inspect.signature(getattr(Store, operation)).parameters if name in known]
        with suppress(NotFoundError, NotImplementedError):  # what it answers belongs to other rules
            await getattr(bench.store, operation)(**{name: known[name] for name in names})


@check(
    item_is_kept,
    breaks="ChatKit accepts any error here. An endpoint that answers NotFoundError with 404 answers this one with 500, "
    "and ClientToolServer reads once more and logs a warning.",
)
async def absence_is_chatkits_error(bench: Bench) -> None:
    """What is not there raises ChatKit's own NotFoundError; a page of it may also be empty."""
    methods: dict[str, list[str]] = {}
    for kind in ("thread", "item", "items", "cursor", "attachment"):
        came = await bench.unknown(kind)
        method = f"{bench.doing} with an unknown cursor" if kind == "cursor" else bench.doing
        if came is None:
            methods.setdefault("gave None", []).append(method)
        elif isinstance(came, Exception) and not isinstance(came, (NotFoundError, NotImplementedError)):
            name = f"{type(came).__module__}.{type(came).__qualname__}"
            methods.setdefault(f"raised {name}", []).append(method)
    seen = "; ".join(f"{', '.join(names)} {what}" for what, names in methods.items())
    expect(not methods, f"{seen}; expected is chatkit.store.NotFoundError, or a class derived from it")


# --- attachments ---------------------------------------------------------------------------------------------------


@check(thread_is_kept, breaks="A message with a file cannot be sent: ChatKit loads its attachment.")
async def attachment_is_kept(bench: Bench) -> None:
    """Every type of attachment the installed ChatKit has is loaded as it was saved, with all its fields."""
    for kind in attachment_types():
        attachment = await bench.attachment(kind)

        same(attachment, await bench.store.load_attachment(attachment.id), "load_attachment")


@check(
    attachment_is_kept,
    breaks="ChatKit saves an attachment a second time, with its thread, when it is sent: that fails or is lost.",
)
async def attachment_can_be_saved_again(bench: Bench) -> None:
    """Saving an attachment that is already there replaces it."""
    attachment = await bench.attachment()
    await bench.store.save_attachment(attachment.model_copy(update={"name": "renamed"}))

    loaded = await bench.store.load_attachment(attachment.id)

    expect(loaded.name == "renamed", f'it was saved again as "renamed"; its name is "{loaded.name}"')


@check(
    attachment_is_kept,
    breaks="What one request changes in an attachment is there for all of them, saved or not.",
)
async def attachment_is_a_copy(bench: Bench) -> None:
    """Changing an attachment after it was saved or loaded does not change the store."""
    attachment = await bench.attachment(name="before")
    for how in ("saved", "loaded"):
        attachment.name = "changed"
        attachment = await bench.store.load_attachment(attachment.id)
        expect(attachment.name == "before", f"an attachment was changed after it was {how}, and the store with it")


@check(attachment_is_kept, breaks="A file that was removed is still there.")
async def unknown_attachment_is_not_found(bench: Bench) -> None:
    """An attachment that is not there, or was deleted, cannot be loaded."""
    load = bench.store.load_attachment
    attachment = await bench.attachment()
    await bench.store.delete_attachment(attachment.id)

    await bench.not_found("attachment", "load_attachment of a deleted id", load, attachment.id)
    await bench.not_found("attachment", "load_attachment of an unknown id", load, bench.new_id("atc"))


# --- owners --------------------------------------------------------------------------------------------------------


@check(item_is_kept, breaks="One user reads another one's conversations.")
async def other_users_see_nothing(bench: Bench) -> None:
    """Nothing of what one user has saved is given to another one."""
    other = bench.other
    secret = bench.new_id("secret")
    thread = await bench.thread(title=secret)
    (item_id,) = await bench.add(thread, bench.message(thread, secret))

    attempts: tuple[tuple[Any, ...], ...] = (
        ("load_thread gives another user's thread", other.load_thread, thread.id),
        ("load_item gives another user's item", other.load_item, thread.id, item_id),
        ("load_threads lists another user's thread", other.load_threads, PLENTY, None, "desc"),
        ("load_thread_items gives another user's items", other.load_thread_items, thread.id, None, PLENTY, "asc"),
    )
    for what, method, *arguments in attempts:
        given = await outcome(method, *arguments)  # an error, nothing or an empty thread betrays nothing
        expect(not (isinstance(given, BaseModel) and secret in given.model_dump_json()), what)


@check(item_is_kept, breaks="One user changes or deletes another one's conversations.")
async def other_users_change_nothing(bench: Bench) -> None:
    """What another user saves, adds or deletes under the same ids leaves one's own thread and items as they were."""
    other = bench.other
    thread, ids = await bench.conversation(2)
    attempts: tuple[tuple[Any, ...], ...] = (
        (other.delete_thread_item, thread.id, ids[1]),
        (other.delete_thread, thread.id),
        (other.save_thread, thread.model_copy(update={"title": "taken"})),
        (other.save_item, thread.id, bench.message(thread, "taken", id=ids[0])),
        (other.add_thread_item, thread.id, bench.message(thread)),
    )
    for method, *arguments in attempts:
        await outcome(method, *arguments)  # refusing is right, however it is said

        was = bench.doing
        try:
            title = (await bench.store.load_thread(thread.id)).title
            found = [item.model_dump()["content"][0]["text"] for item in (await bench.page(thread)).data]
        except Exception:  # noqa: BLE001  the thread is gone, however this store says it
            title, found = None, []
        expect(title == thread.title, f"another user's {was} has changed the thread: its title is {title!r}")
        expect(found == ["hello", "hello"], f"another user's {was} has changed the items: they are {found}")


@check(attachment_is_kept, breaks="One user reads another one's files.")
async def other_users_see_no_attachments(bench: Bench) -> None:
    """An attachment that one user has saved cannot be loaded or deleted by another one."""
    other = bench.other
    attachment = await bench.attachment()

    what = "load_attachment of another user's attachment"
    await bench.not_found("attachment", what, other.load_attachment, attachment.id)
    await outcome(other.delete_attachment, attachment.id)  # refusing is right, however it is said
    expect(await bench.has("attachment", attachment.id), "another user has deleted the attachment")


# --- other workers -------------------------------------------------------------------------------------------------


@check(
    unknown_thread_is_not_found,
    breaks="The browser answers before the response has ended, finds no pending call, and the chat is stuck.",
)
async def writes_are_seen_at_once(bench: Bench) -> str:
    """What was written through one store object is seen by a second one on the same data at once, not later."""
    thread = await bench.new_thread()
    async with bench.another() as one:
        await one.save_thread(thread)
        async with bench.another() as two:
            same = one.store is two.store
            seen = await _sees(two, thread)
    if same:
        raise NotOfferedError("the factory gives the same store object each time: no second one to look with")
    if seen:
        return "two stores from the factory share their data, and the second saw the write at once"
    async with bench.another() as later:
        appeared = await _sees(later, thread)
    expect(not appeared, "a second store saw the write only after the first one had been closed")
    raise NotOfferedError("each store from the factory has data of its own: nobody else could see the write")


async def _sees(store: Any, thread: ThreadMetadata) -> bool:
    return getattr(await outcome(store.load_thread, thread.id), "id", None) == thread.id
