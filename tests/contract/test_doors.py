"""The doors to the list of checks for tests: `check_store`, and the class `StoreContract`."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import textwrap
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import FactoryError, Status, StoreContract, check_store
from chatkit_clienttools.testing.stores import CHECKS
from chatkit_clienttools.testing.stores._examine import PATIENCE
from tests.contract.broken import ByClock, Hanging, OtherNames
from tests.contract.good import USERS, OwnedStore, WholeStore
from tests.helpers.programs import finished
from tests.helpers.stores import PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BREAKS = "ChatKit takes an answer for the newest item only"


@pytest.mark.no_cover  # test_checks.py runs all of this, too
class TestPlainStore(StoreContract):
    def make_store(self) -> Any:
        return PlainStore()


@pytest.mark.no_cover  # test_checks.py runs all of this, too
class TestValidatedPlansStore(StoreContract):
    def make_store(self) -> Any:
        return ValidatingStore(PlansStore())


@pytest.mark.no_cover  # test_checks.py runs all of this, too
class TestOwnedStore(StoreContract):
    """With two users, made by an async method, closed after each test."""

    contexts = USERS

    @pytest.fixture(autouse=True)
    def _data(self) -> None:
        self.store = OwnedStore()
        self.open = 0

    async def make_store(self) -> Any:
        @asynccontextmanager
        async def opened() -> AsyncIterator[OwnedStore]:
            self.open += 1
            yield self.store
            self.open -= 1

        return opened()


class Clocked(StoreContract):
    def make_store(self) -> Any:
        return ByClock()


def read(text: str) -> str:
    return str(json.loads(text))


LINE = inspect.getsourcelines(read)[1] + 1
"""Where it raises."""


class Misreads(PlainStore):
    """Falls over a long text."""

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        item = await super().load_item(thread_id, item_id, context)
        if len(str(item)) > 5_000:
            read("{")
        return item


class Misread(StoreContract):
    def make_store(self) -> Any:
        return Misreads()


class Slow(StoreContract):
    time_limit = 0.01

    def make_store(self) -> Any:
        return Hanging()


class TestStoreContract:
    def test_it_has_the_whole_list(self) -> None:
        """Every check is a test of its own, whose docstring is the rule."""
        tests = {name: test.__doc__ for name, test in vars(StoreContract).items() if name.startswith("test_")}

        assert {f"test_{check.name}": check.rule for check in CHECKS} == tests

    def test_a_broken_rule_is_a_failure(self) -> None:
        """A failing test says the rule, what was seen, and what will break in the chat."""
        with pytest.raises(AssertionError) as failure:
            Clocked().test_newest_of_one_tick_is_the_last_added()  # type: ignore[attr-defined]  # made from the list

        rule, seen, breaks = str(failure.value).splitlines()
        assert "Of items with the same time, the one added last is the newest." == rule
        assert "  seen:   of 3 items with one created_at, the newest should be the third; it is number 1" == seen
        assert breaks.startswith("  breaks: ")
        assert BREAKS in breaks
        assert failure.value.__cause__ is None

    def test_an_error_is_shown_where_it_was_raised(self) -> None:
        """A failure because the store raised has the error for its cause, from the check to the store's frames."""
        with pytest.raises(AssertionError) as failure:
            Misread().test_long_text_is_kept()  # type: ignore[attr-defined]

        assert isinstance(failure.value.__cause__, json.JSONDecodeError)
        frames = [frame.name for frame in traceback.extract_tb(failure.value.__cause__.__traceback__)]
        assert ["long_text_is_kept", "watched", "load_item", "read", "loads"] == frames[1:6]
        assert str(failure.value).splitlines()[1].endswith(f" ({__file__}, line {LINE})")

    def test_an_error_of_the_call_itself(self) -> None:
        """An error that was raised before any code of the store ran has the frames of the check."""

        class Misnamed(StoreContract):
            def make_store(self) -> Any:
                return OtherNames()

        with pytest.raises(AssertionError) as failure:
            Misnamed().test_arguments_have_chatkits_names()  # type: ignore[attr-defined]

        assert isinstance(failure.value.__cause__, TypeError)
        assert "watched" == traceback.extract_tb(failure.value.__cause__.__traceback__)[-1].name

    @pytest.mark.long
    def test_pytest_shows_it(self, tmp_path: Path) -> None:
        """What pytest prints of it has the line of the store that raised."""
        (tmp_path / "test_mine.py").write_text(
            "from chatkit_clienttools.testing import StoreContract\n"
            "from tests.contract.test_doors import Misread\n"
            "class TestMine(Misread):\n"
            "    pass\n"
        )

        run = finished("-m", "pytest", "-q", "-k", "long_text", "-c", os.devnull, str(tmp_path))

        assert "    return str(json.loads(text))" in run.stdout

    def test_what_is_not_offered_is_skipped(self) -> None:
        """A test of what the store does not offer is skipped, and says what was looked for."""
        with pytest.raises(SkipTest, match="not offered: the store has no thread_lock"):
            TestPlainStore().test_lock_excludes()  # type: ignore[attr-defined]

    def test_what_cannot_be_told_is_skipped(self) -> None:
        """A test whose rule rests on a broken one is skipped, and names that one."""
        with pytest.raises(SkipTest, match="not checked: newest_of_one_tick_is_the_last_added has to hold first"):
            Clocked().test_order_is_not_the_clocks()  # type: ignore[attr-defined]

    def test_what_is_detected_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What was found out is printed with what follows from it; pytest shows it with -rP."""
        Clocked().test_adding_an_item_again()  # type: ignore[attr-defined]

        what, follows = capsys.readouterr().out.splitlines()
        assert "replaces it" == what
        assert follows

    def test_a_check_that_hangs(self) -> None:
        """A test ends when its time is over, and says which operation it waited for."""
        with pytest.raises(AssertionError, match=r"load_thread_items had not come back when the check's 0\.01 seconds"):
            Slow().test_item_is_kept()  # type: ignore[attr-defined]

    def test_what_is_left_running_is_cancelled(self) -> None:
        """A task a store has started does not outlive the test's event loop."""
        tasks: list[Any] = []

        class Starts(StoreContract):
            async def make_store(self) -> Any:
                tasks.append(asyncio.ensure_future(asyncio.Event().wait()))
                return PlainStore()

        Starts().test_thread_is_kept()  # type: ignore[attr-defined]

        assert [True] == [task.cancelled() for task in tasks]

    def test_without_a_store(self) -> None:
        """A subclass that does not say how its store is made is told so."""

        class Forgotten(StoreContract):
            pass

        with pytest.raises(FactoryError, match="Forgotten has to say how its store is made"):
            Forgotten().test_thread_is_kept()  # type: ignore[attr-defined]

    def test_a_factory_that_hangs(self) -> None:
        """Making the store has the time limit too; the failure shows where it waited."""

        class Waits(StoreContract):
            time_limit = 0.01

            async def make_store(self) -> Any:
                await asyncio.Event().wait()

        with pytest.raises(
            FactoryError, match=r"make_store did not give a store: it had not come back when 0\.01 s"
        ) as e:
            Waits().test_thread_is_kept()  # type: ignore[attr-defined]

        assert e.value.__cause__
        assert "make_store" in [frame.name for frame in traceback.extract_tb(e.value.__cause__.__traceback__)]

    def test_one_user_twice(self) -> None:
        """Two equal contexts are refused: what one of them sees is no leak."""

        class Doubled(StoreContract):
            contexts = ({"user": "alice"}, {"user": "alice"})

            def make_store(self) -> Any:
                return PlainStore()

        with pytest.raises(UsageError, match=r"^contexts have to be of different users, .*; two of them are equal$"):
            Doubled().test_thread_is_kept()  # type: ignore[attr-defined]

    def test_stores_are_closed(self) -> None:
        """A store that came as a context manager is closed when the test is over; an error in it is the test's."""

        class Closing(StoreContract):
            @asynccontextmanager
            async def make_store(self) -> AsyncIterator[Any]:
                yield PlainStore()
                raise ConnectionError("gone")

        with pytest.raises(ConnectionError, match="gone"):
            Closing().test_thread_is_kept()  # type: ignore[attr-defined]

    @pytest.mark.long
    def test_any_pytest_collects_it(self, tmp_path: Path) -> None:
        """A subclass is collected and run by a pytest that has no plugin for asyncio as well."""
        (tmp_path / "test_mine.py").write_text(
            textwrap.dedent("""
                from chatkit_clienttools.testing import StoreContract
                from tests.contract.broken import ByClock

                class TestMine(StoreContract):
                    def make_store(self):
                        return ByClock()
            """)
        )

        (tmp_path / "pytest.ini").write_text("[pytest]")
        plain = ("-p", "no:asyncio", "-p", "no:anyio", "--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini"))

        run = finished("-m", "pytest", "-q", "-rs", *plain, str(tmp_path))

        assert 1 == run.returncode
        assert BREAKS in run.stdout
        assert "not offered: no second context was given" in run.stdout
        assert "1 failed, 64 passed, 5 skipped" in run.stdout


class TestCheckStore:
    async def test_progress(self) -> None:
        """Before each check its number, the number of all checks and its name are reported."""
        told: list[tuple[int, int, str]] = []

        await check_store(PlainStore, progress=lambda *what: told.append(what))

        assert [(number, len(CHECKS), check.name) for number, check in enumerate(CHECKS, 1)] == told

    async def test_any_error_is_a_result(self) -> None:
        """Whatever a store raises is a broken rule with the error's type and message and the operation, not a crash."""

        class Falls(PlainStore):
            async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
                raise ZeroDivisionError("division by zero\nand more")

        class Silent(PlainStore):
            async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
                raise ZeroDivisionError

        falls, silent = await check_store(Falls), await check_store(Silent)

        assert "load_threads raised ZeroDivisionError: division by zero" in {without_place(r) for r in falls.broken}
        assert "load_threads raised ZeroDivisionError" in {without_place(r) for r in silent.broken}

    @pytest.mark.parametrize("around", [lambda store: store, ValidatingStore])
    async def test_where_it_was_raised(self, around: Any) -> None:
        """The result names file and line of the innermost frame in the store's own code, whatever is around it."""
        report = await check_store(lambda: around(Misreads()))

        (broken,) = (result for result in report.broken if result.name == "long_text_is_kept")
        assert broken.detail.endswith(f" ({__file__}, line {LINE})")

    async def test_raised_in_no_code_of_theirs(self) -> None:
        """An error that was raised before any code of the store ran, as by a wrong argument, has no place."""
        report = await check_store(OtherNames)

        (broken,) = report.broken
        assert broken.detail.endswith("unexpected keyword argument 'context'")

    async def test_a_store_that_hangs(self) -> None:
        """A check has a time limit; after a few that ran into it the others are no longer tried."""
        report = await check_store(Hanging, time_limit=0.01)

        details = [result.detail for result in report.broken]
        assert ["load_thread_items had not come back when the check's 0.01 seconds were over"] == details
        assert [] == [note for note in report.notes if "item" not in note]

    async def test_patience(self) -> None:
        """After three checks that ran into the time limit the others are not checked, and say why."""

        class Sticks(PlainStore):
            async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
                await asyncio.Event().wait()

            async def delete_thread(self, thread_id: str, context: Any) -> None:
                await asyncio.Event().wait()

        report = await check_store(Sticks, time_limit=0.01)

        given_up = [r for r in report.results if r.detail == f"{PATIENCE} checks before it took too long"]
        assert given_up
        assert {Status.NOT_CHECKED} == {result.status for result in given_up}
        assert any("not everything could be removed" in note for note in report.notes)

    async def test_factories(self) -> None:
        """A factory is a function or an async one, and gives a store or an async context manager of one."""
        closed: list[str] = []

        @asynccontextmanager
        async def managed() -> AsyncIterator[PlainStore]:
            yield PlainStore()
            closed.append("managed")

        async def asynchronous() -> Any:
            return managed()

        for factory in (PlainStore, managed, asynchronous):
            report = await check_store(factory)
            assert report.ok
        assert closed

    @pytest.mark.parametrize(
        ("made", "problem"),
        [(None, "it returned a NoneType, which has no add_thread_item, delete_attachment"), (object(), "object")],
    )
    async def test_no_store(self, made: Any, problem: str) -> None:
        """What has not the methods of a store is refused at once, naming those it has not."""
        with pytest.raises(FactoryError, match=problem):
            await check_store(lambda: made)

    async def test_a_factory_that_fails(self) -> None:
        """A factory that fails is one error that names it and says what went wrong."""

        def make_store() -> Any:
            raise ConnectionRefusedError("no database here")

        with pytest.raises(FactoryError, match=r"make_store did not give a store: ConnectionRefusedError: no database"):
            await check_store(make_store)

    async def test_a_factory_that_hangs_later(self) -> None:
        """Where one more store is made for a check, the check's time limit ends it, and the factory is named."""
        made: list[PlainStore] = []

        async def make_store() -> Any:
            if made:
                await asyncio.Event().wait()
            made.append(PlainStore())
            return made[0]

        (broken,) = (await check_store(make_store, time_limit=0.05)).broken

        assert "the factory had not come back when the check's 0.05 seconds were over" == broken.detail

    async def test_a_store_that_cannot_be_closed(self) -> None:
        """An error in closing the store is told with the report, and does not take its place."""

        @asynccontextmanager
        async def make_store() -> AsyncIterator[Any]:
            yield WholeStore()
            raise ConnectionError("gone")

        report = await check_store(make_store)

        assert "the store could not be closed: ConnectionError: gone" == report.notes[-1]


def without_place(result: Any) -> str:
    return str(result.detail.rpartition(" (")[0])
