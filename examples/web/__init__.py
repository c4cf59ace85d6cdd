"""What the demos' web applications have in common: the page and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse

from chatkit_clienttools import frontend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI

WEB = Path(__file__).parent
PICTURES = WEB.parents[1] / "docs" / "pictures"
SHARED = [*WEB.glob("*.js"), *WEB.glob("*.css")]
"""What all pages share. The folder as a whole is not served: it has Python in it."""


def serve_page(app: FastAPI, folder: Path) -> None:
    """Serve a demo's `page.html` and `page.js`, what all demos share, and the library's `client-tools.js`."""
    serve(app, {"/": folder / "page.html", "/page.js": folder / "page.js", "/client-tools.js": frontend.path()})


def serve(app: FastAPI, files: Mapping[str, Path]) -> None:
    """Serve files, each under its path, and what all pages share."""
    for path, file in {**files, **{f"/web/{file.name}": file for file in SHARED}}.items():
        app.add_api_route(path, _serving(file), include_in_schema=False)


def _serving(file: Path) -> Callable[[], FileResponse]:
    return lambda: FileResponse(file, headers={"Cache-Control": "no-cache"})
