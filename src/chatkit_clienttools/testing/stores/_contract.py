"""One list of checks for stores, and what runs it: a class for pytest, a function, and with it the command `doctor`.

The rules are what ChatKit and this package rely on. A check works in threads that it creates, under random ids, and
removes them when it is over. Nothing else in the store is changed or looked at.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.testing._factory import name_of, opened
from chatkit_clienttools.testing._loop import run

from . import _changes, _items, _more, _pages, _plans, _threads
from ._bench import Bench
from ._examine import Examination
from ._report import Report, Result, Status
from ._rules import Check

if TYPE_CHECKING:
    from chatkit_clienttools.testing._factory import Factory

_MODULES = (_threads, _items, _changes, _pages, _plans, _more)

CHECKS = tuple(
    dict.fromkeys(check for names in map(vars, _MODULES) for check in names.values() if type(check) is Check)
)
"""The list: a check that a module has of another one, because its own rest on it, is in its first place."""

TIME_LIMIT = 10.0
"""How many seconds one check may take, and making the store before it."""

Progress = Callable[[int, int, str], object]
"""Called before each check with its number, how many there are, and its name."""


async def check_store(
    factory: Factory,
    *,
    contexts: Sequence[Any] = (None,),
    progress: Progress | None = None,
    time_limit: float = TIME_LIMIT,
) -> Report:
    """Try every check on a store, and return a report.

    Args:
        factory: Builds the store: a function, or an async one, that returns a `Store` or an async context manager of
            one. It is called more than once, to see whether one store sees at once what another one has written.
        contexts: What is passed to the store as `context`. With two of them, of different users, it is also checked
            that the store keeps users apart.
        progress: Called before each check with its number, the number of checks, and its name.
        time_limit: How many seconds one check may take, and making the store before them.

    Raises:
        FactoryError: The factory did not give a store.
        UsageError: Two of the contexts are equal.
    """
    notes: list[str] = []
    async with opened(factory, notes, time_limit=time_limit) as store:
        bench = Bench(store, partial(opened, factory, time_limit=time_limit), contexts)
        examination = Examination(bench, time_limit)
        results = []
        for number, check in enumerate(CHECKS, 1):
            if progress is not None:
                progress(number, len(CHECKS), check.name)
            results.append(await examination.result(check))
    return Report(name_of(factory), tuple(results), (*bench.notes, *notes))


class StoreContract:
    """The checks as tests: subclass it, say how your store is made, and let pytest collect the subclass.

    ```python
    class TestMyStore(StoreContract):
        def make_store(self):
            return MyStore()
    ```

    The tests are plain methods, each of which runs an event loop of its own: they need no asyncio plugin, and go well
    with any. So `make_store` must build whatever belongs to an event loop, as a pool of connections does. It may be
    async, and may return an async context manager of a store. A test is skipped, and says why, if the store does not
    offer what it is about, or if its rule rests on one that is broken.
    """

    contexts: Sequence[Any] = (None,)
    """What is passed to the store as `context`; with two of them, of different users, they must be kept apart."""

    time_limit: float = TIME_LIMIT
    """How many seconds one check may take, and making the store before it."""

    def make_store(self) -> Any:
        """Return the store to be checked, or an async context manager of one; may be async."""
        raise NotImplementedError(f"{type(self).__name__} has to say how its store is made: def make_store(self)")

    async def _result(self, check: Check) -> tuple[Result, BaseException | None]:
        build = partial(opened, self.make_store, time_limit=self.time_limit)
        async with build() as store:
            examination = Examination(Bench(store, build, self.contexts), self.time_limit)
            return await examination.result(check), examination.errors.get(check.name)


def _test_of(check: Check) -> Callable[[StoreContract], None]:
    def test(self: StoreContract) -> None:
        __tracebackhide__ = True  # pytest shows where a test failed; here it is the message, or the cause, that says it
        result, error = run(self._result(check))
        if result.status in {Status.NOT_OFFERED, Status.NOT_CHECKED}:
            raise unittest.SkipTest(f"{result.status.value}: {result.detail}")
        if result.status is Status.DETECTED:
            print(f"{result.detail}\n{result.breaks}")  # noqa: T201  # pytest shows it with -rP
        if result.status is Status.BROKEN:
            raise AssertionError(f"{result.rule}\n  seen:   {result.detail}\n  breaks: {result.breaks}") from error

    test.__name__ = f"test_{check.name}"
    test.__qualname__ = f"{StoreContract.__name__}.{test.__name__}"
    test.__doc__ = check.rule
    return test


for _check in CHECKS:
    setattr(StoreContract, f"test_{_check.name}", _test_of(_check))
