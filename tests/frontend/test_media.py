"""The images and files that client-tools.js makes of canvases, Blobs and Files: in node, and in a real Chromium."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientTool, frontend
from chatkit_clienttools._typescript import declarations
from chatkit_clienttools.media import ClientFile, ClientImage
from tests.helpers.typescript import compiled

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page, Route

    from tests.frontend.conftest import Node

image = ClientTool("image", result=ClientImage)
file = ClientTool("file", result=ClientFile)

MADE = 'const { clientFile, clientImage } = await import("./client-tools.mjs");'

THROWN = """
  const thrown = async (make) => {
    try { return await make(); } catch (error) { return `${error.name}: ${error.message}`; }
  };
"""

URL = "https://example.com/"
PAGE = f"""\
<!doctype html>
<script type="module">
  Object.assign(window, await import("./client-tools.js"));
  /** A canvas of that size: noise, which no encoder makes small, or one colour. */
  window.canvas = (width, height, colour) => {{
    const made = Object.assign(document.createElement("canvas"), {{ width, height }});
    const paint = made.getContext("2d");
    const noise = paint.createImageData(width, height);
    let seed = 1;
    for (let at = 0; at < noise.data.length; at++) {{
      seed = (seed * 16807) % 2147483647;
      noise.data[at] = at % 4 === 3 ? 255 : seed >> 8 & 255;
    }}
    paint.putImageData(noise, 0, 0);
    if (colour) {{ paint.fillStyle = colour; paint.fillRect(0, 0, width, height); }}
    return made;
  }};
  window.blob = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type));
  /** How large a made image is, and the colour of its first pixel. */
  window.looked = async ({{ data_url }}) => {{
    const bitmap = await createImageBitmap(await (await fetch(data_url)).blob());
    const paint = canvas(1, 1, "#000").getContext("2d");
    paint.drawImage(bitmap, 0, 0);
    return [bitmap.width, bitmap.height, ...paint.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }};
  {THROWN}
  window.thrown = thrown;
  window.ready = true;
</script>
"""


async def run(page: Page, script: str) -> Any:
    """Run the body of an async function on a page that has the module."""

    async def answer(route: Route) -> None:
        if route.request.url == f"{URL}client-tools.js":
            await route.fulfill(path=frontend.path())
        else:
            await route.fulfill(body=PAGE, content_type="text/html")

    await page.route(f"{URL}**", answer)
    await page.goto(URL)
    await page.wait_for_function("window.ready")
    return await page.evaluate(f"async () => {{ {script} }}")


class TestFile:
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 100_000])
    def test_a_file_is_read_as_it_is(self, node: Node, size: int) -> None:
        """A File keeps its bytes, its media type and its name."""
        made = node(f"""
            {MADE}
            const bytes = new Uint8Array({size}).map((_, at) => at * 7);
            return await clientFile(new File([bytes], "a b.csv", {{ type: "text/csv" }}));
        """)

        taken = file.read(made)
        assert taken is not None
        assert (bytes(at * 7 % 256 for at in range(size)), "text/csv", "a b.csv") == (
            taken.data,
            taken.media_type,
            taken.filename,
        )

    def test_a_blob_has_no_name(self, node: Node) -> None:
        """The server gives a Blob its own default name; the page may say a name and another type."""
        assert [
            {"data_url": "data:application/json;base64,MQ=="},
            {"data_url": "data:text/markdown;base64,MQ==", "filename": "a.md"},
        ] == node(f"""
            {MADE}
            const blob = new Blob(["1"], {{ type: "application/json" }});
            return [await clientFile(blob), await clientFile(blob, {{ filename: "a.md", type: "text/markdown" }})];
        """)

    def test_what_is_refused(self, node: Node) -> None:
        """What cannot be sent throws before it is sent, and the error says what to do."""
        assert [
            "TypeError: clientFile needs a File or a Blob",
            'TypeError: the browser does not know what kind of file this is: say { type: "text/markdown" }',
            "RangeError: the file is too large: 9 bytes",
            "TypeError: maxBytes must be a number from 1 on",
            {"data_url": "data:text/csv;base64,MTIzNDU2Nzg5"},
        ] == node(f"""
            {MADE}
            {THROWN}
            const nine = new Blob(["123456789"], {{ type: "text/csv" }});
            return [
                await thrown(() => clientFile("a.csv")),
                await thrown(() => clientFile(new Blob(["1"]))),
                await thrown(() => clientFile(nine, {{ maxBytes: 32 }})),
                await thrown(() => clientFile(nine, {{ maxBytes: "33" }})),
                await thrown(() => clientFile(nine, {{ maxBytes: 33 }})),
            ];
        """)

    def test_eight_mebibytes_are_the_most(self, node: Node) -> None:
        """`clientFile` refuses a file whose data URL is longer than 8 MiB, the most the server takes by default."""
        assert ["data:", "RangeError: the file is too large: 6291456 bytes"] == node(f"""
            {MADE}
            {THROWN}
            const blob = (size) => new Blob([new Uint8Array(size)], {{ type: "text/csv" }});
            const made = await clientFile(blob(6 * 2 ** 20 - 20));
            return [made.data_url.slice(0, 5), await thrown(() => clientFile(blob(6 * 2 ** 20)))];
        """)


class TestImage:
    async def test_a_canvas_is_a_png(self, page: Page) -> None:
        """A canvas that is small enough keeps its size, and the server takes what is made of it."""
        made, looked = await run(
            page,
            """
            const made = await clientImage(canvas(300, 200, "#ff8000"), { detail: "low" });
            return [made, await looked(made)];
            """,
        )

        taken = image.read(made)
        assert taken is not None
        assert ("image/png", "low") == (taken.media_type, taken.detail)
        assert [300, 200, 255, 128, 0] == looked

    @pytest.mark.parametrize(
        ("size", "options", "made"),
        [
            ((3000, 1000), "", [2048, 683]),
            ((1000, 3000), "", [683, 2048]),
            ((2048, 2048), "", [2048, 2048]),
            ((300, 200), ", { maxEdge: 100 }", [100, 67]),
            ((300, 1), ", { maxEdge: 100 }", [100, 1]),
        ],
    )
    async def test_its_longer_edge(self, page: Page, size: tuple[int, int], options: str, made: list[int]) -> None:
        """A picture becomes as much smaller as its longer edge is too long, and keeps its proportions."""
        looked = await run(
            page, f'return await looked(await clientImage(canvas({size[0]}, {size[1]}, "red"){options}))'
        )

        assert [*made, 255, 0, 0] == looked

    @pytest.mark.parametrize("type_", ["image/png", "image/jpeg", "image/webp"])
    async def test_a_blob_that_fits_is_sent_as_it_is(self, page: Page, type_: str) -> None:
        """What needs no change gets none: not one byte of the Blob is different."""
        made, same = await run(
            page,
            f"""
            const sent = await blob(canvas(30, 20), "{type_}");
            const made = await clientImage(sent);
            const bytes = new Uint8Array(await sent.arrayBuffer());
            return [made, `data:{type_};base64,${{btoa(String.fromCharCode(...bytes))}}`];
            """,
        )

        assert same == made["data_url"]
        assert image.problem_with(made) is None

    @pytest.mark.parametrize(
        ("type_", "options", "made"),
        [
            ("image/jpeg", "{ maxEdge: 20 }", "image/jpeg"),
            ("image/jpeg", '{ type: "image/webp" }', "image/webp"),
            ("image/png", '{ type: "image/jpeg", quality: 0.5 }', "image/jpeg"),
            ("image/bmp", "{}", "image/png"),
        ],
    )
    async def test_its_type(self, page: Page, type_: str, options: str, made: str) -> None:
        """A picture that is drawn anew has the type that was said, or its own if a canvas can make that, or PNG."""
        found = await run(
            page,
            f"""
            const source = await blob(canvas(30, 20), "{type_}".replace("bmp", "png"));
            return await clientImage(source.slice(0, source.size, "{type_}"), {options});
            """,
        )

        taken = image.read(found)
        assert taken is not None
        assert made == taken.media_type

    async def test_its_bytes(self, page: Page) -> None:
        """A picture whose data URL is too long gets smaller until it is not, whatever its type."""
        lengths = await run(
            page,
            """
            const noise = canvas(400, 300);
            const made = [];
            for (const type of ["image/png", "image/jpeg"]) {
              const { data_url } = await clientImage(noise, { type, maxBytes: 20_000 });
              made.push([data_url.length, (await looked({ data_url }))[0]]);
            }
            return made;
            """,
        )

        assert all(10_000 < length <= 20_000 and 30 < width < 400 for length, width in lengths)

    async def test_four_mebibytes_are_the_most(self, page: Page) -> None:
        """Without an option even noise is small enough for the server."""
        length = await run(page, "return (await clientImage(canvas(2048, 1024))).data_url.length")

        assert 2 * 2**20 < length <= 4 * 2**20

    async def test_no_transparency_becomes_black(self, page: Page) -> None:
        """What a JPEG cannot show is white."""
        looked = await run(
            page,
            """
            const empty = Object.assign(document.createElement("canvas"), { width: 9, height: 9 });
            return await window.looked(await clientImage(empty, { type: "image/jpeg" }));
            """,
        )

        assert [9, 9, 255, 255, 255] == looked

    async def test_in_a_worker(self, page: Page) -> None:
        """Where there is no document, an OffscreenCanvas is drawn on."""
        made = await run(
            page,
            """
            const module = await (await fetch("client-tools.js")).text();
            const work = `
              const canvas = new OffscreenCanvas(50, 40);
              canvas.getContext("2d").fillRect(0, 0, 50, 40);
              postMessage(await clientImage(canvas, { maxEdge: 20 }));
            `;
            const script = new Blob([module, work], { type: "text/javascript" });
            const worker = new Worker(globalThis.URL.createObjectURL(script), { type: "module" });
            const made = await new Promise((resolve, reject) => {
              worker.onmessage = ({ data }) => resolve(data);
              worker.onerror = ({ message }) => reject(new Error(message));
            });
            return [made, await looked(made)];
            """,
        )

        assert image.problem_with(made[0]) is None
        assert [20, 16] == made[1][:2]

    async def test_what_is_refused(self, page: Page) -> None:
        """What is no picture, or cannot become as small as it should, throws; so does a wrong option."""
        [text, empty, small, edge, length] = await run(
            page,
            """
            return [
              await thrown(() => clientImage(new Blob(["<svg/>"], { type: "image/png" }))),
              await thrown(() => clientImage(canvas(1, 1).parentNode)),
              await thrown(() => clientImage(canvas(30, 20), { maxBytes: 30 })),
              await thrown(() => clientImage(canvas(30, 20), { maxEdge: 0 })),
              await thrown(() => clientImage(canvas(30, 20), { maxBytes: null })),
            ];
            """,
        )

        assert text.startswith("TypeError: this is no picture that the browser can read: ")
        assert empty.startswith("TypeError: this is no picture that the browser can read: ")
        assert "RangeError: no picture is as small as 30 bytes" == small
        assert "TypeError: maxEdge must be a number from 1 on" == edge
        assert "TypeError: maxBytes must be a number from 1 on" == length

    async def test_an_answer_of_a_handler(self, page: Page) -> None:
        """In a handler the promise is the answer, and what is thrown is an error answer."""
        answers = await run(
            page,
            """
            const sources = [canvas(2, 2, "red"), "a.png"];
            const onClientTool = withReceipts({ image: () => clientImage(sources.shift()) }, { onError: () => {} });
            const call = (receipt) => onClientTool({ name: "image", params: { _receipt: receipt } });
            return [await call("call_1"), await call("call_2")];
            """,
        )

        assert b64decode(answers[0]["result"]["data_url"].partition(",")[2]).startswith(b"\x89PNG")
        assert answers[1]["error"].startswith("this is no picture that the browser can read: ")


def test_its_types(tmp_path: Path) -> None:
    """What the helpers return is what the generated types want, and a wrong option is an error."""
    page = """\
import type { ClientToolHandlers } from "./tools";
import { clientFile, clientImage } from "./client-tools";

declare const canvas: HTMLCanvasElement;
declare const video: HTMLVideoElement;
declare const file: File;
export const handlers: ClientToolHandlers = {
  image: () => clientImage(canvas, { maxEdge: 512, detail: "low" }),
  file: async () => await clientFile(file),
};
export const others = [clientImage(file), clientImage(video), clientFile(new Blob(), { type: "text/csv" })];
export const wrong = [
  clientImage("canvas"),
  clientImage(canvas, { max: 1 }),
  clientImage(canvas, { type: "image/gif" }),
  clientFile(canvas),
];
"""
    files = {
        "tools.d.ts": declarations([image, file], "x"),
        "client-tools.d.ts": frontend.path().with_suffix(".d.ts").read_text("utf-8"),
        "page.ts": page,
    }

    errors = [(name, page.splitlines()[line - 1].strip()) for name, line, *_ in compiled(tmp_path, files)]

    assert [("page.ts", line.strip()) for line in page.splitlines()[12:16]] == errors
