"""One mutant, one forked process: the tests that come past the changed lines, the fastest first, until one fails."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import pickle
import signal
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from multiprocessing.context import ForkProcess

    from .changes import Mutant

ROOT = Path(__file__).parent.parent.parent
SOURCES = ROOT / "src" / "chatkit_clienttools"
PACKAGE = SOURCES.name
OURS = {PACKAGE, "tests", "conftest", "examples"}
IMPORTED_BEFORE = "ignore:Module already imported so cannot be rewritten"
# derandomized: which mutants survive is no matter of luck; and no example is written into the project
OPTIONS = ["-xq", "--tb=no", "-mnot long", "-pno:cacheprovider", "--hypothesis-profile=ci", f"-W{IMPORTED_BEFORE}"]
FORK = get_context("fork")
AT_FIRST = 30
"""How many tests are tried before the others are collected: one of them notices most changes."""
OFFSET = 100
"""Added to what pytest ends with, to tell that from the end of the process itself."""
PASSED = OFFSET + pytest.ExitCode.OK
ENDS = {
    PASSED: "survived",
    OFFSET + pytest.ExitCode.TESTS_FAILED: "killed",
    OFFSET + pytest.ExitCode.INTERRUPTED: "killed",  # a test module could not be imported
    OFFSET + pytest.ExitCode.USAGE_ERROR: "killed",  # nor a conftest
    1: "killed",  # what unwinds a body that waits has gone through pytest itself
    -signal.SIGALRM: "timeout",
}


def source_of(module: str) -> Path:
    """Return the file of a module, `_protocol.plan` for example."""
    return SOURCES.joinpath(*module.split(".")).with_suffix(".py")


@dataclass
class Baseline:
    """What the tests do with the unchanged modules: which of them come past a line, and how long they take."""

    past: dict[str, dict[int, list[str]]]
    """By the name of the module and the number of the line."""
    seconds: dict[str, float] = field(default_factory=dict)

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests to be run, those that notice a change soonest at first."""
        lines = self.past[mutant.module]
        past = {test for line in mutant.lines for test in lines.get(line, [])}
        # what is executed by an import, of the module or of a test, is part of every test
        wanted = set(self.seconds) if "" in past or not past else past
        return sorted(wanted, key=lambda test: (test not in past, self.seconds[test]))

    def patience(self, tests: list[str]) -> int:
        """Return how many seconds these tests may take, on a busy machine, before a mutant counts as endless."""
        return 20 + 5 * round(sum(self.seconds[test] for test in tests))


class Watch:
    """A pytest plugin that takes a baseline."""

    def __init__(self, modules: Iterable[str]) -> None:
        self.modules = {module: str(source_of(module)) for module in modules}
        self.coverage = Coverage(data_file=None, include=[*self.modules.values()], config_file=False)
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what a test comes past, and how long it takes."""
        self.coverage.switch_context(item.nodeid)
        begun = time.perf_counter()
        done = yield
        self.seconds[item.nodeid] = time.perf_counter() - begun
        self.coverage.switch_context("")
        return done

    def baseline(self) -> Baseline:
        """Return what was noted."""
        data = self.coverage.get_data()
        past = {module: data.contexts_by_lineno(path) for module, path in self.modules.items()}
        return Baseline(past, self.seconds)


class Choice:
    """A pytest plugin that runs only the tests it is given, in their order."""

    def __init__(self, tests: list[str]) -> None:
        self.rank = {test: n for n, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose the tests."""
        items[:] = sorted((item for item in items if item.nodeid in self.rank), key=lambda item: self.rank[item.nodeid])


class Changed(importlib.abc.SourceLoader):
    """Finds one module, and loads another source in its place."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: object, target: object = None, /) -> ModuleSpec | None:  # noqa: ARG002
        """Take over the one module."""
        return importlib.util.spec_from_loader(name, self) if name == f"{PACKAGE}.{self.mutant.module}" else None

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        """Say where the module would be."""
        return str(source_of(self.mutant.module))

    def get_data(self, path: object) -> bytes:  # noqa: ARG002
        """Return the changed source."""
        return self.mutant.source.encode()


def import_what_tests_import(files: list[str]) -> None:
    """Import it once, and not in each process; but not what is ours: each process imports that anew."""
    with redirect_stdout(StringIO()):
        _pytest([*files, "--collect-only"], None)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def take_baseline(modules: list[str], files: list[str]) -> Baseline:
    """Run the tests with the unchanged modules; they have to pass."""
    import_what_tests_import(files)
    with tempfile.TemporaryDirectory() as directory:
        kept = Path(directory, "baseline")
        process = _forked(_watch, modules, files, kept)
        process.join()
        if process.exitcode != PASSED:
            sys.exit(f"The tests of {', '.join(modules)} do not pass as they are: pytest {' '.join(files)}")
        found: Baseline = pickle.loads(kept.read_bytes())  # noqa: S301  it is our own
        return found


def _watch(modules: list[str], files: list[str], kept: Path) -> NoReturn:
    watch = Watch(modules)
    with watch.coverage.collect():
        ended = _pytest(files, watch)
    kept.write_bytes(pickle.dumps(watch.baseline()))
    sys.exit(ended)


def try_all(mutants: Iterable[Mutant], baseline: Baseline, at_once: int) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with what became of it: "killed", "timeout" or "survived"."""
    running: dict[ForkProcess, Mutant] = {}
    for mutant in mutants:
        if len(running) == at_once:
            yield _ended(running)
        running[_forked(_trial, mutant, baseline)] = mutant
    while running:
        yield _ended(running)


def _trial(mutant: Mutant, baseline: Baseline) -> NoReturn:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    tests = baseline.tests_for(mutant)
    sys.meta_path.insert(0, Changed(mutant))
    ended = PASSED
    for some in filter(None, (tests[:AT_FIRST], tests[AT_FIRST:])):
        signal.alarm(baseline.patience(some))
        ended = _pytest(sorted({test.partition("::")[0] for test in some}), Choice(some))
        if ended != PASSED:
            break
    sys.exit(ended)


def _ended(running: dict[ForkProcess, Mutant]) -> tuple[Mutant, str]:
    """Wait until one of them has ended, and say how."""
    ready = wait([process.sentinel for process in running])
    process = next(process for process in running if process.sentinel in ready)
    process.join()
    mutant = running.pop(process)
    if process.exitcode not in ENDS:
        sys.exit(f"pytest ended with {process.exitcode} for `{mutant.after}` in {mutant.module}.{mutant.where}")
    return mutant, ENDS[process.exitcode]


def _forked(target: Callable[..., NoReturn], *args: Any) -> ForkProcess:
    process = FORK.Process(target=target, args=args)
    process.start()
    return process


def _pytest(files: list[str], plugin: Any) -> int:
    sys.path.insert(0, str(SOURCES.parent))
    return OFFSET + int(pytest.main([*OPTIONS, *files], plugins=[plugin] if plugin else []))
