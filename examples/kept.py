"""Where the demos keep what outlasts the process, from the environment.

DEMO_DATA       a directory, made if it is missing; `demo-data` by default; each demo has an SQLite file there
DATABASE_URL    postgresql://user:password@host/name, for the todo list in place of its file
SESSION_SECRET  signs the todo list's cookies; without it one is made, and kept in DEMO_DATA for the next start
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .demo import CannotRunError


def directory() -> Path:
    """Return the directory in which all demos keep everything."""
    found = Path(os.environ.get("DEMO_DATA") or "demo-data").resolve()
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(found, error) from None
    return found


def file(name: str) -> Path:
    """Return a file in the directory, which can be written."""
    found = directory() / name
    try:
        found.open("ab").close()
    except OSError as error:
        raise _cannot_write(found.parent, error) from None
    return found


def database(name: str) -> str:
    """Return the address of the SQLite file in which a demo keeps everything."""
    return f"sqlite+aiosqlite:///{file(f'{name}.db')}"


def todo_database() -> str:
    """Return the address of the todo list's database: the one that is given, or a file."""
    given = os.environ.get("DATABASE_URL")
    if not given:
        return database("todo")
    try:
        url = make_url(given)
    except ArgumentError:
        url = None
    if url is None or not url.drivername.startswith("postgres"):
        raise CannotRunError("DATABASE_URL has to be like postgresql://user:password@host/name")
    return url.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def shown(database_url: str) -> str:
    """Return a database's address as people may see it."""
    url = make_url(database_url)
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def session_secret() -> str:
    """Return the secret that signs the todo list's cookies."""
    return os.environ.get("SESSION_SECRET") or _kept_secret(directory() / "todo.secret")


def _kept_secret(kept: Path) -> str:
    """Return the secret in a file that is the user's alone; of several workers that make it at once, one does."""
    try:
        if not kept.exists():
            made = kept.with_suffix(f".{secrets.token_hex(4)}")
            made.touch(0o600, exist_ok=False)
            made.write_text(secrets.token_urlsafe(32))
            _link_unless_there(made, kept)
            made.unlink()
        return kept.read_text()
    except OSError as error:
        raise _cannot_write(kept.parent, error) from None


def _link_unless_there(made: Path, kept: Path) -> None:
    try:
        os.link(made, kept)
    except FileExistsError:
        return  # another worker's is just as good


def _cannot_write(found: Path, error: OSError) -> CannotRunError:
    return CannotRunError(
        f"the demos cannot write to {found} ({error.strerror}); DEMO_DATA=... names another directory"
    )
