"""Images and files in answers: what is taken, what the model gets, and what a tool that waits gets."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from agents import ToolOutputImage
from chatkit.agents import ThreadItemConverter
from chatkit.types import ClientToolCallItem
from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer
from chatkit_clienttools._typescript import declarations
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.media import ClientFile, ClientImage
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.server import outputs
from tests.helpers.waiting import Ctx  # noqa: TC001  the Agents SDK reads it

if TYPE_CHECKING:
    from collections.abc import Iterable


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


PNG = b"\x89PNG\r\n\x1a\n and so on"
PDF = b"%PDF-1.7 and so on"
IMAGE = {"data_url": data_url("image/png", PNG)}
FILE = {"data_url": data_url("application/pdf", PDF), "filename": "a.pdf"}

SHOWN = {"type": "input_image", "image_url": IMAGE["data_url"], "detail": "auto"}
READ = {"type": "input_file", "filename": "a.pdf", "file_data": FILE["data_url"]}


class Screen(BaseModel):
    title: str
    image: ClientImage = Field(alias="shot")
    files: list[ClientFile] = []
    note: str = ""


image = ClientTool("image", result=ClientImage)
file = ClientTool("file", result=ClientFile)
screen = ClientTool("screen", result=Screen)
plain = ClientTool("plain")
TOOLS = (image, file, screen, plain)


def call(name: str, output: Any, n: int = 1) -> ClientToolCallItem:
    return ClientToolCallItem(
        id=f"tc_{n}",
        thread_id="thr_1",
        created_at=at(n),
        name=name,
        output=output,
        status="completed",
        arguments={},
        call_id=f"call_{n}",
    )


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


async def read(*items: Any, kind: type[ClientToolConverter] = ClientToolConverter, **options: Any) -> list[Any]:
    """What the model reads of each answer."""
    found: list[Any] = list(await kind(ClientToolSequencer(TOOLS), **options).to_agent_input(items))
    return [item["output"] for item in found if item["type"] == "function_call_output"]


class TestWhatIsTaken:
    @pytest.mark.parametrize(
        ("media_type", "data"),
        [
            ("image/png", PNG),
            ("IMAGE/PNG", PNG),
            ("image/png;name=a.png", PNG),
            ("image/jpeg", b"\xff\xd8\xff\xe0"),
            ("image/gif", b"GIF89a"),
            ("image/webp", b"RIFF\n\x00\x00\x00WEBPVP8"),
        ],
    )
    def test_an_image(self, media_type: str, data: bytes) -> None:
        """What a canvas or a FileReader makes is read into bytes and a media type."""
        answer = {"data_url": data_url(media_type, data), "detail": "low"}

        taken = image.read(answer)

        assert image.problem_with(answer) is None
        assert taken is not None
        assert (data, media_type.partition(";")[0].lower(), "low") == (taken.data, taken.media_type, taken.detail)

    @pytest.mark.parametrize(
        ("media_type", "data"),
        [("application/pdf", b"\n%PDF-1.4"), ("text/plain;charset=utf-8", b""), ("text/csv", b"a")],
    )
    def test_a_file(self, media_type: str, data: bytes) -> None:
        """A file has a name besides; of a text nobody can tell how it begins."""
        taken = file.read({"data_url": data_url(media_type, data), "filename": "a b.x"})

        assert taken is not None
        assert (data, "a b.x") == (taken.data, taken.filename)

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            ({}, "Either data_url or reference is needed"),
            ({**IMAGE, "reference": "x"}, "Either data_url or reference is needed"),
            (
                {"data_url": "https://private.example/a.png"},
                "data_url should begin with data:, a media type and ;base64,",
            ),
            ({"data_url": "data:image/png,private"}, "data_url should begin with data:, a media type and ;base64,"),
            (
                {"data_url": data_url("image/svg+xml", b"<svg/>private")},
                "The media type should be one of image/gif, image/jpeg, image/png, image/webp",
            ),
            ({"data_url": "data:image/png;base64,private!"}, "data_url should hold base64"),
            ({"data_url": "data:image/png;base64,privaté"}, "data_url should hold base64"),
            ({"data_url": data_url("image/png", b"private")}, "The data should be image/png, as they say"),
            ({"data_url": data_url("image/png", b"")}, "The data should be image/png, as they say"),
            ({"reference": ""}, "should have at least 1 character"),
            ({"reference": "x" * 1025}, "should have at most 1024 characters"),
            ({**IMAGE, "detail": "private"}, "Input should be 'auto', 'low' or 'high'"),
            ({**IMAGE, "size": 1}, "Extra inputs are not permitted"),
            ("private", "Input should be an object"),
        ],
    )
    def test_what_is_wrong(self, answer: Any, problem: str) -> None:
        """The reason says what is wrong, and holds nothing of the content; the log gets only the kind of problem."""
        reason, logged = image.problem_with(answer), image.why_it_failed(answer)

        assert reason is not None
        assert logged is not None
        assert problem in reason
        assert "priva" not in reason + logged

    @pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a\nb", "x" * 256])
    def test_a_name_that_is_none(self, name: str) -> None:
        """A file's name has no path and no control characters."""
        assert "filename: String should" in (file.problem_with({**FILE, "filename": name}) or "")

    def test_a_class_of_ones_own(self) -> None:
        """A class that derives from ours may take other types."""

        class Pdf(ClientFile):
            media_types = frozenset({"application/pdf"})

        pdf = ClientTool("pdf", result=Pdf)

        assert pdf.takes_media
        assert pdf.problem_with(FILE) is None
        assert "one of application/pdf " in (pdf.problem_with({"data_url": data_url("text/csv", b"a")}) or "")

    def test_a_reference_has_no_data(self) -> None:
        """What the page has only referred to has neither bytes nor type: the error says what to do."""
        taken = ClientImage(reference="atc_1")

        for name in ("data", "media_type"):
            with pytest.raises(UsageError, match=r"This ClientImage is a reference, and has no data\. Look up"):
                getattr(taken, name)

    def test_its_repr_has_no_content(self) -> None:
        """A log that shows the object does not show the image."""
        assert "base64" not in repr(screen.read({"title": "a", "shot": IMAGE}))

    def test_it_can_be_written_as_json(self) -> None:
        """Outside the converter an image is written with its content."""
        assert {"data_url": IMAGE["data_url"], "reference": None, "detail": "auto"} == ClientImage(
            data_url=IMAGE["data_url"]
        ).model_dump()

    def test_which_tools_take_them(self) -> None:
        """A tool takes images if they are anywhere in its result type."""

        class Later(BaseModel):
            image: Shot

        tool = ClientTool("later", result=Later)

        class Shot(BaseModel):
            image: ClientImage

        Later.model_rebuild()
        types: list[Any] = [Screen, list[ClientImage], dict[str, ClientFile], ClientImage | None, int, Any, None, str]

        assert tool.takes_media
        assert [True] * 4 + [False] * 4 == [ClientTool("t", result=each).takes_media for each in types]

    def test_typescript(self) -> None:
        """The page's compiler knows what to send."""
        written = declarations([image], "x")

        assert "data_url?: string;\n" in written
        assert 'detail?: "auto" | "low" | "high";' in written
        assert "result: ClientImage }" in written


class TestWhatTheModelReads:
    async def test_an_image_alone(self) -> None:
        """The output of the call is the image."""
        assert [[text('"[image 1]"'), SHOWN]] == await read(call("image", IMAGE))

    async def test_inside_a_model(self) -> None:
        """The text has a line in the place of each image and file, which follow in order; it is as the page sent it."""
        answer = {"title": "Home", "shot": {**IMAGE, "detail": "high"}, "files": [FILE, FILE]}

        [[words, *parts]] = await read(call("screen", answer))

        assert {"title": "Home", "shot": "[image 1]", "files": ["[file 1]", "[file 2]"]} == json.loads(words["text"])
        assert [{**SHOWN, "detail": "high"}, READ, READ] == parts

    async def test_one_that_failed(self) -> None:
        """An answer that does not fit is an error, in a text, as for any tool; so is an error report."""
        [[wrong], [report]] = [await read(call("image", each)) for each in ({"data_url": "x"}, {"error": "no canvas"})]

        assert "data_url should begin with data:" in json.loads(wrong)["error"]
        assert {"error": "no canvas"} == json.loads(report)

    @pytest.mark.parametrize(("newest", "shown"), [(3, 3), (1, 1), (0, 0)])
    async def test_only_the_newest(self, newest: int, shown: int) -> None:
        """Of a thread's images the newest are shown, whichever calls they are from; a line says where others were."""
        thread = [call("image", IMAGE, n) for n in range(3)] + [
            call("plain", "a", 4),
            call("screen", {"title": "b", "shot": IMAGE}, 5),
        ]

        outputs = await read(*thread, newest_images=newest)

        assert [n >= 4 - shown for n in range(4)] == [
            any(part == SHOWN for part in output) for output in outputs if output != '"a"'
        ]
        gone = '"[image 1]"\n[image that is not shown here]'
        assert [gone] * min(3, 4 - shown) == [output for output in outputs if output == gone]

    async def test_files_are_counted_by_themselves(self) -> None:
        """A newer image does not replace a file; in one answer the last ones count as the newest."""
        answer = {"title": "a", "shot": IMAGE, "files": [FILE, {**FILE, "filename": "b.pdf"}]}

        [output] = await read(call("screen", answer), newest_files=1)

        assert [SHOWN, text("[file that is not shown here]"), {**READ, "filename": "b.pdf"}] == output[1:]

    @pytest.mark.parametrize(
        ("name", "url", "part"),
        [
            ("image", "https://a.example/1", {**SHOWN, "image_url": "https://a.example/1"}),
            ("image", None, text("[image that is gone]")),
            ("file", "https://a.example/1", {"type": "input_file", "file_url": "https://a.example/1"}),
            ("file", FILE["data_url"], {**READ, "filename": "file"}),
        ],
    )
    async def test_a_reference(self, name: str, url: str | None, part: Any) -> None:
        """The application says what a reference stands for."""
        asked: list[Any] = []

        class Resolving(ClientToolConverter):
            async def resolve(self, media: Any) -> str | None:
                asked.append(media.reference)
                return url

        [output] = await read(call(name, {"reference": "atc_1"}), kind=Resolving)

        assert part == output[-1] if url else '"[image 1]"\n[image that is gone]' == output
        assert ["atc_1"] == asked

    async def test_a_reference_that_nobody_resolves(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without `resolve` a reference leads nowhere; the log says what to write once, and not what the page has said.

        It breaks no thread: any page may post one, and the model reads the thread again with every message.
        """
        found = await read(call("image", {"reference": "private"}, 1), call("image", {"reference": "private"}, 2))

        assert ['"[image 1]"\n[image that is gone]'] * 2 == found
        [line] = caplog.messages
        assert "Override `async def resolve(self, media)`" in line
        assert "private" not in line

    async def test_a_converter_that_returns_one_item(self) -> None:
        """A converter behind ours may turn a call into something else; what is no output stays as it is."""

        class Theirs(ThreadItemConverter):
            async def client_tool_call_to_input(self, item: ClientToolCallItem) -> Any:
                return {"role": "developer", "content": item.name}

        class Mine(ClientToolConverter, Theirs):
            pass

        found = await Mine(ClientToolSequencer(TOOLS)).to_agent_input(call("image", IMAGE))

        assert [{"role": "developer", "content": "image"}] == found


def server_with(body: Any, steps: Iterable[Any], **options: Any) -> Conversation:
    """A server whose tool `looks` is this function, and a page."""
    sequencer = ClientToolSequencer(TOOLS, **options)

    async def looks(ctx: Ctx) -> Any:
        return await body(sequencer, ctx)

    return Conversation(SequencedServer(MemoryStore(), steps, [sequencer.function_tool(looks)], sequencer=sequencer))


async def answer(chat: Conversation, reply: Any, result: Any) -> Any:
    return await chat.answer({"_receipt": reply.call_items[0]["arguments"]["_receipt"], "result": result})


class TestAConversation:
    async def test_the_model_sees_a_drawing(self) -> None:
        """The page's canvas reaches the model as an image."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, image())
            return "asked"

        chat = server_with(asks, [[calls("looks")], speaks("Wait."), speaks("A house.")])
        last = await answer(chat, await chat.say("What is it?"), IMAGE)

        assert ["A house."] == last.texts
        [seen] = [each for each in chat.server.model.calls[-1].input if SHOWN in (each.get("output") or ())]  # type: ignore[attr-defined]
        assert "function_call_output" == seen["type"]

    async def test_a_tool_that_waits(self) -> None:
        """`ask` returns the bytes and the media type, and the tool may hand the image on to the model."""
        got: list[Any] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            taken = await sequencer.ask(ctx, screen())
            got.append((taken.image.data, taken.image.media_type, taken.title))
            return ToolOutputImage(image_url=taken.image.data_url)

        chat = server_with(asks, [[calls("looks")], speaks("A house.")])
        await answer(chat, await chat.say("What is it?"), {"title": "Home", "shot": IMAGE})

        assert [(PNG, "image/png", "Home")] == got
        [output] = [each["output"] for each in chat.server.model.calls[-1].input if each.get("output")]  # type: ignore[attr-defined]
        assert [IMAGE["data_url"]] == [part["image_url"] for part in output]

    @pytest.mark.parametrize(
        ("tool", "size", "is_taken"), [(image, 3000, True), (image, 9000, False), (plain, 3000, False)]
    )
    async def test_its_limits(self, tool: Any, size: int, *, is_taken: bool) -> None:
        """An answer to a tool that takes images may be larger by `max_media_bytes`; one to another tool may not."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, tool())
            return "asked"

        steps = [[calls("looks")], speaks("Wait."), speaks("Done.")]
        chat = server_with(asks, steps, max_answer_bytes=1024, max_media_bytes=5000)
        large = {"data_url": data_url("image/png", PNG + b"x" * size)}
        reply = await answer(chat, await chat.say("Look"), large)

        limit = "6,024" if tool is image else "1,024"
        refused = {"error": f"the browser's answer was refused: it is larger than {limit} bytes"}
        assert [large if is_taken else refused] == await outputs(chat)
        assert [not is_taken] == ["notice" in reply.types]

    async def test_a_small_answer_beside_images(self) -> None:
        """A small answer to a tool without images is taken as ever."""

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, plain())
            return "asked"

        chat = server_with(asks, [[calls("looks")], speaks("Wait."), speaks("Done.")])
        await answer(chat, await chat.say("Look"), [1])

        assert [[1]] == await outputs(chat)
