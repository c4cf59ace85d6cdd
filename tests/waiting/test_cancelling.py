"""The user writes, or the application cancels, while a tool waits for the browser."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools.errors import CallCancelledError
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, at
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.scripted import message
from tests.helpers.server import lines
from tests.helpers.waiting import Waiting, animation, chooses, stop, tool, twice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agents import FunctionTool
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer
    from tests.helpers.conversation import Reply

Ctx = RunContextWrapper[AgentContext[Any]]


async def gives_up(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    """A body that returns when its call is cancelled."""
    try:
        return await chooses(sequencer, ctx)
    except CallCancelledError as error:
        return f"cancelled: {error.tool}"


def asked(*replies: Reply) -> list[list[str]]:
    return [[name for name, _ in reply.calls] for reply in replies]


class TestCancel:
    async def test_the_open_ask_raises(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A message cancels the open ask; the model reads what the body makes of that before the message."""
        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say("go")
        reply = await page.say("never mind")

        assert (["Good."], [], 2) == (reply.texts, reply.calls, page.server.runs)
        assert [
            ("user", "go"),
            ("call", "gives_up", "{}"),
            ("output", "cancelled: choose_agent"),
            ("user", "never mind"),
        ] == page.seen_by_model
        assert ([], ()) == (await page.chat.calls(), (await page.plan()).tools)
        assert [] == lines(log, at_least=logging.WARNING)

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before us")
    async def test_the_page_hears_of_it(self, store: Store[Any]) -> None:
        """The page is told that the call is gone before the model says anything."""
        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say()
        reply = await page.say("never mind")

        assert [page.asked["id"]] == reply.removed
        assert reply.types.index("thread.item.removed") < reply.types.index("thread.item.added")

    async def test_nobody_catches_it(self, store: Store[Any]) -> None:
        """A body that does not catch the cancellation ends with an error, which the model reads before the message."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say("go")
        reply = await page.say("never mind")

        assert (["Good."], []) == (reply.texts, reply.errors)
        _, _, output, message = page.seen_by_model
        assert output[1].startswith("An error occurred while running the tool")
        assert ("user", "never mind") == message

    async def test_the_body_may_clean_up(self, store: Store[Any]) -> None:
        """A body may take steps when its call is cancelled; each runs once."""
        ran: list[str] = []

        def takes() -> str:
            ran.append("takes")
            return "r1"

        def gives_back(reservation: str) -> None:
            ran.append(f"gives back {reservation}")

        async def reserves(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            reservation = await sequencer.step(ctx, takes)
            try:
                return await chooses(sequencer, ctx)
            except CallCancelledError:
                await sequencer.step(ctx, gives_back, reservation)
                return "given back"

        page = Waiting(store, [[calls("reserves")], speaks("Good.")], tool(reserves))

        await page.say()
        await page.say("never mind")

        assert ["takes", "gives back r1"] == ran
        assert [("output", "given back"), ("user", "never mind")] == page.seen_by_model[-2:]

    async def test_after_an_answer(self, store: Store[Any]) -> None:
        """A message while the second ask is open leaves the first answer to the body, and cancels the second."""

        async def twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"{await gives_up(sequencer, ctx)}, {await gives_up(sequencer, ctx)}"

        page = Waiting(store, [[calls("twice")], speaks("Good.")], tool(twice))

        await page.say()
        await page.answer({"name": "Ada"})
        reply = await page.say("never mind")

        assert ["Good."] == reply.texts
        assert ("output", "Ada, cancelled: choose_agent") == page.seen_by_model[-2]

    async def test_a_late_answer(self, store: Store[Any]) -> None:
        """The answer to a call that a message has cancelled changes nothing."""
        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say()
        await page.say("never mind")
        late = await page.answer({"name": "Ada"})

        assert (["stream_options"], 2) == (late.types, page.server.runs)

    async def test_what_it_asks_for_then_is_cancelled_at_once(self, store: Store[Any]) -> None:
        """A body that catches the cancellation and asks again gets another one, and nothing reaches the page."""
        caught: list[str] = []

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            for _ in range(3):
                try:
                    return await chooses(sequencer, ctx)
                except CallCancelledError:
                    caught.append("cancelled")
            return "gave up"

        page = Waiting(store, [[calls("insists")], speaks("Good.")], tool(insists))

        await page.say()
        reply = await page.say("never mind")

        assert ([], ["cancelled"] * 3) == (reply.calls, caught)
        assert [("output", "gave up"), ("user", "never mind")] == page.seen_by_model[-2:]

    @pytest.mark.parametrize("catches", [CallCancelledError, Exception])
    async def test_one_that_never_gives_up(
        self, store: Store[Any], catches: type[Exception], log: pytest.LogCaptureFixture
    ) -> None:
        """A body that asks again for ever when its call is cancelled is ended with an error that names the tool."""
        caught = 0

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            nonlocal caught
            while True:
                try:
                    return await chooses(sequencer, ctx)
                except catches:
                    caught += 1

        page = Waiting(store, [[calls("insists")], speaks("Good.")], tool(insists))

        await page.say()
        reply = await asyncio.wait_for(page.say("never mind"), 20)

        assert (["Good."], []) == (reply.texts, reply.calls)
        _, _, output, message = page.seen_by_model
        assert output[1].startswith("An error occurred while running the tool")
        assert ("user", "never mind") == message
        [refusal] = [record.getMessage() for record in log.records if record.levelname == "ERROR"]
        assert refusal == (
            "The tool insists has asked 100 times more after the user has written. Whatever it asks for then is "
            "cancelled: it has to come to its end when it catches CallCancelledError."
        )
        assert (101, ()) == (caught, (await page.plan()).tools)

    async def test_two_tools(self, store: Store[Any]) -> None:
        """A message cancels what both tools wait for, and the model reads both outputs before the message."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"other {await gives_up(sequencer, ctx)}"

        page = Waiting(store, [[calls("gives_up"), calls("other")], speaks("Good.")], tool(gives_up), tool(other))

        await page.say()
        reply = await page.say("never mind")

        assert (["Good."], 2) == (reply.texts, page.server.runs)
        assert [
            ("output", "cancelled: choose_agent"),
            ("output", "other cancelled: choose_agent"),
            ("user", "never mind"),
        ] == [each for each in page.seen_by_model[1:] if each[0] != "call"]

    async def test_two_messages(self, store: Store[Any]) -> None:
        """Two messages, each while a tool waits, leave the history in the order in which things happened."""
        steps = [[calls("gives_up")], [calls("gives_up")], speaks("Good.")]
        page = Waiting(store, steps, tool(gives_up))

        await page.say("one")
        await page.say("two")
        await page.say("three")

        pair = [("call", "gives_up", "{}"), ("output", "cancelled: choose_agent")]
        assert [("user", "one"), *pair, ("user", "two"), *pair, ("user", "three")] == page.seen_by_model


class TestRequired:
    @staticmethod
    async def stops(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        """A body that stops something in any case."""
        try:
            name = await chooses(sequencer, ctx)
        except CallCancelledError:
            name = "nobody"
        await sequencer.ask(ctx, stop())
        return name

    async def test_a_required_ask_on_the_way_out(self, store: Store[Any]) -> None:
        """A required call goes out though the user has written, and the tool goes on waiting for its answer."""
        page = Waiting(store, [[calls("stops")], speaks("Bye."), speaks("Stopped.")], tool(self.stops))

        await page.say()
        reply = await page.say("never mind")
        last = await page.answer()

        assert (["Bye."], [["stop_everything"]]) == (reply.texts, asked(reply))
        assert (["Stopped."], []) == (last.texts, last.calls)
        assert ("output", "nobody") in page.seen_by_model

    async def test_after_asks_that_were_cancelled_at_once(self, store: Store[Any]) -> None:
        """What was cancelled at once is cancelled again when the body is woken by the answer to a required ask."""

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            said = [await gives_up(sequencer, ctx) for _ in range(3)]
            await sequencer.ask(ctx, stop())
            return ", ".join(said)

        page = Waiting(store, [[calls("insists")], speaks("Bye."), speaks("Stopped.")], tool(insists))

        await page.say()
        await page.say("never mind")
        last = await page.answer()

        assert (["Stopped."], []) == (last.texts, last.calls)
        assert ("output", ", ".join(["cancelled: choose_agent"] * 3)) in page.seen_by_model

    async def test_a_required_ask_that_is_open(self, store: Store[Any]) -> None:
        """A message does not cancel a required ask: it goes out once more after the model has answered."""
        page = Waiting(store, [[calls("stops")], speaks("Bye."), speaks("Stopped.")], tool(self.stops))

        await page.say()
        await page.answer({"name": "Ada"})
        reply = await page.say("never mind")
        last = await page.answer()

        assert (["Bye."], [["stop_everything"]]) == (reply.texts, asked(reply))
        assert ["Stopped."] == last.texts
        assert ("output", "Ada") in page.seen_by_model

    async def test_what_comes_after_it_is_cancelled(self, store: Store[Any]) -> None:
        """A tool that has waited for a required call all along is cancelled at what it asks for next."""

        async def stops_first(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, stop())
            return await gives_up(sequencer, ctx)

        page = Waiting(store, [[calls("stops_first")], speaks("Bye."), speaks("Stopped.")], tool(stops_first))

        await page.say()
        await page.say("never mind")
        last = await page.answer()

        assert (["Stopped."], []) == (last.texts, last.calls)
        assert ("output", "cancelled: choose_agent") in page.seen_by_model


class TestKeep:
    async def test_it_goes_on_waiting(self, store: Store[Any]) -> None:
        """With "keep" the model answers the message at once, without the tool; the answer wakes the tool afterwards."""
        page = Waiting(
            store, [[calls("chooses")], speaks("Patience."), speaks("Good.")], tool(chooses), on_user_message="keep"
        )

        await page.say("go")
        between = await page.say("what now?")
        seen_between = page.seen_by_model
        last = await page.answer({"name": "Ada"})

        assert (["Patience."], ["Good."]) == (between.texts, last.texts)
        assert [("user", "go"), ("user", "what now?")] == seen_between
        assert [("call", "chooses", "{}"), ("output", "Ada")] == page.seen_by_model[-2:]

    async def test_the_call_stays(self, store: Store[Any]) -> None:
        """With "keep" the pending call stays what it is: nothing is removed, and the page may answer what it has."""
        if CHATKIT_DROPS_PENDING_ON_MESSAGE:
            pytest.skip("this ChatKit deletes a pending call before we are asked")
        page = Waiting(
            store, [[calls("chooses")], speaks("Patience."), speaks("Good.")], tool(chooses), on_user_message="keep"
        )

        first = await page.say("go")
        between = await page.say("what now?")
        last = await page.answer({"name": "Ada"}, to=first.call_items[0])

        assert ([], []) == (between.removed, between.calls)
        assert ["Good."] == last.texts

    async def test_it_may_ask_again_after_the_message(self, store: Store[Any]) -> None:
        """With "keep" a tool that is woken after a message asks on as if nothing had been written."""

        async def twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return await chooses(sequencer, ctx) + await chooses(sequencer, ctx)

        page = Waiting(
            store, [[calls("twice")], speaks("Patience."), speaks("Good.")], tool(twice), on_user_message="keep"
        )

        await page.say()
        await page.say("what now?")
        second = await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert [["choose_agent"], []] == asked(second, last)
        assert ("output", "AdaGrace") == page.seen_by_model[-1]

    async def test_another_tool_in_the_run_between(self, store: Store[Any]) -> None:
        """With "keep" the run for the message may leave another tool waiting; each gets its own answer."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"other {await chooses(sequencer, ctx)}"

        page = Waiting(
            store,
            [[calls("chooses")], [calls("other")], speaks("Good.")],
            tool(chooses),
            tool(other),
            on_user_message="keep",
        )

        await page.say()
        await page.say("what now?")
        await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert ["Good."] == last.texts
        assert [("output", "Ada"), ("output", "other Grace")] == [
            each for each in page.seen_by_model if each[0] == "output"
        ]

    @pytest.mark.parametrize("again", ["another tool", "other arguments"])
    async def test_a_provider_that_repeats_its_ids(self, store: Store[Any], again: str) -> None:
        """With "keep" a call of the model may have the id of one that waits: it is another call all the same."""

        def asks_for(name: str) -> Callable[[ClientToolSequencer], FunctionTool]:
            def make(sequencer: ClientToolSequencer) -> FunctionTool:
                async def function(ctx: Ctx, people: str) -> str:
                    return f"{people}: {await chooses(sequencer, ctx)}"

                return sequencer.function_tool(name_override=name)(function)

            return make

        name, people = ("other", "all") if again == "another tool" else ("pick", "few")
        page = Waiting(
            store,
            [
                [calls("pick", {"people": "all"}, call_id="call_1")],
                [calls(name, {"people": people}, call_id="call_1")],
                speaks("Good."),
            ],
            asks_for("pick"),
            asks_for("other"),
            on_user_message="keep",
        )

        await page.say()
        await page.say("what now?")
        await page.answer({"name": "Ada"})
        await page.answer({"name": "Grace"})

        assert [("output", "all: Ada"), ("output", f"{people}: Grace")] == [
            each for each in page.seen_by_model if each[0] == "output"
        ]


class TestRetry:
    @pytest.mark.parametrize("on_user_message", ["cancel", "keep"])
    async def test_it_starts_over(self, store: Store[Any], on_user_message: str) -> None:
        """A retry of the message forgets the tool: the model calls it anew, and the old answer counts for nothing."""
        page = Waiting(
            store,
            [[calls("chooses")], [calls("chooses")], speaks("Good.")],
            tool(chooses),
            on_user_message=on_user_message,
        )

        first = await page.say()
        again = await page.retry()
        late = await page.answer({"name": "Ada"}, to=first.call_items[0])
        last = await page.answer({"name": "Grace"})

        assert ([["choose_agent"]], ["stream_options"], ["Good."]) == (asked(again), late.types, last.texts)
        assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Grace")] == page.seen_by_model

    @pytest.mark.parametrize("on_user_message", ["cancel", "keep"])
    async def test_nothing_is_left_in_the_plan(self, store: Store[Any], on_user_message: str) -> None:
        """After a retry of which the model only speaks, no tool, no journal and no call of the old run is left."""

        async def reads(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.step(ctx, dict)
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("reads")], speaks("Good.")], tool(reads), on_user_message=on_user_message)

        await page.say()
        await page.retry()

        plan = await page.plan()
        assert ((), 0, None) == (plan.tools, len(plan.calls), plan.body)
        assert ["user_message", "assistant_message"] == [item.type for item in await page.chat.items()]

    async def test_after_the_tool_has_returned(self, store: Store[Any]) -> None:
        """A retry after the tool has returned forgets its output as well."""
        steps = [[calls("chooses")], speaks("Good."), [calls("chooses")], speaks("Better.")]
        page = Waiting(store, steps, tool(chooses))

        await page.say()
        await page.answer({"name": "Ada"})
        await page.retry()
        last = await page.answer({"name": "Grace"})

        assert ["Better."] == last.texts
        assert [("user", "go"), ("call", "chooses", "{}"), ("output", "Grace")] == page.seen_by_model


class TestAbort:
    async def test_two_tools(self, store: Store[Any]) -> None:
        """With on_failure="abort" a failed answer cancels what the other tool waits for: each body hears its own."""

        async def other(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return f"other {await gives_up(sequencer, ctx)}"

        page = Waiting(
            store,
            [[calls("chooses"), calls("other")], speaks("Sorry.")],
            tool(chooses),
            tool(other),
            on_failure="abort",
        )

        await page.say()
        last = await page.fail()

        assert (["Sorry."], [], 2) == (last.texts, last.calls, page.server.runs)
        first, second = [each[1] for each in page.seen_by_model if each[0] == "output"]
        assert first.startswith("An error occurred while running the tool")
        assert "other cancelled: choose_agent" == second

    async def test_it_may_ask_on(self, store: Store[Any]) -> None:
        """A tool whose call was cancelled by the failure of another's may ask again: the user has not written."""

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return await chooses(sequencer, ctx)
            except CallCancelledError:
                return f"at last {await chooses(sequencer, ctx)}"

        page = Waiting(
            store,
            [[calls("gives_up"), calls("insists")], speaks("Good.")],
            tool(gives_up, failure_error_function=lambda ctx, error: "failed"),
            tool(insists),
            on_failure="abort",
        )

        await page.say()
        again = await page.fail()
        last = await page.answer({"name": "Ada"})

        assert ([["choose_agent"]], ["Good."]) == (asked(again), last.texts)
        assert [("output", "failed"), ("output", "at last Ada")] == [
            each for each in page.seen_by_model if each[0] == "output"
        ]


class TestTheApplicationCancels:
    async def test_it_forgets_the_tool(self, store: Store[Any]) -> None:
        """`cancel` drops a tool with its call, says which call that was, and the thread goes on with a message."""
        page = Waiting(store, [[calls("gives_up")], speaks("Good.")], tool(gives_up))

        await page.say()
        cancelled = await page.sequencer.cancel(page.server.store, page.chat.thread_id or "", None)
        late = await page.answer({"name": "Ada"})

        assert ["choose_agent"] == [call.name for call in cancelled]
        assert (["stream_options"], ()) == (late.types, (await page.plan()).tools)
        assert ["Good."] == (await page.say("hello?")).texts
        assert [("user", "go"), ("user", "hello?")] == page.seen_by_model

    async def test_a_tool_that_waits_for_a_required_call_stays(self, store: Store[Any]) -> None:
        """`cancel` leaves a tool alone that waits for a required call; the call goes out with the next run."""

        async def stops(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, stop())
            return "stopped"

        page = Waiting(store, [[calls("stops")], speaks("Bye."), speaks("Good.")], tool(stops))

        await page.say()
        await page.sequencer.cancel(page.server.store, page.chat.thread_id or "", None)
        reply = await page.say("hello?")
        last = await page.answer()

        assert ([["stop_everything"]], ["Good."]) == (asked(reply), last.texts)
        assert ("output", "stopped") in page.seen_by_model


class Acting(SequencedServer):
    """A server with an action: it asks for something, lets the model run, or shows something."""

    async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        match action.type:
            case "ask":
                self.sequencer.enqueue(agent_context, animation(state="start"))
            case "run":
                async for event in self.respond(thread, None, context):
                    yield event
            case text:
                yield message(text, thread, f"m_{text}")


class ActingPage(Waiting):
    kind = Acting


class TestOtherRequests:
    async def test_a_rename(self, store: Store[Any]) -> None:
        """A thread that is renamed while a tool waits loses nothing of it."""
        page = Waiting(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        await page.chat.rename("Poets")
        last = await page.answer({"name": "Ada"})

        assert ["Good."] == last.texts
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_an_action(self, store: Store[Any]) -> None:
        """An action while a tool waits leaves it waiting, whatever the action shows."""
        page = ActingPage(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        between = await page.act("look")
        last = await page.answer({"name": "Ada"})

        assert (["look"], [], []) == (between.texts, between.calls, between.errors)
        assert ["Good."] == last.texts
        assert ("output", "Ada") == page.seen_by_model[-1]

    async def test_an_action_that_enqueues(self, store: Store[Any]) -> None:
        """What an action enqueues while a tool waits goes out after the tool's call, and before the model runs."""
        page = ActingPage(store, [[calls("chooses")], speaks("Good.")], tool(chooses))

        await page.say()
        between = await page.act("ask")
        second = await page.answer({"name": "Ada"})
        last = await page.answer()

        assert [[], ["run_search_animation"], []] == asked(between, second, last)
        assert ([], ["Good."]) == (second.texts, last.texts)

    async def test_an_action_that_lets_the_model_run(self, store: Store[Any]) -> None:
        """An action that lets the model run while a tool waits shows the model nothing of the tool yet."""
        page = ActingPage(store, [[calls("chooses")], speaks("Patience."), speaks("Good.")], tool(chooses))

        await page.say()
        between = await page.act("run")
        seen_between = page.seen_by_model
        last = await page.answer({"name": "Ada"})

        assert (["Patience."], ["Good."]) == (between.texts, last.texts)
        assert [("user", "go")] == seen_between
        assert ("output", "Ada") == page.seen_by_model[-1]

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_a_form(self, store: Store[Any]) -> None:
        """A form that is filled in while a tool waits lets the model run without the tool, which goes on waiting."""
        page = Waiting(store, [[calls("chooses")], speaks("Thanks."), speaks("Good.")], tool(chooses))

        await page.say()
        form = chatkit.types.StructuredInputItem(
            id="f", thread_id=page.chat.thread_id or "", created_at=at(1), inputs=[]
        )
        await page.chat.touch(form)
        between = await page.chat.fill_in("f")
        last = await page.answer({"name": "Ada"})

        assert (["Thanks."], [], ["Good."]) == (between.texts, between.calls, last.texts)
        assert ("output", "Ada") == page.seen_by_model[-1]


class TestEnqueueWhenCancelled:
    @pytest.mark.parametrize("call", [stop(), animation(state="stop")], ids=["required", "not required"])
    async def test_what_it_enqueues_then(self, store: Store[Any], call: Any) -> None:
        """What a body enqueues when its call is cancelled goes out once, when the message has been answered."""

        async def cleans(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return await chooses(sequencer, ctx)
            except CallCancelledError:
                sequencer.enqueue(ctx, call)
                return "cleaned"

        page = Waiting(store, [[calls("cleans")], speaks("Good.")], tool(cleans))

        await page.say()
        reply = await page.say("never mind")
        last = await page.answer()

        assert ([call.name], ["Good."]) == ([name for name, _ in reply.calls], reply.texts)
        assert (call.name, "assistant_message") == (reply.done[-1].get("name"), reply.done[-2]["type"])
        assert [("output", "cleaned"), ("user", "never mind")] == page.seen_by_model[-2:]
        assert ([], [], 2) == (last.calls, last.texts, page.server.runs)


class TestRetryUnderKeep:
    async def test_a_retry_with_keep(self, store: Store[Any]) -> None:
        """With "keep", too, a retry of the message starts over: the tool is dropped, and its late answer is ignored."""
        steps = [[calls("chooses")], [calls("chooses")], speaks("Good.")]
        page = Waiting(store, steps, tool(chooses), on_user_message="keep")

        await page.say()
        old = page.asked
        again = await page.retry()
        late = await page.answer({"name": "Grace"}, to=old)
        last = await page.answer({"name": "Ada"})

        assert (["choose_agent"], [], ["Good."]) == ([name for name, _ in again.calls], late.texts, last.texts)
        assert [("output", "Ada")] == [each for each in page.seen_by_model if each[0] == "output"]

    async def test_after_an_answer(self, store: Store[Any]) -> None:
        """A retry of the message drops what the tool has asked for after an answer, too."""
        page = Waiting(store, [[calls("twice")], speaks("Never mind.")], tool(twice), on_user_message="keep")

        await page.say()
        await page.answer({"name": "Ada"})
        again = await page.retry()

        assert (["Never mind."], [], 0) == (again.texts, again.calls, len((await page.plan()).calls))
