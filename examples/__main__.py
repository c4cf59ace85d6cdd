"""`python -m examples`: serve all demos from one process, or play one in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from contextlib import closing
from typing import NoReturn

MISTAKE = 2
STARTING = 60
"""Seconds that a worker may take to start, on a busy machine."""

try:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from . import guard, play, site
    from .demo import NAMES, CannotRunError, demos
    from .offline import has_key
except ModuleNotFoundError as missing:
    cure = "`make demo` installs what is needed into .venv, for `.venv/bin/python -m examples`"
    print(f"python -m examples: there is no module {missing.name}; {cure}", file=sys.stderr)
    sys.exit(MISTAKE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        self.exit(MISTAKE, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.play:
            asyncio.run(play.play(options.play))
        else:
            serve(options.host, options.port, options.workers)
    except CannotRunError as error:
        print(f"python -m examples: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print()
    return 0


def serve(host: str, port: int, workers: int) -> None:
    """Serve all demos until Ctrl-C."""
    with closing(_listening(host, port)) as listening:
        os.environ[site.SUPERVISED] = "yes"
        os.environ[guard.HOSTS] = ",".join(filter(None, [os.environ.get(guard.HOSTS), host]))
        asyncio.run(_try_out())
        print(_welcome(host, listening.getsockname()[1]), flush=True)
        config = uvicorn.Config(
            "examples.site:application",
            factory=True,
            workers=workers,
            log_level="warning",
            timeout_graceful_shutdown=1,
            timeout_worker_healthcheck=STARTING,  # or a worker that is slow to start is killed, again and again
        )
        Supervisor(config, sockets=[listening]).run()  # it starts a worker that was killed again, even the only one
        print()  # after ^C


class Supervisor(Multiprocess):
    """Starts a dead worker again at once, also one that dies while it is asked whether it is well.

    uvicorn keeps the worker's end of their pipe open. So it would wait for an answer of the dead: as long as a start
    may take.
    """

    def init_processes(self) -> None:
        """Start the workers."""
        super().init_processes()
        self._let_go()

    def keep_subprocess_alive(self) -> None:
        """Start the dead ones again."""
        super().keep_subprocess_alive()
        self._let_go()

    def _let_go(self) -> None:
        for process in self.processes:
            process.child_conn.close()


async def _try_out() -> None:
    """Start and end every demo once, so that what is missing is said in one line instead of by each worker."""
    app = site.application()
    async with app.router.lifespan_context(app):
        pass


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:  # of a name that is not known, or of the operating system: a text of its own
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise CannotRunError(f"cannot listen at {host}:{port}: {reason}; --port takes another one") from None


def _welcome(host: str, port: int) -> str:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    width = max(map(len, NAMES))
    lines = [f"  {url}/{name:<{width}}  {demo.title} (kept in {demo.keeps()})" for name, demo in demos().items()]
    return "\n".join([f"The demos are at {url}  ({site.MODEL[has_key()]})", *lines, "Ctrl-C ends them."])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m examples", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s: this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="where to listen (%(default)s)")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="how many processes serve")
    parser.add_argument("--play", type=_demo, metavar="NAME", help=f"play one in the terminal: {', '.join(NAMES)}")
    return parser


def _port(text: str) -> int:
    return _between(text, 0, 65535, "a port")


def _workers(text: str) -> int:
    return _between(text, 1, 64, "a number of workers")


def _between(text: str, low: int, high: int, what: str) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}: {low} to {high}")
    return int(text)


def _demo(name: str) -> str:
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no demo {name!r}; there are {', '.join(NAMES)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
