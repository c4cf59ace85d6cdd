"""The server as it runs for real: uvicorn in processes of its own, on a socket of ours, on either database."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx2
import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from chatkit_clienttools.testing import FakeBrowser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
SECONDS = 30


class Place:
    """Where a server keeps everything."""

    def __init__(self, **environment: str) -> None:
        self._environment = {**os.environ, "OPENAI_API_KEY": "", **environment}

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the site until the end; the URL that the demo has."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            fd = listening.fileno()
            with self._running(
                "uvicorn", "--factory", "examples.site:application", "--log-level=warning", f"--fd={fd}", pass_fds=[fd]
            ):
                yield f"http://127.0.0.1:{listening.getsockname()[1]}/todo"

    @contextmanager
    def demo(self, workers: int) -> Iterator[str]:
        """Run the command that serves all demos until the end; what it has said when it was ready."""
        with self._running("examples", "--port=0", f"--workers={workers}", stdout=subprocess.PIPE) as process:
            assert process.stdout
            yield "".join(iter(process.stdout.readline, "Ctrl-C ends them.\n"))

    def refused(self, *arguments: str) -> tuple[int, str]:
        """Run the command where it cannot run; its exit status, and what it has said of that."""
        command = [sys.executable, "-m", "examples", *arguments]
        ended = subprocess.run(  # noqa: S603  # our own server
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=2 * SECONDS, check=False
        )
        return ended.returncode, ended.stderr

    @contextmanager
    def _running(
        self, *arguments: str, stdout: int | None = None, pass_fds: Sequence[int] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", *arguments]
        with subprocess.Popen(  # noqa: S603  # our own server
            command, cwd=ROOT, env=self._environment, stdout=stdout, pass_fds=pass_fds, text=True
        ) as process:
            try:
                yield process
            finally:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a server as Ctrl-C does, and see to it that it leaves no process behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait(SECONDS)
    _, left = psutil.wait_procs(family, timeout=SECONDS)
    for child in left:
        child.kill()
    assert [] == left


@contextmanager
def a_database(url: str) -> Iterator[str]:
    """Make a database of a test's own on a PostgreSQL server that may be somebody's."""
    name = f"todo_{uuid4().hex[:12]}"
    asyncio.run(_execute(url, f"CREATE DATABASE {name}"))
    yield make_url(url).set(database=name).render_as_string(hide_password=False)
    asyncio.run(_execute(url, f"DROP DATABASE {name}"))


async def _execute(url: str, statement: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = str(tmp_path_factory.mktemp("todo"))
    if request.param == "sqlite":
        yield Place(DEMO_DATA=directory, DATABASE_URL="")
        return
    with a_database(request.getfixturevalue("postgres_url")) as url:
        yield Place(DEMO_DATA=directory, DATABASE_URL=url)


class Browser:
    """A browser with a user's cookie. It can open pages at any worker."""

    def __init__(self, url: str) -> None:
        """Become a new user there."""
        self.cookies = dict(httpx2.get(f"{url}/user", timeout=SECONDS).cookies)

    def page(self, url: str, thread_id: str | None = None) -> FakeBrowser:
        page = FakeBrowser(f"{url}/chatkit", cookies=self.cookies, time_limit=SECONDS)
        page.thread_id = thread_id
        return page

    def tasks(self, url: str) -> Any:
        return httpx2.get(f"{url}/tasks", cookies=self.cookies, timeout=SECONDS).json()


class Workers(NamedTuple):
    """Two processes that share a place, and what an earlier one has left there."""

    one: str
    two: str
    earlier: tuple[Browser, FakeBrowser]


@pytest.fixture(scope="module")
def workers(place: Place) -> Iterator[Workers]:
    with place.served() as url:
        browser = Browser(url)
        page = browser.page(url)
        asyncio.run(page.send("add buy milk"))
    with place.served() as one, place.served() as two:
        yield Workers(one, two, (browser, page))
