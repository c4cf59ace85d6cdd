"""Merak on the web: `python -m examples`, or by itself: `uvicorn examples.merak_search.main:app`."""

from pathlib import Path

from fastapi import FastAPI, Request, Response

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from examples.guard import Guard
from examples.offline import model_or_offline
from examples.timeline import Step
from examples.web import chatkit_response, serve_page

from . import offline
from .client_tools import timeline
from .people import RequestContext
from .plain import PlainMerakServer
from .server import MerakServer

YOU = RequestContext(user_id="you")

server = MerakServer(ValidatingStore(MemoryStore[RequestContext]()), model_or_offline(offline.reply))
plain_server = PlainMerakServer(MemoryStore[RequestContext](), model_or_offline(offline.reply))

app = FastAPI(title="Merak")
app.add_middleware(Guard)
serve_page(app, Path(__file__).parent)


@app.post("/chatkit")
async def chatkit(request: Request) -> Response:
    """Serve every request of ChatKit.js."""
    return await chatkit_response(server, request, YOU)


@app.post("/plain/chatkit")
async def plain_chatkit(request: Request) -> Response:
    """Serve the same on plain ChatKit, to compare."""
    return await chatkit_response(plain_server, request, YOU)


@app.get("/timeline/{thread_id}")
async def steps(thread_id: str) -> list[Step]:
    """Return the steps of a conversation's client tool calls."""
    return timeline.steps(thread_id)
