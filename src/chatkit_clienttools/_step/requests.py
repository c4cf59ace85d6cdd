"""What the browser has posted: read, or refused with words that help."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from chatkit.types import (
    ChatKitReq,
    ThreadsAddClientToolOutputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsRetryAfterItemReq,
)
from pydantic import TypeAdapter, ValidationError

from chatkit_clienttools.errors import InvalidRequestError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from contextvars import ContextVar

    from chatkit.types import StreamingReq
    from pydantic_core import ErrorDetails

T = TypeVar("T")

RESUME = "chatkit_clienttools.resume"
"""The type of the action that a page sends when it has loaded a thread."""

MAX_PROBLEMS = 5
"""How many problems of a request are listed."""


class Posted(Enum):
    """What a streaming request is, as far as client tool calls are concerned."""

    ANSWER = "answer"
    RESUME = "resume"
    MESSAGE = "message"
    FORM = "form"
    OTHER = "other"


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


def read_request(body: str | bytes | bytearray) -> ChatKitReq:
    """Read a request, or raise `InvalidRequestError` and say what is wrong with it."""
    if not isinstance(body, (str, bytes, bytearray)):
        raise UsageError(
            f"process() takes the body of the request as it came, bytes or str, not {type(body).__name__}: "
            "`await server.process(await request.body(), context)`"
        )
    try:
        return _adapter().validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequestError([_problem(each) for each in found[:MAX_PROBLEMS]], field=_field(found[0])) from None


@cache
def _adapter() -> TypeAdapter[ChatKitReq]:
    # ChatKit builds one for each request, which takes longer than all the rest of an acknowledgement
    return TypeAdapter(ChatKitReq)


def _problem(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "union_tag_invalid" if not error["loc"]:
            known = context["expected_tags"].replace("'", "")
            return (
                f"type: ChatKit has no request {printable(context['tag'])!r}, only {known}. A message is posted as "
                "threads.create, in a new thread, or as threads.add_user_message; process() routes them all"
            )
        case "union_tag_invalid":  # pydantic's own sentence quotes the value
            problem = f"none of {context['expected_tags']}"
        case "union_tag_not_found":
            problem = "Field required"
        case _:
            problem = printable(error["msg"])
    where = _field(error)
    return f"{where}: {problem}" if where else problem


def _field(error: ErrorDetails) -> str | None:
    """Name the field; the first step of pydantic's path is the type of the request."""
    tag = ("type",) if error["type"].startswith("union_tag") else ()
    return printable(".".join(map(str, (*error["loc"][1:], *tag)))) or None


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable for what runs inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        # what was abandoned may be closed from another context, where there is nothing to undo
        with suppress(ValueError):
            variable.reset(token)


async def stepwise(
    inside: Callable[[], AbstractContextManager[None]], make: Callable[[], AsyncIterator[T]]
) -> AsyncGenerator[T, None]:
    """Make an iterator and run it, `inside` a context manager during its steps and not while it rests at a `yield`."""
    with inside():
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
