"""What the browser has posted: read, or refused in words, and made known to the run that it starts.

ChatKit calls `respond(thread, None, context)` for an answer and for a form that was filled in, and an application may
do so by itself. `ClientToolServer` knows which it is; a run under plain `ChatKitServer` has to find out from the items.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from chatkit.types import ChatKitReq, ThreadsAddClientToolOutputReq, ThreadsCustomActionReq
from pydantic import TypeAdapter, ValidationError

from .errors import InvalidRequestError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from chatkit.types import StreamingReq
    from pydantic_core import ErrorDetails

T = TypeVar("T")

RESUME = "chatkit_clienttools.resume"
"""The type of the action that a page sends when it has loaded a thread."""

MAX_PROBLEMS = 5
"""How many problems of a request are told."""


class Posted(Enum):
    """What a streaming request is, as far as client tool calls are concerned."""

    ANSWER = "answer"
    RESUME = "resume"
    FORM = "form"
    OTHER = "other"


_posted: ContextVar[Posted | None] = ContextVar("chatkit_clienttools_posted", default=None)


def posted_here() -> Posted | None:
    """Return what was posted, if a `ClientToolServer` has told; None under any other server."""
    return _posted.get()


def telling(posted: Posted | None) -> AbstractContextManager[None]:
    """Let what runs inside know what was posted, or that nobody knows."""
    return setting(_posted, posted)


def kind_of(request: StreamingReq) -> Posted:
    """Say what a request is."""
    match request:
        case ThreadsAddClientToolOutputReq():
            return Posted.ANSWER
        case ThreadsCustomActionReq() if request.params.action.type == RESUME:
            return Posted.RESUME
    # not by its class: older ChatKits have none
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
    match error["type"]:
        case "union_tag_invalid":
            context = error.get("ctx", {})
            known = context["expected_tags"].replace("'", "")
            return (
                f"type: ChatKit has no request {_short(context['tag'])!r}, only {known}. A message is posted as "
                "threads.create, in a new thread, or as threads.add_user_message; process() routes them all"
            )
        case "union_tag_not_found":
            return "type: Field required"
        case "json_invalid" | "string_unicode" if not error["loc"]:
            return "it is not JSON"
        case "dict_type" if not error["loc"]:
            return "it is not a JSON object"
    return f"{_field(error)}: {error['msg']}"


def _field(error: ErrorDetails) -> str | None:
    """Name the field; the first step of pydantic's path is the type of the request."""
    if error["type"].startswith("union_tag"):
        return "type"
    return _short(".".join(map(str, error["loc"][1:]))) or None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable for what runs inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        # a step that was abandoned may be closed from another context, where there is nothing to undo
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
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
