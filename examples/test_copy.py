"""What is there to be copied: a demo's folder without what belongs to the site, under another parent."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import NAMES

EXAMPLES = Path(__file__).parent
OF_THE_SITE = ("demo.py", "offline.py", "test_*.py", "conftest.py", "__pycache__")
PLAY = """
import asyncio, sys
from importlib import import_module
from agents.testing import ScriptedModel, assistant_message
from starlette.testclient import TestClient
main = import_module(sys.argv[1] + ".main")
model = ScriptedModel([[assistant_message("There.", item_id="msg_1")]])
message = {"content": [{"type": "input_text", "text": "hi"}], "attachments": [], "inference_options": {}}
with TestClient(main.create_app("sqlite+aiosqlite:///copied.db", model=model)) as client:
    answer = client.post("/chatkit", json={"type": "threads.create", "params": {"input": message}})
assert "There." in answer.text, answer.text
"""


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_copied_folder_runs(name: str, tmp_path: Path) -> None:
    """A copy of a demo's folder, somewhere else and without the site, answers a message."""
    shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns(*OF_THE_SITE))

    environment = {**os.environ, "OPENAI_AGENTS_DISABLE_TRACING": "1"}  # it says that there is no key
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PLAY, name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert (tmp_path / "copied.db").exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_uses_public_names_only(name: str) -> None:
    """A module to copy imports nothing of the site, and no private name of anybody."""
    for file in set((EXAMPLES / name).glob("*.py")) - {f for p in OF_THE_SITE for f in (EXAMPLES / name).glob(p)}:
        imports = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        modules = [node.module or "" for node in imports if not node.level]
        names = [alias.name for node in imports for alias in node.names]

        assert [] == [module for module in modules if module.startswith("examples")]
        assert [] == [
            part
            for path in (*modules, *names)
            for part in path.split(".")
            if part.startswith("_") and part != "__future__"
        ]


def test_the_todo_list_is_six_modules() -> None:
    """What is to be read and copied of the biggest demo is six modules."""
    modules = {file.name for file in (EXAMPLES / "todo").glob("*.py") if not file.name.startswith(("test_", "__"))}

    expected = {"client_tools.py", "main.py", "mcp_server.py", "server.py", "tasks.py", "tools.py"}
    assert expected == modules - set(OF_THE_SITE)
