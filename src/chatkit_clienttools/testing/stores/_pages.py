"""The checks of the order of items, and of reading them page by page."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING

from ._bench import MANY, PAGE, outcome
from ._changes import deleted_item_is_gone
from ._items import item_is_kept
from ._rules import BrokenRuleError, check, expect

if TYPE_CHECKING:
    from chatkit.types import ThreadMetadata

    from ._bench import Bench

ORDERS = ("asc", "desc")
MOST_PAGES = 20
STUCK = "ChatKit takes an answer for the newest item only: ValueError, a broken stream, and a chat that is stuck."


@check(item_is_kept, breaks=f"Conversations are shown upside down. {STUCK}")
async def order_is_honoured(bench: Bench) -> None:
    """load_thread_items gives the oldest item first for "asc" and the newest first for "desc"."""
    thread, ids = await bench.conversation(4)

    for order in ORDERS:
        _in_order(order, ids, await bench.ids(thread, order=order))


@check(order_is_honoured, breaks="Every request reads the whole conversation, and the browser gets it all at once.")
async def limit_is_honoured(bench: Bench) -> None:
    """load_thread_items gives at most `limit` items, from the beginning of the order that was asked for."""
    thread, ids = await bench.conversation(4)

    for limit in (1, 3):
        found = await bench.ids(thread, limit=limit, order="desc")
        expect(len(found) == limit, f"limit was {limit}, and {len(found)} of 4 items came")
        expect(found == ids[::-1][:limit], f'limit {limit}, order "desc" did not give the newest {limit}')


@check(item_is_kept, breaks="The browser does not load older messages, or asks for more of them for ever.")
async def has_more_is_right(bench: Bench) -> None:
    """has_more of a page says whether items follow it, also when the page ends exactly with the last one."""
    thread, _ = await bench.conversation(4)

    for limit in (1, 3, 4, 5):
        page = await bench.page(thread, limit=limit)
        more = len(page.data) < 4  # noqa: PLR2004  # of the four there are
        expect(page.has_more is more, f"a page of {len(page.data)} of 4 items has has_more {page.has_more!r}")
    empty = await bench.page(await bench.thread())
    expect(empty.has_more is False, f"an empty page has has_more {empty.has_more!r}")


@check(
    order_is_honoured,
    limit_is_honoured,
    has_more_is_right,
    breaks="Older messages are shown twice or not at all, and Retry, which goes back page by page, never ends.",
)
async def next_page_follows(bench: Bench) -> None:
    """The page after the one that ended with `after` goes on right behind it, in both orders."""
    thread, ids = await bench.conversation(5)

    for order in ORDERS:
        _in_order(order, ids, await _walked(bench, thread, order))


@check(order_is_honoured, limit_is_honoured, breaks=f"A pending call stored in the same tick is not found. {STUCK}")
async def newest_of_one_tick_is_the_last_added(bench: Bench) -> None:
    """Of items with the same time, the one added last is the newest."""
    at = bench.tick()
    thread, ids = await bench.conversation(3, created_at=at)

    (newest,) = await bench.ids(thread, limit=1, order="desc")

    seen = f"of 3 items with one created_at, the newest should be the third; it is number {ids.index(newest) + 1}"
    expect(newest == ids[-1], seen)


@check(order_is_honoured, breaks=f"Messages of one tick are shown in a random order. {STUCK}")
async def ties_are_not_broken_by_id(bench: Bench) -> None:
    """Items with the same time stay in the order they were added, whatever their ids are."""
    at = bench.tick()
    thread = await bench.thread()
    later, earlier = bench.new_id(), bench.new_id()  # `earlier` is greater, and is added first
    ids = await bench.add(thread, *(bench.message(thread, id=i, created_at=at) for i in (earlier, later)))

    seen = "two items with one created_at come in the order of their ids, not in that of their arrival"
    expect(await bench.ids(thread) == ids, seen)


@check(
    order_is_honoured,
    breaks="ChatKit writes naive local times, other code writes aware ones: the thread cannot be read. Or: " + STUCK,
)
async def naive_and_aware_times_mix(bench: Bench) -> None:
    """Items with naive and with aware times in one thread are in the order they were added."""
    thread = await bench.thread()
    zones = (None, timezone(timedelta(hours=14)), None, timezone.utc, timezone(timedelta(hours=-12)))
    times = [bench.tick() if zone is None else bench.tick().astimezone(zone) for zone in zones]
    ids = await bench.add(thread, *(bench.message(thread, created_at=at) for at in times))

    for order in ORDERS:
        _in_order(order, ids, await bench.ids(thread, order=order))


@check(
    newest_of_one_tick_is_the_last_added,
    ties_are_not_broken_by_id,
    naive_and_aware_times_mix,
    breaks="Naive local time goes back an hour every autumn, and two machines never agree to the millisecond. " + STUCK,
)
async def order_is_not_the_clocks(bench: Bench) -> None:
    """Items are in the order they were added, also when the clock has gone back in between."""
    thread = await bench.thread()
    earlier, later = bench.tick(), bench.tick()
    ids = await bench.add(thread, *(bench.message(thread, created_at=at) for at in (later, earlier)))

    _in_order("asc", ids, await bench.ids(thread))


@check(
    next_page_follows,
    breaks="The beginning of a conversation that goes on for a while is gone, for the user and for the model.",
)
async def long_thread_is_kept(bench: Bench) -> None:
    """Of more items than one page holds each is still in its thread, by its id and page by page."""
    thread, ids = await bench.conversation(MANY)

    seen = await _walked(bench, thread, "desc", PAGE)

    in_words = f"{MANY} items, {PAGE} a page: {_gaps(ids, seen)}, or in another order"
    expect(seen == ids[::-1], in_words)
    expect(await bench.has("item", thread.id, ids[0]), f"load_item does not give the oldest of {MANY} items")


@check(
    next_page_follows,
    breaks="Messages of one tick at the end of a page are never shown, and Retry does not delete them.",
)
async def pages_skip_no_ties(bench: Bench) -> None:
    """Going through a thread page by page gives every item once, also when pages end between items of one tick."""
    at = bench.tick()
    thread, ids = await bench.conversation(5, created_at=at)

    for order in ORDERS:
        seen = await _walked(bench, thread, order)
        in_words = f'5 items with one created_at, order "{order}", 2 a page: {_gaps(ids, seen)}'
        expect(sorted(seen) == sorted(ids), in_words)


@check(
    next_page_follows,
    deleted_item_is_gone,
    breaks="Scrolling back while somebody writes or retries shows messages twice, or leaves some out.",
)
async def pages_hold_still(bench: Bench) -> None:
    """The next page neither skips nor repeats anything when items were added or deleted since the last one."""
    thread, ids = await bench.conversation(6)
    page = await bench.page(thread, limit=3)
    await bench.store.delete_thread_item(thread.id, ids[0])
    rest = await bench.ids(thread, page.after)
    expect(rest == ids[3:], f"an item of page one was deleted; page two gave {len(rest)} of the 3 items left")

    page = await bench.page(thread, limit=2, order="desc")
    await bench.add(thread, bench.message(thread))
    rest = await bench.ids(thread, page.after, order="desc")
    seen = f"an item was added; page two gave {len(rest)} of the 3 items left, or others"
    expect(rest == ids[1:4][::-1], seen)


@check(
    next_page_follows, breaks="The browser goes round in circles, showing the newest messages again below the oldest."
)
async def unknown_cursor_is_not_page_one(bench: Bench) -> None:
    """A cursor that means nothing is an error or gives an empty page; it does not start over."""
    thread, _ = await bench.conversation(3)

    items = await bench.page_or_nothing(thread, bench.new_id(), limit=2)

    expect(not items, f"an unknown cursor gave {len(items)} items, as if there was none")


@check(
    unknown_cursor_is_not_page_one,
    pages_hold_still,
    breaks="Older messages are missing without a word when the last one of a page was deleted meanwhile.",
)
async def deleted_cursor_loses_nothing(bench: Bench) -> str:
    """When the item a page ended with was deleted, the next page goes on behind it, or is an error."""
    thread, ids = await bench.conversation(4)
    page = await bench.page(thread, limit=2)
    await bench.store.delete_thread_item(thread.id, ids[1])
    if await bench.is_absence("cursor", await outcome(bench.page, thread, page.after)):
        return "a cursor whose item was deleted is an error"
    rest = await bench.ids(thread, page.after)
    expect(rest == ids[2:], f"2 items follow the deleted one; the next page gave {len(rest)}, or others")
    return "the next page goes on behind an item that was deleted"


async def _walked(bench: Bench, thread: ThreadMetadata, order: str, limit: int = 2) -> list[str]:
    """Go through the thread as ChatKit does, page by page."""
    seen: list[str] = []
    after = None
    for _ in range(MOST_PAGES):
        page = await bench.page(thread, after, limit, order)
        seen += [item.id for item in page.data]
        if not page.has_more:
            return seen
        expect(page.after, "has_more is True, and after is None: there is no way to the next page")
        after = page.after
    raise BrokenRuleError(f"has_more is still True after {MOST_PAGES} pages of {limit} of {len(set(seen))} items")


def _in_order(order: str, ids: list[str], seen: list[str]) -> None:
    expected = ids if order == "asc" else ids[::-1]
    places = ", ".join(str(expected.index(item_id) + 1) for item_id in seen)
    expect(seen == expected, f'{len(expected)} items, order "{order}", come as {places or "none"}, not as 1, 2, 3...')


def _gaps(ids: list[str], seen: list[str]) -> str:
    return f"{len(ids) - len(set(seen))} missed, {len(seen) - len(set(seen))} repeated"
