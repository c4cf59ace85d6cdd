"""The browser's half: an ES module for the page, and where it is, so that an application can serve it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["path"]


def path() -> Path:
    """Return the file `client-tools.js` of the installed package; `client-tools.d.ts`, its types, is next to it.

    It is a real file: a package that is imported from a zip archive is not supported.
    """
    return Path(__file__).with_name("client-tools.js")
