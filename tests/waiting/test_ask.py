"""A tool that awaits the browser: what it asks for, what comes back, and what the model reads in the end."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext, ClientToolCall
from pydantic import BaseModel

from chatkit_clienttools.errors import CallCancelledError, StepFailedError
from tests.helpers.merak import anything, calls, speaks
from tests.helpers.waiting import Choice, Waiting, animation, choose, chooses, stop, tool

if TYPE_CHECKING:
    from agents import FunctionTool
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]

found: list[str] = []


async def search(query: str) -> list[str]:
    found.append(query)
    return ["Ada", "Grace"]


def search_agents(sequencer: ClientToolSequencer) -> FunctionTool:
    @sequencer.function_tool
    async def search_agents(ctx: Ctx, query: str) -> str:
        """Find agents and let the user choose one."""
        await sequencer.ask(ctx, animation(state="start"))
        people = await sequencer.step(ctx, search, query)
        choice = await sequencer.ask(ctx, choose(people=people))
        await sequencer.ask(ctx, animation(state="stop"))
        return f"The user chose {choice.name}."

    return search_agents


class TestAsk:
    async def test_a_tool_goes_on_with_each_answer(self, store: Store[Any]) -> None:
        """A tool that asks three times gets each answer in its own line, and the model reads what it returns."""
        found.clear()
        page = Waiting(store, [[calls("search_agents", {"query": "poets"})], speaks("Here is Ada.")], search_agents)

        first = await page.say()
        second = await page.answer()
        third = await page.answer({"name": "Ada"})
        last = await page.answer()

        assert [("run_search_animation", "start"), ("choose_agent", None), ("run_search_animation", "stop")] == [
            (name, params.get("state")) for reply in (first, second, third) for name, params in reply.calls
        ]
        assert ["poets"] == found
        assert (["Here is Ada."], 2) == (last.texts, page.server.runs)
        assert [
            ("user", "go"),
            ("call", "search_agents", '{"query": "poets"}'),
            ("output", "The user chose Ada."),
        ] == page.seen_by_model

    async def test_an_answer_is_of_the_declared_type(self, store: Store[Any]) -> None:
        """The answer to a call is the declared model, and that to a call without a result is None."""
        answers: list[Any] = []

        async def both(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            call: Any = animation(state="start")
            answers[:] = [await sequencer.ask(ctx, call)]
            answers.append(await sequencer.ask(ctx, choose(people=[])))
            return "done"

        page = Waiting(store, [[calls("both")], speaks("Good.")], tool(both))

        await page.say()
        await page.answer("whatever")
        await page.answer({"name": "Ada"})

        assert [None, Choice(name="Ada")] == answers

    async def test_the_model_runs_only_when_the_tool_has_returned(self, store: Store[Any]) -> None:
        """An answer after which the tool asks again brings the next call and nothing else."""

        async def twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return await chooses(sequencer, ctx) + await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        between = await page.answer({"name": "Ada"})

        assert ["stream_options", "thread.item.done"] == between.types
        assert 1 == page.server.runs
        assert ["Good."] == (await page.answer({"name": "Grace"})).texts
        assert ("output", "AdaGrace") == page.seen_by_model[-1]

    async def test_it_may_wait_again_in_the_next_run(self, store: Store[Any]) -> None:
        """A model that calls the tool again after it has returned gets two pairs to read, each with its own output."""
        page = Waiting(store, [[calls("chooses")], [calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        second = await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert (["choose_agent"], ["Good."]) == ([name for name, _ in second.calls], last.texts)
        assert [("output", "Ada"), ("output", "Grace")] == [each for each in page.seen_by_model if each[0] == "output"]

    async def test_a_tool_that_does_not_ask(self, store: Store[Any]) -> None:
        """A tool that returns without asking is like any other: the model reads its output within the run."""

        async def quick(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "It is noon."

        page = Waiting(store, [[calls("quick")], speaks("Noon.")], tool(quick))

        reply = await page.say()

        assert (["Noon."], [], 2) == (reply.texts, reply.calls, page.server.runs)
        assert ("output", "It is noon.") == page.seen_by_model[-1]
        assert ["user_message", "assistant_message"] == [item.type for item in await page.chat.items()]

    async def test_what_it_returns_is_what_the_sdk_makes_of_it(self, store: Store[Any]) -> None:
        """The output of a tool that has waited reads as that of one that has not."""

        async def at_once(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            return {"chosen": Choice(name="Ada"), "on": date(2026, 1, 1)}

        async def later(sequencer: ClientToolSequencer, ctx: Ctx) -> Any:
            await chooses(sequencer, ctx)
            return await at_once(sequencer, ctx)

        page = Waiting(store, [[calls("at_once")], [calls("later")], speaks("Good.")], tool(at_once), tool(later))

        await page.say()
        plain = page.seen_by_model[-1]
        await page.answer({"name": "Ada"})

        assert plain == page.seen_by_model[-1]


class TestLoops:
    async def test_answers_decide_how_often_it_asks(self, store: Store[Any]) -> None:
        """A tool that asks until the user has had enough asks as often as the answers say."""

        async def collects(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            names: list[str] = []
            while not names or names[-1] != "enough":
                names.append((await sequencer.ask(ctx, choose(people=names))).name)
            return ", ".join(names)

        page = Waiting(store, [[calls("collects")], speaks("Good.")], tool(collects))

        names = ["Ada", "Grace", "Edsger", "enough"]
        replies = [await page.say(), *[await page.answer({"name": name}) for name in names]]

        assert [[], ["Ada"], ["Ada", "Grace"], ["Ada", "Grace", "Edsger"]] == [
            params["people"] for reply in replies for _, params in reply.calls
        ]
        assert ("output", "Ada, Grace, Edsger, enough") == page.seen_by_model[-1]

    async def test_the_same_call_many_times(self, store: Store[Any]) -> None:
        """A tool that asks for one and the same call thirty times gets thirty answers, each once and in order."""

        async def thirty(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return " ".join([await chooses(sequencer, ctx) for _ in range(30)])

        page = Waiting(store, [[calls("thirty")], speaks("Good.")], tool(thirty))

        await page.say()
        for n in range(30):
            await page.answer({"name": str(n)})

        assert ("output", " ".join(map(str, range(30)))) == page.seen_by_model[-1]


@dataclass
class Found:
    name: str
    born: date


class Query(BaseModel):
    text: str


class TestSteps:
    async def test_each_runs_once(self, store: Store[Any]) -> None:
        """Steps that are async, synchronous, partial, and between asks run once each, however often the body runs."""
        ran: list[str] = []

        async def is_async(name: str) -> str:
            ran.append(name)
            return f"<{name}>"

        def is_synchronous(name: str, *, times: int) -> str:
            ran.append(name)
            return f"<{name}>" * times

        async def steps(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            said = [await sequencer.step(ctx, is_async, "a"), await chooses(sequencer, ctx)]
            said.append(await sequencer.step(ctx, is_synchronous, "b", times=2))
            said.append(await sequencer.step(ctx, functools.partial(is_async, "c")))
            said.append(await chooses(sequencer, ctx))
            return " ".join([*said, await sequencer.step(ctx, is_async, name="d")])

        page = Waiting(store, [[calls("steps")], speaks("Good.")], tool(steps))

        await page.say()
        await page.answer({"name": "Ada"})
        await page.answer({"name": "Grace"})

        assert ["a", "b", "c", "d"] == ran
        assert ("output", "<a> Ada <b><b> <c> Grace <d>") == page.seen_by_model[-1]

    async def test_a_result_is_of_the_declared_type(self, store: Store[Any]) -> None:
        """A step returns the type that its function declares, in the first run of the body and in each later one."""
        seen: list[Any] = []

        def finds() -> tuple[Found, ...]:
            return (Found("Ada", date(1815, 12, 10)),)

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            seen.append(await sequencer.step(ctx, finds))
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("reads")], speaks("Good.")], tool(reads))

        await page.say()
        await page.answer({"name": "Ada"})

        assert [(Found("Ada", date(1815, 12, 10)),)] * 2 == seen

    async def test_a_result_without_a_type_is_json_the_first_time_too(self, store: Store[Any]) -> None:
        """A function that declares no type gives what JSON makes of its result, already in the first run."""
        seen: list[Any] = []

        def finds():  # type: ignore[no-untyped-def]
            return Query(text="poets"), date(2026, 1, 1)

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            seen.append(await sequencer.step(ctx, finds))
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("reads")], speaks("Good.")], tool(reads))

        await page.say()
        await page.answer({"name": "Ada"})

        assert [[{"text": "poets"}, "2026-01-01"]] * 2 == seen

    async def test_one_that_raises(self, store: Store[Any]) -> None:
        """A step that raises runs once; the body gets one and the same StepFailedError now and in each later run."""
        ran: list[str] = []
        errors: list[StepFailedError] = []

        async def is_away() -> str:
            ran.append("is_away")
            raise ConnectionError("no route")

        async def tries(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                await sequencer.step(ctx, is_away)
            except StepFailedError as error:
                errors.append(error)
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("tries")], speaks("Good.")], tool(tries))

        await page.say()
        await page.answer({"name": "Ada"})

        assert ["is_away"] == ran
        assert [(is_away.__qualname__, "ConnectionError", "no route")] * 2 == [
            (error.step, error.kind, error.text) for error in errors
        ]
        assert str(errors[0]) == str(errors[1])
        assert [ConnectionError, type(None)] == [type(error.__cause__) for error in errors]
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_one_that_raises_after_an_answer_ends_the_tool(self, store: Store[Any]) -> None:
        """A StepFailedError that nobody catches ends the tool, and the model reads an error as its output."""

        async def is_away() -> None:
            raise ConnectionError("no route")

        async def fails(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            await sequencer.step(ctx, is_away)
            return name

        page = Waiting(store, [[calls("fails")], speaks("Sorry.")], tool(fails))

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["Sorry."], []) == (last.texts, last.errors)
        assert "An error occurred while running the tool" in page.seen_by_model[-1][1]
        assert () == (await page.plan()).tools

    async def test_a_result_that_is_not_json(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A step whose result cannot be kept ends the tool at once, and the log names the step and the cure."""

        def opens() -> Any:
            return object()

        async def keeps(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, opens)
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("keeps")], speaks("Sorry.")], tool(keeps))

        reply = await page.say()

        assert (["Sorry."], []) == (reply.texts, reply.calls)
        assert 1 == log.text.count("has returned what is not JSON: annotate what it returns, with a pydantic model")


class TestEnqueueBesideAsk:
    async def test_enqueue_first(self, store: Store[Any]) -> None:
        """What a tool enqueues before it asks goes out once, after it has returned and before the model runs."""

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"), stop())
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("leaves")], speaks("Good.")], tool(leaves))

        replies = [await page.say(), await page.answer({"name": "Ada"}), await page.answer(), await page.answer()]

        assert [["choose_agent"], ["run_search_animation"], ["stop_everything"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert [[], [], [], ["Good."]] == [reply.texts for reply in replies]
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_ask_first(self, store: Store[Any]) -> None:
        """What a tool enqueues after an answer goes out after it has returned and before the model runs."""

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            sequencer.enqueue(ctx, animation(state="start"), choose(people=[name]))
            return name

        page = Waiting(store, [[calls("leaves")], speaks("Good.")], tool(leaves))

        replies = [
            await page.say(),
            await page.answer({"name": "Ada"}),
            await page.answer(),
            await page.answer({"name": "Grace"}),
        ]

        assert [["choose_agent"], ["run_search_animation"], ["choose_agent"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert [[], [], [], ["Good."]] == [reply.texts for reply in replies]

    async def test_enqueue_between_two_asks(self, store: Store[Any]) -> None:
        """What a tool enqueues between two asks goes out once, after both."""

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            sequencer.enqueue(ctx, animation(state="start"))
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("leaves")], speaks("Good.")], tool(leaves))

        await page.say()
        await page.answer({"name": "Ada"})
        await page.answer({"name": "Grace"})
        last = await page.answer()

        assert ["choose_agent", "choose_agent", "run_search_animation"] == [name for name, _ in await page.chat.calls()]
        assert (["Good."], 2) == (last.texts, page.server.runs)

    async def test_a_body_that_raises_later(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """What a tool has enqueued is dropped if it raises after an answer, and the log says so once."""

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            await chooses(sequencer, ctx)
            sequencer.enqueue(ctx, stop())
            raise RuntimeError("out of order")

        page = Waiting(store, [[calls("breaks")], speaks("Sorry.")], tool(breaks))

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert ([], ["Sorry."]) == (last.calls, last.texts)
        assert [("choose_agent", "completed")] == await page.chat.calls()
        assert 1 == log.text.count("the tool breaks raised RuntimeError; what it has enqueued is dropped (2)")

    async def test_what_another_tool_has_enqueued_in_the_same_run(self, store: Store[Any]) -> None:
        """A tool that enqueues beside one that waits keeps its place: its calls go out in the order of the run."""

        async def leaves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            return "left"

        page = Waiting(store, [[calls("leaves"), calls("chooses")], speaks("Good.")], tool(leaves), tool(chooses))

        await page.say()
        await page.answer()
        last = await page.answer({"name": "Ada"})

        assert [("run_search_animation", "completed"), ("choose_agent", "completed")] == await page.chat.calls()
        assert ["Good."] == last.texts
        assert [("output", "left"), ("output", "Ada")] == [each for each in page.seen_by_model if each[0] == "output"]


class TestParallelTools:
    @staticmethod
    def page(store: Store[Any], *names: str) -> Waiting:
        async def first(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"first: {await chooses(sequencer, ctx)}"

        async def second(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            await sequencer.ask(ctx, animation(state="stop"))
            return f"second: {name}"

        async def quick(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "quick"

        async def quicker(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return "quicker"

        makers = [tool(each) for each in (first, second, quick, quicker)]
        return Waiting(store, [[calls(name) for name in names], speaks("Good.")], *makers)

    @staticmethod
    def outputs(page: Waiting) -> list[str]:
        return [each[1] for each in page.seen_by_model if each[0] == "output"]

    async def test_none_waits(self, store: Store[Any]) -> None:
        """Two tools of which none waits are two ordinary tools."""
        page = self.page(store, "quick", "quicker")

        reply = await page.say()

        assert (["Good."], []) == (reply.texts, reply.calls)
        assert ["quick", "quicker"] == self.outputs(page)

    async def test_one_waits(self, store: Store[Any]) -> None:
        """The output of a tool that ran beside one that waits is not lost: the model reads both in the end."""
        page = self.page(store, "first", "quick")

        reply = await page.say()
        last = await page.answer({"name": "Ada"})

        assert ([], ["Good."]) == (reply.texts, last.texts)
        assert ["first: Ada", "quick"] == sorted(self.outputs(page))
        assert 2 == page.server.runs

    async def test_both_wait(self, store: Store[Any]) -> None:
        """Two tools that wait ask one after the other, each gets its own answers, and the model runs once for both."""
        page = self.page(store, "first", "second")

        replies = [await page.say()]
        replies.append(await page.answer({"name": "Ada"}))
        replies.append(await page.answer({"name": "Grace"}))
        replies.append(await page.answer())

        assert [["choose_agent"], ["choose_agent"], ["run_search_animation"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert [[], [], [], ["Good."]] == [reply.texts for reply in replies]
        assert ["first: Ada", "second: Grace"] == self.outputs(page)
        assert 2 == page.server.runs

    async def test_one_tool_twice(self, store: Store[Any]) -> None:
        """Two calls of one tool in one turn are two bodies: each gets its own answer."""
        page = self.page(store, "first", "first")

        await page.say()
        await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert ["Good."] == last.texts
        assert ["first: Ada", "first: Grace"] == self.outputs(page)

    async def test_what_an_earlier_turn_of_the_run_has_returned(self, store: Store[Any]) -> None:
        """The output of a tool that ran earlier in the run in which another one waits reaches the model, too."""
        steps = [[calls("quick")], [calls("first")], speaks("Good.")]
        page = Waiting(store, steps, *self.page(store).makers)

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert ["Good."] == last.texts
        assert ["quick", "first: Ada"] == self.outputs(page)


class TestOtherArguments:
    async def test_the_agent_context_itself(self, store: Store[Any]) -> None:
        """`ask` and `step` take the context that a tool's wrapper carries, as code deep inside a body may have it."""
        ran: list[str] = []

        def looks() -> str:
            ran.append("looked")
            return "Ada"

        async def deep(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            person = await sequencer.step(ctx.context, looks)
            return (await sequencer.ask(ctx.context, choose(people=[person]))).name

        page = Waiting(store, [[calls("deep")], speaks("Good.")], tool(deep))

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["looked"], ["Good."]) == (ran, last.texts)
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_a_call_that_was_made_by_hand(self, store: Store[Any]) -> None:
        """A call of ChatKit's own class can be asked for: the answer comes as its tool declares it."""

        async def by_hand(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            call: Any = ClientToolCall(name="choose_agent", arguments={"people": ["Ada"]})
            return repr(await sequencer.ask(ctx, call))

        page = Waiting(store, [[calls("by_hand")], speaks("Good.")], tool(by_hand))

        await page.say()
        await page.answer({"name": "Ada"})

        assert ("output", "Choice(name='Ada')") == page.seen_by_model[-1]


async def gives_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """A body that returns when its call is cancelled."""
    try:
        return await chooses(sequencer, ctx)
    except CallCancelledError:
        return "given up"


class TestTheSlot:
    @pytest.mark.parametrize("asks", [1, 2, 3])
    async def test_a_call_in_chatkits_slot(self, store: Store[Any], asks: int) -> None:
        """A call that a body puts into ChatKit's slot before it asks goes out once, after the body has returned."""

        async def fills(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            ctx.context.client_tool_call = ClientToolCall(name=animation.name, arguments={"state": "start"})
            return ", ".join([await chooses(sequencer, ctx) for _ in range(asks)])

        page = Waiting(store, [[calls("fills")], speaks("Good.")], tool(fills))

        replies = [await page.say(), *[await page.answer({"name": "Ada"}) for _ in range(asks)], await page.answer()]

        asked = [name for reply in replies for name, _ in reply.calls]
        assert [choose.name] * asks + [animation.name] == asked
        assert [[]] * (asks + 1) + [["Good."]] == [reply.texts for reply in replies]

    async def test_a_call_that_an_earlier_tool_has_put_there(self, store: Store[Any]) -> None:
        """A call that a plain tool has put into the slot in an earlier turn goes out before what a later one asks."""

        @function_tool
        async def starts(ctx: Ctx) -> str:
            """Set the slot, as before this package."""
            ctx.context.client_tool_call = ClientToolCall(name=animation.name, arguments={"state": "start"})
            return "started"

        page = Waiting(store, [[calls("starts")], [calls("chooses")], speaks("Good.")], lambda _: starts, tool(chooses))

        replies = [await page.say(), await page.answer(), await page.answer({"name": "Ada"})]

        assert [animation.name, choose.name] == [name for reply in replies for name, _ in reply.calls]
        assert ["Good."] == replies[-1].texts

    async def test_beside_a_tool_that_raises(self, store: Store[Any]) -> None:
        """A call that a plain tool has put into the slot goes out, though a later tool that may wait raises."""

        @function_tool
        async def starts(ctx: Ctx) -> str:
            """Set the slot, as before this package."""
            ctx.context.client_tool_call = ClientToolCall(name=animation.name, arguments={"state": "start"})
            return "started"

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, stop())
            raise ValueError

        page = Waiting(store, [[calls("starts")], [calls("breaks")], speaks("Sorry.")], lambda _: starts, tool(breaks))

        replies = [await page.say(), await page.answer()]

        assert [[animation.name], []] == [[name for name, _ in reply.calls] for reply in replies]

    async def test_discard(self, store: Store[Any]) -> None:
        """`discard` in a body that waits forgets what it has enqueued before, in each of its runs."""

        async def thinks_again(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, animation(state="start"))
            name = await chooses(sequencer, ctx)
            sequencer.discard(ctx)
            sequencer.enqueue(ctx, stop())
            return name

        page = Waiting(store, [[calls("thinks_again")], speaks("Good.")], tool(thinks_again))

        await page.say()
        second = await page.answer({"name": "Ada"})
        last = await page.answer()

        assert (["stop_everything"], ["Good."]) == ([name for name, _ in second.calls], last.texts)

    async def test_discard_beside_one_that_waits(self, store: Store[Any]) -> None:
        """`discard` also forgets what another tool has asked for, which is cancelled for that: nobody is stuck."""

        async def discards(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.discard(ctx)
            return "discarded"

        turn = [calls("gives_up"), calls("discards")]
        page = Waiting(store, [turn, speaks("Good.")], tool(gives_up), tool(discards))

        reply = await page.say()

        assert ([], ["Good."], ()) == (reply.calls, reply.texts, (await page.plan()).tools)
        assert [("output", "discarded"), ("output", "given up")] == [
            each for each in page.seen_by_model if each[0] == "output"
        ]


class TestUnusualAnswers:
    @pytest.mark.parametrize("answer", [None, False, 0, "", [], {}])
    async def test_one_that_is_empty(self, store: Store[Any], answer: Any) -> None:
        """An answer that counts as false is an answer: the tool goes on with it."""

        async def passes_on(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return repr([await sequencer.ask(ctx, anything()) for _ in range(2)])

        page = Waiting(store, [[calls("passes_on")], speaks("Good.")], tool(passes_on), tools=[anything])

        await page.say()
        await page.answer(answer)
        last = await page.answer(answer)

        assert ["Good."] == last.texts
        assert ("output", repr([answer] * 2)) == page.seen_by_model[-1]

    async def test_a_tool_that_is_disabled_meanwhile(self, store: Store[Any]) -> None:
        """A tool that the model may not call any more goes on all the same: it was called when it was enabled."""
        enabled = [True]
        waits = tool(chooses, is_enabled=lambda *_: enabled[0])
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], waits)

        await page.say()
        enabled.clear()
        enabled.append(False)
        last = await page.answer({"name": "Ada"})

        assert ["Good."] == last.texts
        assert ("output", "Ada") == page.seen_by_model[-1]
