"""The todo list in real processes, over HTTP, on SQLite and on PostgreSQL: nothing lives in one's memory."""

from __future__ import annotations

import asyncio
import re
import stat
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from chatkit_clienttools.testing import BrokenStreamError

from .conftest import SECONDS, Browser, Place, Workers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

REFRESH: tuple[str, Any] = ("refresh_tasks", {})
ADDED = "“buy milk” is on your list."


async def test_conversations_and_tasks_are_there_after_a_restart(workers: Workers) -> None:
    """Another process finds the user, the thread with its messages and the tasks, and goes on."""
    browser, before = workers.earlier
    page = browser.page(workers.one, before.thread_id)

    await page.reload()
    remembered = page.texts
    await page.send("show me all tasks")

    assert [ADDED] == remembered
    assert [{"id": 1, "title": "buy milk", "done": False}] == browser.tasks(workers.one)
    assert [ADDED, "Here is your list:\n1. buy milk"] == page.texts


async def test_a_call_that_one_worker_has_sent_is_answered_at_another(workers: Workers) -> None:
    """The page loads again, from another worker, while a call is pending: that call comes again, then the next."""
    browser = Browser(workers.one)
    page = browser.page(workers.one)
    page.answering = "never"
    await page.send("add buy milk")
    (task,) = browser.tasks(workers.two)

    again = browser.page(workers.two, page.thread_id)
    await again.reload(resume=True)

    assert [REFRESH] == page.calls
    assert [REFRESH, ("highlight_task", {"task_id": task["id"]})] == again.calls
    assert [ADDED] == again.texts


async def test_the_same_answer_at_both_workers_releases_the_next_call_once(workers: Workers) -> None:
    """An answer that hits two workers at the same moment releases one call; both may stream it, under one id."""
    browser = Browser(workers.one)
    page = browser.page(workers.one)
    page.answering = "never"
    await page.send("add buy milk")
    answer: dict[str, Any] = {"_receipt": page.delivered[0].receipt, "result": {}}

    posted = await asyncio.gather(
        *[
            browser.page(url, page.thread_id).post("threads.add_client_tool_output", result=answer)
            for url in (workers.one, workers.two)
        ]
    )

    items = [event["item"] for events in posted for event in events if event["type"] == "thread.item.done"]
    assert ["highlight_task"] == list({item["id"]: item["name"] for item in items}.values())


async def test_users_are_kept_apart_at_every_worker(workers: Workers) -> None:
    """At every worker Ada's tasks and thread exist for nobody else, and a cookie that is made up is nobody's."""
    ada, bob, forger = Browser(workers.one), Browser(workers.one), Browser(workers.one)
    forger.cookies["todo_session"] = "x" + ada.cookies["todo_session"]
    page = ada.page(workers.one)
    await page.send("add a secret")

    for url in (workers.one, workers.two):
        assert ["a secret"] == [task["title"] for task in ada.tasks(url)]
        assert [] == bob.tasks(url)
        assert [] == forger.tasks(url)
        with pytest.raises(BrokenStreamError, match="HTTP 404"):
            await bob.page(url, page.thread_id).reload()


async def test_a_request_that_chatkit_does_not_know_is_refused_in_words(workers: Workers) -> None:
    """A request of a type that was made up gets a 400 that names the real ones, and opens no thread."""
    browser = Browser(workers.one)

    async with httpx2.AsyncClient(cookies=browser.cookies, timeout=SECONDS) as client:
        made_up = await client.post(f"{workers.one}/chatkit", json={"type": "messages.create", "params": {}})
        listed = {"type": "threads.list", "params": {"limit": 10, "order": "desc"}}
        threads = await client.post(f"{workers.two}/chatkit", json=listed)

    assert 400 == made_up.status_code
    assert "threads.create, in a new thread, or as threads.add_user_message" in made_up.json()["detail"]
    assert [] == threads.json()["data"]


async def test_the_session_is_out_of_reach_of_scripts_and_of_other_sites(workers: Workers) -> None:
    """The cookie is signed, HttpOnly and SameSite=Lax; another one makes another user."""
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        first = await client.get(f"{workers.one}/user")
        same = await client.get(f"{workers.two}/user")
        other = await client.post(f"{workers.one}/user/another", json={})

    assert {"httponly", "samesite=lax"} <= set(first.headers["set-cookie"].lower().split("; "))
    assert first.json() == same.json() != other.json()


async def test_the_command_serves_it_with_two_workers(tmp_path: Path) -> None:
    """`python -m examples --workers 2` says where everything is kept, and whichever worker is asked knows all of it."""
    with Place(DEMO_DATA=str(tmp_path), DATABASE_URL="").demo(workers=2) as said:
        (url,) = re.findall(r"http://\S+/todo", said)
        users = [Browser(url) for _ in range(4)]
        pages = [user.page(url) for user in users]
        for text in ("hi", "add buy milk", "finish milk"):
            await asyncio.gather(*[page.send(text) for page in pages])
        lists = [user.tasks(url) for user in users]

    assert str(tmp_path / "todo.db") in said
    assert [[("buy milk", True)]] * 4 == [[(task["title"], task["done"]) for task in tasks] for tasks in lists]
    assert 0o600 == stat.S_IMODE((tmp_path / "todo.secret").stat().st_mode)


@pytest.mark.parametrize("arguments", [["--port=0"], ["--play=todo"]])
def test_what_cannot_be_kept_is_said_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """Without a place to write to the command ends, and says in one line what to do."""
    file = tmp_path / "file"
    file.touch()

    status, said = Place(DEMO_DATA=str(file), DATABASE_URL="").refused(*arguments)

    assert 2 == status
    assert [f"python -m examples: the demos cannot write to {file}"] == [
        line.split(" (")[0] for line in said.splitlines()
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://somewhere/todo", "DATABASE_URL has to be like postgresql://user:password@host/name"),
        (
            "postgresql://ada:secret@127.0.0.1:1/todo",
            "the todo demo cannot reach postgresql+asyncpg://ada:***@127.0.0.1:1/todo",
        ),
    ],
)
def test_a_database_that_is_none_is_said_in_one_line(tmp_path: Path, url: str, expected: str) -> None:
    """An address that is no PostgreSQL's, or where nobody answers, ends the command; no password is told."""
    status, said = Place(DEMO_DATA=str(tmp_path), DATABASE_URL=url).refused("--port=0")

    assert (2, f"python -m examples: {expected}\n") == (status, said)
