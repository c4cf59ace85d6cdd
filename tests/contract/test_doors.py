"""The doors to the list of checks: `check_store`, the class `StoreContract`, and the command `doctor`."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import runpy
import signal
import subprocess
import sys
import textwrap
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.__main__ import main
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import FactoryError, Report, Status, StoreContract, check_store
from chatkit_clienttools.testing._factory import made_by, opened
from chatkit_clienttools.testing.stores import CHECKS
from chatkit_clienttools.testing.stores._examine import PATIENCE
from tests.contract.broken import ByClock, NarrowUnion, OtherNames, Sample
from tests.contract.good import USERS, OwnedStore, WholeStore
from tests.helpers.stores import PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BREAKS = "ChatKit takes an answer for the newest item only"


class TestPlainStore(StoreContract):
    def make_store(self) -> Any:
        return PlainStore()


class TestValidatedPlansStore(StoreContract):
    def make_store(self) -> Any:
        return ValidatingStore(PlansStore())


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


class Hanging(PlainStore):
    """Waits for an answer that never comes."""

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        await asyncio.Event().wait()


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
        """A failure because the store raised has the error for its cause, with the store's frames and no others."""
        with pytest.raises(AssertionError) as failure:
            Misread().test_long_text_is_kept()  # type: ignore[attr-defined]

        assert isinstance(failure.value.__cause__, json.JSONDecodeError)
        frames = [frame.name for frame in traceback.extract_tb(failure.value.__cause__.__traceback__)]
        assert ["load_item", "read", "loads"] == frames[:3]
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
        """It is said before each check which one it is, and how many there are."""
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


async def waits() -> Any:
    await asyncio.Event().wait()


async def waits_for_a_database() -> Any:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionError("the connection is gone") from None


@asynccontextmanager
async def waits_within() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


class TestFactory:
    """What a factory makes, whatever it is to make."""

    @pytest.mark.parametrize("factory", [waits, waits_for_a_database, waits_within])
    async def test_time_limit(self, factory: Any) -> None:
        """A factory that does not come back is ended, whatever it says to that, and the error names what was wanted."""
        stack = AsyncExitStack()

        with pytest.raises(FactoryError) as raised:
            await made_by(factory, stack, time_limit=0.01, wanted="a server")

        said = "did not give a server: it had not come back when 0.01 seconds were over"
        assert f"{factory.__module__}.{factory.__qualname__} {said}" == str(raised.value)

    async def test_one_task(self) -> None:
        """A context manager is entered in the task that closes it, as those that hold a task group have to be."""
        tasks: list[Any] = []

        @asynccontextmanager
        async def make() -> AsyncIterator[Any]:
            tasks.append(asyncio.current_task())
            yield PlainStore()
            tasks.append(asyncio.current_task())

        async with opened(make, time_limit=5.0):
            pass

        assert [asyncio.current_task()] * 2 == tasks

    async def test_its_own_time_limit(self) -> None:
        """A factory that gave up by itself is quoted."""

        async def make() -> Any:
            raise asyncio.TimeoutError("the database did not answer")

        with pytest.raises(FactoryError, match="the database did not answer"):
            await made_by(make, AsyncExitStack(), time_limit=5.0)

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not count how often it was cancelled")
    async def test_ended_by_somebody_else(self) -> None:
        """A task that was cancelled while its time ran out is cancelled, and not told about the time."""

        async def make() -> Any:
            try:
                await waits()
            finally:
                task.cancel()

        task = asyncio.ensure_future(made_by(make, AsyncExitStack(), time_limit=0.01))

        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_factory_in_a_factory(self) -> None:
        """The factory that failed is named, and not the one that called it."""

        async def outer() -> Any:
            return await made_by(waits, AsyncExitStack(), time_limit=0.01)

        with pytest.raises(FactoryError, match=r"^tests\.contract\.test_doors\.waits did not give a store"):
            await made_by(outer, AsyncExitStack(), time_limit=None, wanted="a server")

    async def test_methods(self) -> None:
        """What was made has to have the methods that are asked for."""
        with pytest.raises(FactoryError, match=r"give a server: it returned a PlainStore, which has no process$"):
            await made_by(PlainStore, AsyncExitStack(), time_limit=None, wanted="a server", methods=["process"])


class TestReport:
    async def test_broken_rules_come_first(self) -> None:
        """The report begins with the broken rules, ends with the numbers, and has at most 100 columns."""
        lines = str(await check_store(ByClock)).splitlines()

        assert ["Store: tests.contract.broken.ByClock", ""] == lines[:2]
        assert "BROKEN newest_of_one_tick_is_the_last_added" == lines[2]
        assert max(len(line) for line in lines) <= 100
        assert "1 broken, 62 held, 2 detected, 4 not offered, 1 not checked" == lines[-1]

    async def test_a_store_that_is_right(self) -> None:
        """The report of a store that is right says what it does, what it does not offer and why, and the numbers."""
        lines = str(await check_store(PlainStore)).splitlines()

        assert "DETECTED adding_an_item_again: replaces it" in lines
        assert "NOT OFFERED lock_excludes, lock_is_given_back: the store has no thread_lock" in lines
        assert "0 broken, 59 held, 2 detected, 9 not offered" == lines[-1]

    async def test_it_is_short(self) -> None:
        """The report of a store with eight broken rules has at most 60 lines."""
        report = await check_store(Sample)

        assert 8 == len(report.broken)
        assert len(str(report).splitlines()) <= 60

    async def test_only_what_is_broken(self) -> None:
        """On demand there are only the broken rules and the numbers."""
        lines = (await check_store(ByClock)).to_text(only_broken=True).splitlines()

        assert 9 == len(lines)
        assert "BROKEN newest_of_one_tick_is_the_last_added" == lines[2]
        assert lines[-1].startswith("1 broken, ")

    async def test_colour(self) -> None:
        """On demand the broken rules are red, and the numbers red or green."""
        broken, right = [(await check_store(store)).to_text(colour=True) for store in (ByClock, PlainStore)]

        assert 4 == broken.count("\x1b[")
        assert "\x1b[1;31mBROKEN newest_of_one_tick_is_the_last_added\x1b[0m" in broken.splitlines()
        assert broken.splitlines()[-1].startswith("\x1b[1;31m1 broken")
        assert right.splitlines()[-1].startswith("\x1b[1;32m0 broken")

    async def test_json(self) -> None:
        """The report is also plain data with all that was seen."""
        report = await check_store(NarrowUnion)

        data = json.loads(json.dumps(report.to_json()))

        assert (False, []) == (data["ok"], data["notes"])
        (broken,) = (result for result in data["results"] if result["status"] == "broken")
        assert {"name", "level", "rule", "status", "detail", "breaks"} == set(broken)
        assert "WidgetItem: add_thread_item raised ValidationError" in broken["detail"]

    def test_empty(self) -> None:
        """A report without results is one of nothing broken."""
        assert Report("a store", ()).ok


APP = """
import asyncio
import signal
from contextlib import asynccontextmanager

from tests.contract.broken import ByClock
from tests.contract.good import OwnedStore, WholeStore
from tests.contract.test_doors import Hanging

print("the application has started")
store = WholeStore()
alice = "alice"
NOTHING = None

class Stores:
    good = WholeStore

def good():
    return WholeStore()

def broken():
    return ByClock()

def hanging():
    return Hanging()

async def waiting():
    await asyncio.Event().wait()

def owned():
    return OwnedStore()

def bob():
    return "bob"

async def carol():
    return "carol"

def fails():
    raise ConnectionRefusedError("is the database up?")

def interrupted():
    raise KeyboardInterrupt

def signalled():
    add = store.add_thread_item

    async def stopped(*arguments):
        await add(*arguments)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    store.add_thread_item = stopped
    return store
"""


def finished(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as users do, in a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An application in a folder of its own, which is where the command is run."""
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "store.py").write_text(APP)
    (tmp_path / "myapp" / "exits.py").write_text("raise SystemExit('set DATABASE_URL first')")
    (tmp_path / "myapp" / "typo.py").write_text("def make_store(:\n")
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name in [name for name in sys.modules if name.split(".")[0] == "myapp"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.long
class TestDoctorAsAProcess:
    def test_a_store_that_is_right(self, app: Path) -> None:
        """Exit status 0, the table on stdout, and progress on stderr while it runs."""
        run = finished("-m", "chatkit_clienttools", "doctor", "myapp.store:good", cwd=app)

        assert 0 == run.returncode
        assert "Store: myapp.store.good" == run.stdout.splitlines()[0]
        assert f" 1/{len(CHECKS)} thread_is_kept" in run.stderr
        assert "the application has started" in run.stderr

    def test_a_broken_store(self, app: Path) -> None:
        """Exit status 1, and the rule in plain words."""
        run = finished("-m", "chatkit_clienttools", "doctor", "myapp.store:broken", cwd=app)

        assert 1 == run.returncode
        assert "Of items with the same time, the one added last is the newest." in run.stdout
        assert "1 broken, 62 held, 2 detected, 4 not offered, 1 not checked" == run.stdout.splitlines()[-1]

    def test_interrupted(self, app: Path) -> None:
        """Ctrl-C ends it with one line and without a traceback."""
        command = [sys.executable, "-m", "chatkit_clienttools", "doctor", "myapp.store:hanging", "--time-limit", "600"]
        with subprocess.Popen(command, cwd=app, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            assert process.stderr
            for line in process.stderr:
                if "item_is_kept" in line:
                    break
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate()

        assert 130 == process.returncode
        assert "doctor: interrupted" in rest
        assert "Traceback" not in rest

    def test_without_pytest(self) -> None:
        """The checks need neither pytest nor hypothesis, and the package needs no checks."""
        loaded = "print(sorted({'pytest', 'hypothesis', 'chatkit_clienttools.testing'} & set(sys.modules)))"

        run = finished("-c", f"import sys, chatkit_clienttools; {loaded}; import chatkit_clienttools.testing; {loaded}")

        assert ["[]", "['chatkit_clienttools.testing']"] == run.stdout.splitlines()


@pytest.mark.usefixtures("app")
class TestDoctor:
    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without arguments it says what it can do."""
        assert 0 == main([])
        assert "doctor" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["doctor"], ["nothing"], ["doctor", "--nothing", "myapp.store:good"]])
    def test_usage(self, arguments: list[str]) -> None:
        """A command that cannot be understood has exit status 2."""
        with pytest.raises(SystemExit) as exited:
            main(arguments)

        assert 2 == exited.value.code

    @pytest.mark.parametrize(
        ("factory", "said"),
        [
            ("myapp.store", "'myapp.store' does not name a factory; it should read module:factory"),
            ("nowhere:make", "nowhere:make cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
            ("myapp.store:missing", "AttributeError: module 'myapp.store' has no attribute 'missing'"),
            ("myapp.typo:make_store", "myapp.typo:make_store cannot be imported: SyntaxError"),
            ("myapp.exits:make_store", "SystemExit: set DATABASE_URL first"),
            (
                "myapp.store:fails",
                "myapp.store.fails did not give a store: ConnectionRefusedError: is the database",
            ),
            ("myapp.store:NOTHING", "myapp.store.NOTHING did not give a store: it returned a NoneType, which has no"),
        ],
    )
    def test_one_line(self, factory: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        """What cannot be imported or made is one clear line, and exit status 2."""
        assert 2 == main(["doctor", factory])

        written = capsys.readouterr()
        (line,) = (line for line in written.err.splitlines() if line != "the application has started")
        assert line.startswith("doctor: ")
        assert said in line
        assert "" == written.out

    @pytest.mark.parametrize("factory", ["myapp.store:good", "myapp.store:store", "myapp.store:Stores.good"])
    def test_factories(self, factory: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The factory is a function, a class, one inside another name, or the store itself."""
        assert 0 == main(["doctor", factory])
        assert f"Store: {factory.replace(':', '.')}" == capsys.readouterr().out.splitlines()[0]

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With --json there is nothing but JSON on stdout."""
        assert 1 == main(["doctor", "myapp.store:broken", "--json"])

        report = json.loads(capsys.readouterr().out)
        assert (False, "myapp.store.broken") == (report["ok"], report["store"])

    def test_only_broken(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With --only-broken there are the broken rules and the numbers."""
        assert 1 == main(["doctor", "myapp.store:broken", "--only-broken"])

        written = capsys.readouterr().out
        assert "BROKEN newest_of_one_tick_is_the_last_added" in written
        assert "DETECTED" not in written

    @pytest.mark.parametrize(("terminal", "no_colour", "marks"), [(True, "", 4), (True, "1", 0), (False, "", 0)])
    def test_colour(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        terminal: bool,
        no_colour: str,
        marks: int,
    ) -> None:
        """There is colour on a terminal only, and none if NO_COLOR is set."""
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
        monkeypatch.setenv("NO_COLOR", no_colour)

        assert 1 == main(["doctor", "myapp.store:broken"])

        assert marks == capsys.readouterr().out.count("\x1b[")

    @pytest.mark.parametrize("second", ["myapp.store:bob", "myapp.store:carol"])
    def test_contexts(self, second: str, capsys: pytest.CaptureFixture[str]) -> None:
        """With two contexts it is checked that users are kept apart; each is a value, or what makes one."""
        contexts = ["--context", "myapp.store:alice", "--context", second]

        assert 0 == main(["doctor", "myapp.store:owned", *contexts])
        assert 1 == main(["doctor", "myapp.store:good", *contexts])
        broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN ")]
        rules = ("other_users_see_nothing", "other_users_change_nothing", "other_users_see_no_attachments")
        assert [f"BROKEN {rule}" for rule in rules] == broken

    def test_a_context_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A context that cannot be made is one clear line, too."""
        assert 2 == main(["doctor", "myapp.store:good", "--context", "myapp.store:fails"])
        assert "myapp.store:fails did not give a context: ConnectionRefusedError" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["myapp.store:waiting"], "myapp.store.waiting did not give a store: it had not come back when 0.05"),
            (
                ["myapp.store:good", "--context", "myapp.store:waiting"],
                "myapp.store:waiting did not give a context: it had not come back when 0.05 seconds were over",
            ),
            (
                ["myapp.store:good", "--context", "myapp.store:alice", "--context", "myapp.store:alice"],
                "contexts have to be of different users",
            ),
        ],
    )
    def test_what_it_cannot_begin_with(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A factory that does not come back, and the same user twice, are one clear line and exit status 2."""
        assert 2 == main(["doctor", *arguments, "--time-limit", "0.05"])
        assert f"doctor: {said}" in capsys.readouterr().err

    def test_on_a_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal progress is one line that is gone at the end."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

        assert 0 == main(["doctor", "myapp.store:good"])
        progress = capsys.readouterr().err.partition("\n")[2]
        assert progress.startswith("\r\x1b[K")
        assert progress.endswith("\r\x1b[K")
        assert "\n" not in progress

    @pytest.mark.parametrize("factory", ["myapp.store:interrupted", "myapp.store:signalled"])
    def test_interrupted(self, factory: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Ctrl-C has exit status 130, and what was written is removed before."""
        from_before = signal.getsignal(signal.SIGINT)

        assert 130 == main(["doctor", factory])
        assert "doctor: interrupted" in capsys.readouterr().err
        assert from_before is signal.getsignal(signal.SIGINT)
        assert {} == sys.modules["myapp.store"].store.threads

    def test_in_another_thread(self) -> None:
        """The command is a function that can be called in any thread."""
        with ThreadPoolExecutor() as threads:
            assert 0 == threads.submit(main, ["doctor", "myapp.store:good"]).result()

    def test_as_a_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is run as `python -m chatkit_clienttools`."""
        monkeypatch.delitem(sys.modules, "chatkit_clienttools.__main__")
        monkeypatch.setattr(sys, "argv", ["chatkit_clienttools"])

        with pytest.raises(SystemExit) as exited:
            runpy.run_module("chatkit_clienttools", run_name="__main__")

        assert 0 == exited.value.code
