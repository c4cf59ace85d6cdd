"""What becomes of a tool when the browser fails, when its body raises, and what the model reads then."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools.errors import CallFailedError, StepFailedError
from tests.helpers.merak import calls, speaks
from tests.helpers.server import lines
from tests.helpers.waiting import Waiting, animation, chooses, stop, tool

if TYPE_CHECKING:
    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer

Ctx = RunContextWrapper[AgentContext[Any]]


def text_for_the_model(ctx: RunContextWrapper[Any], error: Exception) -> str:
    return f"It went wrong: {type(error).__name__} for {ctx.context.request_context}"


FAILED = "An error occurred while running the tool"
"""What the SDK tells the model of a tool that has raised; some versions say more."""

MISFIT = {"nickname": "Countess"}
"""An answer that is no choice."""


@pytest.mark.fails
async def test_a_cancellation_from_inside(store: Store[Any], log: pytest.LogCaptureFixture) -> None:
    """A woken tool that cancels its own task is an error for the user and the log; the thread goes on."""

    async def cancelled(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        await chooses(sequencer, ctx)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return "never"

    page = Waiting(store, [[calls("cancelled")], speaks("Good.")], tool(cancelled))

    await page.say()
    reply = await page.answer({"name": "Ada"})
    body = (await page.plan()).body

    assert (1, [], None) == (len(reply.errors), reply.texts, body)
    assert ["a tool that was woken has been cancelled from inside"] == [
        str(record.exc_info[1]) for record in log.records if record.exc_info
    ]


async def what_was_cancelled(*_: Any) -> str:
    """What a tool awaits that somebody else has cancelled: a request, perhaps, that two users share."""
    shared = asyncio.create_task(asyncio.sleep(9))
    shared.cancel()
    await shared
    return "never"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not say whether a task is being cancelled")
class TestSomethingThatWasCancelledElsewhere:
    @pytest.mark.parametrize("asks", [False, True])
    async def test_in_the_body(self, store: Store[Any], asks: bool, log: pytest.LogCaptureFixture) -> None:
        """A tool that awaits what was cancelled fails as with any other error: the model speaks, the thread goes on."""

        async def fails(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            if asks:
                await chooses(sequencer, ctx)
            return await what_was_cancelled()

        page = Waiting(store, [[calls("fails")], speaks("Sorry."), speaks("Still here.")], tool(fails))

        reply = await page.say()
        if asks:
            reply = await page.answer({"name": "Ada"})

        assert (["Sorry."], []) == (reply.texts, reply.errors)
        assert str(page.seen_by_model[-1][1]).startswith(FAILED)
        assert "the tool fails raised RuntimeError" in log.text
        assert ["Still here."] == (await page.say("hello?")).texts

    async def test_in_a_step(self, store: Store[Any]) -> None:
        """A step whose function awaits what was cancelled has failed, and its tool may go on."""
        failures: list[tuple[str, str]] = []

        async def buys(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            try:
                return await sequencer.step(ctx, what_was_cancelled)
            except StepFailedError as error:
                failures.append((error.kind, error.text))
                return "not bought"

        page = Waiting(store, [[calls("buys")], speaks("Sorry.")], tool(buys))

        await page.say()
        reply = await page.answer({"name": "Ada"})

        assert [("RuntimeError", "something that it has awaited was cancelled")] == failures
        assert ["Sorry."] == reply.texts
        assert ("output", "not bought") == page.seen_by_model[-1]

    async def test_beside_it_in_a_task_group(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A tool that asks beside a task which fails when it is cancelled has failed, and does not wait."""

        async def heartbeat() -> None:
            try:
                await asyncio.sleep(9)
            finally:
                raise ConnectionError

        async def fails(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
                group.create_task(heartbeat())
                await asyncio.sleep(0)
                return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("fails")], speaks("Sorry.")], tool(fails))

        reply = await page.say()

        assert ([], ["Sorry."], []) == (reply.calls, reply.texts, reply.errors)
        assert str(page.seen_by_model[-1][1]).startswith(FAILED)
        assert "the tool fails raised ExceptionGroup" in log.text


class TestAFailedAnswer:
    @staticmethod
    def page(store: Store[Any], errors: list[CallFailedError]) -> Waiting:
        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            errors.clear()
            while True:
                try:
                    return await chooses(sequencer, ctx)
                except CallFailedError as error:
                    errors.append(error)

        return Waiting(store, [[calls("insists")], speaks("Good.")], tool(insists))

    async def test_an_error_report_is_raised(self, store: Store[Any]) -> None:
        """An error that the browser reports is a CallFailedError in the body, with what the browser said."""
        errors: list[CallFailedError] = []
        page = self.page(store, errors)

        await page.say()
        await page.fail("no canvas")
        await page.answer({"name": "Ada"})

        assert [("choose_agent", "the browser reported an error", "no canvas")] == [
            (error.tool, error.reason, error.report) for error in errors
        ]

    async def test_an_answer_that_does_not_fit_is_raised(self, store: Store[Any]) -> None:
        """An answer that is not of the declared type is a CallFailedError that names the field, without its value."""
        errors: list[CallFailedError] = []
        page = self.page(store, errors)

        await page.say()
        await page.answer(MISFIT)
        await page.answer({"name": "Ada"})

        assert [("the browser's answer does not fit: name: Field required", None)] == [
            (error.reason, error.report) for error in errors
        ]

    async def test_the_body_may_ask_again(self, store: Store[Any]) -> None:
        """A body that catches the error asks once more, as often as it likes, and goes on with the answer that fits."""
        page = self.page(store, [])

        replies = [await page.say(), await page.fail(), await page.answer(MISFIT), await page.fail()]
        last = await page.answer({"name": "Ada"})

        assert [["choose_agent"]] * 4 == [[name for name, _ in reply.calls] for reply in replies]
        assert 4 == len({item["id"] for reply in replies for item in reply.call_items})
        assert (["Good."], 2) == (last.texts, page.server.runs)
        assert [("call", "insists", "{}"), ("output", "Ada")] == page.seen_by_model[-2:]

    @pytest.mark.parametrize("on_failure", ["continue", "abort"])
    async def test_nobody_catches_it(self, store: Store[Any], on_failure: str, log: pytest.LogCaptureFixture) -> None:
        """A CallFailedError that nobody catches ends the tool: the model reads an error as its output, and runs."""
        page = Waiting(store, [[calls("chooses")], speaks("Sorry.")], tool(chooses), on_failure=on_failure)

        await page.say()
        last = await page.fail("secret")

        assert (["Sorry."], [], []) == (last.texts, last.calls, last.errors)
        assert page.seen_by_model[-1][1].startswith(FAILED)
        assert () == (await page.plan()).tools
        assert "secret" not in log.text

    async def test_what_the_log_says(self, store: Store[Any], log: pytest.LogCaptureFixture) -> None:
        """A body that raises after an answer is one warning: thread, tool, kind and place, and nothing of the chat."""
        page = Waiting(store, [[calls("chooses")], speaks("Sorry.")], tool(chooses))

        await page.say()
        await page.answer(MISFIT)

        [line] = [text for level, text in lines(log) if level == "WARNING"]
        assert line.startswith(
            f"thread {page.chat.thread_id}: the tool chooses raised CallFailedError (waiting.py, line "
        )
        assert "Countess" not in log.text

    @pytest.mark.parametrize("on_failure", ["continue", "abort"])
    async def test_the_body_decides_what_follows(self, store: Store[Any], on_failure: str) -> None:
        """With on_failure="abort", too, a body that catches the error asks again: only what is queued is cancelled."""

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return await chooses(sequencer, ctx)
            except CallFailedError:
                return f"at last {await chooses(sequencer, ctx)}"

        page = Waiting(store, [[calls("insists")], speaks("Good.")], tool(insists), on_failure=on_failure)

        await page.say()
        await page.fail()
        last = await page.answer({"name": "Ada"})

        assert ["Good."] == last.texts
        assert ("output", "at last Ada") == page.seen_by_model[-1]


class TestABodyThatRaises:
    async def test_after_an_answer(self, store: Store[Any]) -> None:
        """The model reads the SDK's text for an error as the output of a tool that raises after an answer."""

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            raise ValueError("out of order")

        async def breaks_at_once(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            raise ValueError("out of order")

        steps = [[calls("breaks_at_once")], [calls("breaks")], speaks("Sorry.")]
        page = Waiting(store, steps, tool(breaks_at_once), tool(breaks))

        await page.say()
        at_once = page.seen_by_model[-1]
        last = await page.answer({"name": "Ada"})

        assert (["Sorry."], []) == (last.texts, last.errors)
        assert at_once == page.seen_by_model[-1]
        assert at_once[1].startswith(FAILED)

    async def test_it_may_be_called_again(self, store: Store[Any]) -> None:
        """After a tool has raised, the model may call it again, and it asks again from the top."""

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            name = await chooses(sequencer, ctx)
            if name == "Ada":
                raise ValueError
            return name

        page = Waiting(store, [[calls("breaks")], [calls("breaks")], speaks("Good.")], tool(breaks))

        await page.say()
        again = await page.answer({"name": "Ada"})
        last = await page.answer({"name": "Grace"})

        assert (["choose_agent"], ["Good."]) == ([name for name, _ in again.calls], last.texts)
        assert ("output", "Grace") == page.seen_by_model[-1]

    async def test_beside_another_that_waits(self, store: Store[Any]) -> None:
        """A tool that raises leaves one that waits beside it alone, and the model reads both outputs."""

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await sequencer.ask(ctx, animation(state="start"))
            raise ValueError

        page = Waiting(store, [[calls("breaks"), calls("chooses")], speaks("Good.")], tool(breaks), tool(chooses))

        await page.say()
        await page.answer()
        last = await page.answer({"name": "Ada"})

        assert ["Good."] == last.texts
        outputs = [each[1] for each in page.seen_by_model if each[0] == "output"]
        assert outputs[0].startswith(FAILED)
        assert ["Ada"] == outputs[1:]


class TestFailureErrorFunction:
    @staticmethod
    def page(store: Store[Any], **options: Any) -> Waiting:
        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            raise ValueError

        return Waiting(store, [[calls("breaks")], speaks("Sorry.")], tool(breaks, **options))

    async def test_after_an_answer(self, store: Store[Any]) -> None:
        """The text that failure_error_function= makes of an error and its context after an answer is for the model."""
        page = self.page(store, failure_error_function=text_for_the_model)

        await page.say()
        page.chat.context = "Ann"
        last = await page.answer({"name": "Ada"})

        assert ["Sorry."] == last.texts
        assert ("output", "It went wrong: ValueError for Ann") == page.seen_by_model[-1]

    async def test_of_a_failed_answer(self, store: Store[Any]) -> None:
        """failure_error_function= is given the CallFailedError of a failed answer that the body does not catch."""
        page = self.page(store, failure_error_function=text_for_the_model)

        await page.say()
        await page.fail()

        assert ("output", "It went wrong: CallFailedError for None") == page.seen_by_model[-1]

    async def test_within_the_run(self, store: Store[Any]) -> None:
        """failure_error_function= makes the text of an error before the first ask as well, once."""
        texts: list[str] = []

        def text(ctx: RunContextWrapper[Any], error: Exception) -> str:
            texts.append(str(error))
            return "It went wrong."

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            raise ValueError("out of order")

        page = Waiting(store, [[calls("breaks")], speaks("Sorry.")], tool(breaks, failure_error_function=text))

        await page.say()

        assert ("output", "It went wrong.") == page.seen_by_model[-1]
        assert ["out of order"] == texts

    @pytest.mark.fails
    async def test_none_within_the_run(self, store: Store[Any]) -> None:
        """failure_error_function=None ends the run in which the tool raises, and nothing of the tool is left."""

        async def breaks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            sequencer.enqueue(ctx, stop())
            raise ValueError

        page = Waiting(store, [[calls("breaks")], speaks("Good.")], tool(breaks, failure_error_function=None))

        failed = await page.say()

        assert 1 == len(failed.errors)
        assert ([], ()) == (await page.chat.calls(), (await page.plan()).tools)
        assert ["Good."] == (await page.say("again")).texts

    async def test_none_after_an_answer(self, store: Store[Any]) -> None:
        """With failure_error_function=None there is no run to end after an answer: the model reads the SDK's text."""
        page = self.page(store, failure_error_function=None)

        await page.say()
        last = await page.answer({"name": "Ada"})

        assert (["Sorry."], []) == (last.texts, last.errors)
        assert page.seen_by_model[-1][1].startswith(FAILED)
        assert () == (await page.plan()).tools


class TestARunThatFails:
    @pytest.mark.fails
    async def test_after_the_tool_has_returned(self, store: Store[Any]) -> None:
        """If the model fails after the last answer, the tool's output is kept: a repeated answer lets the model run."""
        ran: list[str] = []

        async def chooses_once(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            ran.append("body")
            return await chooses(sequencer, ctx)

        page = Waiting(store, [[calls("chooses_once")], RuntimeError("away"), speaks("Good.")], tool(chooses_once))

        await page.say()
        failed = await page.answer({"name": "Ada"})
        again = await page.answer({"name": "Ada"})

        assert (1, ["Good."]) == (len(failed.errors), again.texts)
        assert ["body", "body"] == ran
        assert [("call", "chooses_once", "{}"), ("output", "Ada")] == page.seen_by_model[-2:]
