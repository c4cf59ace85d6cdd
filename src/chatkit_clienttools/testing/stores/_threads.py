"""The checks of what a store does with threads."""

from __future__ import annotations

from itertools import zip_longest
from math import log2
from typing import TYPE_CHECKING, Any

from chatkit.types import ActiveStatus, ClosedStatus, LockedStatus, Page, Thread

from ._bench import MANY, PAGE, PLENTY
from ._rules import Finding, check, expect
from ._samples import MOMENTS, TEXT

if TYPE_CHECKING:
    from chatkit.types import ThreadMetadata

    from ._bench import Bench

ENOUGH_BITS = 64
"""Of a million ids with so many random bits two are the same with a probability of 1 to 37 million."""

MOST_PAGES = 50
"""How many pages of other people's threads are read to find those of a check."""


@check(breaks="No conversation can be opened: ChatKit loads the thread at the beginning of every request.")
async def thread_is_kept(bench: Bench) -> None:
    """A thread that was saved is loaded again, with its title and everything else it had."""
    thread = await bench.new_thread(title=TEXT, allowed_image_domains=["example.com"])
    await bench.store.save_thread(thread)

    loaded = await bench.store.load_thread(thread.id)

    other_rules = {"created_at", "metadata", "status"}
    saved, found = thread.model_dump(exclude=other_rules), loaded.model_dump(exclude=other_rules)
    expect(saved == found, f"saved {saved}, loaded {found}")


@check(
    thread_is_kept,
    breaks="A thread cannot be renamed, locked or closed: threads.update ends in an error or changes nothing.",
)
async def thread_can_be_saved_again(bench: Bench) -> None:
    """Saving a thread that is already there replaces what is stored of it; a field set to None becomes None."""
    thread = await bench.thread(title="First")
    thread.title = None
    await bench.store.save_thread(thread)

    title = (await bench.store.load_thread(thread.id)).title

    expect(title is None, f"the title was set to None and saved again; it is {title!r}")


@check(
    thread_is_kept,
    breaks="ChatKit saves a Thread with its items when the title changes in its first run. If it is loaded with them, "
    "threads.get_by_id fails with a TypeError.",
)
async def items_are_not_kept_in_their_thread(bench: Bench) -> None:
    """A Thread that is saved with its items is loaded without them, alone and in a list."""
    thread = await bench.new_thread()
    await bench.store.save_thread(Thread(**thread.model_dump(), items=Page()))

    for how in ("load_thread", "load_threads"):
        loaded = await _loaded(bench, thread, how)
        seen = f"a Thread was saved, and {how} gave the items with it: keep ThreadMetadata"
        expect("items" not in loaded.model_dump(), seen)


@check(
    thread_can_be_saved_again,
    breaks="What a backend remembers in a thread is gone with the next request; so is a queue of client tool calls.",
)
async def metadata_is_kept(bench: Bench) -> None:
    """The metadata of a thread is persisted by save_thread, nested values and None included."""
    first: dict[str, Any] = {"who": TEXT, "nested": {"list": [1, 2.5, None, True, {"deep": []}]}, "none": None}
    thread = await bench.thread(metadata=first)
    loaded = await bench.store.load_thread(thread.id)
    expect(loaded.metadata == first, f"saved {first}, loaded {loaded.metadata}")

    loaded.metadata = {"second": 2}
    await bench.store.save_thread(loaded)

    again = (await bench.store.load_thread(thread.id)).metadata
    expect(again == {"second": 2}, f"saved {{'second': 2}} over it, loaded {again}")


@check(
    thread_can_be_saved_again,
    breaks="A locked or closed thread opens as an active one: users write where nobody answers.",
)
async def status_is_kept(bench: Bench) -> None:
    """The status of a thread is persisted by save_thread, with its reason, and can be changed back."""
    thread = await bench.thread()
    for status in (LockedStatus(reason=TEXT), ClosedStatus(reason="over"), ActiveStatus()):
        thread.status = status
        await bench.store.save_thread(thread)

        loaded = (await bench.store.load_thread(thread.id)).status

        expect(loaded == status, f"saved {status!r}, loaded {loaded!r}")


@check(
    metadata_is_kept,
    status_is_kept,
    breaks="Renaming or locking a conversation loses what a backend remembers in it, or a queue of client tool calls.",
)
async def changing_a_part_keeps_the_others(bench: Bench) -> None:
    """Saving a thread with another title, metadata or status keeps what else is stored of it."""
    thread = await bench.thread(metadata={"who": TEXT}, status=LockedStatus(reason=TEXT))
    changes = {"title": "renamed", "metadata": {"second": 2}, "status": ClosedStatus(reason="over")}
    for changed, value in changes.items():
        thread = thread.model_copy(update={changed: value}, deep=True)
        await bench.store.save_thread(thread)

        loaded = await bench.store.load_thread(thread.id)

        others = [name for name in changes if getattr(loaded, name) != getattr(thread, name)]
        expect(not others, f"a thread was saved with another {changed}, and loaded with another {', '.join(others)}")


@check(thread_is_kept, breaks="A link to a deleted conversation opens one in which nothing was ever said.")
async def unknown_thread_is_not_found(bench: Bench) -> None:
    """Loading a thread that is not there does not make one."""
    unknown = await bench.new_thread()

    await bench.not_found("thread", "load_thread of an unknown id", bench.store.load_thread, unknown.id)


@check(
    metadata_is_kept,
    breaks="Setting the title of a loaded thread changes the store before it is saved, and for other requests too.",
)
async def loaded_thread_is_a_copy(bench: Bench) -> None:
    """Changing a thread that was loaded, alone or in a list, does not change the store."""
    thread = await bench.thread(metadata={"list": []})
    for how in ("load_thread", "load_threads"):
        await _is_a_copy(bench, await _loaded(bench, thread, how), f"what {how} gave")


@check(
    metadata_is_kept,
    breaks="What a response changes in its thread is in the store before it is saved, and stays there if it fails.",
)
async def saved_thread_is_a_copy(bench: Bench) -> None:
    """Changing a thread after it was saved does not change the store."""
    await _is_a_copy(bench, await bench.thread(metadata={"list": []}), "the saved thread")


@check(
    thread_is_kept,
    breaks="The history shows the oldest conversations first, and the one just begun is not on its first page.",
)
async def threads_are_in_order(bench: Bench) -> str | None:
    """load_threads gives the newest thread first for "desc" and the oldest first for "asc"."""
    threads = [(await bench.thread()).id for _ in range(3)]

    await _are_in_order(bench, threads[::-1], "desc")
    if not await _are_in_order(bench, threads, "asc"):
        return 'only "desc" was looked at: there are too many other threads before those of the check'
    return None


@check(
    threads_are_in_order,
    breaks="Of two threads begun in the same tick of the clock the older one is shown as the newest.",
)
async def threads_of_one_tick_are_in_order(bench: Bench) -> None:
    """Of threads with the same time, the one saved last is the newest."""
    at = (await bench.new_thread()).created_at
    threads = [(await bench.thread(created_at=at)).id for _ in range(4)]

    await _are_in_order(bench, threads[::-1], "desc")


@check(
    threads_are_in_order, breaks="The history of a person with many conversations is loaded at once, at every visit."
)
async def limit_of_threads_is_honoured(bench: Bench) -> None:
    """load_threads gives at most `limit` threads, and says in has_more that there are others."""
    for _ in range(3):
        await bench.thread()

    page = await bench.store.load_threads(2, None, "desc")

    expect(len(page.data) == 2, f"limit was 2, and {len(page.data)} of 3 threads came")  # noqa: PLR2004
    expect(page.has_more, "limit was 2 of 3 threads, and has_more is False")


@check(
    limit_of_threads_is_honoured,
    breaks="Scrolling down the history shows the same conversations again, or leaves some out.",
)
async def pages_of_threads_follow(bench: Bench) -> None:
    """Going through the threads page by page, by the page's `after`, gives each of them once, those of one tick too."""
    at = (await bench.new_thread()).created_at
    threads = [(await bench.thread()).id for _ in range(3)]
    threads += [(await bench.thread(created_at=at)).id for _ in range(2)]

    await _come_once(bench, threads, limit=2)


@check(
    pages_of_threads_follow,
    breaks="Older conversations vanish from the history of a person who has many, or cannot be opened any more.",
)
async def many_threads_are_kept(bench: Bench) -> None:
    """Of more threads than one page holds each is still there, by its id and page by page."""
    threads = [(await bench.thread()).id for _ in range(MANY)]

    await _come_once(bench, threads, limit=PAGE)
    expect(await bench.has("thread", threads[0]), f"load_thread does not give the oldest of {MANY} threads")


@check(
    threads_are_in_order,
    thread_can_be_saved_again,
    breaks="Renaming an old conversation moves it to the top of the history, and pages that are being read shift.",
)
async def saved_thread_keeps_its_place(bench: Bench) -> None:
    """Saving a thread again leaves it where it was among the threads."""
    first = await bench.thread()
    threads = [first.id, (await bench.thread()).id, (await bench.thread()).id]
    first.title = "renamed"
    await bench.store.save_thread(first)

    await _are_in_order(bench, threads[::-1], "desc")


@check(unknown_thread_is_not_found, breaks="A conversation that the user has deleted is still there.")
async def deleted_thread_is_not_found(bench: Bench) -> None:
    """A thread that was deleted cannot be loaded any more, and is no longer listed."""
    thread = await bench.thread()
    await bench.store.delete_thread(thread.id)

    await bench.not_found("thread", "load_thread of a deleted thread", bench.store.load_thread, thread.id)
    listed, _ = await _own_threads(bench, [thread.id], "desc", pages=1)
    expect(not listed, "the deleted thread is still listed by load_threads")


@check(breaks="Two messages or two threads get one id: the second overwrites the first or cannot be saved.")
async def generated_ids_are_new(bench: Bench) -> None:
    """generate_thread_id and generate_item_id never give the same id twice."""
    for name, ids in (await _generated(bench, 50)).items():
        expect(len(set(ids)) == len(ids), f"{len(ids)} calls of {name} gave {len(set(ids))} ids")


@check(generated_ids_are_new, breaks="ChatKit cannot make an id.")
async def room_in_generated_ids(bench: Bench) -> Finding:
    """How many bits differ from one generated id to the next: with few of them, ids that are random meet."""
    threads, items = (_bits(ids) for ids in (await _generated(bench, 256)).values())
    what = f"{threads} bits differ between ids of threads, and {items} between ids of items"
    return Finding(what, _ROOMY if min(threads, items) >= ENOUGH_BITS else _NARROW)


_ROOMY = "Even random ids practically never meet."
_NARROW = (
    "If the ids are random, two of them will be the same: with 32 bits, as ChatKit's own have, this is as likely as "
    "not among 77,000. Two people then share a conversation, or one overwrites the other's. Override "
    "generate_thread_id and generate_item_id: uuid4().hex has 122 bits. Ids that are counted, and not random, are fine."
)


@check(thread_is_kept, breaks="The history shows wrong times, and sorts its threads by them.")
async def time_of_a_thread_is_kept(bench: Bench) -> None:
    """A thread's created_at is loaded as the moment that was saved, to the second."""
    for at in MOMENTS:
        thread = await bench.thread(created_at=at)

        loaded = (await bench.store.load_thread(thread.id)).created_at

        expect(abs(loaded.timestamp() - at.timestamp()) <= 1, f"saved {at.isoformat()}, loaded {loaded.isoformat()}")


async def _generated(bench: Bench, count: int) -> dict[str, list[str]]:
    """Return ids of threads and of items, by what makes them."""
    thread = await bench.new_thread()
    return {
        "generate_thread_id": [bench.store.generate_thread_id() for _ in range(count)],
        "generate_item_id": [bench.store.generate_item_id("message", thread) for _ in range(count)],
    }


def _bits(ids: list[str]) -> int:
    """Return how many bits differ between ids, counting the characters that are seen at each place."""
    return round(sum(log2(len(set(place))) for place in zip_longest(*ids)))


async def _loaded(bench: Bench, thread: ThreadMetadata, how: str) -> ThreadMetadata:
    if how == "load_thread":
        return await bench.store.load_thread(thread.id)  # type: ignore[no-any-return]
    page = await bench.store.load_threads(PLENTY, None, "desc")
    found: list[ThreadMetadata] = [loaded for loaded in page.data if loaded.id == thread.id]
    expect(found, "load_threads does not list a thread that was just saved")
    return found[0]


async def _is_a_copy(bench: Bench, thread: ThreadMetadata, what: str) -> None:
    """Hold the rule that changing this object leaves what is stored as it was."""
    thread.title = "changed"
    thread.metadata["list"].append("changed")

    now = await bench.store.load_thread(thread.id)

    seen = f"{what} was changed, and the store now has {now.title!r}, {now.metadata}"
    expect((now.title, now.metadata) == ("A check", {"list": []}), seen)


async def _are_in_order(bench: Bench, threads: list[str], order: str) -> bool:
    """Hold the rule that these threads come in this order; return False if too many older ones come before them."""
    seen, ended = await _own_threads(bench, threads, order)
    if order == "asc" and not ended and len(seen) < len(threads):
        return False
    places = ", ".join(str(threads.index(thread_id) + 1) for thread_id in seen)
    in_words = f'{len(threads)} threads in the order "{order}" should come as 1, 2, 3...; they come as {places}'
    expect(seen == threads, in_words)
    return True


async def _come_once(bench: Bench, threads: list[str], *, limit: int) -> None:
    """Hold the rule that each of these threads comes once, page by page."""
    seen, _ = await _own_threads(bench, threads, "desc", limit=limit)
    missed, repeated = len(threads) - len(set(seen)), len(seen) - len(set(seen))
    in_words = f"{len(threads)} threads, {limit} a page, gave {missed} of them never, {repeated} repeated"
    expect(not missed and not repeated, in_words)


async def _own_threads(
    bench: Bench, own: list[str], order: str, *, limit: int = PLENTY, pages: int = MOST_PAGES
) -> tuple[list[str], bool]:
    """Go through the threads until all of `own` were seen; return those in order, and whether there were no others.

    The store may hold other people's threads, and more of them may come while it is read.
    """
    seen: list[str] = []
    after = None
    for _ in range(pages):
        page = await bench.store.load_threads(limit, after, order)
        seen += [thread.id for thread in page.data if thread.id in own]
        after = page.after
        if not page.has_more or set(seen) == set(own):
            return seen, True
    return seen, False
