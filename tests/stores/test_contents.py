"""The rules of content stores: where a `MediaStore` keeps the images and files of answers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from chatkit.store import NotFoundError
from sqlalchemy import text

from chatkit_clienttools.content import ContentStore
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.stores import FolderContent, MemoryStore
from tests.helpers.databases import place_named
from tests.stores.values import ADA, BOB, by_user, thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

IDS = ("0" * 32, "1" * 32)


@pytest.fixture(params=["memory", "folder", "sqlite file", "postgres"])
def where(request: pytest.FixtureRequest) -> Any:
    """The place of a database, or a word."""
    return request.param if request.param in {"memory", "folder"} else place_named(request.param, request)


@pytest_asyncio.fixture
async def contents(where: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """A content store with two threads of Ada's and one of Bob's."""
    if where == "folder":
        yield FolderContent(tmp_path / "not there yet", owner=by_user)
        return
    made: Any
    if where == "memory":
        made = MemoryStore(owner=by_user)
    else:
        made = where.store()
        await made.create_schema()
    for thread_id, context in (("thr", ADA), ("other", ADA), ("thr", BOB)):
        await made.save_thread(thread(thread_id), context)
    yield made
    if where != "memory":
        await made.close()


async def kept(contents: Any, thread_id: str = "thr", context: Any = ADA) -> list[bytes | None]:
    return [await contents.load_content(thread_id, content_id, context) for content_id in IDS]


def everything_in(folder: Path, pattern: str = "*") -> list[Path]:
    return list(folder.glob(pattern))


class TestEach:
    async def test_bytes_come_back(self, contents: Any) -> None:
        """What is kept comes back as it was, whatever bytes these are; what was never kept is None."""
        data = bytes(range(256)) * 100

        await contents.save_content("thr", IDS[0], data, ADA)

        assert isinstance(contents, ContentStore)
        assert [data, None] == await kept(contents)

    async def test_another_thread_and_another_owner(self, contents: Any) -> None:
        """A content is that of one thread of one owner: everybody else is told that it is not there."""
        await contents.save_content("thr", IDS[0], b"a", ADA)

        assert [None, None] == await kept(contents, "other")
        assert [None, None] == await kept(contents, "thr", BOB)
        assert [None, None] == await kept(contents, "gone")
        assert [b"a", None] == await kept(contents)

    async def test_one_is_deleted(self, contents: Any) -> None:
        """One content is deleted without the others; deleting what is not there is no error."""
        for n, content_id in enumerate(IDS):
            await contents.save_content("thr", content_id, bytes([n]), ADA)

        for thread_id, context in (("thr", BOB), ("other", ADA), ("gone", ADA), ("thr", ADA), ("thr", ADA)):
            await contents.delete_content(thread_id, IDS[0], context)

        assert [None, b"\x01"] == await kept(contents)
        await contents.delete_content("thr", IDS[1], ADA)
        assert [None, None] == await kept(contents)

    async def test_all_of_a_thread_are_deleted(self, contents: Any) -> None:
        """A thread's contents are deleted together, and those of others stay."""
        for thread_id, context in (("thr", ADA), ("other", ADA), ("thr", BOB)):
            await contents.save_content(thread_id, IDS[0], b"a", context)

        for thread_id in ("thr", "thr", "gone"):
            await contents.delete_contents(thread_id, ADA)

        assert [None, None] == await kept(contents)
        assert [b"a", None] == await kept(contents, "other")
        assert [b"a", None] == await kept(contents, "thr", BOB)


class TestStores:
    async def test_they_go_with_their_thread(self, contents: Any) -> None:
        """A store that keeps threads deletes the contents of one with it, and keeps none for one that is not there."""
        if isinstance(contents, FolderContent):
            return
        await contents.save_content("thr", IDS[0], b"a", ADA)

        await contents.delete_thread("thr", ADA)

        with pytest.raises(NotFoundError):
            await contents.save_content("thr", IDS[1], b"a", ADA)
        await contents.save_thread(thread("thr"), ADA)
        assert [None, None] == await kept(contents)

    async def test_a_database_that_was_made_before(self, store: Any) -> None:
        """Tables of an older release get the one for contents when the worker starts, and keep what they hold."""
        await store.save_thread(thread("thr"), ADA)
        async with store._database.engine.begin() as connection:
            await connection.execute(text(f"DROP TABLE {store._tables.contents.name}"))

        await store.create_schema()
        await store.save_content("thr", IDS[0], b"a", ADA)

        assert [b"a", None] == await kept(store)

    async def test_an_id_that_no_database_can_hold(self, store: Any) -> None:
        """What cannot be a key is not there, and is not looked for."""
        for thread_id, content_id in (("\0", "a"), ("thr", "x" * 256)):
            assert None is await store.load_content(thread_id, content_id, ADA)
            await store.delete_content(thread_id, content_id, ADA)
        await store.delete_contents("\0", ADA)
        with pytest.raises(UsageError):
            await store.save_content("thr", "", b"", ADA)


class TestFolder:
    async def test_nothing_is_left(self, tmp_path: Path) -> None:
        """The names of files say nothing of the thread, and nothing is left when its contents are deleted."""
        contents: FolderContent[Any] = FolderContent(tmp_path)
        await contents.save_content("thr", IDS[0], b"a", None)
        [file] = everything_in(tmp_path, "*/*")

        await contents.delete_content("thr", IDS[0], None)

        assert IDS[0] == file.name
        assert "thr" not in str(file.relative_to(tmp_path))
        assert [] == everything_in(tmp_path)

    @pytest.mark.parametrize("content_id", ["", "../a", "a/b", "a.b", "x" * 129, "\0"])
    async def test_an_id_is_no_path(self, tmp_path: Path, content_id: str) -> None:
        """An id that is not one of ours leads nowhere."""
        contents: FolderContent[Any] = FolderContent(tmp_path / "a")

        with pytest.raises(UsageError, match="cannot be the id of a content"):
            await contents.load_content("thr", content_id, None)

    async def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        """A content that cannot be written leaves no draft behind."""
        contents: FolderContent[Any] = FolderContent(tmp_path)
        file = contents._file("thr", IDS[0], None)
        file.mkdir(parents=True)  # a folder in the place of the file: it cannot be replaced

        with pytest.raises(OSError, match=IDS[0]):
            await contents.save_content("thr", IDS[0], b"a", None)

        with suppress(FileNotFoundError):
            file.rmdir()
        assert [] == everything_in(file.parent)
