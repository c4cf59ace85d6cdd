"""The canvas on the web: `python -m examples`, or by itself `uvicorn examples.canvas_selection.main:app`."""

from __future__ import annotations

from pathlib import Path

from chatkit.server import StreamingResult
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from chatkit_clienttools.stores import MemoryStore
from examples.offline import model_or_offline

from .offline import rules
from .server import CanvasServer
from .tools import RequestContext

HERE = Path(__file__).parent

server = CanvasServer(MemoryStore[RequestContext](), model_or_offline(rules))
app = FastAPI(openapi_url=None)


@app.post("/chatkit")
async def chatkit(request: Request) -> Response:
    """Serve every request of ChatKit."""
    result = await server.process(await request.body(), RequestContext(user_id="you"))
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(result.json, media_type="application/json")


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.get("/page.js")
async def script() -> FileResponse:
    return FileResponse(HERE / "page.js")
