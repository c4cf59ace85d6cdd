"""The checks of what goes further: how a store is called, what it offers beyond `Store`, and who else sees a write."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chatkit.store import NotFoundError
from pydantic import BaseModel

from ._bench import PLENTY, UNKNOWN
from ._items import item_is_kept
from ._rules import NotOfferedError, check, expect
from ._samples import attachment_types
from ._threads import thread_is_kept, unknown_thread_is_not_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import Store
    from chatkit.types import Attachment, ThreadMetadata

    from ._bench import Bench


@check(item_is_kept, breaks="ChatKit names the arguments it passes: TypeError in every request.")
async def arguments_have_chatkits_names(bench: Bench) -> None:
    """Every method takes its arguments by ChatKit's names as well as by position."""
    context, store = bench.context, bench.store
    thread = await bench.new_thread()
    item, another = bench.message(thread), bench.message(thread)
    attachment = await bench.attachment()
    pages = {"after": None, "limit": PLENTY, "order": "asc", "context": context}
    await _named(store.save_thread, thread=thread, context=context)
    await _named(store.load_thread, thread_id=thread.id, context=context)
    await _named(store.load_threads, **pages)
    await _named(store.add_thread_item, thread_id=thread.id, item=item, context=context)
    await _named(store.save_item, thread_id=thread.id, item=another, context=context)
    await _named(store.load_item, thread_id=thread.id, item_id=item.id, context=context)
    await _named(store.load_thread_items, thread_id=thread.id, **pages)
    await _named(store.delete_thread_item, thread_id=thread.id, item_id=item.id, context=context)
    await _named(store.delete_thread, thread_id=thread.id, context=context)
    await _named(store.save_attachment, attachment=attachment, context=context)
    await _named(store.load_attachment, attachment_id=attachment.id, context=context)
    await _named(store.delete_attachment, attachment_id=attachment.id, context=context)


@check(
    item_is_kept,
    breaks="ChatKit accepts any error here. An endpoint that answers NotFoundError with 404 answers this one with 500, "
    "and ClientToolServer reads once more and logs a warning.",
)
async def absence_is_chatkits_error(bench: Bench) -> None:
    """What is not there raises ChatKit's own NotFoundError; a page of it may also be empty."""
    methods: dict[str, list[str]] = {}
    for kind, method in UNKNOWN.items():
        outcome = await bench.unknown(kind)
        if outcome is None:
            methods.setdefault("gave None", []).append(method)
        elif isinstance(outcome, Exception) and not isinstance(outcome, (NotFoundError, NotImplementedError)):
            name = f"{type(outcome).__module__}.{type(outcome).__qualname__}"
            methods.setdefault(f"raised {name}", []).append(method)
    seen = "; ".join(f"{', '.join(names)} {what}" for what, names in methods.items())
    expect(not methods, f"{seen}; expected is chatkit.store.NotFoundError, or a class derived from it")


# --- attachments ---------------------------------------------------------------------------------------------------


@check(thread_is_kept, level="extended", breaks="A message with a file cannot be sent: ChatKit loads its attachment.")
async def attachment_is_kept(bench: Bench) -> None:
    """Every type of attachment the installed ChatKit has is loaded as it was saved, with all its fields."""
    for kind in attachment_types():
        attachment = await _attached(bench, await bench.attachment(kind))

        loaded = await bench.store.load_attachment(attachment.id, bench.context)

        expect(type(loaded) is type(attachment), f"saved a {kind.__name__}, loaded a {type(loaded).__name__}")
        saved, found = attachment.model_dump(mode="json"), loaded.model_dump(mode="json")
        names = sorted(name for name in saved if saved[name] != found[name])
        expect(not names, f"the {kind.__name__} was loaded with another {', '.join(names)}")


@check(
    attachment_is_kept,
    level="extended",
    breaks="ChatKit saves an attachment a second time, with its thread, when it is sent: that fails or is lost.",
)
async def attachment_can_be_saved_again(bench: Bench) -> None:
    """Saving an attachment that is already there replaces it."""
    attachment = await _attached(bench, await bench.attachment())
    renamed = attachment.model_copy(update={"name": "renamed"})
    await bench.store.save_attachment(renamed, bench.context)

    loaded = await bench.store.load_attachment(attachment.id, bench.context)

    expect(loaded.name == "renamed", f'it was saved again as "renamed"; its name is "{loaded.name}"')


@check(
    attachment_is_kept,
    level="extended",
    breaks="What one request changes in an attachment is there for all of them, saved or not.",
)
async def attachment_is_a_copy(bench: Bench) -> None:
    """Changing an attachment after it was saved or loaded does not change the store."""
    saved = await _attached(bench, await bench.attachment(name="before"))
    saved.name = "changed"
    loaded = await bench.store.load_attachment(saved.id, bench.context)
    expect(loaded.name == "before", "an attachment was changed after it was saved, and the store with it")
    loaded.name = "changed"

    again = await bench.store.load_attachment(saved.id, bench.context)

    expect(again.name == "before", "an attachment was changed after it was loaded, and the store with it")


@check(attachment_is_kept, level="extended", breaks="A file that was removed is still there.")
async def unknown_attachment_is_not_found(bench: Bench) -> None:
    """An attachment that is not there, or was deleted, cannot be loaded."""
    attachment = await _attached(bench, await bench.attachment())
    await bench.store.delete_attachment(attachment.id, bench.context)

    for what, sought in (("a deleted", attachment.id), ("an unknown", bench.new_id("atc"))):
        answer = bench.store.load_attachment(sought, bench.context)
        await bench.not_found("attachment", f"load_attachment of {what} id", answer)


# --- owners --------------------------------------------------------------------------------------------------------


@check(item_is_kept, level="extended", breaks="One user reads another one's conversations.")
async def other_users_see_nothing(bench: Bench) -> None:
    """Nothing of what one user has saved is given to another one."""
    stranger = _stranger(bench)
    secret = bench.new_id("secret")
    thread = await bench.thread(title=secret)
    (item_id,) = await bench.add(thread, bench.message(thread, secret))
    store = bench.store

    attempts: dict[str, Callable[[], Any]] = {
        "load_thread gives another user's thread": lambda: store.load_thread(thread.id, stranger),
        "load_item gives another user's item": lambda: store.load_item(thread.id, item_id, stranger),
        "load_threads lists another user's thread": lambda: store.load_threads(PLENTY, None, "desc", stranger),
        "load_thread_items gives another user's items": lambda: store.load_thread_items(
            thread.id, None, PLENTY, "asc", stranger
        ),
    }
    for what, attempt in attempts.items():
        given = await bench.outcome(attempt())  # an error, nothing or an empty thread betrays nothing
        expect(not (isinstance(given, BaseModel) and secret in given.model_dump_json()), what)


@check(item_is_kept, level="extended", breaks="One user changes or deletes another one's conversations.")
async def other_users_change_nothing(bench: Bench) -> None:
    """What another user saves, adds or deletes under the same ids leaves one's own thread and items as they were."""
    stranger = _stranger(bench)
    thread, ids = await bench.conversation(2)
    theirs = thread.model_copy(update={"title": "taken"})
    taken = bench.message(thread, "taken", id=ids[0])
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: bench.store.delete_thread_item(thread.id, ids[1], stranger),
        lambda: bench.store.delete_thread(thread.id, stranger),
        lambda: bench.store.save_thread(theirs, stranger),
        lambda: bench.store.save_item(thread.id, taken, stranger),
        lambda: bench.store.add_thread_item(thread.id, bench.message(thread), stranger),
    )
    for attempt in attempts:
        with suppress(Exception):  # refusing is right, however it is said
            await attempt()

        was = bench.doing
        try:
            title = (await bench.store.load_thread(thread.id, bench.context)).title
            found = [item.model_dump()["content"][0]["text"] for item in (await bench.page(thread)).data]
        except Exception:  # noqa: BLE001  the thread is gone, however this store says it
            title, found = None, []
        expect(title == thread.title, f"another user's {was} has changed the thread: its title is {title!r}")
        expect(found == ["hello", "hello"], f"another user's {was} has changed the items: they are {found}")


@check(attachment_is_kept, level="extended", breaks="One user reads another one's files.")
async def other_users_see_no_attachments(bench: Bench) -> None:
    """An attachment that one user has saved cannot be loaded or deleted by another one."""
    stranger = _stranger(bench)
    attachment = await _attached(bench, await bench.attachment())

    theirs = bench.store.load_attachment(attachment.id, stranger)
    await bench.not_found("attachment", "load_attachment of another user's attachment", theirs)
    await bench.outcome(bench.store.delete_attachment(attachment.id, stranger))  # refusing is right
    left = await bench.outcome(bench.store.load_attachment(attachment.id, bench.context))
    expect(getattr(left, "id", None) == attachment.id, "another user has deleted the attachment")


# --- other workers -------------------------------------------------------------------------------------------------


@check(
    unknown_thread_is_not_found,
    level="extended",
    breaks="The browser answers before the response has ended, finds no pending call, and the chat is stuck.",
)
async def writes_are_seen_at_once(bench: Bench) -> str:
    """What was written through one store object is seen by a second one on the same data at once, not later."""
    thread = await bench.new_thread()
    async with bench.another() as one:
        await one.save_thread(thread, bench.context)
        async with bench.another() as two:
            same = vars(one)["_store"] is vars(two)["_store"]
            seen = await _sees(two, thread, bench.context)
    if same:
        raise NotOfferedError("the factory gives the same store object each time: no second one to look with")
    if seen:
        return "two stores from the factory share their data, and the second saw the write at once"
    async with bench.another() as later:
        appeared = await _sees(later, thread, bench.context)
    expect(not appeared, "a second store saw the write only after the first one had been closed")
    raise NotOfferedError("each store from the factory has data of its own: nobody else could see the write")


async def _named(method: Callable[..., Any], **arguments: Any) -> None:
    with suppress(NotFoundError, NotImplementedError):  # what it answers belongs to other rules
        await method(**arguments)


async def _attached(bench: Bench, attachment: Attachment) -> Attachment:
    try:
        await bench.store.save_attachment(attachment, bench.context)
    except NotImplementedError:
        raise NotOfferedError("save_attachment raises NotImplementedError") from None
    return attachment


def _stranger(bench: Bench) -> Any:
    if not bench.others:
        raise NotOfferedError("no second context was given, so it was not looked whether users are kept apart")
    return bench.others[0]


async def _sees(store: Store[Any], thread: ThreadMetadata, context: Any) -> bool:
    try:
        return (await store.load_thread(thread.id, context)).id == thread.id
    except Exception:  # noqa: BLE001  it is not there, however this store says it
        return False
