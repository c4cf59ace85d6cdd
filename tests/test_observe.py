"""What can be watched: a line in the log, an event for observers, numbers for OpenTelemetry. Never what users did."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import FrozenInstanceError, replace
from typing import Any, cast

import pytest
from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext
from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolSequencer, LifecycleEvent
from chatkit_clienttools._protocol.states import State
from chatkit_clienttools.errors import QueueFullError, UsageError
from chatkit_clienttools.observe import announce, log_and_return, place_of
from tests.helpers.conversation import Conversation
from tests.helpers.merak import SequencedServer, calls, speaks
from tests.helpers.stores import PlainStore

Ctx = RunContextWrapper[AgentContext[Any]]

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did

QUEUED = LifecycleEvent(
    thread_id="thr_1",
    call_id="call_1",
    item_id="tc_1",
    tool="animate",
    position=0,
    attempt=1,
    previous=None,
    state=State.QUEUED,
    waited_ms=0,
)
RELEASED = LifecycleEvent(
    thread_id="thr_1",
    call_id="call_1",
    item_id="tc_1",
    tool="animate",
    position=2,
    attempt=1,
    previous=State.QUEUED,
    state=State.PENDING,
    waited_ms=40,
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "chatkit_clienttools")
    return caplog


def extra(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries besides what every record does."""
    ordinary = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    return {key: value for key, value in vars(record).items() if key not in ordinary}


class TestLog:
    def test_an_event_is_one_line(self, log: pytest.LogCaptureFixture) -> None:
        """Each event is one line at INFO, with all of its fields."""
        announce(RELEASED, ())

        line = (
            "client tool call call_1: queued -> pending "
            "(thread thr_1, item tc_1, tool animate, position 2, after 40 ms)"
        )
        assert [("chatkit_clienttools", logging.INFO, line)] == log.record_tuples

    def test_a_new_call_comes_from_nowhere(self, log: pytest.LogCaptureFixture) -> None:
        """A call that has just been queued has no previous state."""
        announce(QUEUED, ())

        assert [
            "client tool call call_1: new -> queued (thread thr_1, item tc_1, tool animate, position 0, after 0 ms)"
        ] == log.messages

    @pytest.mark.parametrize(
        ("event", "previous", "state"), [(QUEUED, None, "queued"), (RELEASED, "queued", "pending")]
    )
    def test_the_fields_are_there_for_machines(
        self, log: pytest.LogCaptureFixture, event: LifecycleEvent, previous: str | None, state: str
    ) -> None:
        """The record carries exactly the event's fields as `extra`, as plain JSON values under their own names."""
        announce(event, ())

        fields = extra(log.records[0])

        assert {**vars(event), "previous": previous, "state": state} == fields
        assert [type(previous), str] == [type(fields["previous"]), type(fields["state"])]
        assert fields == json.loads(json.dumps(fields))

    def test_a_failure_is_a_warning_with_its_reason(self, log: pytest.LogCaptureFixture) -> None:
        """A call that has failed stands out in the log, and says why."""
        announce(replace(RELEASED, previous=State.PENDING, state=State.FAILED, reason="no canvas"), ())

        line = (
            "client tool call call_1: pending -> failed, no canvas "
            "(thread thr_1, item tc_1, tool animate, position 2, after 40 ms)"
        )
        assert [("chatkit_clienttools", logging.WARNING, line)] == log.record_tuples
        assert "no canvas" == extra(log.records[0])["reason"]

    def test_a_second_attempt_is_sent_again(self, log: pytest.LogCaptureFixture) -> None:
        """A call that a page gets once more was not cancelled: it is "sent again", and the record has the attempt."""
        announce(replace(RELEASED, item_id="tc_1-2", previous=State.PENDING, attempt=2), ())

        line = (
            "client tool call call_1: pending -> sent again "
            "(thread thr_1, item tc_1-2, tool animate, position 2, after 40 ms)"
        )
        assert [("chatkit_clienttools", logging.INFO, line)] == log.record_tuples
        assert ("pending", "pending", 2) == tuple(
            extra(log.records[0])[key] for key in ("previous", "state", "attempt")
        )

    def test_ids_cannot_forge_a_line(self, log: pytest.LogCaptureFixture) -> None:
        """A thread id is the browser's to choose: line breaks and escapes are shown as text, and long ids are cut."""
        forged = "thr\n2026-01-01 CRITICAL root: \x1b[31m" + "y" * 5000

        announce(replace(RELEASED, thread_id=forged, call_id=forged, item_id=forged), ())

        [line] = log.messages
        assert line.isprintable()
        assert len(line) < 1000

    def test_a_mistake_is_logged_and_returned(self, log: pytest.LogCaptureFixture) -> None:
        """`raise log_and_return(error)` logs the error as one line and raises that very error."""
        error = QueueFullError("Thread thr_1 is full")

        assert error is log_and_return(error)
        assert [("chatkit_clienttools", logging.ERROR, "Thread thr_1 is full")] == log.record_tuples

    def test_nothing_is_configured_at_import(self) -> None:
        """Handlers and levels are the application's business."""
        logger = logging.getLogger("chatkit_clienttools")

        assert ([], True) == (logger.handlers, logger.propagate)


class TestObservers:
    def test_each_gets_the_event(self) -> None:
        """Every observer is called once with the event, in order."""
        seen: list[tuple[str, LifecycleEvent]] = []

        announce(RELEASED, [lambda event: seen.append(("a", event)), lambda event: seen.append(("b", event))])

        assert [("a", RELEASED), ("b", RELEASED)] == seen

    def test_none_can_change_it(self) -> None:
        """All observers get the same event: it is a value."""

        def greedy(event: LifecycleEvent) -> None:
            cast("Any", event).tool = "mine"

        with pytest.raises(FrozenInstanceError):
            greedy(RELEASED)

    def test_one_that_raises_does_no_harm(self, log: pytest.LogCaptureFixture) -> None:
        """An observer that raises is logged with its traceback, and those after it are called all the same."""
        seen: list[LifecycleEvent] = []

        def broken(_event: LifecycleEvent) -> None:
            raise LookupError("no such metric")

        announce(RELEASED, [broken, seen.append])

        failure = log.records[1]
        assert [RELEASED] == seen
        assert logging.ERROR == failure.levelno
        assert f"observer {broken!r} failed; the call goes on" == failure.getMessage()
        assert failure.exc_info
        assert LookupError is failure.exc_info[0]

    def test_a_cancellation_is_not_swallowed(self) -> None:
        """What is no `Exception` (a cancellation, Ctrl-C) goes through."""

        def cancelled(_event: LifecycleEvent) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            announce(RELEASED, [cancelled])


class TestPlaces:
    @staticmethod
    def raised() -> ValueError:
        """An error that the standard library raises for us."""
        with pytest.raises(ValueError, match="Expecting") as raised:
            json.loads("{")
        return raised.value

    def test_of_an_error_in_a_library(self) -> None:
        """The place of an error is the line of the application that it came past last, also if a library raised it."""
        assert place_of(self.raised()).startswith(" (test_observe.py, line ")

    def test_of_an_error_that_came_past_no_application(self) -> None:
        """The place of an error that came past no line of the application is that of the library which raised it."""
        error = self.raised()
        inside = error.__traceback__ and error.__traceback__.tb_next

        assert place_of(error.with_traceback(inside)).startswith(" (decoder.py, line ")

    def test_of_an_error_of_ours(self) -> None:
        """An error of this package that came past no line of the application has no place: it says what to do."""
        with pytest.raises(UsageError) as raised:
            ClientTool("")
        error = raised.value

        assert place_of(error).startswith(" (test_observe.py, line ")
        assert "" == place_of(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))

    def test_of_an_error_that_was_never_raised(self) -> None:
        """An error that was made and not raised has no place."""
        assert "" == place_of(ValueError())


class TestSecrecy:
    async def test_a_log_never_holds_what_users_did(self, log: pytest.LogCaptureFixture) -> None:
        """In a whole conversation neither the arguments nor the answer of a call get into a record or an event."""

        class Shapes(BaseModel):
            near: str

        select = ClientTool("select", Shapes, result=list[str])
        events: list[LifecycleEvent] = []
        sequencer = ClientToolSequencer([select], observers=[events.append])

        @function_tool
        async def ask(ctx: Ctx) -> str:
            """Ask for shapes."""
            sequencer.enqueue(ctx, select(near=SECRET), select(near=SECRET))
            return "asked"

        steps = [[calls("ask")], speaks("One moment."), speaks("Two shapes.")]
        server = SequencedServer(PlainStore(), steps, [ask], sequencer=sequencer)
        chat = Conversation(server)

        await chat.say("which?")
        await chat.answer([SECRET])
        await chat.answer({"error": SECRET})

        ours = [record for record in log.records if record.name == "chatkit_clienttools"]
        assert [
            (0, None, "queued"),
            (1, None, "queued"),
            (0, "queued", "pending"),
            (0, "pending", "completed"),
            (1, "queued", "pending"),
            (1, "pending", "failed"),
        ] == [(event.position, event.previous, event.state) for event in events]
        assert len(events) == len([record for record in ours if record.levelno > logging.DEBUG])
        assert SECRET not in repr([vars(record) for record in ours])
        assert SECRET not in repr(events)
