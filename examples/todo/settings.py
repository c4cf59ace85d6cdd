"""Where everything is kept, and the secret that signs the session cookies; from the environment.

DATABASE_URL    postgresql://user:password@host/name; without it an SQLite file in DEMO_DATA
DEMO_DATA       a directory, made if it is missing; `demo-data` by default
SESSION_SECRET  without it one is made, and kept in DEMO_DATA for the next start
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from examples.demo import CannotRunError


@dataclass(frozen=True)
class Settings:
    """What the server has to know before it starts."""

    database_url: str
    session_secret: str

    @property
    def database(self) -> str:
        """The database, as it may be shown."""
        url = make_url(self.database_url)
        return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def read_settings() -> Settings:
    """Read the environment, and see to it that something can be kept."""
    directory = Path(os.environ.get("DEMO_DATA") or "demo-data").resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return Settings(
            _given_database() or _database_file(directory / "todo.db"),
            os.environ.get("SESSION_SECRET") or _kept_secret(directory / "todo.secret"),
        )
    except OSError as error:
        raise CannotRunError(
            f"the todo demo cannot write to {directory} ({error.strerror}); DEMO_DATA=... names another directory"
        ) from None


def _given_database() -> str | None:
    given = os.environ.get("DATABASE_URL")
    if not given:
        return None
    try:
        url = make_url(given)
    except ArgumentError:
        url = None
    if url is None or not url.drivername.startswith("postgres"):
        raise CannotRunError("DATABASE_URL has to be like postgresql://user:password@host/name")
    return url.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def _database_file(file: Path) -> str:
    file.open("ab").close()
    return f"sqlite+aiosqlite:///{file}"


def _kept_secret(file: Path) -> str:
    """Return the secret in a file that is the user's alone; of several workers that make it at once, one does."""
    if not file.exists():
        made = file.with_suffix(f".{secrets.token_hex(4)}")
        made.touch(0o600, exist_ok=False)
        made.write_text(secrets.token_urlsafe(32))
        _link_unless_there(made, file)
        made.unlink()
    return file.read_text()


def _link_unless_there(made: Path, file: Path) -> None:
    try:
        os.link(made, file)
    except FileExistsError:
        return  # another worker's is just as good
