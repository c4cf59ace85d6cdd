"""Samples of whatever item and attachment types the installed ChatKit has: its unions are read, never typed out.

A sample is made from the fields of its class, the optional ones as well, so that a store that drops a field is seen
to drop it.
"""

from __future__ import annotations

from datetime import datetime, timezone
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from chatkit.types import Attachment, ThreadItem
from pydantic import AnyUrl, BaseModel, ValidationError
from typing_extensions import get_type_hints, is_typeddict

TEXT = 'Grüße, 世界 👋 it\'s "quoted" \\ <b>'
"""A text that shows whether a store can keep any text."""

MOMENTS = (datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc))  # noqa: DTZ001
"""A naive time, as ChatKit writes it, and an aware one."""

DEPTH = 3
"""How deep a sample goes: below it there are no optional fields, and lists are empty."""

_PLAIN: dict[Any, Any] = {
    str: TEXT,
    bool: True,
    int: 3,
    float: 0.5,
    Any: {"nested": [1, "two", None, {"three": 3.5}]},
    AnyUrl: "https://example.com/a?b=c",
    datetime: MOMENTS[1],
}


class NoSampleError(Exception):
    """ChatKit has a type of field for which no sample can be made."""


def members(union: Any) -> tuple[Any, ...]:
    """Return the members of a union, however it is nested or annotated; None is left out."""
    if get_origin(union) is Annotated:
        return members(get_args(union)[0])
    if get_origin(union) in (Union, UnionType):
        return tuple(member for part in get_args(union) for member in members(part))
    return () if union is type(None) else (union,)


def item_types() -> tuple[type[BaseModel], ...]:
    """Return every type of item the installed ChatKit knows."""
    return members(ThreadItem)


def attachment_types() -> tuple[type[BaseModel], ...]:
    """Return every type of attachment the installed ChatKit knows."""
    return members(Attachment)


def sample(model: type[BaseModel], **fixed: object) -> Any:
    """Make a `model` with every field filled, or with the required ones only if it does not take them all."""
    for depth in (0, DEPTH):
        try:
            return model.model_validate({**_fields(model, depth), **fixed})
        except (NoSampleError, ValidationError) as error:
            problem = error
    raise NoSampleError(f"{model.__name__}: {problem}")


def _fields(model: type[BaseModel], depth: int) -> dict[str, object]:
    model.model_rebuild()  # ChatKit's types name one another before they are there
    return {
        field.alias or name: _value(field.annotation, depth)
        for name, field in model.model_fields.items()
        if not field.deprecated and (field.is_required() or depth < DEPTH or name == "type")
    }


def _value(annotation: Any, depth: int) -> object:
    kind = next((kind for kind in members(annotation) if not hasattr(kind, "__deprecated__")), None)
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return parts[0]
    if get_origin(kind) is list:
        return [_value(part, depth + 1) for part in members(parts[0])] if depth < DEPTH else []
    if get_origin(kind) is dict:
        return {TEXT: _value(parts[1], depth)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _fields(kind, depth + 1)
    if is_typeddict(kind):
        return {name: _value(part, depth + 1) for name, part in get_type_hints(kind).items()}
    if kind in _PLAIN:
        return _PLAIN[kind]
    raise NoSampleError(f"no sample of {annotation}")
