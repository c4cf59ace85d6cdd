"""What the assistant says without a model."""

from __future__ import annotations

import json
import re
from typing import Any

from examples.offline import Heard, Reply, Use

HELLO = "Hello! Ask me about shapes on the canvas, such as: which one of these is the largest?"


def reply(heard: Heard) -> Reply:
    """Ask for the selection, and say something about it when it is there."""
    if re.fullmatch(r"(?:hi|hello|hey)\b.*", heard.text, re.IGNORECASE):
        return HELLO
    answer = heard.said("get_selected_canvas_nodes")
    if answer is None:
        return [Use("get_selected_canvas_nodes", {"ask": "Select the shapes you mean, then press Done."})]
    return _about(heard.text, json.loads(answer))


def _about(question: str, answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"I could not see your selection: {answer['error']}. Ask me again, please."
    nodes = answer["nodes"]
    if not nodes:
        return "You have selected nothing, so there is nothing to say about it."
    if "largest" in question or "biggest" in question:
        return f"The largest one is the {_named(max(nodes, key=lambda node: node['size']))}."
    return f"You have selected {_listed([_with_article(_named(node)) for node in nodes])}."


def _named(node: dict[str, Any]) -> str:
    return f"{node['colour']} {node['kind']}"


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
