"""What there is to see: each demo is a package of this folder that says what it shows, in its `__init__`."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI

NAMES = ("merak_search", "theme_switcher", "canvas_selection", "todo")


class CannotRunError(Exception):
    """A demo cannot run here; the message is one line, for the person who has started it."""


@dataclass(frozen=True)
class Demo:
    """What a demo shows, and how it is played without a page."""

    title: str
    about: str
    says: tuple[str, ...]
    """What the user writes when it is played in the terminal."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What the page answers there, by client tool; `{}` for all others."""
    endpoints: Mapping[str, str] = field(default_factory=lambda: {"With chatkit-clienttools": "chatkit"})
    """Where it is played, one after the other."""
    shares: bool = False
    """Whether several workers can serve it: its conversations are not kept in the memory of one process."""
    keeps: Callable[[], str] | None = None
    """Where it keeps what outlasts the process; the person who starts it is told."""


def demos() -> dict[str, Demo]:
    """Return all demos by name."""
    return {name: import_module(f"examples.{name}").DEMO for name in NAMES}


def app_of(name: str) -> FastAPI:
    """Return the web application of a demo."""
    app: FastAPI = import_module(f"examples.{name}.main").app
    return app
