"""How the body of a tool unwinds while it waits, and what counts as its failure."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")


class Suspended(BaseException):
    """Unwinds a body that waits, or that another request has taken over. Not an `Exception`: nothing may catch it."""


def is_suspension(error: BaseException) -> bool:
    """Whether a body unwinds because it waits; a task group wraps what has ended its tasks."""
    inside = getattr(error, "exceptions", None)
    return all(map(is_suspension, inside)) if inside else isinstance(error, Suspended)


@contextmanager
def failures_as_exceptions() -> Iterator[None]:
    """Make an `Exception` of what has gone wrong inside without being one.

    What the code awaits may have been cancelled, while nobody cancels the code itself. And a task group has both: the
    end of a body that waits, and what another task has raised when the group has cancelled it.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if _is_being_cancelled():
            raise
        raise RuntimeError("something that it has awaited was cancelled") from error
    except BaseException as error:
        rest = _without_suspension(error)
        if rest is None:
            raise
        raise rest from None


def _without_suspension(error: BaseException) -> Exception | None:
    """Return what else is in a group than the end of a body that waits."""
    split = getattr(error, "split", None)
    if split is None or isinstance(error, Exception):
        return None
    _, rest = split(Suspended)
    return rest if isinstance(rest, Exception) else None


def _is_being_cancelled() -> bool:
    """Whether somebody cancels the task that runs here; Python 3.10 does not say, so it may be."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


def without_stop_iteration(function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
    """Call a function in a thread that asyncio waits for: with a StopIteration, it would do so for ever."""
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the function has raised StopIteration") from error  # as Python does in an async one
