"""Where the demos keep everything, and the secret of the todo list's sessions."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from examples import kept
from examples.demo import CannotRunError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_made_once_and_is_the_users_alone(tmp_path: Path) -> None:
    """The next start finds the secret of the first, so that sessions outlast a restart."""
    first = kept.session_secret()

    assert first == kept.session_secret()
    assert len(first) > 40
    assert 0o600 == stat.S_IMODE((tmp_path / "todo.secret").stat().st_mode)


def test_of_two_workers_that_make_a_secret_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret that is there first is everybody's, and the other one is gone."""
    file = tmp_path / "todo.secret"

    def another_worker_is_faster(_: int) -> str:
        file.write_text("theirs")
        return "mine"

    monkeypatch.setattr("secrets.token_hex", another_worker_is_faster)

    assert "theirs" == kept.session_secret()
    assert {"todo.secret"} == {path.name for path in tmp_path.iterdir()}


def test_a_given_secret_is_taken_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SESSION_SECRET is for machines that share one, and is written nowhere."""
    monkeypatch.setenv("SESSION_SECRET", "given")

    assert "given" == kept.session_secret()
    assert not (tmp_path / "todo.secret").exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_address_of_a_postgresql_will_do(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the scheme says of a driver, ours is taken; the password is not shown."""
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://ada:secret@db.example.com/todo")

    assert "postgresql+asyncpg://ada:secret@db.example.com/todo" == kept.todo_database()
    assert "postgresql+asyncpg://ada:***@db.example.com/todo" == kept.shown(kept.todo_database())


@pytest.mark.parametrize("given", ["mysql://db/todo", "postgres", "postgresql:/db", "sqlite:///todo.db"])
def test_what_is_no_address_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is told of before anything is served."""
    monkeypatch.setenv("DATABASE_URL", given)

    with pytest.raises(CannotRunError, match="has to be like postgresql://"):
        kept.todo_database()
