"""`MediaStore`: a store that keeps the images and files of answers beside the items, and not in them.

What a page sends is in the item of its call, and goes to every page that loads the thread. Here the item has a
reference in its place. The content is written just before the item is completed, so exactly when an answer is taken;
`ask` and `ClientToolConverter` look it up again. A reference holds for its own thread only: a page that makes one up
gets nothing that is not there already.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, runtime_checkable
from uuid import uuid4

from chatkit.store import NotFoundError
from chatkit.types import ClientToolCallItem
from typing_extensions import TypeVar

from .errors import LifecycleViolationError, UsageError
from .store import StoreWrapper, find_item, problem_with

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from chatkit.store import Store
    from chatkit.types import ThreadItem

    from .sequencer import ClientToolSequencer

TContext = TypeVar("TContext", default=Any)
TContext_contra = TypeVar("TContext_contra", contravariant=True, default=Any)

METHODS = ("save_content", "load_content", "delete_content", "delete_contents")
"""What a content store has to have."""

MAX_HEAD = 512
"""How long the part of a data URL before its content may be: it goes into the reference."""

_REFERENCE = re.compile(r"content:([0-9a-f]{32}):(data:[^,]+;base64)", re.ASCII | re.IGNORECASE)


@runtime_checkable
class ContentStore(Protocol[TContext_contra]):
    """Where contents are kept: bytes, each of one thread, under an id that we choose and never use again."""

    async def save_content(self, thread_id: str, content_id: str, data: bytes, context: TContext_contra) -> None:
        """Keep the bytes. Where there is no such thread, `NotFoundError` may be raised."""
        ...

    async def load_content(self, thread_id: str, content_id: str, context: TContext_contra) -> bytes | None:
        """Return the bytes; None if they are not there, or belong to another thread or to somebody else."""
        ...

    async def delete_content(self, thread_id: str, content_id: str, context: TContext_contra) -> None:
        """Delete the bytes, if they are there."""
        ...

    async def delete_contents(self, thread_id: str, context: TContext_contra) -> None:
        """Delete all that belongs to a thread."""
        ...


class MediaStore(StoreWrapper[TContext], Generic[TContext]):
    """A `Store` around any `Store` that keeps the images and files in answers somewhere else.

    What an answer holds as a `ClientImage` or a `ClientFile` leaves the item when the item enters the store, and a
    reference takes its place. It is deleted with its item and with its thread.

    Args:
        inner: The store that keeps everything else.
        sequencer: The one that the tools and the server share: it knows which tools take images and files.
        content: Where they are kept. By default the inner store, if it is a `ContentStore`, as `SQLStore` is.
        min_bytes: What is smaller stays in its item.
    """

    def __init__(
        self,
        inner: Store[TContext],
        sequencer: ClientToolSequencer,
        content: ContentStore[TContext] | None = None,
        *,
        min_bytes: int = 16 * 1024,
    ) -> None:
        super().__init__(inner)
        kept_in = inner if content is None else content
        problem = problem_with(kept_in, METHODS)
        if problem:
            cure = "MediaStore(store, sequencer, FolderContent(path))"
            raise UsageError(f"MediaStore needs a ContentStore, and {problem}: {cure}")
        self._content: ContentStore[TContext] = kept_in  # type: ignore[assignment]
        self._sequencer = sequencer
        self._min_bytes = min_bytes

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Add an item; what a completed call holds goes to the content store."""

        async def write(item: ThreadItem) -> None:
            await super(MediaStore, self).add_thread_item(thread_id, item, context)

        await self._write(thread_id, item, context, write)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Save an item; what a completed call holds goes to the content store."""

        async def write(item: ThreadItem) -> None:
            await super(MediaStore, self).save_item(thread_id, item, context)

        await self._write(thread_id, item, context, write)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        """Delete a thread and its contents."""
        # the contents first: if the rest fails the thread is still there, to be deleted again
        await self._content.delete_contents(thread_id, context)
        await super().delete_thread(thread_id, context)
        await self._content.delete_contents(thread_id, context)  # of an answer that was taken in between

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        """Delete an item and its contents."""
        item = await find_item(self.inner, thread_id, item_id, context)
        await super().delete_thread_item(thread_id, item_id, context)
        output = item.output if isinstance(item, ClientToolCallItem) else None
        for reference in [each for media in _objects(output) if (each := _reference_in(media))]:
            await self._content.delete_content(thread_id, reference.content_id, context)

    async def load_media(self, thread_id: str, reference: str, context: TContext) -> str | None:
        """Return the data URL that a reference of this store stands for; None if there is none."""
        found = _reference_in({"reference": reference})
        data = found and await self._content.load_content(thread_id, found.content_id, context)
        return f"{found.head},{b64encode(data).decode()}" if found and data is not None else None

    async def _write(self, thread_id: str, item: ThreadItem, context: TContext, write: Callable[[Any], Any]) -> None:
        kept: dict[str, bytes] = {}
        if isinstance(item, ClientToolCallItem) and item.status == "completed":
            item, kept = self._taken_apart(item)
        for content_id, data in kept.items():
            await self._content.save_content(thread_id, content_id, data, context)
        try:
            await write(item)
        except (LifecycleViolationError, NotFoundError):
            # whatever else is raised may have been written: then the content goes with its thread
            for content_id in kept:
                await self._content.delete_content(thread_id, content_id, context)
            raise

    def _taken_apart(self, item: ClientToolCallItem) -> tuple[ClientToolCallItem, dict[str, bytes]]:
        """Return an item without its larger images and files, and the content of these by its ids."""
        tool = self._sequencer.tool(item.name)
        if not tool.takes_media or tool.problem_with(item.output) is not None:
            return item, {}
        _, media = tool.media_in(item.output)
        large = {each.data_url: each.data for each in media if each.data_url and len(each.data_url) >= self._min_bytes}
        kept: dict[str, bytes] = {}

        def referred_to(value: dict[str, Any]) -> dict[str, Any]:
            url = value.get("data_url")
            if not isinstance(url, str) or url not in large:
                return value
            head = url.partition(",")[0]
            if len(head) > MAX_HEAD:
                return value
            content_id = uuid4().hex
            kept[content_id] = large[url]
            rest = {name: each for name, each in value.items() if name != "data_url"}
            return {**rest, "reference": f"content:{content_id}:{head}"}

        output = _changed(item.output, referred_to)
        if tool.problem_with(output) is not None:  # a type of the application's own that takes no references
            return item, {}
        return item.model_copy(update={"output": output}), kept


class _Reference(NamedTuple):
    content_id: str
    head: str


async def loaded(store: object, thread_id: str, reference: str | None, context: object) -> str | None:
    """Return the data URL that a reference stands for in a store; None if it is none of a `MediaStore`, or is gone."""
    load_media = getattr(store, "load_media", None)
    return await load_media(thread_id, reference, context) if load_media and is_content(reference) else None


def is_content(reference: str | None) -> bool:
    """Whether a reference is one that a `MediaStore` has left in an item."""
    return _reference_in({"reference": reference}) is not None


async def with_content(store: object, item: ClientToolCallItem, context: object) -> ClientToolCallItem:
    """Return an item with all that a `MediaStore` has taken out of its answer; what is gone stays a reference."""
    urls: dict[str, str] = {}
    if not hasattr(store, "load_media"):  # no MediaStore: each answer of a tool that waited comes by here
        return item
    for media in [each for each in _objects(item.output) if _reference_in(each)]:
        if url := await loaded(store, item.thread_id, media["reference"], context):
            urls[media["reference"]] = url

    def filled(value: dict[str, Any]) -> dict[str, Any]:
        url = urls.get(value["reference"]) if _reference_in(value) else None
        if url is None:
            return value
        return {**{name: each for name, each in value.items() if name != "reference"}, "data_url": url}

    return item.model_copy(update={"output": _changed(item.output, filled)}) if urls else item


def _reference_in(value: dict[str, Any]) -> _Reference | None:
    reference = value.get("reference")
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return _Reference(found[1], found[2]) if found else None


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object in JSON."""
    if isinstance(value, dict):
        yield value
    parts: Collection[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _objects(part)


def _changed(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return JSON with every object changed, from the outside in."""
    if isinstance(value, dict):
        return {name: _changed(each, change) for name, each in change(value).items()}
    return [_changed(each, change) for each in value] if isinstance(value, list) else value
