"""The command `doctor`, and the report that it prints."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from chatkit_clienttools.__main__ import main
from chatkit_clienttools.testing import Report, check_store
from chatkit_clienttools.testing.stores import CHECKS
from tests.contract.broken import ByClock, NarrowUnion, Sample
from tests.helpers.programs import finished
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
import asyncio
import signal
from contextlib import asynccontextmanager

from tests.contract.broken import ByClock, Hanging
from tests.contract.good import OwnedStore, WholeStore

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


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """Take Ctrl-C as a process in the foreground does: the tests may run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
        assert {"name", "rule", "status", "detail", "breaks"} == set(broken)
        assert "WidgetItem: add_thread_item raised ValidationError" in broken["detail"]

    def test_empty(self) -> None:
        """A report without results is one of nothing broken."""
        assert Report("a store", ()).ok


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
        """For a broken store the exit status is 1, and the rule is printed in plain words."""
        run = finished("-m", "chatkit_clienttools", "doctor", "myapp.store:broken", cwd=app)

        assert 1 == run.returncode
        assert "Of items with the same time, the one added last is the newest." in run.stdout
        assert "1 broken, 62 held, 2 detected, 4 not offered, 1 not checked" == run.stdout.splitlines()[-1]

    @pytest.mark.usefixtures("heeds_interrupts")  # and what it starts does so, too
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
        """Without arguments the command says what it can do."""
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
        """The doctor's report has colours on a terminal only, and none if NO_COLOR is set."""
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

    def test_a_broken_store_without_a_context(self, capsys: pytest.CaptureFixture[str]) -> None:
        """If a rule is broken and no context was given, the last line says that the store got None, and the option."""
        assert 1 == main(["doctor", "myapp.store:broken"])
        without = capsys.readouterr().err
        assert 1 == main(["doctor", "myapp.store:broken", "--context", "myapp.store:alice"])

        assert without.rstrip().endswith("if it looks at that, give one with --context module:factory")
        assert "--context" not in capsys.readouterr().err

    def test_a_context_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A context that cannot be made is one clear line, too."""
        assert 2 == main(["doctor", "myapp.store:good", "--context", "myapp.store:fails"])
        assert "myapp.store.fails did not give a context: ConnectionRefusedError" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["myapp.store:waiting"], "myapp.store.waiting did not give a store: it had not come back when 0.05"),
            (
                ["myapp.store:good", "--context", "myapp.store:waiting"],
                "myapp.store.waiting did not give a context: it had not come back when 0.05 seconds were over",
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

    def test_in_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        """In a file progress is the first check, every tenth, and the last one: the report is not buried."""
        assert 0 == main(["doctor", "myapp.store:good"])

        lines = [line for line in capsys.readouterr().err.splitlines() if f"/{len(CHECKS)} " in line]
        assert [1, *range(10, len(CHECKS), 10), len(CHECKS)] == [int(line.partition("/")[0]) for line in lines]

    @pytest.mark.parametrize("factory", ["myapp.store:interrupted", "myapp.store:signalled"])
    @pytest.mark.usefixtures("heeds_interrupts")
    def test_interrupted(self, factory: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Ctrl-C has exit status 130, and what was written is removed before."""
        assert 130 == main(["doctor", factory])
        assert "doctor: interrupted" in capsys.readouterr().err
        assert signal.default_int_handler is signal.getsignal(signal.SIGINT)
        assert {} == sys.modules["myapp.store"].store.threads

    def test_in_another_thread(self) -> None:
        """The command is a function that can be called in any thread."""
        with ThreadPoolExecutor() as threads:
            assert 0 == threads.submit(main, ["doctor", "myapp.store:good"]).result()

    def test_as_a_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command can also be run as `python -m chatkit_clienttools`."""
        monkeypatch.delitem(sys.modules, "chatkit_clienttools.__main__")
        monkeypatch.setattr(sys, "argv", ["chatkit_clienttools"])

        with pytest.raises(SystemExit) as exited:
            runpy.run_module("chatkit_clienttools", run_name="__main__")

        assert 0 == exited.value.code
