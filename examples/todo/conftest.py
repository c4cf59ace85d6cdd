"""The server as it runs for real: uvicorn in processes of its own, on a socket of ours, on either database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from chatkit_clienttools.testing import FakeBrowser
from tests.stores.conftest import postgres_url  # noqa: F401  # a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
SECONDS = 30


class Place:
    """Where a server keeps everything."""

    def __init__(self, **environment: str) -> None:
        self._environment = environment

    @contextmanager
    def served(self, workers: int = 1) -> Iterator[str]:
        """Serve the app until the end; the URL it has."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            command = [sys.executable, "-m", "uvicorn", "examples.todo.main:app", "--log-level", "warning"]
            command += ["--fd", str(listening.fileno()), "--workers", str(workers)]
            process = subprocess.Popen(  # noqa: S603  # our own server
                command, cwd=ROOT, env={**os.environ, **self._environment}, pass_fds=[listening.fileno()]
            )
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server as Ctrl-C does, and see to it that it leaves no process behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait(SECONDS)
    _, left = psutil.wait_procs(family, timeout=SECONDS)
    for child in left:
        child.kill()
    assert [] == left


@asynccontextmanager
async def a_database(url: str) -> AsyncIterator[str]:
    """Make a database of a test's own on a PostgreSQL server that may be somebody's."""
    name = f"todo_{uuid4().hex[:12]}"
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        yield engine.url.set(database=name).render_as_string(hide_password=False)
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "sqlite":
        yield Place(DEMO_DATA=str(tmp_path), DATABASE_URL="", OPENAI_API_KEY="")
        return
    async with a_database(request.getfixturevalue("postgres_url")) as url:
        yield Place(DEMO_DATA=str(tmp_path), DATABASE_URL=url, OPENAI_API_KEY="")


def page_at(url: str, cookies: Any = None, thread_id: str | None = None) -> FakeBrowser:
    """Open a page there; with the cookies and the thread of another one, it is that one."""
    page = FakeBrowser(f"{url}/chatkit", cookies=cookies, time_limit=SECONDS)
    page.thread_id = thread_id
    return page
