"""The list of checks: no false alarm on stores that are right, and one broken rule for each defect."""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union
from uuid import uuid4

import pytest
from chatkit.types import AssistantMessageItem, ThreadMetadata
from pydantic import BaseModel
from typing_extensions import TypedDict

from chatkit_clienttools.testing import Report, Status, check_store
from chatkit_clienttools.testing.stores import CHECKS, _items
from chatkit_clienttools.testing.stores import _samples as samples
from chatkit_clienttools.testing.stores._examine import RAISED, WAITS
from tests.contract.broken import (
    BROKEN,
    DropsQuotes,
    HalfDeletes,
    InsertsThreads,
    KeepsLocks,
    KeyErrorForAll,
    LosesUpdates,
    MakesThreads,
    MakesThreadsForAnybody,
    NarrowUnion,
    NoneForItems,
    OneSession,
    OrphansAlone,
    OwnNotFound,
    StartsOver,
    buffered,
)
from tests.contract.good import GOOD, USERS, OwnedStore, WholeStore, sharing
from tests.helpers.conversation import at
from tests.helpers.stores import InsertStore, LiveStore, PlainStore

if TYPE_CHECKING:
    from collections.abc import Callable

DEFECTS = [pytest.param(rule, store, id=f"{store.__name__}-{rule}") for rule in BROKEN for store in BROKEN[rule]]


async def examined(make: Callable[[], Any], contexts: tuple[Any, ...] = (None,), **options: Any) -> Report:
    return await check_store(make, contexts=contexts, **options)


def names(report: Report, status: Status) -> set[str]:
    return {result.name for result in report.results if result.status is status}


def result_of(report: Report, name: str) -> Any:
    return next(result for result in report.results if result.name == name)


class TestGoodStores:
    @pytest.mark.parametrize("name", GOOD)
    async def test_no_false_alarm(self, name: str) -> None:
        """A store that is right passes every check it offers something to, and nothing is left in it."""
        make, contexts = GOOD[name]

        report = await examined(make(), contexts)

        assert ((), True, ()) == (report.broken, report.ok, report.notes)
        assert set() == names(report, Status.NOT_CHECKED)

    async def test_everything_offered_is_checked(self) -> None:
        """A store that offers everything, for two users, on shared data, has no check that does not apply."""
        store = OwnedStore()

        report = await examined(lambda: store, USERS)

        assert {"writes_are_seen_at_once"} == names(report, Status.NOT_OFFERED)
        assert "same store object" in result_of(report, "writes_are_seen_at_once").detail

    async def test_shared_data(self) -> None:
        """Whether two stores of one factory share their data is found out and said."""
        shared = await examined(sharing())
        alone = await examined(WholeStore)

        assert "share their data" in result_of(shared, "writes_are_seen_at_once").detail
        assert "data of its own" in result_of(alone, "writes_are_seen_at_once").detail

    async def test_nothing_is_skipped_in_silence(self) -> None:
        """What a store does not offer is a result, with the reason."""
        report = await examined(PlainStore)

        missing = [result for result in report.results if result.status is Status.NOT_OFFERED]
        assert 9 == len(missing)
        assert all(result.detail for result in missing)

    async def test_fast(self) -> None:
        """All checks of a store in memory take less than a second of the processor."""
        began = time.process_time()

        await examined(WholeStore)

        assert time.process_time() - began < 1


class TestBrokenStores:
    @pytest.mark.parametrize(("rule", "store"), DEFECTS)
    async def test_one_defect_breaks_one_rule(self, rule: str, store: Any) -> None:
        """Each defect breaks the one rule that is about it, and no other one."""
        make = store() if store is buffered else store
        contexts = USERS if isinstance(store, type) and issubclass(store, OwnedStore) else (None,)

        report = await examined(make, contexts, time_limit=0.5)

        assert {rule} == names(report, Status.BROKEN)
        assert not report.ok

    def test_every_rule_is_broken_by_some_store(self) -> None:
        """Every rule that can be broken is broken by some store, so that no rule is without effect."""
        detected = {"adding_an_item_again", "room_in_generated_ids"}
        assert {check.name for check in CHECKS} - detected == set(BROKEN)

    async def test_two_defects(self) -> None:
        """A store that hands out what it holds and holds what it is handed breaks both rules, for all it holds."""
        report = await examined(LiveStore)

        expected = {
            "loaded_thread_is_a_copy",
            "saved_thread_is_a_copy",
            "loaded_item_is_a_copy",
            "saved_item_is_a_copy",
            "attachment_is_a_copy",
        }
        assert expected == names(report, Status.BROKEN)

    async def test_what_rests_on_a_broken_rule(self) -> None:
        """A rule that cannot be told while another one is broken is not checked, and the result names that one."""
        report = await examined(BROKEN["item_is_kept"][0])

        result = result_of(report, "every_type_of_item_is_kept")
        assert (Status.NOT_CHECKED, "item_is_kept has to hold first") == (result.status, result.detail)

    async def test_what_rests_on_what_is_not_offered(self) -> None:
        """A rule about something that is not offered is not offered either, for the same reason."""
        report = await examined(PlainStore)

        assert result_of(report, "plan_is_kept").detail == result_of(report, "plan_is_compared").detail


class FailsForDeleted(WholeStore):
    """Says of an unknown thread what ChatKit says, and fails for a deleted one."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        self.deleted.add(thread_id)
        await super().delete_thread(thread_id, context)

    def _refuse(self, thread_id: str) -> None:
        if thread_id in self.deleted:
            raise RuntimeError("archived")


class FailsForDeletedThreads(FailsForDeleted):
    async def load_thread(self, thread_id: str, context: Any) -> Any:
        self._refuse(thread_id)
        return await super().load_thread(thread_id, context)


class FailsForDeletedItems(FailsForDeleted):
    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        self._refuse(thread_id)
        return await super().load_thread_items(thread_id, after, limit, order, context)


class TestErrors:
    @pytest.mark.parametrize(
        ("rule", "store"),
        [
            ("thread_can_be_saved_again", InsertsThreads),
            ("deleted_thread_is_not_found", FailsForDeletedThreads),
            ("deleted_thread_takes_its_items", FailsForDeletedItems),
            ("requests_can_overlap", OneSession),  # one of many
            ("every_type_of_item_is_kept", NarrowUnion),  # among others that may be kept in another way
        ],
    )
    async def test_an_error_breaks_what_an_error_breaks(self, rule: str, store: Any) -> None:
        """Where a store raised it is not known what else it does wrong: only what becomes of the request is told."""
        result = result_of(await examined(store), rule)

        assert (Status.BROKEN, RAISED) == (result.status, result.breaks)

    @pytest.mark.parametrize(
        ("rule", "store"),
        [
            ("deleted_thread_takes_its_items", OrphansAlone),
            ("unknown_cursor_is_not_page_one", StartsOver),
            ("unknown_thread_is_not_found", MakesThreads),
            ("requests_can_overlap", LosesUpdates),
            ("every_type_of_item_is_kept", DropsQuotes),
        ],
    )
    async def test_without_an_error_the_rule_says_it(self, rule: str, store: Any) -> None:
        """Where it was seen that the store does what the rule is about, the rule's own consequence is told."""
        result = result_of(await examined(store), rule)

        (check,) = (check for check in CHECKS if check.name == rule)
        assert (Status.BROKEN, check.breaks) == (result.status, result.breaks)

    @pytest.mark.parametrize(
        ("store", "seen"),
        [
            (
                KeyErrorForAll,
                "load_thread, load_item, load_thread_items, load_attachment raised builtins.KeyError; expected is",
            ),
            (
                OwnNotFound,
                "load_attachment raised tests.contract.broken.OwnNotFound.NotFoundError; expected is chatkit.",
            ),
            (NoneForItems, "load_item gave None; expected is chatkit.store.NotFoundError"),
        ],
    )
    async def test_a_foreign_error_for_absence_breaks_one_rule(self, store: Any, seen: str) -> None:
        """A store with another error for what is not there breaks one rule, which names its class and every method."""
        (broken,) = (await examined(store)).broken

        assert "absence_is_chatkits_error" == broken.name
        assert seen in broken.detail
        assert broken.breaks.startswith("ChatKit accepts any error here.")

    async def test_an_empty_thread_betrays_nobody(self) -> None:
        """A store that makes an empty thread for whoever asks breaks a rule, but not the one about other users."""
        report = await examined(MakesThreadsForAnybody, USERS)

        assert Status.HELD is result_of(report, "other_users_see_nothing").status
        assert ["unknown_thread_is_not_found"] == [result.name for result in report.broken]

    async def test_waiting_breaks_what_waiting_breaks(self) -> None:
        """Where an operation did not come back only that is told."""
        result = result_of(await examined(KeepsLocks, time_limit=0.1), "lock_is_given_back")

        assert (Status.BROKEN, WAITS) == (result.status, result.breaks)


class Ignores(PlainStore):
    """ON CONFLICT DO NOTHING."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        self.items.setdefault(thread_id, {}).setdefault(item.id, self._in(item))

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        self.items[thread_id][item.id] = self._in(item)


class Duplicates(PlainStore):
    """No unique key."""

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        items = self.items.setdefault(thread_id, {})
        items["again" if item.id in items else item.id] = self._in(item)

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        self.items[thread_id][item.id] = self._in(item)


class TestDetected:
    @pytest.mark.parametrize(
        ("store", "what"),
        [(InsertStore, "raises"), (Ignores, "ignores"), (PlainStore, "replaces"), (Duplicates, "duplicates")],
    )
    async def test_an_id_that_is_there_already(self, store: Any, what: str) -> None:
        """What add_thread_item does with an id that is there is found out, and told with what follows from it."""
        report = await examined(store)

        result = result_of(report, "adding_an_item_again")
        assert (Status.DETECTED, what) == (result.status, result.detail.split()[0])
        assert result.breaks
        assert report.ok

    @pytest.mark.parametrize(
        ("make_id", "bits", "follows"),
        [
            (lambda: f"thr_{uuid4().hex[:8]}", 32, "two of them will be the same"),
            (lambda: str(uuid4()), 122, "practically never meet"),
            (partial(next, map(str, count(1))), 18, "Ids that are counted, and not random, are fine"),
        ],
        ids=["ChatKit's own", "uuid4", "counted"],
    )
    async def test_how_much_room_ids_have(self, make_id: Callable[[], str], bits: int, follows: str) -> None:
        """How many bits of a generated id differ is found out: 32 random ones, as ChatKit's own have, are too few."""

        class Generates(PlainStore):
            def generate_thread_id(self, context: Any) -> str:
                return make_id()

            def generate_item_id(self, item_type: Any, thread: Any, context: Any) -> str:
                return make_id()

        result = result_of(await examined(Generates), "room_in_generated_ids")

        assert Status.DETECTED is result.status
        assert abs(bits - int(result.detail.split()[0])) <= 10
        assert follows in result.breaks


class TestTheList:
    def test_every_check_is_in_it_once(self) -> None:
        """The list holds each check once, and a check rests on checks before it only."""
        found = [check.name for check in CHECKS]

        assert sorted(set(found)) == sorted(found)
        for number, check in enumerate(CHECKS):
            assert set(check.rests_on) <= set(CHECKS[:number])

    def test_the_readme_counts_them(self) -> None:
        """README.md says how many rules there are."""
        readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")

        assert f"your own store against {len(CHECKS)} rules" in readme

    def test_every_check_says_its_rule(self) -> None:
        """Each check has a rule and what breaks without it, both whole sentences."""
        for check in CHECKS:
            assert check.rule.endswith("."), check.name
            assert check.breaks.endswith("."), check.name


class Odd(BaseModel):
    """What no sample can be made of."""

    odd: complex


class TestSamples:
    @pytest.mark.parametrize("kind", [*samples.item_types(), *samples.attachment_types()])
    def test_every_type_has_one(self, kind: Any) -> None:
        """Of every type of item and attachment a sample can be made, with the optional fields filled."""
        made = samples.sample(kind, id="an id", thread_id="a thread", created_at="2026-01-01T00:00:00")

        empty = [name for name, field in kind.model_fields.items() if getattr(made, name) in (None, [], {})]
        assert [] == empty

    def test_unions_are_taken_apart(self) -> None:
        """The members of a union are found however it is nested; None is none of them."""
        assert (int, str, bytes) == samples.members(Annotated[int | Union[str, bytes] | None, "x"])  # noqa: UP007

    def test_typed_dicts(self) -> None:
        """A field that is a TypedDict is filled as well."""

        class Point(TypedDict):
            x: int

        class Dotted(BaseModel):
            point: Point

        assert {"x": 3} == samples.sample(Dotted).point

    def test_only_what_is_required(self) -> None:
        """Of a model that does not take all of its fields filled, a sample has the required ones."""

        class Picky(BaseModel):
            needed: str
            odd: complex | None = None

        assert samples.sample(Picky).odd is None

    def test_no_sample(self) -> None:
        """A type of field nobody has thought of is an error that names it."""
        with pytest.raises(samples.NoSampleError, match=r"Odd: no sample of .*complex"):
            samples.sample(Odd)

    async def test_no_sample_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A type of item no sample can be made of is named in the report; the others are checked all the same."""
        monkeypatch.setattr(_items, "item_types", lambda: (Odd, AssistantMessageItem))

        report = await examined(PlainStore)

        result = result_of(report, "every_type_of_item_is_kept")
        assert Status.HELD is result.status
        assert "no sample could be made of Odd" in result.detail


NOT_CLEANABLE = {"deleted_thread_is_not_found", "unknown_thread_is_not_found", "writes_are_seen_at_once"}
"""One does not delete, one has every thread that is asked for, and the stores of the last are gone when closed."""


class TestCleaning:
    async def test_everything_is_removed(self) -> None:
        """What the checks have written is removed; what was there before is as it was."""
        store = WholeStore()
        mine = await kept(store)
        before = (dict(store.threads), {**store.items}, dict(store.attachments), dict(store.plans))

        await examined(lambda: store)

        store.items = {thread_id: items for thread_id, items in store.items.items() if items}
        assert before == (store.threads, store.items, store.attachments, store.plans)
        assert [mine] == list(store.threads)

    @pytest.mark.long
    @pytest.mark.parametrize("rule", sorted(BROKEN.keys() - NOT_CLEANABLE))
    async def test_after_a_broken_rule_too(self, rule: str) -> None:
        """A check that fails leaves nothing behind either: no thread, no item, no attachment."""
        stores: list[Any] = []

        def make() -> Any:
            stores.append(BROKEN[rule][0]())
            return stores[-1]

        contexts = USERS if issubclass(BROKEN[rule][0], OwnedStore) else (None,)
        report = await examined(make, contexts, time_limit=0.5)

        first = stores[0]
        left = list(first.inners.values()) if isinstance(first, OwnedStore) else [first]
        assert () == report.notes
        assert [({}, {})] * len(left) == [(store.threads, store.attachments) for store in left]
        assert not any(items for store in left for items in store.items.values())

    async def test_what_could_not_be_removed_is_told(self) -> None:
        """A store that does not delete keeps what the checks wrote, and the report names it."""
        report = await examined(HalfDeletes)

        assert report.notes
        assert "was not removed: deleting it has done nothing" in report.notes[0]
        assert f"NOTE and {len(report.notes) - 5} more" in str(report).splitlines()

    async def test_an_error_in_removing_is_told(self) -> None:
        """A store whose delete_thread fails is named with its error."""

        class Refuses(PlainStore):
            async def delete_thread(self, thread_id: str, context: Any) -> None:
                raise PermissionError("not you")

        report = await examined(Refuses)

        assert "was not removed: PermissionError: not you" in report.notes[0]

    async def test_a_thread_id_that_is_taken(self) -> None:
        """A store whose ids repeat does not lose the thread that has the id already."""
        store = BROKEN["generated_ids_are_new"][0]()
        mine = await kept(store, "thread_of_alice")

        await examined(lambda: store)

        assert [mine] == list(store.threads)
        assert 1 == len(store.items[mine])

    async def test_an_attachment_id_that_is_taken(self) -> None:
        """A store whose attachment ids repeat does not lose the attachment that has the id already."""

        class OneFile(WholeStore):
            def generate_attachment_id(self, mime_type: str, context: Any) -> str:
                return "my file"

        store = OneFile()
        mine = samples.sample(samples.attachment_types()[0], id="my file", thread_id=None)
        await store.save_attachment(mine, None)

        report = await examined(lambda: store)

        assert report.ok
        assert {"my file": mine} == store.attachments


async def kept(store: Any, thread_id: str = "mine") -> str:
    """Put a conversation into a store, as its owner has it there."""
    thread = ThreadMetadata(id=thread_id, created_at=at(1))
    await store.save_thread(thread, None)
    item = samples.sample(AssistantMessageItem, id="my item", thread_id=thread_id, created_at=at(2))
    await store.add_thread_item(thread_id, item, None)
    return thread_id


class CrowdedStore(WholeStore):
    """Holds more threads than anybody looks through."""

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        if order == "desc":
            return await super().load_threads(limit, after, order, context)
        page = await super().load_threads(limit, None, order, context)
        return page.model_copy(update={"data": [], "has_more": True, "after": "somewhere"})


class TestBusyStores:
    async def test_others_threads_come_first(self) -> None:
        """With too many other threads before those of a check, "asc" is not looked at, and the report says so."""
        report = await examined(CrowdedStore)

        assert report.ok
        assert 'only "desc" was looked at' in result_of(report, "threads_are_in_order").detail
