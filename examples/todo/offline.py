"""What the assistant understands without a model: a handful of sentences."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from examples.offline import Heard, Reply, Use

# A message may be a million characters long. So there is one way only to match each space: words have one between them.
SENTENCES = (
    ("list_tasks", r"(?:show|list|tell|what)\b.*\b(?:tasks?|list|to-?dos?|to do)\b.*"),
    ("add_task", r"(?:add|remind me to|note) (?:(?:a |the )?(?:new )?task\b[:,]? ?)?(?:to )?(?P<title>.+)"),
    ("complete_task", r"(?:finish|complete|tick off|check off) (?P<task>.+)"),
    ("update_task", r"(?:rename|change|update) (?P<task>.+?) to (?P<title>.+)"),
    ("delete_task", r"(?:delete|remove) (?P<task>.+)"),
)

MAX_DIGITS = 10
"""How long the number of a task can be."""

HELLO = "Hello! I keep your list. Ask me to show all tasks, or to add one."
HELP = "I can add, show, finish, rename and delete tasks: try “add buy milk”, “finish milk” or “show me all tasks”."


class Wish(NamedTuple):
    """The tool that the user wants, and what for: a task's number, or words of its title; and a new title."""

    tool: str
    task: str | None
    title: str | None


def reply(heard: Heard) -> Reply:
    """Answer a greeting, call the tool that is wanted, then say what came of it."""
    said = " ".join(heard.text.split()).rstrip(".!?")
    if re.fullmatch(r"(?:hi|hello|hey|good (?:morning|evening))\b.*", said, re.IGNORECASE):
        return HELLO
    wish = _wish(said)
    if wish is None:
        return HELP
    return _next_step(wish, *heard.outputs[-1]) if heard.outputs else _first_step(wish)


def _wish(said: str) -> Wish | None:
    for tool, pattern in SENTENCES:
        match = re.fullmatch(rf"(?:please )?{pattern}", said, re.IGNORECASE)
        if match:
            found = match.groupdict()
            return Wish(tool, _bare(found.get("task")), _bare(found.get("title")))
    return None


def _bare(words: str | None) -> str | None:
    """Return `milk` for `the task “milk”`."""
    return words and re.sub(r"^(?:(?:the|my)\s+)?(?:task\s+)?#?", "", words, flags=re.IGNORECASE).strip("\"'“” ")


def _first_step(wish: Wish) -> Reply:
    if wish.task and not (wish.task.isdecimal() and len(wish.task) <= MAX_DIGITS):
        return [Use("list_tasks", {})]  # to learn the number
    return [_call(wish, wish.task)]


def _next_step(wish: Wish, tool: str, output: str) -> Reply:
    try:
        result = json.loads(output)
    except ValueError:
        return f"That did not work. {output}"
    if tool != "list_tasks":
        return _told(tool, result["title"])
    tasks = result["result"]
    if wish.task is None:
        return _list(tasks)
    meant = [task for task in tasks if wish.task.lower() in task["title"].lower()]
    if len(meant) == 1:
        return [_call(wish, meant[0]["id"])]
    return f"{len(meant) or 'None'} of your tasks are like “{wish.task}”. Which one? Tell me its number."


def _call(wish: Wish, task_id: Any) -> Use:
    title = {"title": wish.title} if wish.title else {}
    return Use(wish.tool, title if task_id is None else {"task_id": int(task_id), **title})


def _told(tool: str, title: str) -> str:
    if tool == "add_task":
        return f"“{title}” is on your list."
    if tool == "complete_task":
        return f"“{title}” is done. Well done!"
    if tool == "update_task":
        return f"It is called “{title}” now."
    return f"“{title}” is off your list."


def _list(tasks: list[dict[str, Any]]) -> str:
    if not tasks:
        return "Your list is empty. Try “add buy milk”."
    lines = [f"{task['id']}. {task['title']}{' (done)' if task['done'] else ''}" for task in tasks]
    return "\n".join(["Here is your list:", *lines])
