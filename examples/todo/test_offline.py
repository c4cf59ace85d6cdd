"""What the assistant understands without a model."""

from __future__ import annotations

import time
from typing import Any

import pytest

from examples.offline import Heard, Use

from .offline import HELLO, HELP, reply

TASKS = '{"result": [{"id": 3, "title": "Buy milk", "done": false}, {"id": 4, "title": "Buy bread", "done": false}]}'


@pytest.mark.parametrize(
    ("said", "tool", "arguments"),
    [
        ("Show me all tasks!", "list_tasks", {}),
        ("What is on my to-do list?", "list_tasks", {}),
        ("add buy milk", "add_task", {"title": "buy milk"}),
        ("Please remind me to call Ada.", "add_task", {"title": "call Ada"}),
        ("Add a new task: “water the plants”", "add_task", {"title": "water the plants"}),
        ("finish 3", "complete_task", {"task_id": 3}),
        ("complete task #12", "complete_task", {"task_id": 12}),
        ("rename 3 to buy oat milk", "update_task", {"task_id": 3, "title": "buy oat milk"}),
        ("delete the task 3", "delete_task", {"task_id": 3}),
        ("finish milk", "list_tasks", {}),  # to learn its number
        ("finish ²", "list_tasks", {}),  # is no number
        ("finish 99999999999", "list_tasks", {}),  # is too long for one
        ("rename  3\tto buy\noat milk", "update_task", {"task_id": 3, "title": "buy oat milk"}),
    ],
)
def test_a_sentence_is_a_tool(said: str, tool: str, arguments: dict[str, Any]) -> None:
    """A handful of sentences call the tool that does it."""
    assert [Use(tool, arguments)] == reply(Heard(said))


@pytest.mark.parametrize(("said", "answer"), [("Good morning!", HELLO), ("hi", HELLO), ("Sing a song", HELP)])
def test_anything_else_gets_a_sentence(said: str, answer: str) -> None:
    """A greeting is greeted, and what is not understood is told what would be."""
    assert answer == reply(Heard(said))


@pytest.mark.parametrize(
    "said",
    [
        f"rename{' ' * 5000}x",
        f"add a new task{' ' * 5000}\nx",
        f"show {'list ' * 5000}\nx",
        f"rename x{' to' * 5000}\n",
        f"{'please ' * 5000}",
    ],
)
def test_a_long_message_is_understood_at_once(said: str) -> None:
    """Nobody can keep the server busy with a long message: the time grows with its length, and no faster."""
    began = time.perf_counter()

    reply(Heard(said))

    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("finish milk", [Use("complete_task", {"task_id": 3})]),
        ("finish buy", "2 of your tasks are like “buy”. Which one? Tell me its number."),
        ("finish eggs", "None of your tasks are like “eggs”. Which one? Tell me its number."),
    ],
)
def test_a_task_is_found_by_its_words(said: str, expected: Any) -> None:
    """With the list at hand the task is the one that is meant, or the user is asked which."""
    assert expected == reply(Heard(said, (("list_tasks", TASKS),)))
