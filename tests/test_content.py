"""Images and files that are kept beside the items: what is in the item, who gets the bytes, when they are deleted."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError
from pydantic import BaseModel, model_validator

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, ValidatingStore
from chatkit_clienttools.content import MediaStore, loaded, with_content
from chatkit_clienttools.errors import LifecycleViolationError, StoreUnavailableError, UsageError
from chatkit_clienttools.media import ClientFile, ClientImage
from chatkit_clienttools.stores import FolderContent, MemoryStore
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.server import outputs
from tests.helpers.stores import PlainStore, WatchedStore
from tests.helpers.waiting import Ctx  # noqa: TC001  the Agents SDK reads it
from tests.stores.values import answered, call, thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers.conversation import Reply


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


PNG = b"\x89PNG\r\n\x1a\n" + b"large " * 100
CSV = b"1,2,3\n" * 100
IMAGE = {"data_url": data_url("image/png", PNG), "detail": "low"}
FILE = {"data_url": data_url("text/csv;charset=utf-8", CSV), "filename": "a.csv"}
SMALL = {"data_url": data_url("image/png", PNG[:20])}
SHOWN = {"type": "input_image", "image_url": IMAGE["data_url"], "detail": "low"}


class Screen(BaseModel):
    title: str
    shots: list[ClientImage] = []
    file: ClientFile | None = None


class Own(ClientImage):
    """A type that wants the bytes at once."""

    @model_validator(mode="after")
    def _needs_data(self) -> Own:
        if self.data_url is None:
            raise ValueError("data")
        return self


image = ClientTool("image", result=ClientImage)
screen = ClientTool("screen", result=Screen)
own = ClientTool("own", result=Own)
plain = ClientTool("plain")
TOOLS = (image, screen, own, plain)


class Counted(MemoryStore[Any]):
    """A store that counts the contents that it loads."""

    loads = 0

    async def load_content(self, thread_id: str, content_id: str, context: Any) -> bytes | None:
        self.loads += 1
        return await super().load_content(thread_id, content_id, context)

    def contents(self, thread_id: str = "thr") -> list[bytes]:
        threads = self._of(None).threads
        return [*threads[thread_id].contents.values()] if thread_id in threads else []


class CutContents(Counted):
    """A content store that lets a test act before a deletion."""

    before: Callable[[str], Any] | None = None

    async def delete_contents(self, thread_id: str, context: Any) -> None:
        if self.before:
            await self.before("delete_contents")
        await super().delete_contents(thread_id, context)


class StrictStore(PlainStore):
    """A store that takes items only of threads that it has."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        await self.load_thread(thread_id, context)
        await super().save_item(thread_id, item, context)


class Page:
    """A server whose tool asks for these, on a `MediaStore`, and a page."""

    def __init__(self, body: Callable[..., Any], runs: int = 1, inner: Any = None, **options: Any) -> None:
        self.sequencer = sequencer = ClientToolSequencer(TOOLS)
        self.inner = inner or Counted()
        self.store = MediaStore(self.inner, sequencer, min_bytes=100, **options)

        async def looks(ctx: Ctx) -> Any:
            return await body(sequencer, ctx)

        steps: list[Any] = []
        for n in range(runs):
            steps += [[calls("looks", call_id=f"call_{n}")], speaks(f"Wait {n}."), speaks(f"There {n}.")]
        steps.append(speaks("Again."))
        self.server = SequencedServer(self.store, steps, [sequencer.function_tool(looks)], sequencer=sequencer)
        self.chat = Conversation(self.server)

    async def answer(self, reply: Reply, result: Any) -> Reply:
        return await self.chat.answer({"_receipt": reply.call_items[0]["arguments"]["_receipt"], "result": result})

    @property
    def thread_id(self) -> str:
        return self.chat.thread_id or ""

    def shown(self, n: int = -1) -> list[Any]:
        """The outputs that the model has read in a run."""
        found: list[Any] = list(self.server.model.calls[n].input)
        return [each["output"] for each in found if each.get("type") == "function_call_output"]


def files_in(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file()]


def enqueues(*tools: Any) -> Any:
    async def body(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        sequencer.enqueue(ctx, *[tool() for tool in tools])
        return "asked"

    return body


class TestWhatIsInTheItem:
    async def test_a_reference(self) -> None:
        """What the store, and a page that loads the thread, have of a large image is a reference."""
        page = Page(enqueues(image))
        await page.answer(await page.chat.say("Look"), IMAGE)

        [stored] = await outputs(page.chat)
        loaded_by_page = json.dumps(await page.chat.thread())

        assert {"reference", "detail"} == stored.keys()
        assert stored["reference"].startswith("content:")
        assert IMAGE["data_url"] not in loaded_by_page
        assert stored["reference"] in loaded_by_page
        assert [PNG] == page.inner.contents(page.thread_id)

    async def test_inside_a_model(self) -> None:
        """Each large one has its own content, whatever else is in the answer; a small one stays where it is."""
        page = Page(enqueues(screen))
        answer = {"title": "a", "shots": [IMAGE, SMALL, IMAGE], "file": FILE}
        await page.answer(await page.chat.say("Look"), answer)

        [stored] = await outputs(page.chat)

        assert "a" == stored["title"]
        assert [True, False, True] == ["reference" in each for each in stored["shots"]]
        assert SMALL == stored["shots"][1]
        assert "a.csv" == stored["file"]["filename"]
        assert [CSV, PNG, PNG] == sorted(page.inner.contents(page.thread_id))
        item = next(each for each in await page.chat.items() if each.type == "client_tool_call")
        assert answer == (await with_content(page.store, item, None)).output

    @pytest.mark.parametrize(
        ("tool", "answer"),
        [
            (plain, IMAGE),
            (image, {"data_url": IMAGE["data_url"], "detail": "private"}),
            (image, SMALL),
            (image, {"reference": "atc_1"}),
            (own, IMAGE),
            (image, {"data_url": data_url("image/png;name=" + "a" * 600, PNG)}),
        ],
    )
    async def test_what_stays(self, tool: Any, answer: Any) -> None:
        """An answer stays as it is if it is not of an image, does not fit, is small, or may not be a reference."""
        page = Page(enqueues(tool))
        await page.answer(await page.chat.say("Look"), answer)

        assert [answer] == await outputs(page.chat)
        assert [] == page.inner.contents(page.thread_id)


class TestWhoGetsTheBytes:
    async def test_the_model(self) -> None:
        """The model is shown the image, now and when it is read from the store later."""
        page = Page(enqueues(screen))
        await page.answer(await page.chat.say("Look"), {"title": "a", "shots": [IMAGE], "file": FILE})
        await page.chat.say("Again")

        part = {"type": "input_file", "filename": "a.csv", "file_data": FILE["data_url"]}
        for n in (-2, -1):
            [[words, *parts]] = page.shown(n)
            assert {"title": "a", "shots": ["[image 1]"], "file": "[file 1]"} == json.loads(words["text"])
            assert [SHOWN, part] == parts

    async def test_only_what_is_shown_is_loaded(self) -> None:
        """An older image that the model does not see is not looked up."""
        page = Page(enqueues(*[image] * 5))
        reply = await page.chat.say("Look")
        for _ in range(5):
            reply = await page.answer(reply, IMAGE)

        gone = '"[image 1]"\n[image that is not shown here]'
        assert [gone, gone] == page.shown()[:2]
        assert [True] * 3 == [SHOWN in each for each in page.shown()[2:]]
        assert 3 == page.inner.loads

    async def test_a_tool_that_waits(self) -> None:
        """`ask` returns the bytes, when the answer has just come and whenever the tool runs again after that."""
        got: list[Any] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            first = await sequencer.ask(ctx, image())
            got.append((first.data, first.media_type))
            second = await sequencer.ask(ctx, screen())
            got.append(second.file and second.file.data)
            return "done"

        page = Page(asks)
        reply = await page.answer(await page.chat.say("Look"), IMAGE)
        await page.answer(reply, {"title": "a", "file": FILE})

        assert [(PNG, "image/png"), (PNG, "image/png"), CSV] == got
        assert ["reference" in each or "reference" in each["file"] for each in await outputs(page.chat)] == [True] * 2

    async def test_a_store_that_hides_plans(self) -> None:
        """In a store without plans, which the server wraps, the bytes are found all the same."""
        page = Page(enqueues(image), inner=PlainStore(), content=Counted())
        await page.store._content.save_thread(thread(), None)  # type: ignore[attr-defined]

        with pytest.raises(
            UsageError, match=r"MediaStore needs a ContentStore, and PlainStore has no delete_content, "
        ):
            MediaStore(PlainStore(), page.sequencer)
        with pytest.raises(UsageError, match="and MemoryStore is a class"):
            MediaStore(PlainStore(), page.sequencer, MemoryStore)  # type: ignore[arg-type]

    async def test_a_folder(self, tmp_path: Path) -> None:
        """With any store and a folder the model sees the image, and the thread takes its files with it."""
        page = Page(enqueues(image), inner=PlainStore(), content=FolderContent(tmp_path))
        await page.answer(await page.chat.say("Look"), IMAGE)
        files = files_in(tmp_path)

        await page.store.delete_thread(page.thread_id, None)

        assert SHOWN in page.shown()[-1]
        assert ([PNG], []) == (files, files_in(tmp_path))

    async def test_what_is_gone(self) -> None:
        """A content that somebody has deleted is a line of text for the model, and a reference for a tool."""
        page = Page(enqueues(image))
        await page.answer(await page.chat.say("Look"), IMAGE)
        await page.inner.delete_contents(page.thread_id, None)

        await page.chat.say("Again")

        assert '"[image 1]"\n[image that is gone]' == page.shown()[-1]
        [stored] = await outputs(page.chat)
        item = next(each for each in await page.chat.items() if each.type == "client_tool_call")
        assert stored == (await with_content(page.store, item, None)).output

    async def test_a_reference_that_the_page_makes_up(self) -> None:
        """A page gets nothing by naming the content of another thread, and cannot pass it off as another type."""
        page = Page(enqueues(image), runs=3)
        await page.answer(await page.chat.say("Look"), IMAGE)
        [stored] = await outputs(page.chat)
        other = Page(enqueues(image), runs=2, inner=page.inner)

        await other.answer(await other.chat.say("Look"), stored)
        disguised = {"reference": stored["reference"].replace("image/png", "image/gif")}
        await page.answer(await page.chat.say("Look"), disguised)

        gone = '"[image 1]"\n[image that is gone]'
        assert gone == other.shown()[-1]
        assert gone == page.shown()[-1]

    async def test_outside_of_a_request(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without a request nobody knows the store: the log says once how to convert an item then."""
        page = Page(enqueues(image))
        await page.answer(await page.chat.say("Look"), IMAGE)
        item = next(each for each in await page.chat.items() if each.type == "client_tool_call")
        converter = ClientToolConverter(page.sequencer)

        read: Any
        await converter.to_agent_input(item)
        [_, read] = await converter.to_agent_input(item)

        assert '"[image 1]"\n[image that is gone]' == read["output"]
        assert 1 == sum("await with_content(store, item, context)" in message for message in caplog.messages)
        [_, read] = await converter.to_agent_input(await with_content(page.store, item, None))
        assert SHOWN in read["output"]

    async def test_a_store_that_is_none_of_ours(self) -> None:
        """A reference is looked up only where there is a `MediaStore`, and only if it is one of its own."""
        store = MediaStore(MemoryStore(), ClientToolSequencer(TOOLS))
        reference = f"content:{'0' * 32}:data:image/png;base64"

        assert None is await loaded(PlainStore(), "thr", reference, None)
        assert None is await loaded(store, "thr", "atc_1", None)
        assert None is await store.load_media("thr", "content:../a:data:image/png;base64", None)


class TestDeleting:
    async def stored(self, inner: Any = None, contents: Any = None) -> tuple[MediaStore[Any], Counted]:
        """A store with a pending call of the tool `image`."""
        contents = contents or Counted()
        store = MediaStore(inner or contents, ClientToolSequencer(TOOLS), contents, min_bytes=100)
        for each in {id(each): each for each in (contents, store)}.values():
            await each.save_thread(thread(), None)
        await store.add_thread_item("thr", call(name="image"), None)
        return store, contents

    async def test_with_its_thread(self) -> None:
        """A thread that is deleted takes its contents along, and those of others stay."""
        store, contents = await self.stored()
        await store.save_thread(thread("other"), None)
        await contents.save_content("other", "0" * 32, b"a", None)
        await store.save_item("thr", answered(call(name="image"), IMAGE), None)

        await store.delete_thread("thr", None)

        assert ([], [b"a"]) == (contents.contents(), contents.contents("other"))

    async def test_with_its_item(self) -> None:
        """An item that is deleted, as when a message is answered again, takes its contents along."""
        store, contents = await self.stored()
        await store.save_item("thr", answered(call(name="image"), IMAGE), None)
        before = contents.contents()

        await store.delete_thread_item("thr", "tc", None)
        await store.delete_thread_item("thr", "gone", None)

        assert ([PNG], []) == (before, contents.contents())

    @pytest.mark.parametrize("is_gone", [False, True])
    async def test_an_answer_that_is_refused(self, *, is_gone: bool) -> None:
        """An answer that comes second, or after its thread was deleted, leaves no content behind."""
        store, contents = await self.stored()
        answer = answered(call(name="image"), IMAGE)
        if is_gone:
            await contents.delete_thread_item("thr", "tc", None)
            await contents.save_thread(thread("other"), None)
        else:
            await store.save_item("thr", answer, None)
        kept = contents.contents()

        with pytest.raises((LifecycleViolationError, NotFoundError)):
            await store.save_item("thr", answer, None)

        assert kept == contents.contents()

    async def test_a_database_that_is_away(self) -> None:
        """If nobody knows whether the item was written, its content is not deleted: the item may refer to it."""
        watched = WatchedStore(PlainStore())
        store, contents = await self.stored(watched)

        async def fails(name: str, args: Any) -> None:
            raise StoreUnavailableError(name, "a", 1.0, "it is away")

        watched.after = fails
        with pytest.raises(StoreUnavailableError):
            await store.save_item("thr", answered(call(name="image"), IMAGE), None)

        assert [PNG] == contents.contents()

    async def test_an_answer_while_the_thread_is_deleted(self) -> None:
        """An answer that is taken between the two halves of a deletion leaves no content behind."""
        watched = WatchedStore(PlainStore())
        store, contents = await self.stored(watched)

        async def answers(name: str, args: Any) -> None:
            if name == "delete_thread":
                watched.before = None
                await store.save_item("thr", answered(call(name="image"), IMAGE), None)

        watched.before = answers
        await store.delete_thread("thr", None)

        assert [] == contents.contents()

    @pytest.mark.parametrize("dies_at", ["delete_contents 1", "delete_thread 2", "delete_contents 3"])
    async def test_a_deletion_that_is_cut_off(self, dies_at: str) -> None:
        """A deletion that has failed halfway is done again; then nothing is left of the thread and its contents."""
        inner, contents = WatchedStore(PlainStore()), CutContents()
        store, _ = await self.stored(inner, contents)
        await store.save_item("thr", answered(call(name="image"), IMAGE), None)
        done: list[str] = []

        async def dies(name: str, args: Any = None) -> None:
            if name.startswith("delete_"):
                done.append(name)
                if dies_at == f"{name} {len(done)}":
                    raise OSError("away")

        inner.before = contents.before = dies
        with pytest.raises(OSError, match="away"):
            await store.delete_thread("thr", None)
        inner.before = contents.before = None
        await store.delete_thread("thr", None)

        assert ([], []) == (contents.contents(), (await inner.load_threads(10, None, "asc", None)).data)

    @pytest.mark.parametrize("crosses_at", ["delete_contents 1", "delete_thread 2", "delete_contents 3"])
    async def test_an_answer_at_any_moment_of_a_deletion(self, crosses_at: str) -> None:
        """An answer that crosses the deletion of its thread, wherever it does, leaves no content behind."""
        inner, contents = WatchedStore(StrictStore()), CutContents()
        store, _ = await self.stored(inner, contents)
        done: list[str] = []

        async def crosses(name: str, args: Any = None) -> None:
            if name.startswith("delete_"):
                done.append(name)
                if crosses_at == f"{name} {len(done)}":
                    inner.before = contents.before = None
                    with suppress(NotFoundError):
                        await store.save_item("thr", answered(call(name="image"), IMAGE), None)

        inner.before = contents.before = crosses
        await store.delete_thread("thr", None)

        assert ([], crosses_at) == (contents.contents(), f"{done[-1]} {len(done)}")

    async def test_in_a_validating_store(self) -> None:
        """A ValidatingStore may be around it or in it; the call is completed once in both cases."""
        for around in (True, False):
            contents = Counted()
            sequencer = ClientToolSequencer(TOOLS)
            store: Any = (
                ValidatingStore(MediaStore(contents, sequencer, min_bytes=100))
                if around
                else MediaStore(ValidatingStore(contents), sequencer, min_bytes=100)
            )
            await store.save_thread(thread(), None)
            await store.add_thread_item("thr", call(name="image"), None)

            await store.save_item("thr", answered(call(name="image"), IMAGE), None)

            item = await store.load_item("thr", "tc", None)
            assert IMAGE == (await with_content(store, item, None)).output
            await store.save_item("thr", item, None)  # as it is: nothing changes
            assert [PNG] == contents.contents()
            assert at(0) == item.created_at
