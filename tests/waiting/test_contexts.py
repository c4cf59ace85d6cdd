"""The context that a tool goes on with: of the server's class, and of the request in which the answer came."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools import SequencedAgentContext
from tests.helpers.merak import calls, speaks
from tests.helpers.stores import PlainStore
from tests.helpers.waiting import RunsWithOptions, WithOptions, animation, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]
User = TypeVar("User")


class MyContext(AgentContext[Any]):
    """A context of the application's own, with a field."""

    language: str = "en"


class MyGeneric(AgentContext[User], Generic[User]):
    """One with a type of its own."""


class MyServer(RunsWithOptions):
    """A server that gives its agent a context of its own."""

    make: type[AgentContext[Any]] = MyContext

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        mine = self.make(thread=thread, store=self.store, request_context=context)
        async for event in self.streamed(thread, input_user_message, mine):
            yield event


class MyWakingServer(MyServer):
    """One that says how to make it."""

    def agent_context(self, thread: Any, context: Any) -> AgentContext[Any]:
        return self.make(thread=thread, store=self.store, request_context=context)


seen: list[AgentContext[Any]] = []


async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    seen.append(ctx.context)
    await sequencer.ask(ctx, animation(state="start"))
    return "done"


def page_of(kind: type[RunsWithOptions], make: type[AgentContext[Any]] = MyContext) -> WithOptions:
    class Page(WithOptions):
        pass

    server: Any = type("Server", (kind,), {"make": make})
    Page.kind = server
    seen.clear()
    return Page(PlainStore(), [[calls("asks")], speaks("Good.")], tool(asks))


class TestClasses:
    async def test_one_that_the_server_does_not_make(self, log: pytest.LogCaptureFixture) -> None:
        """A tool that runs with a class of context that the server could not make later is refused with the cure."""
        page = page_of(MyServer)

        reply = await page.say()

        assert ([], ["Good."]) == (reply.calls, reply.texts)
        [refusal] = [record.getMessage() for record in log.records if record.levelno == logging.ERROR]
        assert (
            "The tool asks cannot wait for the browser. It runs with a MyContext, and would be woken with "
            "AgentContext: override `agent_context(self, thread, context)` in the server, to return what `respond` "
            "makes" == refusal
        )

    async def test_one_that_the_server_makes(self) -> None:
        """With `agent_context` overridden, a woken tool gets a context of the application's class."""
        page = page_of(MyWakingServer)

        await page.say()
        reply = await page.answer()

        assert ["Good."] == reply.texts
        assert [MyContext, MyContext] == [type(context) for context in seen]
        assert seen[0] is not seen[1]

    async def test_a_type_of_request_context(self) -> None:
        """A context that is parametrized with a type counts as one of its class."""
        page = page_of(MyServer, AgentContext[int])
        page.chat.context = 1

        await page.say()
        reply = await page.answer()

        assert ["Good."] == reply.texts

    async def test_a_generic_class(self) -> None:
        """A generic class of the application's own may be parametrized in one place, and not in the other."""

        class Server(MyServer):
            def agent_context(self, thread: Any, context: Any) -> AgentContext[Any]:
                return MyGeneric(thread=thread, store=self.store, request_context=context)

        page = page_of(Server, MyGeneric[str])
        page.chat.context = "ada"

        await page.say()
        reply = await page.answer()

        assert ["Good."] == reply.texts

    async def test_the_sequenced_one(self) -> None:
        """A `SequencedAgentContext` is a class like any other: the server has to make it."""
        page = page_of(MyWakingServer, SequencedAgentContext)

        await page.say()
        reply = await page.answer()

        assert ["Good."] == reply.texts
        assert [SequencedAgentContext] * 2 == [type(context) for context in seen]

    async def test_one_of_a_subclass(self) -> None:
        """A tool that runs with a base of what the server makes can wait."""

        class Server(MyServer):
            def agent_context(self, thread: Any, context: Any) -> AgentContext[Any]:
                return MyContext(thread=thread, store=self.store, request_context=context)

        page = page_of(Server, AgentContext)

        await page.say()
        reply = await page.answer()

        assert ["Good."] == reply.texts


class TestRequests:
    async def test_the_request_of_the_answer(self) -> None:
        """A woken tool sees the context of the request that has brought the answer, and the server's store."""
        page = page_of(RunsWithOptions)

        page.chat.context = "first"
        await page.say()
        page.chat.context = "second"
        await page.answer()

        assert ["first", "second"] == [context.request_context for context in seen]
        assert all(context.store is page.server.store for context in seen)

    async def test_a_change_of_the_thread(self) -> None:
        """What a woken tool changes in the thread is saved, and the page hears of it."""

        async def renames(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            ctx.context.thread.title = "Poets"
            return "done"

        page = WithOptions(PlainStore(), [[calls("renames")], speaks("Good.")], tool(renames))

        await page.say()
        reply = await page.answer()

        assert ["Poets"] == [event["thread"]["title"] for event in reply.events if event["type"] == "thread.updated"]
        assert "Poets" == (await page.chat.thread())["title"]
