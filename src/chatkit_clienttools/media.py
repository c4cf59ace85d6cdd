"""`ClientImage` and `ClientFile`: result types for answers that the model is to see.

A page sends `{"data_url": "data:image/png;base64,..."}`, or `{"reference": "..."}` for what the application has
already. What is checked here would otherwise make the provider refuse the run, again and again.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002  pydantic reads it
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from .errors import UsageError

TAKEN_OUT = "chatkit_clienttools_media"
"""The key of a list in the context of a serialisation: media are put there, and a line of text in their place."""

_HEAD = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(;[a-z0-9-]+=[^;,]*)*;base64", re.ASCII | re.IGNORECASE)

_BEGINS = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "application/pdf": re.compile(rb".{0,1019}?%PDF-", re.DOTALL),
}
"""How the bytes of a type begin."""

Reference = Annotated[str, Field(min_length=1, max_length=1024)]


class Media(BaseModel):
    """What images and files have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    """What the model reads that it is."""
    media_types: ClassVar[frozenset[str]]
    """The types that are taken. A class of your own may take others."""

    data_url: str | SkipJsonSchema[None] = Field(
        default=None, repr=False, description="`data:`, its media type, and base64."
    )
    reference: Reference | SkipJsonSchema[None] = Field(
        default=None, description="Instead of it: an id or a URL that the server knows."
    )

    _content: tuple[str, bytes] | None = PrivateAttr(None)

    @property
    def data(self) -> bytes:
        """The bytes."""
        return self._read()[1]

    @property
    def media_type(self) -> str:
        """What they are, as `image/png`."""
        return self._read()[0]

    def could_be(self, data_url: str) -> bool:
        """Whether the content of what this refers to may be this: its type and its beginning are checked, as ever."""
        try:
            self._decoded(data_url)
        except PydanticCustomError:
            return False
        return True

    def _read(self) -> tuple[str, bytes]:
        if self._content is None:
            raise UsageError(
                f"This {type(self).__name__} is a reference, and has no data. Look up what its `reference` means, and "
                "whether the user may see it."
            )
        return self._content

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data_url is None) == (self.reference is None):
            raise PydanticCustomError("media_fields", "Either data_url or reference is needed")
        if self.data_url is not None:
            self._content = self._decoded(self.data_url)
        return self

    @classmethod
    def _decoded(cls, data_url: str) -> tuple[str, bytes]:
        head, _, encoded = data_url.partition(",")
        found = _HEAD.fullmatch(head)
        if found is None:
            raise PydanticCustomError("data_url", "data_url should begin with data:, a media type and ;base64,")
        media_type = found[1].lower()
        if media_type not in cls.media_types:
            taken = ", ".join(sorted(cls.media_types))
            raise PydanticCustomError("media_type", "The media type should be one of {taken}", {"taken": taken})
        try:
            data = b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise PydanticCustomError("base64", "data_url should hold base64") from None
        begins = _BEGINS.get(media_type)
        if begins and not begins.match(data):
            raise PydanticCustomError(
                "media_content", "The data should be {media_type}, as they say", {"media_type": media_type}
            )
        return media_type, data

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        taken_out = info.context.get(TAKEN_OUT) if isinstance(info.context, dict) else None
        if taken_out is None:
            return handler(self)
        taken_out.append(self)
        number = sum(each.kind == self.kind for each in taken_out)
        return f"[{self.kind} {number}]"


class ClientImage(Media):
    """An image, as a canvas or a screenshot, that the model is to see."""

    kind = "image"
    media_types = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})

    detail: Literal["auto", "low", "high"] = "auto"


class ClientFile(Media):
    """A file that the model is to read."""

    kind = "file"
    media_types = frozenset(
        {"application/pdf", "application/json", "text/plain", "text/csv", "text/markdown", "text/html"}
    )

    filename: str = Field(default="file", min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/\\]+$")


def holds_media(core_schema: object) -> bool:
    """Whether values of a type may hold images or files."""
    if isinstance(core_schema, Mapping):  # one that pydantic has still to build is no dict
        cls = core_schema.get("cls")
        is_media = isinstance(cls, type) and issubclass(cls, Media)
        return is_media or any(map(holds_media, core_schema.values()))
    return isinstance(core_schema, (list, tuple)) and any(map(holds_media, core_schema))
