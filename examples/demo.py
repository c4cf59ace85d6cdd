"""What there is to see: each demo is a package of this folder, and its module `demo` says what it shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI

NAMES = ("merak_search", "theme_switcher", "canvas_selection", "drawing", "todo")


class CannotRunError(Exception):
    """A demo cannot run here; the message is one line, for the person who has started it."""


@dataclass(frozen=True)
class Demo:
    """What a demo shows, how its applications are made, and how it is played without a page."""

    title: str
    about: str
    says: tuple[str, ...]
    """What the user writes when it is played in the terminal."""
    make_apps: Callable[[], Mapping[str, FastAPI]]
    """Make its web applications, each with the path below the demo's own at which it is served."""
    keeps: Callable[[], str]
    """Where it keeps what outlasts the process; the person who starts it is told."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What the page answers there, by client tool; `{}` for all others."""
    endpoints: Mapping[str, str] = field(default_factory=lambda: {"With chatkit-clienttools": "chatkit"})
    """Where it is played, one next to the other."""


def demos() -> dict[str, Demo]:
    """Return all demos by name."""
    return {name: import_module(f"examples.{name}.demo").DEMO for name in NAMES}
