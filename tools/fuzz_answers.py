"""Fuzz the answer path, guided by coverage: `python -m tools.fuzz_answers [SECONDS]`, ten minutes by default.

It needs atheris, which is not among the dependencies: `pip install atheris`. Each input is posted as the answer to a
pending call, half of them as the answer's own JSON and half as the whole body; tests/helpers/any_answer.py says what
has to hold. What breaks a rule is written to build/fuzz.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "build" / "fuzz"
SECONDS = 600
POSTS = 30
"""How many inputs one conversation takes before it is checked and another one begins."""

HEAD = b'{"type":"threads.add_client_tool_output","params":{"thread_id":"THREAD","result":'
RESULTS: tuple[Any, ...] = (
    None,
    [1, -2.5, True],
    {"error": "no canvas"},
    {"_receipt": "RECEIPT", "result": {"title": "a"}},
    {"_receipt": "RECEIPT", "error": "s3cr3t-of-the-user"},
    {"_receipt": "RECEIPT", "result": {"data_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    {"_receipt": "RECEIPT", "result": {"title": "s3cr3t-of-the-user", "others": [{"reference": "content:0:data:"}]}},
)
WORDS = (
    *RESULTS[6]["result"],
    "_receipt",
    "RECEIPT",
    "result",
    "error",
    "data_url",
    "NaN",
    "1e999",
    "\\ud800",
    "\\u0000",
)
WORDS += (
    "THREAD",
    "content:",
    ";base64,",
    "data:image/png",
    "iVBORw0KGgo",
    "[[[[[[[[",
    "]]]]]]]]",
    "s3cr3t-of-the-user",
)


def main() -> int:
    """Fuzz for some time."""
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("python -m tools.fuzz_answers needs atheris: `pip install atheris`", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["chatkit_clienttools"]):
        module = importlib.import_module("tests.helpers.any_answer")
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    corpus = _corpus()
    (FOLDER / "words").write_text("".join(f"{json.dumps(word)}\n" for word in WORDS), "utf-8")
    options = [f"-max_total_time={seconds}", "-max_len=12000", "-timeout=60", f"-dict={FOLDER / 'words'}"]
    options += [f"-artifact_prefix={FOLDER}/", "-print_final_stats=1", str(corpus)]
    atheris.Setup([sys.argv[0], *options], _Fuzzed(module.Target))
    atheris.Fuzz()
    return 0


def _corpus() -> Path:
    """Write the inputs to begin with."""
    corpus = FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for n, result in enumerate(RESULTS):
        text = json.dumps(result).encode()
        (corpus / f"answer{n}").write_bytes(b"a" + text)
        (corpus / f"body{n}").write_bytes(b"b" + HEAD + text + b"}}")
    return corpus


class _Fuzzed:
    """Posts one input after the other."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._target: Any = None
        self._posts = 0
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        body = data[1:] if data[:1] == b"b" else HEAD + data[1:] + b"}}"
        try:
            self._loop.run_until_complete(self._take(body))
        except BaseException:
            print("posted:", body[:2000])
            raise

    async def _take(self, body: bytes) -> None:
        if self._target is None:
            self._target = self._make()
            self._target.listen()
        if await self._target.pending() is None:
            await self._target.chat.say("Go on")
        await self._target.post(body)
        self._posts += 1
        if self._posts % POSTS == 0:
            await self._target.check()
            self._target.leave()
            self._target = None


if __name__ == "__main__":
    sys.exit(main())
