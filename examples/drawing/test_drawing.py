"""The drawing, over the JSON that ChatKit.js speaks: the picture reaches the model as an image."""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any

import pytest
from agents.testing import ScriptedModel, assistant_message, function_call

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from examples.offline import OfflineModel

from .demo import flag
from .offline import HELLO, NAMES, SIGNATURE, decoded, described, png, reply
from .server import DrawingServer
from .tools import RequestContext

TOOL = "get_drawing"
ADA = RequestContext("ada")
RED, BLUE, WHITE = NAMES["red"], NAMES["blue"], NAMES["white"]
FLAG = f"data:image/png;base64,{b64encode(flag()).decode()}"


def page_with(*answers: Any, model: Any = None) -> FakeBrowser:
    """Open a page that answers with one drawing after the other."""
    left = [*answers]
    server = DrawingServer(MemoryStore(), model or OfflineModel(reply))
    return FakeBrowser(server, context=ADA, handlers={TOOL: lambda _: left.pop(0)})


def drawing(data_url: str = FLAG) -> Any:
    return {"image": {"data_url": data_url}, "marks": 2}


async def test_a_greeting_needs_no_picture() -> None:
    """The model answers what it can answer without the page."""
    page = page_with()

    await page.send("Hi!")

    assert ([HELLO], []) == (page.texts, page.calls)


async def test_the_model_looks_at_the_picture() -> None:
    """What the assistant says is true of the pixels that the page has sent."""
    page = page_with(drawing())

    await page.send("What have I drawn?")

    size, most, *others = page.texts[0].split(". ")
    assert "The picture has 160 by 100 pixels" == size
    assert "Most of what you have drawn is red: 36 percent of the paper" == most
    assert ["I also see blue."] == others


async def test_the_picture_is_an_image_of_its_own_call() -> None:
    """The run that goes on finds an image in the output of the model's call, and the rest of the answer in a text."""
    asks = [[function_call(TOOL, {}, call_id=f"call_{n}", item_id=f"fc_{n}")] for n in (1, 2)]
    says = [[assistant_message("A flag.", item_id=f"msg_{n}")] for n in (1, 2)]
    model = ScriptedModel([asks[0], says[0], asks[1], says[1]])
    page = page_with(drawing(), drawing(), model=model)

    await page.send("What is it?")
    await page.send("And now?")

    assert model.last_call
    older, newer = [each["output"] for each in model.last_call.input if each.get("type") == "function_call_output"]
    text = '{"image":"[image 1]","marks":2}'
    assert f"{text}\n[image that is not shown here]" == older
    assert [
        {"type": "input_text", "text": text},
        {"type": "input_image", "image_url": FLAG, "detail": "auto"},
    ] == newer


async def test_what_is_no_picture() -> None:
    """What the page gets wrong the model reads as an error, and the conversation goes on."""
    page = page_with(drawing("data:image/svg+xml;base64,PHN2Zy8+"), drawing())

    await page.send("What have I drawn?")
    await page.send("And now?")

    assert page.texts[0].startswith("I could not see your drawing: the browser's answer does not fit: image")
    assert page.texts[1].startswith("The picture has 160 by 100 pixels.")
    assert [] == page.errors


class TestLooking:
    def test_an_empty_paper(self) -> None:
        """White is the paper, and nothing is drawn."""
        assert "The picture has 3 by 2 pixels, and the paper is empty." == described(png([[WHITE] * 3] * 2))

    def test_little_is_drawn(self) -> None:
        """A colour has the name of one that is like it, however little there is; the blend of two has none."""
        rows = [[WHITE] * 500 for _ in range(2)]
        rows[1][7:9] = [(200, 60, 70), (237, 151, 158)]

        assert (
            "Most of what you have drawn is red: less than 1 percent of the paper."
            == described(png(rows)).partition(" pixels. ")[2]
        )

    @pytest.mark.parametrize("kind", range(5))
    @pytest.mark.parametrize("size", [3, 4])
    def test_every_filter(self, kind: int, size: int) -> None:
        """A PNG is decoded whichever filter its rows have, with and without transparency."""
        rows = [bytes((x * y * 37 + x) % 256 for x in range(5 * size)) for y in range(4)]

        width, height, pixels = decoded(filtered(rows, kind, size))

        assert (5, 4) == (width, height)
        assert [tuple(row[at : at + 3]) for row in rows for at in range(0, 5 * size, size)] == pixels

    def test_another_png(self) -> None:
        """A PNG that no canvas makes is refused, and not misread."""
        with pytest.raises(ValueError, match="no canvas"):
            decoded(png([[RED]]).replace(b"\x08\x02\0\0\0", b"\x08\x03\0\0\0", 1))


def filtered(rows: list[bytes], kind: int, size: int) -> bytes:
    """Encode rows with one filter, as the PNG specification says, one byte after the other."""

    def predicted(left: int, up: int, corner: int) -> int:
        guess = left + up - corner
        paeth = min((abs(guess - each), n) for n, each in enumerate((left, up, corner)))[1]
        return (0, left, up, (left + up) // 2, (left, up, corner)[paeth])[kind]

    packed = b""
    above = bytes(len(rows[0]))
    for row in rows:
        before, corners = bytes(size) + row, bytes(size) + above
        packed += bytes([kind]) + bytes(
            (own - predicted(*near)) % 256 for own, *near in zip(row, before, above, corners, strict=False)
        )
        above = row
    made = png([[RED] * (len(rows[0]) // size)] * len(rows))
    head = made[:24] + bytes([8, {3: 2, 4: 6}[size], 0, 0, 0]) + bytes(4)
    content = zlib.compress(packed)
    assert made.startswith(SIGNATURE)
    return head + len(content).to_bytes(4, "big") + b"IDAT" + content + bytes(4)
