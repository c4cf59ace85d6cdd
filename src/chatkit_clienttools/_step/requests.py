"""What the browser has posted: read, or refused with words that help."""

from __future__ import annotations

import json
import math
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from chatkit.types import (
    ChatKitReq,
    ThreadsAddClientToolOutputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsRetryAfterItemReq,
)
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from chatkit_clienttools.answers import UnusableError, cleaned, refusal, too_deep, too_large
from chatkit_clienttools.errors import InvalidRequestError, UsageError, printable
from chatkit_clienttools.receipts import RECEIPT, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractContextManager
    from contextvars import ContextVar

    from chatkit.types import StreamingReq
    from pydantic_core import ErrorDetails

T = TypeVar("T")

RESUME = "chatkit_clienttools.resume"
"""The type of the action that a page sends when it has loaded a thread."""

MAX_PROBLEMS = 5
"""How many problems of a request are listed."""

HEAD = 4096
"""How much of a body is read to see what it is."""


class Posted(Enum):
    """What a streaming request is, as far as client tool calls are concerned."""

    ANSWER = auto()
    RESUME = auto()
    MESSAGE = auto()
    FORM = auto()
    OTHER = auto()


def kind_of(request: StreamingReq) -> Posted:
    """Say what a request is."""
    match request:
        case ThreadsAddClientToolOutputReq():
            return Posted.ANSWER
        case ThreadsCustomActionReq() if request.params.action.type == RESUME:
            return Posted.RESUME
        case ThreadsCreateReq() | ThreadsAddUserMessageReq() | ThreadsRetryAfterItemReq():
            return Posted.MESSAGE
    # the class has another name in older versions of ChatKit, or is not there
    return Posted.FORM if request.type == "threads.add_structured_input" else Posted.OTHER


class Read(NamedTuple):
    """A request, and whether it is not quite what was posted: an answer in it was cleaned or refused."""

    request: ChatKitReq
    is_changed: bool


def read_request(body: str | bytes | bytearray, max_answer_bytes: int, unwrapped: Callable[[Any], Any]) -> Read:
    """Read a request, or raise `InvalidRequestError` and say what is wrong with it.

    An answer that the library does not take comes as the refusal that takes its place; `unwrapped` opens an answer, so
    that the receipt is found.
    """
    if not isinstance(body, (str, bytes, bytearray)):
        raise UsageError(
            f"process() takes the body of the request as it came, bytes or str, not {type(body).__name__}: "
            "`await server.process(await request.body(), context)`"
        )
    raw = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    problem = too_large(max_answer_bytes) if len(raw) > max_answer_bytes else None
    if problem and (refused := _refused_unread(raw, problem)):
        return Read(refused, is_changed=True)
    request: ChatKitReq | None
    try:
        request, is_changed = _adapter().validate_json(raw), False
    except ValidationError as error:
        request, is_changed = _read_leniently(raw), True
        if request is None:
            raise _invalid(error) from None
    if isinstance(request, ThreadsAddClientToolOutputReq):
        posted = request.params.result
        request.params.result = _usable(posted, problem, unwrapped)
        is_changed = is_changed or request.params.result != posted
    return Read(request, is_changed)


def _usable(posted: Any, problem: str | None, unwrapped: Callable[[Any], Any]) -> Any:
    """Return the answer that was posted, cleaned, or what takes its place."""
    if problem is None:
        try:
            return cleaned(posted)
        except UnusableError as error:
            problem = str(error)
    try:
        receipt = opened(unwrapped(posted)).receipt
    except Exception:  # noqa: BLE001  it is the application's function, and need not know what this is
        receipt = None
    return refusal(problem, receipt)


def _refused_unread(raw: bytes | bytearray, reason: str) -> ThreadsAddClientToolOutputReq | None:
    """Return the refusal of an answer of which only the beginning is read; None if that does not say enough."""
    for length in range(HEAD, 0, -128):  # less if that is too deep for pydantic, which reads 200 levels
        try:
            begun = from_json(raw[:length], allow_partial=True)
            request = _adapter().validate_python({**begun, "params": {"result": None, **begun["params"]}})
        except (ValueError, TypeError, KeyError):  # too deep already, or not a request
            continue
        if not isinstance(request, ThreadsAddClientToolOutputReq):
            return None
        receipt = opened(request.params.result).receipt
        if receipt is None and RECEIPT.encode() in raw:
            return None  # it is further back, or wrapped
        request.params.result = refusal(reason, receipt)
        return request
    return None


def _read_leniently(raw: bytes | bytearray) -> ThreadsAddClientToolOutputReq | None:
    """Read an answer that pydantic does not take for JSON, so that its call does not stay open for ever.

    It refuses half a surrogate pair, which every browser may post, deep nesting, and very long numbers.
    """
    try:
        request = _adapter().validate_python(json.loads(raw, parse_int=_integer))
    except RecursionError:
        return _refused_unread(raw, too_deep())
    except ValueError:
        return None
    return request if isinstance(request, ThreadsAddClientToolOutputReq) else None


def _integer(digits: str) -> float:
    """Read an integer; one that has no place in a float is as good as infinite, and may be too long for Python."""
    number = float(digits)
    return int(digits) if math.isfinite(number) else number


def _invalid(error: ValidationError) -> InvalidRequestError:
    found = error.errors()
    return InvalidRequestError([_problem(each) for each in found[:MAX_PROBLEMS]], field=_field(found[0]))


@cache
def _adapter() -> TypeAdapter[ChatKitReq]:
    # ChatKit builds one for each request, which takes longer than all the rest of an acknowledgement
    return TypeAdapter(ChatKitReq)


def _problem(error: ErrorDetails) -> str:
    match error:
        case {"type": "union_tag_invalid", "loc": (), "ctx": {"tag": str(tag), "expected_tags": str(known)}}:
            valid = known.replace("'", "")
            return (
                f"type: ChatKit has no request {printable(tag)!r}, only {valid}. A message is posted as "
                "threads.create, in a new thread, or as threads.add_user_message; process() routes them all"
            )
        case {"type": "union_tag_invalid", "ctx": {"expected_tags": known}}:  # pydantic's own sentence quotes the value
            problem = f"none of {known}"
        case {"type": "union_tag_not_found"}:
            problem = "Field required"
        case _:
            problem = printable(error["msg"])
    where = _field(error)
    return f"{where}: {problem}" if where else problem


def _field(error: ErrorDetails) -> str | None:
    """Name the field; the first step of pydantic's path is the type of the request."""
    tag = ("type",) if error["type"].startswith("union_tag") else ()
    return printable(".".join(map(str, (*error["loc"][1:], *tag)))) or None


class setting(Generic[T]):  # noqa: N801  it is called like `suppress`
    """Set a context variable for what runs inside. It is no generator: a stream takes one for each of its steps."""

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105  that would take longer than the rest of it
            self._variable.reset(self._token)
        except ValueError:
            pass  # what was abandoned may be closed from another context, where there is nothing to undo


async def stepwise(
    inside: Callable[[], AbstractContextManager[None]], make: Callable[[], AsyncIterator[T]]
) -> AsyncGenerator[T, None]:
    """Make an iterator and run it, `inside` a context manager during its steps and not while it rests at a `yield`."""
    events = aiter(make())
    try:
        while True:
            with inside():
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
            yield event
    finally:
        await close(events)


async def close(events: AsyncIterator[object]) -> None:
    """Close an iterator, if it is one that can be closed."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()
