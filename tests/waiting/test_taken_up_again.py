"""Runs that are taken up again where a tool began to wait: agents used as tools, handoffs, and other tools' outputs."""

from __future__ import annotations

import asyncio
import logging
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, RunContextWrapper, RunHooks, Runner, function_tool
from agents.testing import ScriptedModel, function_call
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.types import ThreadMetadata

from chatkit_clienttools import ClientToolConverter, ClientToolSequencer, ClientToolServer
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import calls, speaks
from tests.helpers.scripted import fill
from tests.helpers.server import RESUME
from tests.helpers.stores import PlainStore
from tests.helpers.waiting import TOOLS, choose
from tests.helpers.workers import stored_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

    from tests.helpers.conversation import Reply

Ctx = RunContextWrapper[AgentContext[Any]]
TEXT = "The user chose Ada."


class Server(ClientToolServer[Any]):
    """A server whose runs are taken up again. Its agents are made anew with each of them, as in another process."""

    def __init__(self, store: Store[Any], sequencer: ClientToolSequencer, make: Any) -> None:
        super().__init__(store)
        self.client_tools = sequencer
        self.converter = ClientToolConverter(sequencer)
        self.make = make
        self.looked_up = 0
        self.run_options: dict[str, Any] = {}

        @sequencer.function_tool
        async def pick(ctx: Ctx) -> str:
            """Let the user pick somebody."""
            choice = await sequencer.ask(ctx, choose(people=["Ada"]))
            return f"The user chose {choice.name}."

        @sequencer.function_tool
        async def pick_for(ctx: Ctx, query: str) -> str:
            """Let the user pick somebody for something."""
            choice = await sequencer.ask(ctx, choose(people=[query]))
            return f"The user chose {choice.name}."

        @function_tool
        async def look_up() -> str:
            """Look something up."""
            self.looked_up += 1
            return "looked up"

        self.pick, self.both, self.look_up = pick, [pick, pick_for], look_up

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        agent_context = self.agent_context(thread, context)
        history = await self.converter.to_agent_input(await self.converter.load_history(self.store, thread, context))
        assert self.client_tools
        options = self.run_options
        result = self.client_tools.run_streamed(self.make(self), history, context=agent_context, **options)
        async for event in stream_agent_response(agent_context, result):
            yield event


SDK = tuple(map(int, version("openai-agents").split(".")[:2]))
REFUSES_ANY = pytest.mark.skipif(
    SDK < (0, 19),
    reason="this Agents SDK calls a tool that takes no arguments whatever it is given",
)
PARKS_EMPTY_TEXTS = pytest.mark.skipif(
    SDK < (0, 23), reason="this Agents SDK asks a tool whether it waits though the provider has sent no arguments"
)
FORGETS_CONTEXTS = pytest.mark.skipif(
    SDK < (0, 14), reason="this Agents SDK keeps the runs of agents that are used as tools, with their first context"
)


@pytest.fixture(params=[MemoryStore, PlainStore], ids=["memory", "plain"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


async def answered(chat: Conversation, asked: Reply, result: Any) -> Reply:
    """Answer the call in a reply."""
    [(_, params)] = asked.calls
    return await chat.answer({"_receipt": params["_receipt"], "result": result})


def texts_in(model: ScriptedModel) -> list[Any]:
    """What the model got to read of tools: their outputs."""
    return [item["output"] for item in model.calls[-1].input if item.get("type") == "function_call_output"]


async def test_an_agent_used_as_a_tool_may_ask(store: Store[Any]) -> None:
    """An agent used as a tool asks the browser and goes on with the answer; the outer agent reads its output."""
    inner_model = ScriptedModel([[calls("pick")], speaks("It is Ada.")])
    outer_model = ScriptedModel([[calls("ask_inner", {"input": "who?"})], speaks("Ada it is.")])

    def make(server: Server) -> Agent[Any]:
        inner = Agent[Any](name="inner", model=inner_model, tools=[server.pick])
        return Agent[Any](name="outer", model=outer_model, tools=[inner.as_tool("ask_inner", "Ask it.")])

    chat = Conversation(Server(store, ClientToolSequencer(TOOLS), make))
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert ([], ["Ada it is."]) == (reply.errors, reply.texts)
    assert ([TEXT], ["It is Ada."]) == (texts_in(inner_model), texts_in(outer_model))


async def test_an_agent_that_a_tool_runs_itself(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A tool that asks in a run which another tool has made itself waits in vain: the log says what to use instead."""
    inner_model = ScriptedModel([[calls("pick")], speaks("never said")])
    outer_model = ScriptedModel([[calls("ask_inner")], speaks("Nobody knows."), speaks("Ada, too.")])

    def make(server: Server) -> Agent[Any]:
        inner = Agent[Any](name="inner", model=inner_model, tools=[server.pick])

        @function_tool
        async def ask_inner(ctx: Ctx) -> str:
            return f"{(await Runner.run(inner, 'who?', context=ctx.context)).final_output}"

        return Agent[Any](name="outer", model=outer_model, tools=[ask_inner])

    chat = Conversation(Server(store, ClientToolSequencer(TOOLS), make))
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["Nobody knows."], ["Ada, too."]) == (asked.texts, reply.texts)
    assert [
        (
            "the tool pick waits for the browser in an agent that another tool has run with `Runner.run`, which gets "
            "no result of it: use `agent.as_tool(...)`"
        )
    ] == [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


async def test_the_context_that_it_goes_on_with(store: Store[Any]) -> None:
    """In a run that is taken up again the tools get the context of the request with the answer."""
    contexts, look = looks()
    model = ScriptedModel([[calls("pick")], [calls("look")], speaks("Ada it is.")])
    server = Server(
        store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick, look])
    )

    chat = Conversation(server, context="asking")
    asked = await chat.say("who?")
    chat.context = "answering"
    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["Ada it is."], [(chat.thread_id, "answering")]) == (reply.texts, contexts)


@FORGETS_CONTEXTS
async def test_the_context_of_an_agent_used_as_a_tool(store: Store[Any]) -> None:
    """An agent used as a tool goes on with the context of the request with the answer, as the outer agent does."""
    contexts, look = looks()
    inner_model = ScriptedModel([[calls("pick")], [calls("look")], speaks("It is Ada.")])
    outer_model = ScriptedModel([[calls("ask_inner", {"input": "who?"})], [calls("look")], speaks("Ada it is.")])

    def make(server: Server) -> Agent[Any]:
        inner = Agent[Any](name="inner", model=inner_model, tools=[server.pick, look])
        return Agent[Any](name="outer", model=outer_model, tools=[inner.as_tool("ask_inner", "Ask it."), look])

    chat = Conversation(Server(store, ClientToolSequencer(TOOLS), make), context="asking")
    asked = await chat.say("who?")
    chat.context = "answering"
    reply = await answered(chat, asked, {"name": "Ada"})

    assert ["Ada it is."] == reply.texts
    assert [(chat.thread_id, "answering")] * 2 == contexts


def looks() -> tuple[list[Any], Any]:
    """A tool that looks at its context, and what it has seen."""
    contexts: list[Any] = []

    @function_tool
    async def look(ctx: Ctx) -> str:
        """Look at the context."""
        contexts.append((ctx.context.thread.id, ctx.context.request_context))
        return "seen"

    return contexts, look


class Hooks(RunHooks[Any]):
    """Hooks that count how often the model is called."""

    def __init__(self) -> None:
        self.calls = 0

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
        self.calls += 1


async def test_the_options_of_a_run(store: Store[Any]) -> None:
    """Options of `run_streamed` are those of the run that begins, and of the one that is taken up again."""
    model, hooks = ScriptedModel([[calls("pick")], speaks("Ada it is.")]), Hooks()
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
    server.run_options = {"hooks": hooks}
    chat = Conversation(server)

    counts = []
    asked = await chat.say("who?")
    counts.append(hooks.calls)
    await answered(chat, asked, {"name": "Ada"})
    counts.append(hooks.calls)

    assert [1, 2] == counts


async def test_the_agent_that_had_taken_over_goes_on(store: Store[Any]) -> None:
    """After a handoff the agent goes on whose tool has waited, and not the one that the run began with."""
    first_model = ScriptedModel([[calls("transfer_to_second")]])
    second_model = ScriptedModel([[calls("pick")], speaks("Ada it is.")])

    def make(server: Server) -> Agent[Any]:
        second = Agent[Any](name="second", model=second_model, tools=[server.pick])
        return Agent[Any](name="first", model=first_model, handoffs=[second])

    chat = Conversation(Server(store, ClientToolSequencer(TOOLS), make))
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert ([], ["Ada it is."], TEXT) == (reply.errors, reply.texts, texts_in(second_model)[-1])


async def test_what_other_tools_have_returned_is_kept(store: Store[Any]) -> None:
    """The model reads what a plain tool has returned beside the one that waited, and does not call it again."""
    model = ScriptedModel([[calls("look_up"), calls("pick")], speaks("Ada it is.")])
    server = Server(
        store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.look_up, s.pick])
    )

    chat = Conversation(server)
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["Ada it is."], ["looked up", TEXT], 1) == (reply.texts, texts_in(model), server.looked_up)


async def test_another_run_of_the_same_request(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """The run in which a tool waits is taken up again, also if `respond` has run another agent after it."""
    model = ScriptedModel([[calls("look_up"), calls("pick")], speaks("Ada it is.")])
    titles = ScriptedModel([speaks("A choice.")])

    class Titled(Server):
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            async for event in super().respond(thread, input_user_message, context):
                yield event
            if input_user_message:
                assert self.client_tools
                agent_context = self.agent_context(thread, context)
                result = self.client_tools.run_streamed(Agent[Any](name="a", model=titles), "?", context=agent_context)
                async for event in stream_agent_response(agent_context, result):
                    yield event

    server = Titled(
        store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.look_up, s.pick])
    )
    chat = Conversation(server)
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["A choice."], ["Ada it is."]) == (asked.texts, reply.texts)
    assert (["looked up", TEXT], 1) == (texts_in(model), server.looked_up)
    assert [] == [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_a_message_in_between_makes_the_state_worthless(store: Store[Any]) -> None:
    """After a newer message the model goes on from the items, which know it."""
    model = ScriptedModel([[calls("pick")], speaks("Never mind."), speaks("Hello again.")])
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
    chat = Conversation(server)
    await chat.say("who?")

    reply = await chat.say("never mind")

    assert ["Never mind."] == reply.texts
    assert ["An error occurred" in text for text in texts_in(model)] == [True]
    assert [] == list(await server.client_tools.waiting_tools(server.store, chat.thread_id or "", None))  # type: ignore[union-attr]


async def test_a_state_that_is_too_large_is_not_kept(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """If the state is larger than `max_bytes` allows, the model goes on from the items, and the log says so."""
    caplog.set_level(logging.WARNING)
    model = ScriptedModel([[calls("look_up"), calls("pick")], speaks("Ada it is.")])
    server = Server(
        store,
        ClientToolSequencer(TOOLS, max_bytes=2000),
        lambda s: Agent[Any](name="a", model=model, tools=[s.look_up, s.pick]),
    )

    chat = Conversation(server)
    asked = await chat.say("who?")
    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["Ada it is."], [TEXT]) == (reply.texts, texts_in(model))
    said = f"thread {chat.thread_id}: the state of the run is not kept: the model goes on from the items"
    assert said in caplog.messages
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(("room", "is_kept"), [(1.9, False), (2.1, True)])
async def test_a_state_leaves_half_of_the_room(store: Store[Any], room: float, is_kept: bool) -> None:
    """A state takes half of the room at most: the rest is for the steps of the tools that wait."""

    def conversation(**options: Any) -> Conversation:
        model = ScriptedModel([[calls("pick")]])
        sequencer = ClientToolSequencer(TOOLS, **options)
        return Conversation(Server(store, sequencer, lambda s: Agent[Any](name="a", model=model, tools=[s.pick])))

    async def state_of(chat: Conversation) -> str | None:
        await chat.say("who?")
        return (await stored_plan(store, chat.thread_id)).state

    size = len(await state_of(conversation()) or "")
    kept = await state_of(conversation(max_bytes=int(room * size)))

    assert is_kept is (kept is not None)


@pytest.mark.fails
async def test_what_is_enqueued_beside_a_state(store: Store[Any]) -> None:
    """The state of a run that waits counts for `max_bytes`: what `respond` enqueues after it may be too large."""

    class Greedy(Server):
        length = 0

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            async for event in super().respond(thread, input_user_message, context):
                yield event
            assert self.client_tools
            if self.length:
                self.client_tools.enqueue(self.agent_context(thread, context), choose(people=["x" * self.length]))

    def greedy(**options: Any) -> Greedy:
        model = ScriptedModel([[calls("pick")]])
        sequencer = ClientToolSequencer(TOOLS, **options)
        return Greedy(store, sequencer, lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))

    chat = Conversation(greedy())
    await chat.say("who?")
    size = len((await stored_plan(store, chat.thread_id)).state or "")
    refuses, takes = greedy(max_bytes=2 * size + 1000), greedy(max_bytes=2 * size + 1000)
    refuses.length, takes.length = size + 1000, size - 1000

    refused, taken = await Conversation(refuses).say("who?"), await Conversation(takes).say("who?")

    assert ([1, 0], [0, 1]) == ([len(each.errors) for each in (refused, taken)], [len(refused.calls), len(taken.calls)])


async def test_a_state_of_another_version_is_dropped(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A state that this version of the Agents SDK cannot read is dropped: the model goes on from the items."""
    caplog.set_level(logging.INFO)
    model = ScriptedModel([[calls("pick")], speaks("Ada it is.")])
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
    chat = Conversation(server)
    asked = await chat.say("who?")
    await of_another_version(server, chat)

    reply = await answered(chat, asked, {"name": "Ada"})

    assert (["Ada it is."], [TEXT]) == (reply.texts, texts_in(model))
    [said] = [text for text in caplog.messages if "state" in text]
    assert re.fullmatch(
        r"the state of a run is dropped \(it cannot be read, \w+Error\): the model goes on from the items", said
    )


@pytest.mark.fails
async def test_a_state_whose_output_is_too_far_back(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """If much has come since a tool of the state has returned, the model goes on from the items."""
    caplog.set_level(logging.INFO)
    model, failures = ScriptedModel([[calls("pick")], [calls("pick")]]), [None, RuntimeError("away"), None]

    def make(server: Server) -> Agent[Any]:
        if failure := failures.pop(0):
            raise failure
        return Agent[Any](name="a", model=model, tools=[server.pick])

    chat = Conversation(Server(store, ClientToolSequencer(TOOLS), make))
    await answered(chat, await chat.say("who?"), {"name": "Ada"})
    await fill(chat, 60)

    reply = await chat.act(RESUME)

    assert ["choose_agent"] == [name for name, _ in reply.calls]
    assert ["the state of a run is dropped (a tool in it has not returned): the model goes on from the items"] == [
        text for text in caplog.messages if "state" in text
    ]


async def test_a_run_without_a_state(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """After an answer to a call for which no tool waits there is no state to go on from, and nothing is said of one."""
    caplog.set_level(logging.INFO)
    sequencer = ClientToolSequencer(TOOLS)

    @function_tool
    async def asks(ctx: Ctx) -> str:
        """Ask."""
        sequencer.enqueue(ctx, choose(people=["Ada"]))
        return "asked"

    model = ScriptedModel([[calls("asks")], speaks("Wait."), speaks("Ada it is.")])
    chat = Conversation(Server(store, sequencer, lambda _: Agent[Any](name="a", model=model, tools=[asks])))

    await chat.say("who?")

    reply = await chat.answer({"name": "Ada"})

    assert (["Ada it is."], []) == (reply.texts, [text for text in caplog.messages if "state" in text])


async def test_a_run_that_was_not_kept(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A run that `Runner.run_streamed` has begun leaves no state to go on from, and nothing is said of one."""
    caplog.set_level(logging.INFO)

    class Mixed(Server):
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            if input_user_message is None:
                async for event in super().respond(thread, input_user_message, context):
                    yield event
                return
            agent_context = self.agent_context(thread, context)
            result = Runner.run_streamed(self.make(self), "who?", context=agent_context)
            async for event in stream_agent_response(agent_context, result):
                yield event

    model = ScriptedModel([[calls("pick")], speaks("Ada it is.")])
    server = Mixed(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
    chat = Conversation(server)

    reply = await answered(chat, await chat.say("who?"), {"name": "Ada"})

    assert (["Ada it is."], [TEXT]) == (reply.texts, texts_in(model))
    assert [] == [text for text in caplog.messages if "state" in text]


async def test_a_history_that_is_not_needed(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A run that is taken up again knows what its tools have returned: nothing is said of a history without that."""
    caplog.set_level(logging.WARNING)

    class Bare(Server):
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            agent_context = self.agent_context(thread, context)
            assert self.client_tools
            result = self.client_tools.run_streamed(self.make(self), "who?", context=agent_context)
            async for event in stream_agent_response(agent_context, result):
                yield event

    model = ScriptedModel([[calls("pick")], speaks("Ada it is.")])
    server = Bare(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
    chat = Conversation(server)

    reply = await answered(chat, await chat.say("who?"), {"name": "Ada"})

    assert (["Ada it is."], []) == (reply.texts, caplog.messages)


async def test_the_result_is_there_once_the_run_has_begun(store: Store[Any]) -> None:
    """What `run_streamed` returns has what a result of the Agents SDK has, and says so if it is asked too soon."""
    model = ScriptedModel([speaks("Hello.")])
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model))
    thread = await saved_thread(store)
    context = server.agent_context(thread, None)

    result = ClientToolSequencer(TOOLS).run_streamed(Agent[Any](name="a", model=model), "hi", context=context)
    with pytest.raises(AttributeError, match="final_output: the run has not begun"):
        _ = result.final_output
    events = [event async for event in result.stream_events()]

    result.cancel()

    assert ("Hello.", [], "hi") == (result.final_output, result.interruptions, model.calls[-1].input[0]["content"])
    assert events


async def test_a_run_that_is_cancelled_before_it_has_begun(store: Store[Any]) -> None:
    """A run that a `finally` has cancelled does not begin after that: ChatKit may ask it for events all the same."""
    model = ScriptedModel([speaks("Nobody hears this.")])
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model))
    context = server.agent_context(await saved_thread(store), None)

    result = ClientToolSequencer(TOOLS).run_streamed(Agent[Any](name="a", model=model), "hi", context=context)
    result.cancel()
    events = [event async for event in result.stream_events()]

    assert ([], 0) == (events, len(model.calls))


@pytest.mark.parametrize("mode", [(), ("immediate",), ("after_turn",)], ids=["as it is", "at once", "after its turn"])
async def test_a_run_that_is_cancelled_in_its_middle(store: Store[Any], mode: Any) -> None:
    """A run ends as the result of the Agents SDK does that is cancelled in the same way."""
    seen: list[tuple[list[str], int]] = []
    for begin in (ClientToolSequencer(TOOLS).run_streamed, Runner.run_streamed):
        model = ScriptedModel([[calls("look_up")], speaks("Nobody hears this.")])
        server = Server(store, ClientToolSequencer(TOOLS), None)
        context = server.agent_context(await saved_thread(store), None)
        agent = Agent[Any](name="a", model=model, tools=[server.look_up])
        result: Any = begin(agent, "hi", context=context)
        types: list[str] = []
        async for event in result.stream_events():
            if not types:
                result.cancel(*mode)
            types.append(event.type)
        seen.append((types, server.looked_up))

    assert seen[1] == seen[0]
    assert (1 if mode == ("after_turn",) else 0) == seen[0][1]


@PARKS_EMPTY_TEXTS
async def test_a_cancelled_run_begins_no_tool(store: Store[Any]) -> None:
    """No tool begins after a run was cancelled, not even one that the Agents SDK has left to the sequencer."""

    class Cancelling(Server):
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            assert self.client_tools
            agent_context = self.agent_context(thread, context)
            result = self.client_tools.run_streamed(self.make(self), "who?", context=agent_context)
            async for _ in result.stream_events():
                result.cancel("after_turn")
            return
            yield

    model = ScriptedModel([[badly("pick", "")]])
    server = Cancelling(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))

    reply = await Conversation(server).say("who?")

    assert ([], [], 1) == (reply.calls, reply.errors, len(model.calls))


@pytest.mark.parametrize("policy", ["cancel", "keep"])
async def test_a_message_while_a_tool_is_woken(store: Store[Any], policy: Any) -> None:
    """After a message that came while a tool went on, the model goes on from the items: the state does not know it."""
    began, may_end = asyncio.Event(), asyncio.Event()
    model = ScriptedModel([[calls("works")], speaks("To the newer one."), speaks("To both.")])
    sequencer = ClientToolSequencer(TOOLS, on_user_message=policy)

    async def slow() -> None:
        began.set()
        await may_end.wait()

    @sequencer.function_tool
    async def works(ctx: Ctx) -> str:
        """Work."""
        await sequencer.ask(ctx, choose(people=["Ada"]))
        await sequencer.step(ctx, slow)
        return "worked"

    server = Server(store, sequencer, lambda _: Agent[Any](name="a", model=model, tools=[works]))
    chat = Conversation(server)
    asked = await chat.say("older")
    woken = asyncio.create_task(answered(chat, asked, {"name": "Ada"}))
    await began.wait()
    newer = await chat.say("newer")
    may_end.set()
    reply = await woken

    assert (["To the newer one."], ["To both."]) == (newer.texts, reply.texts)
    assert "newer" in str(model.calls[-1].input)
    assert ["worked"] == texts_in(model)


async def test_a_run_that_stops_at_a_tool(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A run that ends with a tool, as the application wants it, is nothing to warn of."""
    caplog.set_level(logging.WARNING)
    model = ScriptedModel([[calls("look_up")]])

    def make(server: Server) -> Agent[Any]:
        return Agent[Any](name="a", model=model, tools=[server.look_up], tool_use_behavior="stop_on_first_tool")

    await Conversation(Server(store, ClientToolSequencer(TOOLS), make)).say("who?")

    assert [] == caplog.records


async def saved_thread(store: Store[Any]) -> ThreadMetadata:
    """A thread of which no request is being served."""
    thread = ThreadMetadata(id="thr_1", created_at=at(0))
    await store.save_thread(thread, None)
    return thread


async def test_an_approval_of_the_application_stays_open(store: Store[Any]) -> None:
    """A run that is taken up again leaves alone what the application itself has to approve."""

    @function_tool(needs_approval=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    model = ScriptedModel([[calls("pay"), calls("pick")], speaks("never said")])
    server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[pay, s.pick]))
    chat = Conversation(server)
    asked = await chat.say("who?")

    reply = await answered(chat, asked, {"name": "Ada"})

    assert ([], [], 1) == (reply.errors, reply.texts, len(model.calls))


async def of_another_version(server: Server, chat: Conversation) -> None:
    """Leave a plan as another version of the Agents SDK would have had it written."""
    plans: Any = server.store
    stored = await plans.load_plan(chat.thread_id, None)
    document = stored.document.replace('\\"$schemaVersion\\":', '\\"$schemaVersion\\":\\"99.0\\",\\"was\\":', 1)
    if document == stored.document:
        document = stored.document.replace('\\"$schemaVersion\\": ', '\\"$schemaVersion\\": \\"99.0\\", \\"was\\": ', 1)
    assert document != stored.document
    assert await plans.save_plan(
        chat.thread_id, stored._replace(revision=stored.revision + 1, document=document), stored.revision, None
    )


def badly(name: str, arguments: str) -> Any:
    """A model step's item: call a server tool with arguments that are no JSON object."""
    call = calls(name)
    call.arguments = arguments
    return call


class TestArgumentsThatAreNoObject:
    """Newer versions of the Agents SDK end a run without asking a tool about a call with such arguments."""

    @pytest.mark.parametrize("arguments", ["", " "])
    async def test_no_arguments_at_all(
        self, store: Store[Any], arguments: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A tool without arguments waits as ever, and its run is taken up, if the provider sends no text for them."""
        caplog.set_level(logging.INFO)
        model = ScriptedModel([[badly("pick", arguments)], speaks("Ada it is.")])
        server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))
        chat = Conversation(server)

        asked = await chat.say("who?")
        reply = await answered(chat, asked, {"name": "Ada"})
        called, output = model.calls[-1].input[1:]

        assert (["Ada it is."], [TEXT]) == (reply.texts, texts_in(model))
        assert output["call_id"] == called["call_id"]
        assert [] == [text for text in caplog.messages if "state" in text]

    @pytest.mark.parametrize("arguments", ["{bad", "[]", "null"])
    @pytest.mark.parametrize("name", [pytest.param("pick", marks=REFUSES_ANY), "pick_for"])
    async def test_no_object(
        self, store: Store[Any], name: str, arguments: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The model reads that its call was wrong, and goes on; the log has no warning of the Agents SDK's own."""
        model = ScriptedModel([[badly(name, arguments)], speaks("Sorry.")])
        server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=s.both))

        reply = await Conversation(server).say("who?")

        assert (["Sorry."], [], 1) == (reply.texts, reply.calls, len(texts_in(model)))
        assert "No active span" not in caplog.text

    async def test_beside_one_that_waits(self, store: Store[Any]) -> None:
        """A tool that is called beside it waits, and the model reads both outputs when that has returned."""
        model = ScriptedModel([[badly("pick_for", "[]"), calls("pick")], speaks("Ada it is.")])
        server = Server(store, ClientToolSequencer(TOOLS), lambda s: Agent[Any](name="a", model=model, tools=s.both))
        chat = Conversation(server)

        asked = await chat.say("who?")
        reply = await answered(chat, asked, {"name": "Ada"})
        wrong, right = texts_in(model)

        assert (["Ada it is."], TEXT) == (reply.texts, right)
        assert TEXT != wrong

    async def test_the_id_of_a_tool_that_waits(self, store: Store[Any]) -> None:
        """The model reads that its call was wrong, though a call of the same tool with the same id waits."""
        wrong = function_call("pick_for", "{bad", call_id="call_1")
        model = ScriptedModel([[calls("pick_for", {"query": "tea"}, call_id="call_1")], [wrong], speaks("Sorry.")])
        sequencer = ClientToolSequencer(TOOLS, on_user_message="keep")
        server = Server(store, sequencer, lambda s: Agent[Any](name="a", model=model, tools=s.both))
        chat = Conversation(server)

        await chat.say("who?")
        reply = await chat.say("what now?")

        assert (["Sorry."], [], 1) == (reply.texts, reply.errors, len(texts_in(model)))
        assert TEXT not in texts_in(model)

    async def test_a_name_that_two_tools_have(self, store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
        """A tool that cannot wait, since another one has its name, is run all the same, and says why it cannot."""
        model = ScriptedModel([[badly("pick", "")], speaks("Sorry.")])
        sequencer = ClientToolSequencer(TOOLS)
        Server(store, sequencer, None)
        server = Server(store, sequencer, lambda s: Agent[Any](name="a", model=model, tools=[s.pick]))

        reply = await Conversation(server).say("who?")

        assert (["Sorry."], []) == (reply.texts, reply.calls)
        assert "pick cannot wait for the browser" in caplog.text or "ask() and step() work in" in caplog.text
