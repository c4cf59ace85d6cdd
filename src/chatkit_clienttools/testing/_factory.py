"""How a store comes out of what a user gives us to build it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Union, cast

from chatkit.store import Store

from chatkit_clienttools.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Built = Union[Store[Any], AbstractAsyncContextManager[Store[Any]]]  # noqa: UP007  # needed at run time on 3.10
Factory = Callable[[], Union[Built, Awaitable[Built]]]  # noqa: UP007
"""A function, or an async one, that returns a `Store` or an async context manager of one."""

METHODS = Store.__abstractmethods__
"""What every store has to have."""


class FactoryError(UsageError):
    """The factory did not give a store."""

    def __init__(self, factory: object, problem: str) -> None:
        """Name the factory and what came of it."""
        self.factory = name_of(factory)
        self.problem = problem
        super().__init__(f"{self.factory} did not give a store: {problem}")


@asynccontextmanager
async def opened(factory: Factory, notes: list[str] | None = None) -> AsyncIterator[Store[Any]]:
    """Build a store, and close it again if it is a context manager; note an error in closing it, if there are notes."""
    stack = AsyncExitStack()
    try:
        yield await _entered(factory, stack)
    finally:
        try:
            await stack.aclose()
        except Exception as error:
            if notes is None:
                raise
            notes.append(f"the store could not be closed: {said(error)}")


async def _entered(factory: Factory, stack: AsyncExitStack) -> Store[Any]:
    try:
        made: Any = factory()
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, AbstractAsyncContextManager):
            made = await stack.enter_async_context(made)
    except Exception as error:
        raise FactoryError(factory, said(error)) from error
    missing = sorted(name for name in METHODS if not callable(getattr(made, name, None)))
    if missing:
        raise FactoryError(factory, f"it returned a {type(made).__name__}, which has no {', '.join(missing)}")
    return cast("Store[Any]", made)


def name_of(factory: object) -> str:
    """Name a factory as its module and its name there."""
    name = getattr(factory, "__qualname__", type(factory).__name__)
    return f"{getattr(factory, '__module__', '?')}.{name}"


def said(error: BaseException) -> str:
    """Say an error in one line: its type and the beginning of its message."""
    lines = str(error).split("\n")
    message = lines[0].strip()
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
