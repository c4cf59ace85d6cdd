"""The todo list in real processes, over HTTP, on SQLite and on PostgreSQL: nothing lives in the memory of one of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest

from .conftest import SECONDS, Place, page_at

if TYPE_CHECKING:
    from collections.abc import Callable

ADDED = "“buy milk” is on your list."
REFRESH = ("refresh_tasks", {})


async def signed_in(url: str) -> dict[str, str]:
    """Become a new user; the cookie that says who."""
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        return dict((await client.get(f"{url}/user")).cookies)


async def tasks_of(url: str, cookies: dict[str, str]) -> list[str]:
    async with httpx2.AsyncClient(timeout=SECONDS, cookies=cookies) as client:
        return [task["title"] for task in (await client.get(f"{url}/tasks")).json()]


async def test_conversations_and_tasks_are_there_after_a_restart(place: Place) -> None:
    """Another process finds the thread, its messages, the tasks and the user, and goes on."""
    with place.served() as url:
        cookies = await signed_in(url)
        before = page_at(url, cookies)
        await before.send("add buy milk")

    with place.served() as url:
        after = page_at(url, cookies, before.thread_id)
        await after.reload()
        remembered = after.texts
        await after.send("show me all tasks")
        kept = await tasks_of(url, cookies)

    assert [ADDED] == remembered
    assert ["buy milk"] == kept
    assert "Here is your list:\n1. buy milk" == after.texts[-1]
    assert before.thread_id == after.thread_id
