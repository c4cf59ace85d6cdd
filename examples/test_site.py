"""`python -m examples`: what it serves, what it plays, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import pytest
import uvicorn
import uvicorn.supervisors.multiprocess
from fastapi import FastAPI
from starlette.testclient import TestClient

from chatkit_clienttools import frontend
from examples import __main__, site
from examples.demo import NAMES, CannotRunError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "examples"]
HERE = "http://127.0.0.1:8000"


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.mark.parametrize("name", NAMES)
def test_a_demo_is_a_page_and_its_parts(name: str) -> None:
    """Below its name a demo has its page, the shared parts, and the library's own client-tools.js."""
    with TestClient(site.application(), HERE) as client:
        page = client.get(f"/{name}")
        module = client.get(f"/{name}/client-tools.js")
        missing = client.get(f"/{name}/nothing")

    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert frontend.path().read_bytes() == module.content
    assert 404 == missing.status_code


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_request_of_chatkit_is_refused(name: str) -> None:
    """A request that ChatKit does not know is a 400, a conversation that is not there a 404, each with a reason."""
    with TestClient(site.application(), HERE) as client:
        nonsense = client.post(f"/{name}/chatkit", content=b"hello", headers={"content-type": "application/json"})
        gone = client.post(f"/{name}/chatkit", json={"type": "threads.get_by_id", "params": {"thread_id": "thr_1"}})

    assert 400 == nonsense.status_code
    assert "This is not a ChatKit request" in nonsense.json()["detail"]
    assert (404, "There is no such conversation.") == (gone.status_code, gone.json()["detail"])


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """What a script starts beside itself ignores it, and whatever that starts does too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
@pytest.mark.long
def test_it_serves_until_ctrl_c() -> None:
    """Without a terminal it says where the demos are, serves them, and ends without a word at Ctrl-C."""
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, "--port", "0"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as served:
        assert served.stdout
        said = [served.stdout.readline() for _ in range(len(NAMES) + 2)]
        address = said[0].split()[4]
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            answer = client.recv(100)
        served.send_signal(signal.SIGINT)
        rest, errors = served.communicate(timeout=20)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert [f"{address}/{name}" for name in NAMES] == [line.split()[0] for line in said[1:-1]]
    assert (0, "\n", "") == (served.returncode, rest, errors)


@pytest.mark.long
def test_a_worker_that_dies_while_it_is_asked_is_not_waited_for() -> None:
    """A worker that is killed before it has said that it is well counts as dead at once, not after a minute."""
    handlers = {each: signal.getsignal(each) for each in uvicorn.supervisors.multiprocess.SIGNALS}
    supervisor = __main__.Supervisor(uvicorn.Config("examples.site:application", factory=True, workers=1), sockets=[])
    supervisor.init_processes()
    [worker] = supervisor.processes
    pid = worker.process.pid
    assert pid
    try:
        os.kill(pid, signal.SIGSTOP)  # so it cannot answer
        asked: Queue[float] = Queue()

        def ask() -> None:
            began = time.monotonic()
            worker.ping(timeout=60)
            asked.put(time.monotonic() - began)

        asking = threading.Thread(target=ask)
        asking.start()
        os.kill(pid, signal.SIGKILL)

        assert asked.get(timeout=30) < 30
        asking.join()
    finally:
        worker.process.kill()
        worker.process.join()
        for each, handler in handlers.items():
            signal.signal(each, handler)


@pytest.mark.long
def test_a_demo_is_played_in_the_terminal() -> None:
    """Merak is played on plain ChatKit and with the library, side by side in 100 columns, without colour in a pipe."""
    played = ran("--play", "merak_search")

    lines = played.stdout.splitlines()
    assert (0, "") == (played.returncode, played.stderr)
    assert ["=>", "client", "tools:", "1;", "replies:", "2", "=>", "client", "tools:", "3;", "replies:", "1"] == (
        lines[-1].split()
    )
    assert 100 >= max(map(len, lines))
    assert "\033" not in played.stdout
    assert 21 >= len(lines)
    right = lines[7].rindex('you       "')
    ours = [
        'you       "Who knows about maritime law?"',
        "page <-   run_search_animation start",
        "page <-   choose_agent Ada, Bela, Dara",
        "page ->   Dara",
        "tool      goes on with the answer",
        "page <-   run_search_animation stop",
    ]
    assert ours == [line[right:] for line in lines[7:] if line[right:].startswith(("you", "page", "tool"))]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--play", "nothing"], f"argument --play: there is no demo 'nothing'; there are {', '.join(NAMES)}"),
        (["--port", "http"], "argument --port: 'http' is not a port: 0 to 65535"),
        (["--port", "70000"], "argument --port: '70000' is not a port: 0 to 65535"),
        (["--workers", "0"], "argument --workers: '0' is not a number of workers: 1 to 64"),
        (["--wat"], "unrecognized arguments: --wat"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does not understand it says in one line, with exit status 2."""
    with pytest.raises(SystemExit) as ended:
        __main__.main(arguments)

    assert 2 == ended.value.code
    assert ("", f"python -m examples: {complaint}\n") == capsys.readouterr()


def test_a_busy_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Where somebody listens already it says so, and how to go elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status = __main__.main(["--port", str(port)])

    taken = os.strerror(errno.EADDRINUSE)
    assert 2 == status
    assert (
        "",
        f"python -m examples: cannot listen at 127.0.0.1:{port}: {taken}; --port takes another one\n",
    ) == capsys.readouterr()


def test_a_demo_that_cannot_start_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo that lacks something is told of before anything is served."""

    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        raise CannotRunError("the database cannot be written: todo.sqlite")
        yield

    monkeypatch.setattr(site, "application", lambda: FastAPI(lifespan=asynccontextmanager(lifespan)))

    status = __main__.main(["--port", "0"])

    assert 2 == status
    assert ("", "python -m examples: the database cannot be written: todo.sqlite\n") == capsys.readouterr()
