"""How a store comes out of what builds it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools.testing import FactoryError
from chatkit_clienttools.testing._factory import made_by, opened
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def waits() -> Any:
    await asyncio.Event().wait()


async def waits_for_a_database() -> Any:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionError("the connection is gone") from None


@asynccontextmanager
async def waits_within() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


class TestFactory:
    """What a factory makes, whatever it is to make."""

    @pytest.mark.parametrize("factory", [waits, waits_for_a_database, waits_within])
    async def test_time_limit(self, factory: Any) -> None:
        """A factory that does not come back is ended, whatever it says to that, and the error names what was wanted."""
        stack = AsyncExitStack()

        with pytest.raises(FactoryError) as raised:
            await made_by(factory, stack, time_limit=0.01, wanted="a server")

        said = "did not give a server: it had not come back when 0.01 seconds were over"
        assert f"{factory.__module__}.{factory.__qualname__} {said}" == str(raised.value)

    async def test_one_task(self) -> None:
        """A context manager is entered in the task that closes it, as those that hold a task group have to be."""
        tasks: list[Any] = []

        @asynccontextmanager
        async def make() -> AsyncIterator[Any]:
            tasks.append(asyncio.current_task())
            yield PlainStore()
            tasks.append(asyncio.current_task())

        async with opened(make, time_limit=5.0):
            pass

        assert [asyncio.current_task()] * 2 == tasks

    async def test_its_own_time_limit(self) -> None:
        """A factory that gave up by itself is quoted."""

        async def make() -> Any:
            raise asyncio.TimeoutError("the database did not answer")

        with pytest.raises(FactoryError, match="the database did not answer"):
            await made_by(make, AsyncExitStack(), time_limit=5.0)

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not count how often it was cancelled")
    async def test_ended_by_somebody_else(self) -> None:
        """A task that was cancelled while its time ran out is cancelled, and not told about the time."""

        async def make() -> Any:
            try:
                await waits()
            finally:
                task.cancel()

        task = asyncio.ensure_future(made_by(make, AsyncExitStack(), time_limit=0.01))

        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_without_a_stack(self) -> None:
        """What is to be no store, nor closed, is whatever was made."""
        assert (await made_by(waits_within, None, time_limit=5.0)).__aenter__
        assert 7 == await made_by(lambda: 7, None, time_limit=5.0)

    async def test_methods(self) -> None:
        """What was made has to have the methods that are asked for."""
        with pytest.raises(FactoryError, match=r"give a server: it returned a PlainStore, which has no process$"):
            await made_by(PlainStore, AsyncExitStack(), time_limit=5.0, wanted="a server", methods=["process"])
