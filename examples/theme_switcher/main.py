"""Facts on the web: `python -m examples`, or by itself: `uvicorn examples.theme_switcher.main:app`."""

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
from .server import FactServer
from .tools import RequestContext

YOU = RequestContext(user_id="you")

server = FactServer(ValidatingStore(MemoryStore[RequestContext]()), model_or_offline(offline.reply))

app = FastAPI(title="Facts")
app.add_middleware(Guard)
serve_page(app, Path(__file__).parent)


@app.post("/chatkit")
async def chatkit(request: Request) -> Response:
    """Serve every request of ChatKit.js."""
    return await chatkit_response(server, request, YOU)


@app.get("/timeline/{thread_id}")
async def steps(thread_id: str) -> list[Step]:
    """Return the steps of a conversation's client tool calls."""
    return timeline.steps(thread_id)
