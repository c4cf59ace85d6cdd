"""Code that changes while a tool waits: a clear end each time, and nothing is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper
from chatkit.agents import AgentContext, ClientToolCall
from pydantic import BaseModel

from chatkit_clienttools import ClientTool
from chatkit_clienttools.errors import CallFailedError
from tests.helpers.merak import anything, calls, speaks
from tests.helpers.waiting import Choice, Waiting, animation, choose, tool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from agents import FunctionTool
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer
    from tests.helpers.conversation import Reply

Ctx = RunContextWrapper[AgentContext[Any]]

ADA, GRACE = {"name": "Ada"}, {"name": "Grace"}

CHANGED = ("output", "The code of this tool has changed while it waited.")
"""What the model reads."""


def reads() -> str:
    return "read"


def reads_anew() -> str:
    return "read anew"


async def old(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """The code as it is when the model calls the tool."""
    await sequencer.ask(ctx, animation(state="start"))
    await sequencer.step(ctx, reads)
    return (await sequencer.ask(ctx, choose(people=["Ada"]))).name


def named(body: Callable[[ClientToolSequencer, Ctx], Awaitable[Any]]) -> Callable[[ClientToolSequencer], FunctionTool]:
    """Make the tool of a function as it is later."""
    return tool(body, name_override="old")


async def after_the_change(store: Store[Any], *makers: Callable[[ClientToolSequencer], FunctionTool]) -> Waiting:
    """A page whose tool has taken a step and waits for its second ask, and a server with newer code."""
    page = Waiting(store, [[calls("old")], speaks("Sorry."), speaks("Hello.")], tool(old))
    await page.say()
    await page.answer()
    page.restart(*makers)
    return page


def mismatches(log: pytest.LogCaptureFixture) -> list[str]:
    """What the log says at level ERROR, without the advice."""
    return [record.getMessage().split(". ")[0] for record in log.records if record.levelname == "ERROR"]


def said(position: int, recorded: str, does: str) -> str:
    return (
        f"The tool old waited, and its body has changed: number {position} of what it asks for and does in steps was "
        f"`{recorded}`, and now is `{does}`"
    )


async def is_over(page: Waiting, last: Reply) -> None:
    """The model was told, and the thread goes on with the next message."""
    plan = await page.plan()
    assert (["Sorry."], [], []) == (last.texts, last.calls, last.errors)
    assert ((), 0, None) == (plan.tools, len(plan.calls), plan.body)
    assert ["Hello."] == (await page.say("hello?")).texts


class TestTheBodyDoesSomethingElse:
    async def test_another_step(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A step under another name ends the tool; the new step does not run."""
        ran: list[str] = []

        def reads_again() -> None:
            ran.append("reads_again")

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads_again)
            return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert [("call", "old", "{}"), CHANGED] == page.seen_by_model[-2:]
        assert [said(2, "step reads", f"step {reads_again.__qualname__}")] == mismatches(log)
        assert [] == ran
        await is_over(page, last)

    async def test_another_call(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """An ask for another client tool ends the tool, and its call does not reach the page."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(1, "ask run_search_animation", "ask choose_agent")] == mismatches(log)
        await is_over(page, last)

    async def test_other_arguments(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """An ask with other arguments ends the tool; the log names the client tool, and not its arguments."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads)
            return (await sequencer.ask(ctx, choose(people=["Grace"]))).name

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(3, "ask choose_agent", "ask choose_agent with other arguments")] == mismatches(log)
        assert "Grace" not in log.text
        await is_over(page, last)

    async def test_arguments_in_another_order(self, store: Store[Any]) -> None:
        """An ask whose arguments come in another order is the one that it was: JSON objects have no order."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            call: Any = ClientToolCall(name="anything", arguments={"y": 2, "x": 1})
            return str(await sequencer.ask(ctx, call))

        async def before(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            call: Any = ClientToolCall(name="anything", arguments={"x": 1, "y": 2})
            return str(await sequencer.ask(ctx, call))

        page = Waiting(store, [[calls("old")], speaks("Good.")], named(before), tools=[anything])
        await page.say()
        page.restart(named(new))
        await page.answer("placed")

        assert ("output", "placed") == page.seen_by_model[-1]

    async def test_a_step_where_an_ask_was(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A step in the place of an ask ends the tool."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return await sequencer.step(ctx, reads)

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(1, "ask run_search_animation", "step reads")] == mismatches(log)
        await is_over(page, last)

    async def test_fewer_asks(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that returns before it has come to the last answer ends with that error, and not with its output."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads)
            return "done already"

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(3, "ask choose_agent", "return")] == mismatches(log)
        await is_over(page, last)

    async def test_more_asks(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that asks for more after what it did before is no mismatch: it waits again."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await old(sequencer, ctx)
            await sequencer.ask(ctx, animation(state="stop"))
            return f"{name}!"

        page = await after_the_change(store, named(new))
        more = await page.answer(ADA)
        last = await page.answer()

        assert (["run_search_animation"], ["Sorry."]) == ([name for name, _ in more.calls], last.texts)
        assert (("output", "Ada!"), []) == (page.seen_by_model[-1], mismatches(log))

    async def test_more_asks_before(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that asks for something before what it did already ends with an error."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="stop"))
            return await old(sequencer, ctx)

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(1, "ask run_search_animation", "ask run_search_animation with other arguments")] == mismatches(log)
        await is_over(page, last)

    async def test_it_raises_before(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that raises before it has come to the last answer has raised: the model reads the error."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            raise RuntimeError

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert page.seen_by_model[-1][1].startswith("An error occurred while running the tool")
        assert [] == mismatches(log)
        await is_over(page, last)

    async def test_it_catches_everything(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that catches the error and goes on cannot hide it: it ends with what was found first."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            for _ in range(3):
                try:
                    await sequencer.step(ctx, reads_anew)
                except Exception:  # noqa: BLE001, S112
                    continue
            return "all is well"

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(1, "ask run_search_animation", "step reads_anew")] == mismatches(log)[:1]
        await is_over(page, last)

    async def test_what_it_enqueues_is_dropped(self, store: Store[Any]) -> None:
        """What a body enqueues whose code has changed does not reach the page."""

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="stop"))
            return "done already"

        page = await after_the_change(store, named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        await is_over(page, last)

    async def test_chance(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that depends on something else than its answers and steps is found out in the same way."""
        runs: list[int] = []

        async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            runs.append(1)
            return (await sequencer.ask(ctx, choose(people=[str(len(runs))]))).name

        page = Waiting(store, [[calls("counts")], speaks("Sorry.")], tool(counts))

        await page.say()
        last = await page.answer(ADA)

        assert (CHANGED, ["Sorry."]) == (page.seen_by_model[-1], last.texts)
        assert 1 == log.text.count("Its code was changed, or depends on something else than its arguments")

    async def test_another_tool_that_waits(self, store: Store[Any]) -> None:
        """A tool whose code has changed leaves one alone that waits beside it."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return (await sequencer.ask(ctx, choose(people=["Grace"]))).name

        async def first(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

        async def changed(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "done already"

        page = Waiting(store, [[calls("first"), calls("other")], speaks("Good.")], tool(first), tool(other))

        await page.say()
        page.restart(tool(changed, name_override="first"), tool(other))
        between = await page.answer(ADA)
        last = await page.answer(GRACE)

        assert ([], ["choose_agent"], ["Good."]) == (between.texts, [name for name, _ in between.calls], last.texts)
        assert [CHANGED, ("output", "Grace")] == [each for each in page.seen_by_model if each[0] == "output"]


class TestTheToolIsAnother:
    async def test_it_is_gone(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A tool that is not there any more ends: one line in the log names it, and the model is told."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "other"

        page = await after_the_change(store, tool(other))
        last = await page.answer(ADA)

        assert [("call", "old", "{}"), CHANGED] == page.seen_by_model[-2:]
        assert [said(3, "ask choose_agent", "no tool of that name, which has to be defined at import")] == mismatches(
            log
        )
        await is_over(page, last)

    async def test_it_is_gone_and_the_user_writes(self, store: Store[Any]) -> None:
        """A message to a thread whose tool is gone is answered; the model reads how the tool ended before it."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "other"

        page = await after_the_change(store, tool(other))
        reply = await page.say("never mind")

        assert ["Sorry."] == reply.texts
        assert [CHANGED, ("user", "never mind")] == page.seen_by_model[-2:]
        assert () == (await page.plan()).tools

    async def test_it_does_not_wait_any_more(self, store: Store[Any]) -> None:
        """A tool that has become an ordinary one is as one that is gone."""

        def plain(sequencer: ClientToolSequencer) -> FunctionTool:
            def old(ctx: Ctx) -> str:
                return "plain"

            return sequencer.function_tool(old)

        page = await after_the_change(store, plain)
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        await is_over(page, last)

    async def test_it_takes_other_parameters(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A tool whose parameters do not fit the model's call any more ends with what the SDK says of such a call."""

        def with_query(sequencer: ClientToolSequencer) -> FunctionTool:
            @sequencer.function_tool
            async def old(ctx: Ctx, query: str) -> str:
                return query

            return old

        page = await after_the_change(store, with_query)
        last = await page.answer(ADA)

        assert "output" == page.seen_by_model[-1][0]
        assert "nvalid" in page.seen_by_model[-1][1] or "error" in page.seen_by_model[-1][1]
        await is_over(page, last)

    async def test_a_new_parameter_with_a_default(self, store: Store[Any]) -> None:
        """A new parameter that has a default is no change: the tool goes on with it."""

        def with_default(sequencer: ClientToolSequencer) -> FunctionTool:
            @sequencer.function_tool(strict_mode=False)
            async def old(ctx: Ctx, greeting: str = "Hello") -> str:
                await sequencer.ask(ctx, animation(state="start"))
                await sequencer.step(ctx, reads)
                return f"{greeting}, {(await sequencer.ask(ctx, choose(people=['Ada']))).name}"

            return old

        page = await after_the_change(store, with_default)
        last = await page.answer(ADA)

        assert ["Sorry."] == last.texts
        assert ("output", "Hello, Ada") == page.seen_by_model[-1]


class Person(BaseModel):
    name: str
    born: int


class TestTypesAreOthers:
    async def test_of_a_step(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A step whose recorded result is not of the type that its function declares now ends the tool."""

        def new_reads() -> int:
            return 1

        new_reads.__qualname__ = reads.__qualname__

        async def reads_twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads)
            await sequencer.step(ctx, reads)
            return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

        async def new(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads)
            return str(await sequencer.step(ctx, new_reads))

        page = Waiting(store, [[calls("old")], speaks("Sorry."), speaks("Hello.")], named(reads_twice))
        await page.say()
        await page.answer()
        page.restart(named(new))
        last = await page.answer(ADA)

        assert CHANGED == page.seen_by_model[-1]
        assert [said(3, "step reads", "step reads with another type of result")] == mismatches(log)
        await is_over(page, last)

    async def test_of_an_answer(self, store: Store[Any]) -> None:
        """An answer that the client tool's new result type does not fit is a CallFailedError in the body."""
        errors: list[str] = []

        async def asks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                answer = await sequencer.ask(ctx, sequencer.tool("choose_agent")(people=["Ada"]))
            except CallFailedError as error:
                errors.append(error.reason)
                answer = "none"
            await sequencer.ask(ctx, animation(state="stop"))
            return str(answer)

        page = Waiting(store, [[calls("asks")], speaks("Good.")], tool(asks))

        await page.say()
        await page.answer(ADA)
        page.restart()
        changed = ClientTool("choose_agent", choose._model, result=Person)
        page.sequencer.rules.tools = {**page.sequencer.rules.tools, "choose_agent": changed}
        last = await page.answer()

        assert ["Good."] == last.texts
        assert ["the browser's answer does not fit: born: Field required"] == errors

    async def test_the_same_code_in_another_place(self, store: Store[Any]) -> None:
        """A body that was moved to another function of the same name goes on: only what it asks and does counts."""

        async def moved(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            await sequencer.step(ctx, reads)
            choice: Choice = await sequencer.ask(ctx, choose(people=["Ada"]))
            return f"moved {choice.name}"

        page = await after_the_change(store, named(moved))
        last = await page.answer(ADA)

        assert ["Sorry."] == last.texts
        assert ("output", "moved Ada") == page.seen_by_model[-1]
