"""`FolderContent`: the images and files of answers, in a folder."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic
from uuid import uuid4

from typing_extensions import TypeVar

from chatkit_clienttools.errors import UsageError, printable

from ._documents import owner_key

if TYPE_CHECKING:
    from collections.abc import Callable

TContext = TypeVar("TContext", default=Any)

_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


class FolderContent(Generic[TContext]):
    """A `ContentStore` in a folder: a folder for each thread, and a file in it for each content.

    The names say nothing: a thread's is a hash of its id and its owner, and a content's is its id. Workers on several
    machines need a folder that all of them see.

    Args:
        path: The folder. It is made when it is needed.
        owner: Tells whose contents a request may touch, as the `owner` of `SQLStore` does.
    """

    def __init__(self, path: str | Path, *, owner: Callable[[TContext], object] | None = None) -> None:
        self._path = Path(path)
        self._owner = owner

    async def save_content(self, thread_id: str, content_id: str, data: bytes, context: TContext) -> None:
        """Write a file, whole or not at all."""
        file = self._file(thread_id, content_id, context)

        def write() -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(f".{uuid4().hex}")
            try:
                draft.write_bytes(data)
                draft.replace(file)
            except OSError:
                draft.unlink(missing_ok=True)
                raise

        await asyncio.to_thread(write)

    async def load_content(self, thread_id: str, content_id: str, context: TContext) -> bytes | None:
        """Read a file."""
        file = self._file(thread_id, content_id, context)

        def read() -> bytes | None:
            try:
                return file.read_bytes()
            except FileNotFoundError:
                return None

        return await asyncio.to_thread(read)

    async def delete_content(self, thread_id: str, content_id: str, context: TContext) -> None:
        """Delete a file, and the folder of its thread if that was the last one."""
        file = self._file(thread_id, content_id, context)

        def delete() -> None:
            file.unlink(missing_ok=True)
            with suppress(OSError):  # there are others, or it is not there
                file.parent.rmdir()

        await asyncio.to_thread(delete)

    async def delete_contents(self, thread_id: str, context: TContext) -> None:
        """Delete the folder of a thread."""
        folder = self._folder(thread_id, context)

        def delete() -> None:
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)

        await asyncio.to_thread(delete)

    def _folder(self, thread_id: str, context: TContext) -> Path:
        owner = owner_key(self._owner, context)
        name = hashlib.sha256(f"{len(owner)}:{owner}{thread_id}".encode("utf-8", "surrogatepass")).hexdigest()
        return self._path / name

    def _file(self, thread_id: str, content_id: str, context: TContext) -> Path:
        if not _ID.fullmatch(content_id):
            raise UsageError(f"FolderContent: {printable(content_id)!r} cannot be the id of a content")
        return self._folder(thread_id, context) / content_id
