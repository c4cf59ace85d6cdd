"""The functions of steps: what each returns by its annotation, and what comes of calling it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from chatkit_clienttools._protocol.plan import Entry
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.observe import log_and_return, logger, place_of

from .suspension import failures_as_exceptions, without_stop_iteration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAX_ERROR = 1000
"""How much is kept of the text of an error that a step has raised."""

_adapters: WeakKeyDictionary[Callable[..., Any], TypeAdapter[Any]] = WeakKeyDictionary()
"""The types that functions of steps return. To make an adapter takes longer than all else that a step does."""


def type_of_result(name: str, function: Callable[..., Any]) -> TypeAdapter[Any]:
    """Return the type that the function of a step says it returns; whatever is JSON if it does not say."""
    target = getattr(function, "__func__", function)
    if not inspect.isfunction(target):  # nothing else has to have a place in a weak dictionary
        return _adapter_of(name, target)
    if target not in _adapters:
        _adapters[target] = _adapter_of(name, target)
    return _adapters[target]


def _adapter_of(name: str, target: Any) -> TypeAdapter[Any]:
    result = getattr(target, "__annotations__", {}).get("return", Any)
    try:
        if isinstance(result, str):  # only this one: others may be known to type checkers alone
            result = eval(result, inspect.unwrap(target).__globals__)  # noqa: S307  it is the application's own code
        return TypeAdapter(result)
    except (NameError, PydanticSchemaGenerationError) as error:
        problem = (
            f"The step {name} says that it returns {result!r}: a type is needed that is known at run time, and that"
        )
        raise log_and_return(UsageError(f"{problem} pydantic can read from JSON")) from error


async def run_function(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], adapter: TypeAdapter[Any]
) -> tuple[Entry, Exception | None]:
    """Call a function, and return a line for the journal."""
    try:
        with failures_as_exceptions():
            result = await _called(function, args, kwargs)
    except Exception as error:  # noqa: BLE001  it is recorded, and raised again as StepFailedError
        logger.warning("the step %s has raised %s%s", name, type(error).__name__, place_of(error))
        logger.debug("where that was", exc_info=error)
        return Entry(kind="step", name=name, error=(type(error).__name__, str(error)[:MAX_ERROR])), error
    problem = "what is not JSON: annotate what it returns, with a pydantic model"
    try:
        written = adapter.dump_json(result, warnings=False, by_alias=True, round_trip=True)
        problem = "something else than its annotation says"
        adapter.validate_json(written)
    except (PydanticSerializationError, ValidationError) as error:
        raise log_and_return(UsageError(f"The step {name} has returned {problem}")) from error
    return Entry(kind="step", name=name, result=written.decode()), None


async def _called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result: Any | Awaitable[Any] = await asyncio.to_thread(without_stop_iteration, function, args, kwargs)
    return await result if inspect.isawaitable(result) else result
