"""What the demos' web applications have in common: the page and its files, and ChatKit's endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chatkit.server import StreamingResult
from chatkit.store import NotFoundError
from fastapi import HTTPException, Response
from fastapi.responses import FileResponse, StreamingResponse

from chatkit_clienttools import frontend
from chatkit_clienttools.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chatkit.server import ChatKitServer
    from fastapi import FastAPI, Request

TContext = TypeVar("TContext")

WEB = Path(__file__).parent
SHARED = [*WEB.glob("*.js"), *WEB.glob("*.css")]
"""What all pages share. The folder as a whole is not served: it has Python in it."""


def serve_page(app: FastAPI, folder: Path) -> None:
    """Serve a demo's `page.html` and `page.js`, what all demos share, and the library's `client-tools.js`."""
    serve(app, {"/": folder / "page.html", "/page.js": folder / "page.js", "/client-tools.js": frontend.path()})


def serve(app: FastAPI, files: Mapping[str, Path]) -> None:
    """Serve files, each under its path, and what all pages share."""
    for path, file in {**files, **{f"/web/{file.name}": file for file in SHARED}}.items():
        app.add_api_route(path, _serving(file), include_in_schema=False)


async def chatkit_response(server: ChatKitServer[TContext], request: Request, context: TContext) -> Response:
    """Answer any request of ChatKit.js: the whole endpoint."""
    try:
        result = await server.process(await request.body(), context)
    except InvalidRequestError as error:
        raise HTTPException(400, str(error)) from None
    except NotFoundError:
        raise HTTPException(404, "There is no such conversation.") from None
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(result.json, media_type="application/json")


def _serving(file: Path) -> Callable[[], FileResponse]:
    return lambda: FileResponse(file, headers={"Cache-Control": "no-cache"})
