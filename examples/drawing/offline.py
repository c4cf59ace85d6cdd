"""What the assistant says without a model. It does look: it decodes the picture, and counts its pixels by colour."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from base64 import b64decode
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from examples.offline import Heard, Reply, Use

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Colour = tuple[int, int, int]

HELLO = "Hello! Draw something, and ask me what I see."

NAMES: dict[str, Colour] = {
    "white": (255, 255, 255),
    "black": (31, 36, 48),
    "red": (220, 47, 60),
    "orange": (238, 138, 29),
    "green": (43, 154, 87),
    "blue": (55, 114, 232),
    "purple": (145, 85, 214),
}
PAPER = "white"
ALIKE = 30
"""How far from a colour another one may be that has its name."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 6: 4}
"""How many bytes a pixel has, by the colour type of a PNG: with and without transparency."""


def reply(heard: Heard) -> Reply:
    """Ask for the drawing, and say something about it when it is there."""
    if re.fullmatch(r"(?:hi|hello|hey)\b.*", heard.text, re.IGNORECASE):
        return HELLO
    answer = heard.said("get_drawing")
    if answer is None:
        return [Use("get_drawing", {})]
    if not heard.images:
        return f"I could not see your drawing: {json.loads(answer)['error']}. Ask me again, please."
    return described(b64decode(heard.images[-1].partition(",")[2]))


def described(picture: bytes) -> str:
    """Say what there is to see in a PNG."""
    width, height, pixels = decoded(picture)
    seen = Counter[str]()
    for colour, count in Counter(pixels).items():
        if name := name_of(colour):
            seen[name] += count
    size = f"The picture has {width} by {height} pixels"
    drawn = [(name, count) for name, count in seen.most_common() if name != PAPER]
    if not drawn:
        return f"{size}, and the paper is empty."
    (most, count), *others = drawn
    also = f" I also see {listed([name for name, _ in others])}." if others else ""
    return f"{size}. Most of what you have drawn is {most}: {share(count, width * height)} of the paper.{also}"


def listed(names: list[str]) -> str:
    """Return names in words."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def share(part: int, whole: int) -> str:
    """Return a share in words."""
    percent = 100 * part / whole
    return f"{percent:.0f} percent" if percent >= 1 else "less than 1 percent"


def name_of(colour: Colour) -> str | None:
    """Return the name of the colour that is most like this one; None for the blend of two, at the edge of a line."""

    def distance(name: str) -> float:
        return math.dist(colour, NAMES[name])

    name = min(NAMES, key=distance)
    return name if distance(name) < ALIKE else None


def decoded(picture: bytes) -> tuple[int, int, list[Colour]]:
    """Return the width, the height and the pixels of a PNG, as canvases make them: 8 bits, not interlaced."""
    chunks = list(_chunks(picture))
    width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if depth != 8 or kind not in CHANNELS or interlaced:
        raise ValueError("a PNG that no canvas makes")
    size = CHANNELS[kind]
    packed = b"".join(content for name, content in chunks if name == b"IDAT")
    rows = _rows(zlib.decompress(packed), width * size, height, size)
    colours: list[Colour] = []
    for row in rows:
        colours += zip(row[0::size], row[1::size], row[2::size], strict=True)
    return width, height, colours


def png(rows: Sequence[Sequence[Colour]]) -> bytes:
    """Return pixels as a PNG."""
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(part for colour in row for part in colour) for row in rows)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(picture):
        length = int.from_bytes(picture[at : at + 4], "big")
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += length + 12


def _rows(packed: bytes, length: int, height: int, size: int) -> Iterator[bytes]:
    """Undo the filter of each row: a byte is stored as its difference from its neighbours."""
    above = bytes(length)
    for at in range(0, height * (length + 1), length + 1):
        above = _unfiltered(packed[at], packed[at + 1 : at + 1 + length], above, size)
        yield above


def _unfiltered(kind: int, row: bytes, above: bytes, size: int) -> bytes:
    match kind:
        case 0:
            return row
        case 1:
            done = bytearray(len(row))
            for channel in range(size):
                summed: list[int] = [*accumulate([*row[channel::size]], _sum)]
                done[channel::size] = bytes(summed)
            return bytes(done)
        case 2:
            return bytes((own + up) & 255 for own, up in zip(row, above, strict=True))
    done = bytearray(size) + row
    corner = bytes(size) + above
    for at in range(size, len(done)):
        left, up, before = done[at - size], corner[at], corner[at - size]
        done[at] = (done[at] + ((left + up) // 2 if kind == 3 else _paeth(left, up, before))) & 255
    return bytes(done[size:])


def _sum(one: int, other: int) -> int:
    return (one + other) & 255


def _paeth(left: int, up: int, before: int) -> int:
    """Return the neighbour that is nearest to left + up - before."""
    guess = left + up - before
    return min((left, up, before), key=lambda each: abs(guess - each))
