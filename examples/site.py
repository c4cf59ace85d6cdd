"""All demos in one web application: a front page, and each demo below its name, with what it needs to be shown.

A demo's own modules are what you copy. From outside come the model, the place of its data, its page, the timeline of
its calls, and the guard.
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from chatkit_clienttools.errors import StoreUnavailableError

from . import front, kept
from .demo import CannotRunError, Demo, demos
from .guard import Guard
from .offline import has_key
from .timeline import Step, Timeline
from .web import PICTURES, serve, serve_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SUPERVISED = "DEMO_SUPERVISED"
"""The environment variable that says that a worker which dies is started again."""

REACT = Path(__file__).parent / "react"
REACT_BUILT = REACT / "dist" / "app.js"
"""Merak's page in React, if it was built: `make react`."""

MODEL = {True: "The model is OpenAI's: OPENAI_API_KEY is set.", False: "No key is set: a small offline model answers."}


def application() -> FastAPI:
    """Return the application that `python -m examples` serves."""
    known = demos()
    timeline = Timeline()
    apps = {f"/{name}": _shown(name, demo, timeline) for name, demo in known.items()}
    site = _hosting(apps, timeline)
    site.add_middleware(Guard)
    site.add_api_route("/", lambda: HTMLResponse(front.page(MODEL[has_key()], str(kept.directory()))))
    site.add_api_route("/server", _server)
    site.add_api_route("/server/kill", _kill, methods=["POST"], status_code=202)
    if REACT_BUILT.exists():
        serve(site, {"/react/": REACT / "index.html", "/react/app.js": REACT_BUILT})
    serve(site, {f"/pictures/{picture.name}": picture for picture in PICTURES.glob("*.png")})
    _mount(site, apps)
    return site


def app_of(name: str) -> FastAPI:
    """Return the web application of one demo, for the terminal: `python -m examples --play NAME`."""
    timeline = Timeline()
    apps = {"": _shown(name, demos()[name], timeline)}
    alone = _hosting(apps, timeline)
    alone.add_middleware(Guard)
    _mount(alone, apps)
    return alone


def _shown(name: str, demo: Demo, timeline: Timeline) -> FastAPI:
    """Return a demo's applications with its page and its timeline."""
    apps = demo.make_apps()
    shown = _hosting(apps)
    serve_page(shown, Path(__file__).parent / name)

    @shown.get("/timeline/{thread_id}")
    def steps(thread_id: str, after: int = 0) -> list[Step]:
        """Return the steps of a conversation's client tool calls."""
        return timeline.steps(thread_id, after)

    _mount(shown, apps)
    return shown


def _hosting(apps: Mapping[str, FastAPI], timeline: Timeline | None = None) -> FastAPI:
    """Return an application that starts and ends others: nobody else does that for what is mounted."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if timeline:
                stack.enter_context(timeline.listening())
            for app in apps.values():
                await stack.enter_async_context(_started(app))
            yield

    return FastAPI(lifespan=lifespan, openapi_url=None)


@asynccontextmanager
async def _started(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(app.router.lifespan_context(app))
        except StoreUnavailableError:
            # only the todo list's database may be somewhere else
            raise CannotRunError(f"the todo demo cannot reach {kept.shown(kept.todo_database())}") from None
        yield


def _mount(host: FastAPI, apps: Mapping[str, FastAPI]) -> None:
    """Mount the applications. What the host itself serves comes first."""
    for path, app in apps.items():
        host.mount(path, app)


def _server() -> dict[str, int | bool]:
    """Tell a page which process serves it, and whether that may be killed."""
    return {"process": os.getpid(), "restarts": SUPERVISED in os.environ}


class Victim(BaseModel):
    """The process that a page means: a browser may send its request a second time, to the next one."""

    process: int


def _kill(victim: Victim) -> Response:
    """Kill this process, as a crash or a deployment would: nothing is cleaned up. A new one is started at once."""
    if SUPERVISED not in os.environ or victim.process != os.getpid():
        return Response("This is another process, or nobody would start it again.", status_code=409)
    os.kill(os.getpid(), signal.SIGKILL)
    return Response()  # pragma: no cover  there is nobody to send it
