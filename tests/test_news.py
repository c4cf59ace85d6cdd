"""What is sent to a model whose history is kept at OpenAI, or in a session: each thing once, and nothing is missing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from agents.agent import StopAtTools
from agents.testing import ModelStep
from chatkit.types import HiddenContextItem, ThreadItemDoneEvent, ThreadItemRemovedEvent

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools.news import KEY
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import at
from tests.helpers.keeping import SERVERS, Keeping, problem_with
from tests.helpers.merak import calls, speaks
from tests.helpers.scripted import hidden
from tests.helpers.waiting import Ctx, choose, chooses, left_behind_is_done, tool, twice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

select = ClientTool("select", result=list[str])

ADA = {"name": "Ada"}


@pytest.fixture(params=SERVERS)
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(where: str) -> Iterator[Callable[..., Keeping]]:
    """Make a page of a server that keeps the history there; in the end nothing that it sent may have been refused."""
    pages: list[Keeping] = []

    def make(steps: list[Any], *makers: Any, **options: Any) -> Keeping:
        pages.append(Keeping(MemoryStore(), steps, *makers, where=where, **options))
        return pages[-1]

    yield make
    for each in pages:
        each.close()
        assert [] == each.model.refused


def progress(ctx: Ctx, n: int) -> ThreadItemDoneEvent:
    """An item that the browser does not see."""
    item = HiddenContextItem(id=f"h_{n}", thread_id=ctx.context.thread.id, created_at=at(30), content="x")
    return ThreadItemDoneEvent(item=item)


async def selects(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """Ask for what is selected, and let the model have the answer."""
    sequencer.enqueue(ctx, select())
    return "asked"


async def selects_two(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    sequencer.enqueue(ctx, select(), select())
    return "asked"


async def fails(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    await sequencer.ask(ctx, choose(people=[]))
    raise ValueError("no")


class TestWhatIsSent:
    async def test_each_message_once(self, page: Any, where: str) -> None:
        """A message is sent in the run that answers it, and is read by all later ones; a session sends it again."""
        chat = page([speaks("Hello."), speaks("Good."), speaks("Bye.")])
        for text in ("one", "two", "three"):
            await chat.say(text)

        assert [
            ("user", "one"),
            ("assistant", "Hello."),
            ("user", "two"),
            ("assistant", "Good."),
            ("user", "three"),
        ] == chat.read
        if where != "session":
            assert [[("user", "one")], [("user", "two")], [("user", "three")]] == chat.sent

    async def test_what_a_tool_has_returned(self, page: Any, where: str) -> None:
        """A tool that waited is read as the model's call and one output; the output is sent alone."""
        chat = page([[calls("chooses")], speaks("Good.")], tool(chooses))
        await chat.say("who?")
        await chat.answer(ADA)

        assert [("user", "who?"), ("call", "chooses"), ("output", "Ada")] == chat.read
        if where != "session":
            assert [("output", "Ada")] == chat.sent[-1]

    async def test_a_tool_that_asks_twice(self, page: Any) -> None:
        """Between two answers the model does not run, and it gets one output in the end."""
        chat = page([[calls("twice")], speaks("Good.")], tool(twice))
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.answer({"name": "Grace"})

        assert 2 == len(chat.sent)
        assert [("user", "who?"), ("call", "twice"), ("output", "Ada, Grace")] == chat.read

    async def test_two_tools_in_one_response(self, page: Any) -> None:
        """If the model calls two tools at once, and one waits, it gets both outputs when that has returned."""

        async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "3"

        chat = page([[calls("chooses"), calls("counts")], speaks("Good.")], tool(chooses), tool(counts))
        await chat.say("who?")
        await chat.answer(ADA)

        assert [("call", "chooses"), ("call", "counts"), ("user", "who?")] == sorted(
            each for each in chat.read if each[0] != "output"
        )
        assert {("output", "Ada"), ("output", "3")} == {each for each in chat.read if each[0] == "output"}

    async def test_an_answer_to_the_models_own_call(self, page: Any, where: str) -> None:
        """With StopAtTools the browser's answer is the output of the model's call, and is sent alone."""
        chat = page([[calls("selects")], speaks("Two.")], tool(selects))
        chat.server.agent.tool_use_behavior = StopAtTools(stop_at_tool_names=["selects"])
        await chat.say("which?")
        await chat.answer(["a", "b"])

        if where == "session":  # the Agents SDK has put into it what the function has returned
            assert [("output", "asked"), ("call", "select"), ("output", '["a", "b"]')] == chat.read[2:]
        else:
            assert [("output", '["a", "b"]')] == chat.sent[-1]
            assert [("user", "which?"), ("call", "selects"), ("output", '["a", "b"]')] == chat.read

    async def test_an_answer_after_the_model_has_spoken(self, page: Any, where: str) -> None:
        """If the model has read an output of its call, the answer is a call and an output of its own."""
        chat = page([[calls("selects")], speaks("One moment."), speaks("Two.")], tool(selects))
        await chat.say("which?")
        await chat.answer(["a", "b"])

        assert [("assistant", "One moment."), ("call", "select"), ("output", '["a", "b"]')] == chat.read[-3:]
        if where != "session":  # older Agents SDKs do not put all of a run into it
            assert [("user", "which?"), ("call", "selects"), ("output", "asked")] == chat.read[:-3]

    async def test_several_answers(self, page: Any) -> None:
        """The answers to several calls of one tool are sent together, when the last of them has come."""
        chat = page([[calls("selects_two")], speaks("One moment."), speaks("Good.")], tool(selects_two))
        await chat.say("which?")
        await chat.answer(["a"])
        await chat.answer(["b"])

        assert 3 == len(chat.sent)
        assert [("call", "select"), ("output", '["a"]'), ("call", "select"), ("output", '["b"]')] == chat.read[-4:]

    async def test_a_tool_that_enqueues_beside_one_that_waits(self, page: Any) -> None:
        """What the function has returned is the output of the model's call; the answer is a call of its own."""
        steps = [speaks("Hello."), [calls("selects"), calls("chooses")], speaks("Good.")]
        chat = page(steps, tool(selects), tool(chooses))
        await chat.say("one")
        await chat.say("which?")
        for _ in range(2):
            await chat.answer(ADA if chat.asked["name"] == "choose_agent" else ["a"])

        assert {("output", "asked"), ("output", "Ada"), ("output", '["a"]')} == {
            each for each in chat.read if each[0] == "output"
        }
        assert [("call", "chooses"), ("call", "select"), ("call", "selects")] == sorted(
            each for each in chat.read if each[0] == "call"
        )

    async def test_a_repeated_answer(self, page: Any) -> None:
        """An answer that is posted twice is sent once."""
        chat = page([[calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses))
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.answer(ADA)
        await chat.say("thanks")

        assert 1 == chat.read.count(("output", "Ada"))
        assert 3 == len(chat.sent)

    async def test_another_process(self, page: Any) -> None:
        """What was read is kept with the thread: another process goes on from there."""
        chat = page([[calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses))
        await chat.say("who?")
        chat.restart()
        await chat.answer(ADA)
        chat.restart()
        await chat.say("thanks")

        assert [
            ("user", "who?"),
            ("call", "chooses"),
            ("output", "Ada"),
            ("assistant", "Good."),
            ("user", "thanks"),
        ] == chat.read

    async def test_a_run_that_is_taken_up_again(self, page: Any) -> None:
        """With `sequencer.run_streamed` the Agents SDK sends the output, and it is sent once, too."""
        chat = page([speaks("Hello."), [calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses))
        chat.server.keeps_state = True
        await chat.say("one")
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.say("thanks")

        assert [
            ("user", "one"),
            ("assistant", "Hello."),
            ("user", "who?"),
            ("call", "chooses"),
            ("output", "Ada"),
            ("assistant", "Good."),
            ("user", "thanks"),
        ] == chat.read

    async def test_a_long_thread(self, page: Any) -> None:
        """However long a thread is, the place up to which the model has read it is found."""
        chat = page([[calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses))
        await chat.say("who?")
        for n in range(40):
            await chat.chat.touch(hidden(chat.chat, n))
        await chat.answer(ADA)
        await chat.say("thanks")

        contexts = [text for _, text in chat.read if text.startswith("Hidden context")]
        assert 40 == len(contexts)
        assert ["who?", "chooses", "Ada", "Good.", "thanks"] == [text for _, text in chat.read if text not in contexts]

    async def test_an_item_that_a_run_has_removed(self, page: Any, where: str) -> None:
        """What a run streams and removes again is not looked for in the thread."""

        async def shows(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await ctx.context.stream(progress(ctx, 1))
            await ctx.context.stream(ThreadItemRemovedEvent(item_id="h_1"))
            return "shown"

        chat = page([[calls("shows")], speaks("Hello."), speaks("Good.")], tool(shows))
        await chat.say("one")
        await chat.say("two")

        assert [("assistant", "Hello."), ("user", "two")] == chat.read[-2:]
        assert [("user", "two")] == chat.sent[-1] or where == "session"


class TestElsewhere:
    async def test_a_provider_that_keeps_nothing(self) -> None:
        """With a provider whose responses have no ids, each run gets the newest items of the thread."""
        chat = Keeping(
            MemoryStore(), [[calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses), where="response"
        )
        chat.model.keeps_nothing = True
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.say("thanks")

        whole = [("user", "who?"), ("call", "chooses"), ("output", "Ada"), ("assistant", "Good."), ("user", "thanks")]
        assert whole == chat.sent[-1]

    async def test_messages_that_cross(self) -> None:
        """Two messages that are answered at the same time are read once each by a later run, whichever ended last."""
        chat = Keeping(
            MemoryStore(), [speaks("Zero."), speaks("One."), speaks("Two."), speaks("Three.")], where="response"
        )
        await chat.say("zero")
        events: Any = chat.chat.stream(chat.chat.say_request("one"))
        async for event in events:
            if event["type"] == "thread.item.done" and event["item"]["type"] == "assistant_message":
                break
        await chat.say("two")
        async for _ in events:
            pass
        await chat.say("three")

        assert ["zero", "one", "two", "three"] == [text for role, text in chat.read if role == "user"]
        assert [] == chat.model.refused


class TestWhatGoesWrong:
    async def test_a_run_that_fails_at_once(self, page: Any) -> None:
        """A message whose run has failed is sent with the next one, once."""
        chat = page([speaks("Hello."), RuntimeError("away"), speaks("Good.")])
        for text in ("one", "two", "three"):
            await chat.say(text)

        assert [
            ("user", "one"),
            ("assistant", "Hello."),
            ("user", "two"),
            ("user", "three"),
        ] == chat.read

    async def test_a_run_that_fails_after_a_tool(self, page: Any) -> None:
        """A run that fails after the model has called a tool leaves no call without an output, and nothing twice."""

        async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "3"

        chat = page([speaks("Hello."), [calls("counts")], RuntimeError("away"), speaks("Good.")], tool(counts))
        for text in ("one", "two", "three"):
            await chat.say(text)

        assert [
            ("user", "one"),
            ("assistant", "Hello."),
            ("user", "two"),
            ("user", "three"),
        ] == chat.read

    async def test_a_run_that_fails_after_the_answer(self, page: Any) -> None:
        """The answer to a tool that waited is sent again if the run that was to read it has failed."""
        chat = page([[calls("chooses")], RuntimeError("away"), speaks("Good.")], tool(chooses))
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.say("and?")

        assert [("user", "who?"), ("call", "chooses"), ("output", "Ada"), ("user", "and?")] == chat.read

    async def test_stop(self, page: Any) -> None:
        """After Stop the model reads the message, and what it had said by then, with the next message."""
        chat = page([speaks("Hello."), speaks("A long story."), speaks("Good.")])
        await chat.say("one")
        events: Any = chat.chat.stream(chat.chat.say_request("two"))
        async for event in events:
            if event["type"] == "thread.item.done" and event["item"]["type"] == "assistant_message":
                break
        await events.aclose()
        await left_behind_is_done()
        await chat.say("three")

        said = [each for each in chat.read if each[1] != "A long story."]
        assert [("user", "one"), ("assistant", "Hello."), ("user", "two"), ("user", "three")] == said

    async def test_a_retry(self, page: Any) -> None:
        """A message that is answered again is read once, without the answer that was deleted."""
        chat = page([speaks("Hello."), speaks("Bad."), speaks("Good.")])
        await chat.say("one")
        await chat.say("two")
        await chat.retry()

        assert [("user", "one"), ("assistant", "Hello."), ("user", "two")] == chat.read

    async def test_a_retry_of_the_first_message(self, page: Any) -> None:
        """With the only message there is nothing to build on."""
        chat = page([speaks("Bad."), speaks("Good.")])
        await chat.say("one")
        await chat.retry()

        assert [("user", "one")] == chat.read

    async def test_a_retry_while_a_tool_waits(self, page: Any) -> None:
        """A retry drops the tool that waits, and the model's call of it with it."""
        chat = page([speaks("Hello."), [calls("chooses")], speaks("Good.")], tool(chooses))
        await chat.say("one")
        await chat.say("who?")
        await chat.retry()

        assert [("user", "one"), ("assistant", "Hello."), ("user", "who?")] == chat.read

    async def test_a_retry_after_an_answer(self, page: Any) -> None:
        """A retry of a message whose tool was answered begins before the model's call of the tool."""
        chat = page([[calls("chooses")], speaks("Bad."), speaks("Good.")], tool(chooses))
        await chat.say("who?")
        await chat.answer(ADA)
        await chat.retry()

        assert [("user", "who?")] == chat.read

    async def test_the_user_writes_instead(self, page: Any) -> None:
        """A tool that the user's message cancels has an output, which the model reads before the message."""
        chat = page([[calls("chooses")], speaks("Well.")], tool(chooses))
        await chat.say("who?")
        await chat.say("never mind")

        assert [("user", "who?"), ("call", "chooses"), "output", ("user", "never mind")] == [
            each if each[0] != "output" else "output" for each in chat.read
        ]

    async def test_a_call_that_is_cancelled(self, page: Any) -> None:
        """If the user writes instead of answering the model's own call, it reads what the function has returned."""
        chat = page([[calls("selects")], speaks("Well.")], tool(selects))
        chat.server.agent.tool_use_behavior = StopAtTools(stop_at_tool_names=["selects"])
        await chat.say("which?")
        await chat.say("never mind")

        assert [("user", "which?"), ("call", "selects"), ("output", "asked"), ("user", "never mind")] == chat.read

    async def test_a_message_while_a_call_is_kept(self, page: Any) -> None:
        """With on_user_message="keep" the message is read first, and the output of the tool when it has come."""
        chat = page(
            [[calls("chooses")], speaks("Well."), speaks("Good."), speaks("Bye.")],
            tool(chooses),
            on_user_message="keep",
        )
        await chat.say("who?")
        await chat.say("wait")
        await chat.answer(ADA)
        await chat.say("thanks")

        assert [
            ("user", "who?"),
            ("call", "chooses"),
            ("output", "There is no answer."),
            ("user", "wait"),
            ("assistant", "Well."),
            ("call", "chooses"),
            ("output", "Ada"),
            ("assistant", "Good."),
            ("user", "thanks"),
        ] == chat.read

    async def test_a_tool_that_raises(self, page: Any) -> None:
        """What the model reads of a tool that has raised after an answer is an output like any other."""
        chat = page([[calls("fails")], speaks("Oh.")], tool(fails))
        await chat.say("who?")
        await chat.answer(ADA)

        assert [("user", "who?"), ("call", "fails")] == chat.read[:2]
        assert 3 == len(chat.read)

    async def test_metadata_that_is_lost(self, page: Any) -> None:
        """If the application replaces the metadata of the thread, the model reads the items of the thread anew."""
        chat = page([[calls("chooses")], speaks("Good."), speaks("Bye.")], tool(chooses))
        await chat.say("who?")
        await chat.answer(ADA)
        thread = await chat.store.load_thread(chat.chat.thread_id, None)
        thread.metadata.pop(KEY)
        await chat.store.save_thread(thread, None)
        await chat.say("thanks")

        assert [
            ("user", "who?"),
            ("call", "chooses"),
            ("output", "Ada"),
            ("assistant", "Good."),
            ("user", "thanks"),
        ] == chat.read

    @pytest.mark.parametrize("where", ["conversation", "session"])
    async def test_a_session_that_is_gone(self, page: Any) -> None:
        """If the session has been cleared elsewhere, the model reads the items of the thread anew."""
        chat = page([speaks("Hello."), speaks("Good.")])
        await chat.say("one")
        [session] = chat.model.sessions.values()
        await session.clear_session()
        await chat.say("two")

        assert [("user", "one"), ("assistant", "Hello."), ("user", "two")] == chat.read

    @pytest.mark.parametrize("damage", ["text", [{}], [{"after": 1, "seen": [], "response": None, "open": {}}], 5])
    async def test_metadata_that_is_damaged(self, page: Any, damage: Any) -> None:
        """What cannot be read counts as nothing."""
        chat = page([speaks("Hello."), speaks("Good.")])
        await chat.say("one")
        thread = await chat.store.load_thread(chat.chat.thread_id, None)
        thread.metadata[KEY] = damage
        await chat.store.save_thread(thread, None)
        await chat.say("two")

        assert [("user", "one"), ("assistant", "Hello."), ("user", "two")] == chat.read


class Random:
    """A conversation in which anything may happen."""

    def __init__(self, seed: int, where: str) -> None:
        self.random = random.Random(seed)
        keeps = self.random.choice(["keep", "cancel"])
        steps = [ModelStep.respond(lambda _: self.step())] * 200
        tools = [tool(chooses), tool(selects), tool(twice)]
        self.chat = Keeping(MemoryStore(), steps, *tools, where=where, on_user_message=keeps)
        if self.random.random() < 0.5:
            self.chat.server.agent.tool_use_behavior = StopAtTools(stop_at_tool_names=["selects"])
        self.is_calm = False
        self.said = 0

    def step(self) -> Any:
        """What the model does next."""
        kind = 9 if self.is_calm else self.random.randrange(9)
        if kind < 4:
            return [calls(name) for name in self.random.sample(["chooses", "selects", "twice"], 1 + kind // 3)]
        return RuntimeError("away") if kind == 4 else speaks("Well.")

    async def say(self) -> None:
        self.said += 1
        await self.chat.say(f"message {self.said}")

    async def stop(self) -> None:
        """Write something, and press Stop after some events."""
        self.said += 1
        left = self.random.randrange(8)
        events: Any = self.chat.chat.stream(self.chat.chat.say_request(f"message {self.said}"))
        async for _ in events:
            left -= 1
            if left < 0:
                break
        await events.aclose()
        await left_behind_is_done()

    async def act(self) -> None:
        pending = [item for item in await self.chat.chat.items() if getattr(item, "status", "") == "pending"]
        kind = self.random.randrange(10)
        if pending and kind < 7:
            answer = ADA if pending[0].name == "choose_agent" else ["a"]
            await self.chat.post({"_receipt": pending[0].arguments["_receipt"], "result": answer})
        elif kind < 7:
            await self.say()
        elif kind == 7:
            await self.chat.retry()
        elif kind == 8:
            await self.stop()
        else:
            self.chat.restart()

    async def play(self, actions: int) -> None:
        await self.say()
        for _ in range(actions):
            await self.act()
        self.is_calm = True
        await self.say()
        await self.say()


@pytest.mark.parametrize("seed", [*range(3), *[pytest.param(n, marks=pytest.mark.long) for n in range(3, 100)]])
async def test_whatever_happens(seed: int, where: str) -> None:
    """In random conversations nothing is refused, and in the end the model has read each message of the thread once."""
    played = Random(seed, where)

    await played.play(12)

    chat = played.chat
    messages = [item.content[0].text for item in await chat.chat.items() if item.type == "user_message"]
    chat.close()
    assert [] == chat.model.refused
    assert messages == [text for role, text in chat.read if role == "user" and text.startswith("message")]


class TestTheModel:
    """The model of these tests refuses what the Responses API refuses."""

    CALL = {"type": "function_call", "call_id": "c", "id": "fc"}  # noqa: RUF012
    OUTPUT = {"type": "function_call_output", "call_id": "c"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("items", "problem"),
        [
            ([CALL, OUTPUT], None),
            ([OUTPUT], "No tool call found for function call output with call_id c."),
            ([CALL], "No tool output found for function call c."),
            ([CALL, OUTPUT, OUTPUT], "Duplicate output found with id c"),
            ([CALL, CALL, OUTPUT], "Duplicate item found with id fc"),
            ([CALL, {**CALL, "id": "other"}, OUTPUT], "Duplicate function call found with id c"),
        ],
    )
    def test_what_the_model_refuses(self, items: list[Any], problem: str | None) -> None:
        """The model refuses unknown call ids, missing outputs, and whatever is repeated."""
        assert problem == problem_with(items)
