"""How a store, or a server, comes out of what a user gives us to build it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Union, cast

from chatkit.store import Store

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.store import METHODS, missing_methods

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

AWAITED = METHODS | {"load_plan", "save_plan"}
"""The operations of a store: what takes a while in a database."""

Built = Union[Store[Any], AbstractAsyncContextManager[Store[Any]]]  # noqa: UP007  # needed at run time on 3.10
Factory = Callable[[], Union[Built, Awaitable[Built]]]  # noqa: UP007
"""A function, or an async one, that returns a `Store` or an async context manager of one."""


class FactoryError(UsageError):
    """The factory did not give a store, or whatever else was wanted of it."""

    def __init__(self, factory: object, problem: str, wanted: str = "a store") -> None:
        """Name the factory and what came of it."""
        self.factory = name_of(factory)
        self.problem = problem
        super().__init__(f"{self.factory} did not give {wanted}: {problem}")


@asynccontextmanager
async def opened(factory: Factory, notes: list[str] | None = None, *, time_limit: float) -> AsyncIterator[Store[Any]]:
    """Build a store, and close it again if it is a context manager; note an error in closing it, if there are notes.

    The time limit is for the building alone.
    """
    stack = AsyncExitStack()
    try:
        yield cast("Store[Any]", await made_by(factory, stack, time_limit=time_limit))
    finally:
        try:
            await stack.aclose()
        except Exception as error:
            if notes is None:
                raise
            notes.append(f"the store could not be closed: {said(error)}")


async def made_by(
    factory: Callable[[], Any],
    stack: AsyncExitStack | None,
    *,
    time_limit: float,
    wanted: str = "a store",
    methods: Collection[str] = METHODS,
) -> Any:
    """Return what a factory makes; if it makes a context manager, enter that, and let `stack` close it.

    It is all done in this very task: what a context manager has opened in one task it may not be able to close in
    another one, and before Python 3.12 `asyncio.wait_for` awaits in a task of its own.

    Args:
        factory: A function, or an async one, that returns what is wanted or an async context manager of it.
        stack: Closes the context manager. Without one, whatever was made is returned as it is.
        time_limit: How many seconds it may take. What does not await cannot be ended.
        wanted: What it is to make, for the error.
        methods: What that has to have.

    Raises:
        FactoryError: It failed, took too long, or made something without these methods.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    is_over = False

    def end() -> None:
        nonlocal is_over
        is_over = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(time_limit, end)
    try:
        made = factory()
        if inspect.isawaitable(made):
            made = await made
        if stack and isinstance(made, AbstractAsyncContextManager):
            made = await stack.enter_async_context(made)
    except (Exception, asyncio.CancelledError) as error:  # some make another error of being cancelled
        # not if somebody else has cancelled the task, too; Python 3.10 does not count
        if is_over and not getattr(task, "uncancel", int)():
            problem = f"it had not come back when {time_limit:g} seconds were over"
        elif isinstance(error, Exception):
            problem = said(error)
        else:
            raise
        raise FactoryError(factory, problem, wanted) from error
    finally:
        timer.cancel()
    if stack and isinstance(made, type):
        raise FactoryError(factory, f"it returned a class: {made.__name__}(...)", wanted)
    if stack and (missing := missing_methods(made, methods)):
        raise FactoryError(factory, f"it returned a {type(made).__name__}, which has no {', '.join(missing)}", wanted)
    return made


def name_of(factory: object) -> str:
    """Name a factory as its module and its name there."""
    name = getattr(factory, "__qualname__", type(factory).__name__)
    return f"{getattr(factory, '__module__', '?')}.{name}"


def said(error: BaseException) -> str:
    """Say an error in one line: its type and the beginning of its message."""
    lines = str(error).split("\n")
    message = lines[0].strip()
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
