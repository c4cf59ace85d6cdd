"""What our stores share: values as JSON documents, keys, ids, owners and pages.

Both stores keep documents, so that what works in memory works in a database: nothing that is handed in or out is
shared, and what is not JSON is refused in development already.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from chatkit.store import NotFoundError, default_generate_id
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import TypeAdapter, ValidationError

from chatkit_clienttools.errors import DamagedDocumentError, ThreadExistsError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkit.store import StoreItemType

T = TypeVar("T")
TContext = TypeVar("TContext")

MAX_KEY_BYTES = 255
"""How long an id may be in UTF-8: three of them have to fit into an index of any database."""

MAX_PAGE = 1_000_000
"""How many rows are loaded at once, whatever limit is asked for."""

# json.dumps() would make one of these for each document
_UTF8, _ASCII = (
    json.JSONEncoder(ensure_ascii=is_ascii, allow_nan=False, separators=(",", ":")) for is_ascii in (False, True)
)


class Documents(Generic[T]):
    """One kind of value as JSON: the whole of ChatKit's type, through pydantic, whatever members it will get."""

    def __init__(self, kind: Any, name: str) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self._name = name

    def write(self, value: T, key: str) -> str:
        """Turn a value into its document, or say that it has none."""
        try:
            plain = self._plain(value)
            document = _UTF8.encode(plain)
        except (ValueError, TypeError, RecursionError) as error:  # pydantic's own errors are ValueErrors
            raise UsageError(
                f"{self._name} '{printable(key)}' cannot be stored: it is not JSON ({printable(_reason(error))})"
            ) from None
        # a lone surrogate is legal in JSON, escaped, and in Python, but there is no UTF-8 for it
        return document if _has_utf8(document) else _ASCII.encode(plain)

    def read(self, document: str, key: str) -> T:
        """Turn a document into a new value."""
        try:
            return self._adapter.validate_json(document)
        except ValidationError:  # pydantic takes some JSON for none: half of a surrogate pair, what is nested deeply
            pass
        try:
            return self._adapter.validate_python(json.loads(document))
        except ValueError as error:
            raise DamagedDocumentError(self._name, key, _reason(error)) from None

    def _plain(self, value: T) -> Any:
        try:
            return self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        except ValueError:
            # a field may hold what its type does not say; that is fine exactly if it can be read again
            plain = self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)
            self._adapter.validate_python(plain)
            return plain


ITEMS: Documents[ThreadItem] = Documents(ThreadItem, "Item")
THREADS: Documents[ThreadMetadata] = Documents(ThreadMetadata, "Thread")
ATTACHMENTS: Documents[Attachment] = Documents(Attachment, "Attachment")


def check_thread(document: str, saved: str, key: str) -> None:
    """Raise if the saved document is of another thread than the stored one.

    `save_thread` creates and changes, and an id tells neither apart. The time a thread was created does: nobody changes
    it. A naive and an aware time cannot be compared, so they are taken for the same.
    """
    stored, new = (THREADS.read(each, key).created_at for each in (document, saved))
    if stored != new and (stored.tzinfo is None) == (new.tzinfo is None):
        raise ThreadExistsError(key)


def new_id(kind: StoreItemType) -> str:
    """Make an id with 128 random bits: ChatKit's own have 32, and with those some of 100,000 threads share one."""
    return default_generate_id(kind) + secrets.token_hex(12)


def thread_of(attachment: Attachment) -> str | None:
    """Tell which thread an attachment belongs to, if it does, and if this ChatKit says so: older ones do not."""
    return getattr(attachment, "thread_id", None)


def owner_key(owner: Callable[[Any], object] | None, context: object) -> str:
    """Tell whose rows a request may touch; everything is one owner's if the application does not tell owners apart."""
    if owner is None:
        return ""
    who = owner(context)
    if isinstance(who, (str, int, UUID)) and is_key(str(who)):
        return str(who)
    raise UsageError(
        f"owner(context) must return the user's id, a str, an int or a UUID of 1 to {MAX_KEY_BYTES} bytes without NUL; "
        f"it returned a {type(who).__name__} that is not one. Nothing was read or written."
    )


def is_key(key: str) -> bool:
    """Whether every database can hold it as a key."""
    return "\0" not in key and _has_utf8(key) and 0 < len(key.encode()) <= MAX_KEY_BYTES


def wanted(key: str, name: str) -> str:
    """Return the key of something that is looked for; what cannot be a key is not there."""
    if not is_key(key):
        raise not_found(key, name)
    return key


def given(key: str, name: str) -> str:
    """Return the key of something that is to be stored, or refuse it."""
    if not is_key(key):
        raise UsageError(
            f"{name} '{printable(key)}' cannot be stored: an id has 1 to {MAX_KEY_BYTES} bytes in UTF-8 and no NUL"
        )
    return key


def not_found(key: str, name: str) -> NotFoundError:
    """Make the error that ChatKit expects for what is not there."""
    return NotFoundError(f"{name} '{printable(key)}' not found")


def checked_order(order: str) -> str:
    """Return "asc" or "desc"."""
    if order not in {"asc", "desc"}:
        raise UsageError(f"order must be 'asc' or 'desc', not '{printable(order)}'")
    return order


def checked_limit(limit: int) -> int:
    """Return how many rows to show at most, within reason."""
    return min(max(limit, 0), MAX_PAGE)


def page_of(values: Sequence[tuple[str, T]], limit: int) -> Page[T]:
    """Make a page of at most `limit` values out of the `limit + 1` that were looked for, each with its id."""
    shown = values[:limit]
    has_more = len(values) > limit > 0
    return Page(data=[value for _, value in shown], has_more=has_more, after=shown[-1][0] if has_more else None)


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Say what was wrong without repeating what was in it."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
