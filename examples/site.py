"""All demos in one web application: an index page, and each demo below its name."""

from __future__ import annotations

import html
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from .demo import Demo, app_of, demos
from .guard import Guard
from .offline import has_key
from .web import WEB, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORKERS = "DEMO_WORKERS"
"""The environment variable that tells each worker how many there are."""

ENTRY = """<li><a href="{name}/"><strong>{title}</strong></a><p>{about}</p></li>"""
MODEL = {True: "The model is OpenAI's: OPENAI_API_KEY is set.", False: "No key is set: a small offline model answers."}
ONE_WORKER = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="../web/page.css">
<main class="index"><h1>{title}</h1><p role="alert">This demo keeps its conversations in the memory of one process, and
there are several workers now. Start it with one: <code>make demo</code>.</p><p><a href="../">All demos</a></p></main>
"""


def application() -> FastAPI:
    """Return the application that `python -m examples` serves."""
    has_workers = int(os.environ.get(WORKERS, "1")) > 1
    known = demos()
    apps = {
        name: _one_worker(demo) if has_workers and not demo.shares else app_of(name) for name, demo in known.items()
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:  # nobody else starts and ends what is mounted
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    site = FastAPI(lifespan=lifespan, openapi_url=None)
    site.add_middleware(Guard)
    site.add_api_route("/", lambda: HTMLResponse(_index(known)))
    serve(site, {})
    for name, app in apps.items():
        site.mount(f"/{name}", app)
    return site


def _index(known: dict[str, Demo]) -> str:
    entries = [
        ENTRY.format(name=name, title=html.escape(demo.title), about=html.escape(demo.about))
        for name, demo in known.items()
    ]
    page = (WEB / "index.html").read_text("utf-8")
    return page.replace("{{demos}}", "\n".join(entries)).replace("{{model}}", MODEL[has_key()])


def _one_worker(demo: Demo) -> FastAPI:
    app = FastAPI(openapi_url=None)
    page = ONE_WORKER.format(title=html.escape(demo.title))
    app.add_api_route("/", lambda: HTMLResponse(page, status_code=503))
    return app
