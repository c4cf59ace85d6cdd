"""What a demo refuses before it does anything: requests of other sites, other names of this server, long bodies.

Every site that you visit can post to a server on your machine, and a demo may spend your key. A browser says in each
request where it goes to (`Host`), and in each POST which site it is from (`Origin`). Both have to be the demo's own.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = "DEMO_HOSTS"
"""The environment variable with the names that this server has besides localhost, with commas between them."""

MAX_BODY = 1024 * 1024
READS = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Middleware for every application that Starlette or FastAPI serves: `app.add_middleware(Guard)`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = refusal(scope) if scope["type"] == "http" else None
        if refused:
            status, why = refused
            await JSONResponse({"detail": why}, status)(scope, receive, send)
        else:
            await self._app(scope, limited(receive), send)


def refusal(scope: Scope) -> tuple[int, str] | None:
    """Return the status and the reason if a request is to be refused."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not is_ours(host):
        # a site can let its own name point to this machine, and is then allowed to read what the server answers
        return 403, f"This server is not known by that name. {HOSTS}=... gives it more names."
    if headers.get("origin") not in {None, f"{scope['scheme']}://{host}"}:
        return 403, "This request comes from another site."
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope["method"] not in READS and kind != "application/json":
        # a form of another site can post text, but no JSON
        return 415, "The body has to be application/json."
    return None


def is_ours(host: str) -> bool:
    """Whether a `Host` is localhost, a name that was given, or an IP address, which no site can take for its name."""
    name = re.sub(r":\d+$", "", host).lower()
    if name in {"localhost", *os.environ.get(HOSTS, "").lower().replace(" ", "").split(",")} - {""}:
        return True
    try:
        return bool(ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False


def limited(receive: Receive) -> Receive:
    """Return `receive` for a body that is refused when it gets too long, before anybody parses it."""
    size = 0

    async def received() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413, "This is too long.")
        return message

    return received
