"""Spans and metrics of OpenTelemetry, over real conversations: one span for each call, when it has ended."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tools import trace_picture

from chatkit_clienttools import ClientTool, LifecycleEvent, otel
from chatkit_clienttools._protocol.states import State
from chatkit_clienttools.answers import DENIED
from chatkit_clienttools.errors import CallFailedError, UsageError
from chatkit_clienttools.otel import instrument
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import calls, selection, speaks
from tests.helpers.stores import PlansStore, WatchedStore
from tests.helpers.waiting import Ctx, Waiting, animation, choose, stop, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from chatkit.agents import ClientToolCall
    from opentelemetry.trace import Span

    from chatkit_clienttools import ClientToolSequencer

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did


class Clock:
    """Seconds that pass when the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A page whose requests are spans, its server, and what exporters get."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.traces, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.traces.add_span_processor(SimpleSpanProcessor(self.spans))

    def instrument(self, sequencer: ClientToolSequencer, **options: Any) -> None:
        instrument(sequencer, tracer_provider=self.traces, meter_provider=self.meters, **options)

    def page(self, *makers: Any, steps: list[Any], **options: Any) -> Waiting:
        page = Waiting(MemoryStore(), steps, *makers, clock=self.clock, **options)
        self.instrument(page.sequencer)
        return page

    def request(self, name: str) -> AbstractContextManager[Span]:
        """A request to the server, as a framework's instrumentation shows it."""
        return self.traces.get_tracer("test").start_as_current_span(name)

    def ours(self, begins: str = "execute_tool") -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name.startswith(begins)]

    def names(self) -> list[str]:
        return [span.name for span in self.spans.get_finished_spans()]

    def parent(self, span: ReadableSpan) -> str | None:
        """The request that a span is a child of, in whose trace it is."""
        contexts = [(each.context, each.name) for each in self.spans.get_finished_spans() if each.context]
        names = {(context.trace_id, context.span_id): name for context, name in contexts}
        return names[span.parent.trace_id, span.parent.span_id] if span.parent else None

    def links(self, span: ReadableSpan) -> dict[str, str]:
        """What a span is linked to, by the kind of the link."""
        names = {each.context.span_id: each.name for each in self.spans.get_finished_spans() if each.context}
        return {
            str((link.attributes or {})["chatkit_clienttools.link"]): names[link.context.span_id] for link in span.links
        }

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """What was measured: the attributes, and the sum, of each series, by name and unit."""
        data: Any = self.reader.get_metrics_data()
        return {
            f"{metric.name} {metric.unit}": [
                (dict(point.attributes or {}), point.sum if metric.unit == "s" else point.value)
                for point in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def seconds(self, span: ReadableSpan) -> tuple[float, float]:
        """When a span began and ended, in seconds since the clock was set."""
        assert span.start_time
        assert span.end_time
        return span.start_time / 1e9 - 1_800_000_000, span.end_time / 1e9 - 1_800_000_000


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.traces.shutdown()
    watched.meters.shutdown()


async def chooses(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
    return (await sequencer.ask(ctx, choose(people=[SECRET]))).name


def enqueuing(*wanted: ClientToolCall) -> Any:
    """A tool, `enqueues`, that enqueues these calls."""

    async def enqueues(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        sequencer.enqueue(ctx, *wanted)
        return "ok"

    return tool(enqueues)


TWO = (animation(state="start"), animation(state="stop"))


async def chosen(watched: Watched) -> Waiting:
    """A tool asks once, and is answered after two seconds."""
    page = watched.page(tool(chooses), steps=[[calls("chooses", call_id="call_1")], speaks("Good.")])
    with watched.request("message"):
        await page.say(SECRET)
    watched.clock.now += 2
    with watched.request("answer"):
        await page.answer({"name": SECRET})
    return page


class TestSpanOfACall:
    async def test_its_attributes(self, watched: Watched) -> None:
        """A call that was answered is one span with the attributes of the semantic conventions, and ours."""
        page = await chosen(watched)

        [span] = watched.ours()
        assert "execute_tool choose_agent" == span.name
        assert {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "choose_agent",
            "gen_ai.tool.call.id": page.asked["call_id"],
            "gen_ai.tool.type": "function",
            "gen_ai.conversation.id": page.chat.thread_id,
            "chatkit_clienttools.outcome": "completed",
            "chatkit_clienttools.position": 0,
            "chatkit_clienttools.attempt": 1,
            "chatkit_clienttools.answer_wanted": True,
        } == dict(span.attributes or {})
        assert ("UNSET", None) == (span.status.status_code.name, span.status.description)

    async def test_the_times_of_the_span(self, watched: Watched) -> None:
        """The span of a call begins when the call was released, and ends when it was answered."""
        await chosen(watched)

        [span] = watched.ours()
        assert (0, 2) == watched.seconds(span)

    async def test_the_links_of_the_span(self, watched: Watched) -> None:
        """The span of a call is linked to the requests that released and answered the call."""
        await chosen(watched)

        [span] = watched.ours()
        assert {"released": "message", "answered": "answer"} == watched.links(span)

    async def test_another_process_hears_the_answer(self, watched: Watched) -> None:
        """A process that did not release the call makes the same span, linked to the request of the other process."""
        page = watched.page(tool(chooses), steps=[[calls("chooses")], speaks("Good.")])
        with watched.request("message"):
            await page.say()
        watched.clock.now += 2
        page.restart()
        watched.instrument(page.sequencer)
        with watched.request("answer"):
            await page.answer({"name": "Ada"})

        [span] = watched.ours()
        assert {"released": "message", "answered": "answer"} == watched.links(span)
        assert (0, 2) == watched.seconds(span)
        assert "message" == watched.parent(span)

    async def test_a_process_without_traces_in_between(self, watched: Watched) -> None:
        """A call that was released by a process without traces has no link to another request in its place."""
        page = watched.page(enqueuing(*TWO), steps=[[calls("enqueues")], speaks("Done.")])
        with watched.request("message"):
            await page.say()
        page.restart()
        with watched.request("answer 1"):
            await page.answer()
        page.restart()
        watched.instrument(page.sequencer)
        with watched.request("answer 2"):
            await page.answer()

        [span] = watched.ours()
        assert ({"answered": "answer 2"}, "message") == (watched.links(span), watched.parent(span))

    async def test_a_process_without_traces_before(self, watched: Watched) -> None:
        """A call that was sent before anybody traced is a span too, linked to the request that answered it."""
        page = Waiting(MemoryStore(), [[calls("chooses")], speaks("Good.")], tool(chooses), clock=watched.clock)
        await page.say()
        page.restart()
        watched.instrument(page.sequencer)
        with watched.request("answer"):
            await page.answer({"name": "Ada"})

        [span] = watched.ours()
        assert ({"answered": "answer"}, None) == (watched.links(span), watched.parent(span))

    async def test_without_a_span_around_the_request(self, watched: Watched) -> None:
        """If nobody traces the requests there is nothing to link to, and the span is made all the same."""
        page = watched.page(tool(chooses), steps=[[calls("chooses")], speaks("Good.")])
        await page.say()
        await page.answer({"name": "Ada"})

        [span] = watched.ours()
        assert ({}, None) == (watched.links(span), watched.parent(span))
        assert ["execute_tool choose_agent", "client_tool_calls", "waiting_tool chooses"] == watched.names()

    async def test_one_for_each_call_of_a_queue(self, watched: Watched) -> None:
        """Each call of a queue is a span from its own release on: the time in the queue is not part of it."""
        page = watched.page(enqueuing(*TWO), steps=[[calls("enqueues")], speaks("Done.")])
        await page.say()
        watched.clock.now += 2
        await page.answer()
        watched.clock.now += 3
        await page.answer()

        assert [(0, 2), (2, 5)] == [watched.seconds(span) for span in watched.ours()]
        assert [0, 1] == [(span.attributes or {})["chatkit_clienttools.position"] for span in watched.ours()]
        assert [False, False] == [
            (span.attributes or {})["chatkit_clienttools.answer_wanted"] for span in watched.ours()
        ]

    async def test_a_repeated_answer(self, watched: Watched) -> None:
        """An answer that is posted again ends nothing twice: the body of the tool runs again, and no span is made."""
        page = await chosen(watched)

        await page.answer({"name": SECRET})

        assert [1, 1] == [len(watched.ours()), len(watched.ours("waiting_tool"))]

    async def test_a_body_that_runs_again(self, watched: Watched) -> None:
        """A tool that asks three times runs four times from the top, and each of its calls is one span."""

        async def thrice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return ", ".join([await chooses(sequencer, ctx) for _ in range(3)])

        page = watched.page(tool(thrice), steps=[[calls("thrice")], speaks("Good.")])
        await page.say()
        for _ in range(3):
            watched.clock.now += 1
            await page.answer({"name": "Ada"})

        assert [(0, 1), (1, 2), (2, 3)] == [watched.seconds(span) for span in watched.ours()]
        assert [(0, 3)] == [watched.seconds(span) for span in watched.ours("waiting_tool")]

    async def test_a_call_that_is_sent_again(self, watched: Watched) -> None:
        """A page that was loaded again gets the call again: one span, from the latest release on, with its attempt."""
        page = watched.page(tool(chooses), steps=[[calls("chooses")], speaks("Good.")])
        with watched.request("message"):
            await page.say()
        watched.clock.now += 2
        with watched.request("reload"):
            await page.reload()
        watched.clock.now += 3
        with watched.request("answer"):
            await page.answer({"name": "Ada"})

        [span] = watched.ours()
        assert (2, 5) == watched.seconds(span)
        assert 2 == (span.attributes or {})["chatkit_clienttools.attempt"]
        assert {"released": "reload", "answered": "answer"} == watched.links(span)
        assert [({"gen_ai.tool.name": "choose_agent"}, 1)] == watched.metrics()["chatkit_clienttools.repeats {call}"]

    async def test_nothing_of_what_users_did(self, watched: Watched) -> None:
        """Spans and metrics hold no arguments and no answers."""
        await chosen(watched)

        assert SECRET not in "".join(span.to_json() for span in watched.spans.get_finished_spans())
        assert SECRET not in repr(watched.metrics())


FAILURES = [
    ({"error": SECRET}, "browser_error", "the browser reported an error"),
    ({"nam": SECRET}, "invalid_answer", "the answer does not fit the tool's result type: name (missing)"),
    ({"name": "x" * 3000}, "refused_answer", "the browser's answer was refused: it is larger than 2,000 bytes"),
]


class TestOutcomes:
    @pytest.mark.parametrize(("answer", "error_type", "reason"), FAILURES, ids=[each[1] for each in FAILURES])
    async def test_a_failed_call(self, watched: Watched, answer: Any, error_type: str, reason: str) -> None:
        """A failed call is an error, with its type in one word, and the reason in words that quote nobody."""
        page = watched.page(tool(chooses), steps=[[calls("chooses")], speaks("Oh.")], max_answer_bytes=2000)
        await page.say()
        receipt = {"_receipt": page.asked["arguments"]["_receipt"]}
        await page.post({**receipt, **answer} if "error" in answer else {**receipt, "result": answer})

        [span] = watched.ours()
        attributes = dict(span.attributes or {})
        assert ("failed", error_type) == (attributes["chatkit_clienttools.outcome"], attributes["error.type"])
        assert ("ERROR", reason) == (span.status.status_code.name, span.status.description)
        [(measured, _)] = watched.metrics()["gen_ai.execute_tool.duration s"]
        assert error_type == measured["error.type"]

    async def test_an_answer_that_cannot_be_checked(self, watched: Watched) -> None:
        """A validator of the application that raises something of its own is an error of its own type."""
        event = event_of(State.FAILED, reason="the browser's answer could not be checked: ZeroDivisionError")

        assert "unchecked_answer" == otel.error_type_of(event)

    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    async def test_a_cancelled_call(self, watched: Watched) -> None:
        """A call that the user's message cancels at the browser is a span without an error; the rest was never sent."""
        page = watched.page(
            enqueuing(selection(), selection()), steps=[[calls("enqueues")], speaks("Wait."), speaks("Well.")]
        )
        await page.say()
        watched.clock.now += 2
        await page.say("never mind")

        [span] = watched.ours()
        assert "cancelled" == (span.attributes or {})["chatkit_clienttools.outcome"]
        assert ("UNSET", (0, 2)) == (span.status.status_code.name, watched.seconds(span))

    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    async def test_a_required_call(self, watched: Watched) -> None:
        """A required call that waits while the user's message is answered is sent again, and is one span."""
        page = watched.page(enqueuing(stop()), steps=[[calls("enqueues")], speaks("Wait."), speaks("Well.")])
        await page.say()
        watched.clock.now += 2
        await page.say("never mind")
        watched.clock.now += 3
        await page.answer()

        [span] = watched.ours()
        assert (2, 5) == watched.seconds(span)
        assert 2 == (span.attributes or {})["chatkit_clienttools.attempt"]
        assert {0} == {value for _, value in watched.metrics()["chatkit_clienttools.open_calls {call}"]}

    async def test_an_expired_call(self, watched: Watched) -> None:
        """A call whose time is over is an outcome of its own, and no error; expiries are counted."""
        sign = ClientTool("sign", expires_after=timedelta(seconds=5))

        page = watched.page(
            enqueuing(sign()), steps=[[calls("enqueues")], speaks("Wait."), speaks("Oh.")], tools=[sign]
        )
        await page.say()
        watched.clock.now += 6
        await page.answer()

        [span] = watched.ours()
        attributes = dict(span.attributes or {})
        assert ("expired", None) == (attributes["chatkit_clienttools.outcome"], attributes.get("error.type"))
        assert ("UNSET", (0, 6)) == (span.status.status_code.name, watched.seconds(span))
        assert [({"gen_ai.tool.name": "sign"}, 1)] == watched.metrics()["chatkit_clienttools.expiries {call}"]

    async def test_a_denied_call(self, watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
        """A user who declines is an outcome and no error; the tool gets the reason "denied", and no notice is shown."""

        async def insists(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return await chooses(sequencer, ctx)
            except CallFailedError as error:
                return f"{error.reason}, {error.report}"

        page = watched.page(tool(insists), steps=[[calls("insists")], speaks("As you like.")])
        await page.say()
        reply = await page.fail(DENIED)

        [span] = watched.ours()
        attributes = dict(span.attributes or {})
        assert ("denied", None) == (attributes["chatkit_clienttools.outcome"], attributes.get("error.type"))
        assert "UNSET" == span.status.status_code.name
        assert ("output", "denied, None") in page.seen_by_model
        assert "notice" not in reply.types
        assert 1 == sum("failed, denied" in message for message in caplog.messages)


class TestSpanOfATool:
    async def test_a_tool_that_waited(self, watched: Watched) -> None:
        """A tool that waited is a span from the model's call to its return, linked to the request with the answer."""
        page = await chosen(watched)

        [span] = watched.ours("waiting_tool")
        assert "waiting_tool chooses" == span.name
        assert {
            "gen_ai.tool.name": "chooses",
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.conversation.id": page.chat.thread_id,
        } == dict(span.attributes or {})
        assert (0, 2) == watched.seconds(span)
        assert ({"answered": "answer"}, "message") == (watched.links(span), watched.parent(span))


class TestSpanOfAPlan:
    async def test_calls_of_a_queue(self, watched: Watched) -> None:
        """A plan is a span from the request for its first call to the end of its last one, in one trace with these."""
        page = watched.page(enqueuing(*TWO), steps=[[calls("enqueues")], speaks("Done.")])
        with watched.request("message"):
            await page.say()
        for name in ("answer 1", "answer 2"):
            watched.clock.now += 2
            with watched.request(name):
                await page.answer()

        [plan] = watched.ours("client_tool_calls")
        assert (0, 4) == watched.seconds(plan)
        assert {"gen_ai.conversation.id": page.chat.thread_id} == dict(plan.attributes or {})
        assert {"answered": "answer 2"} == watched.links(plan)
        assert ["message"] * 3 == [watched.parent(span) for span in [plan, *watched.ours()]]

    async def test_a_single_call(self, watched: Watched) -> None:
        """A plan of one call is a span as well."""
        page = watched.page(
            enqueuing(ClientTool("sign")()), steps=[[calls("enqueues")], speaks("Done."), speaks("Seen.")]
        )
        with watched.request("message"):
            await page.say()
        await page.answer()

        [plan] = watched.ours("client_tool_calls")
        assert "message" == watched.parent(plan)

    async def test_a_tool_that_asks_three_times(self, watched: Watched) -> None:
        """The plan of a tool that waits is over when the tool has returned, whichever processes have woken it."""

        async def thrice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            return ", ".join([await chooses(sequencer, ctx) for _ in range(3)])

        page = watched.page(tool(thrice), steps=[[calls("thrice")], speaks("Good.")])
        with watched.request("message"):
            await page.say()
        for n in range(3):
            watched.clock.now += 1
            page.restart()
            watched.instrument(page.sequencer)
            with watched.request(f"answer {n}"):
                await page.answer({"name": "Ada"})

        spans = [*watched.ours(), *watched.ours("waiting_tool"), *watched.ours("client_tool_calls")]
        assert [(0, 1), (1, 2), (2, 3), (0, 3), (0, 3)] == [watched.seconds(span) for span in spans]
        assert ["message"] * 5 == [watched.parent(span) for span in spans]
        assert ["message", "answer 0", "answer 1", None, None] == [watched.links(s).get("released") for s in spans]

    async def test_the_next_plan(self, watched: Watched) -> None:
        """What the model asks for once it has read the answers is a plan of its own."""
        steps = [[calls("chooses")], [calls("chooses", call_id="call_2")], speaks("Good.")]
        page = watched.page(tool(chooses), steps=steps)
        with watched.request("message"):
            await page.say()
        for name in ("answer 1", "answer 2"):
            watched.clock.now += 1
            with watched.request(name):
                await page.answer({"name": "Ada"})

        plans = watched.ours("client_tool_calls")
        assert [(0, 1), (1, 2)] == [watched.seconds(plan) for plan in plans]
        assert ["message", "answer 1"] == [watched.parent(plan) for plan in plans]

    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    async def test_a_plan_that_is_cancelled(self, watched: Watched) -> None:
        """A plan whose calls the user's message cancels is over then."""
        page = watched.page(enqueuing(*TWO), steps=[[calls("enqueues")], speaks("Wait."), speaks("Well.")])
        await page.say()
        watched.clock.now += 2
        await page.say("never mind")

        assert [(0, 2)] == [watched.seconds(plan) for plan in watched.ours("client_tool_calls")]

    async def test_a_store_that_fails(self, watched: Watched) -> None:
        """A plan whose end could not be saved is a span once, when the answer is posted again."""
        store = WatchedStore(PlansStore())
        page = Waiting(store, [[calls("enqueues")], speaks("Done.")], enqueuing(*TWO), clock=watched.clock)
        watched.instrument(page.sequencer)
        await page.say()
        await page.answer()
        done: list[str] = []

        async def fails(name: str, args: Any) -> None:
            if name == "save_plan" and "save_item" in done:
                raise OSError("away")
            done.append(name)

        store.before = fails
        await page.answer()
        at_first = watched.names()
        store.before = None
        await page.answer()

        assert ["execute_tool run_search_animation"] * 2 == at_first
        assert [*at_first, "client_tool_calls"] == watched.names()

    async def test_what_is_kept(self, watched: Watched) -> None:
        """Only an instrumented sequencer keeps what spans need, for as long as calls are open, without a write more."""
        counts = []
        for is_traced in (False, True):
            store = WatchedStore(PlansStore())
            page = Waiting(store, [[calls("enqueues")], speaks("Done.")], enqueuing(*TWO), clock=watched.clock)
            if is_traced:
                watched.instrument(page.sequencer)
            await page.say()
            during = await page.plan()
            await page.answer()
            await page.answer()
            counts.append(store.counts)
            assert (is_traced, False) == (during.trace is not None, (await page.plan()).trace is not None)

        plain, traced = counts
        assert plain == traced


class TestContents:
    async def shown(self, watched: Watched, contents: Any, name: str = "Ada") -> dict[str, Any]:
        """What the span of an answered call shows of its contents."""
        page = Waiting(MemoryStore(), [[calls("chooses")], speaks("Good.")], tool(chooses), clock=watched.clock)
        watched.instrument(page.sequencer, contents=contents)
        await page.say()
        await page.answer({"name": name})
        return contents_of(watched.ours())

    async def test_none_by_default(self, watched: Watched) -> None:
        """Unless it is asked for, a span shows nothing of the arguments and the answer."""
        assert {} == await self.shown(watched, contents=False)

    async def test_all(self, watched: Watched) -> None:
        """With contents=True a span shows the arguments and the answer as JSON, without the receipt."""
        shown = await self.shown(watched, contents=True)

        assert {"arguments": f'{{"people":["{SECRET}"]}}', "result": '{"name":"Ada"}'} == shown

    async def test_what_a_function_lets_through(self, watched: Watched) -> None:
        """A function gets the tool, which of the two it is, and the value; None leaves it out."""
        asked: list[Any] = []

        def redact(tool: str, kind: str, value: Any) -> Any:
            asked.append((tool, kind, value))
            return {"people": len(value["people"])} if kind == "arguments" else None

        shown = await self.shown(watched, redact)

        assert {"arguments": '{"people":1}'} == shown
        arguments = ("choose_agent", "arguments", {"people": [SECRET]})
        assert [arguments, ("choose_agent", "result", {"name": "Ada"})] == asked

    @pytest.mark.parametrize("answer", [ZeroDivisionError(SECRET), object()], ids=["it raises", "no JSON"])
    async def test_a_function_that_fails(
        self, watched: Watched, caplog: pytest.LogCaptureFixture, answer: object
    ) -> None:
        """If the function fails, the span is made without contents, and the log says so without quoting any."""

        def redact(tool: str, kind: str, value: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        shown = await self.shown(watched, redact)

        assert {} == shown
        assert 2 == sum("contents= of instrument() raised" in message for message in caplog.messages)
        assert SECRET not in caplog.text

    async def test_what_is_large(self, watched: Watched) -> None:
        """Of a content that is too large for a span only its size is shown."""
        shown = await self.shown(watched, contents=True, name="x" * otel.MAX_CONTENT)

        assert f"[left out: {otel.MAX_CONTENT + 11:,} characters]" == shown["result"]

    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    async def test_a_call_without_an_answer(self, watched: Watched) -> None:
        """The span of a cancelled call shows its arguments, and no answer."""
        page = Waiting(MemoryStore(), [[calls("enqueues")], speaks("Wait."), speaks("Oh.")], enqueuing(selection()))
        watched.instrument(page.sequencer, contents=True)
        await page.say()
        await page.say("never mind")

        assert {"arguments": "{}"} == contents_of(watched.ours())


def contents_of(spans: list[ReadableSpan]) -> dict[str, Any]:
    """What the only span shows of arguments and answers."""
    [span] = spans
    kinds = {kind: (span.attributes or {}).get(f"gen_ai.tool.call.{kind}") for kind in ("arguments", "result")}
    return {kind: text for kind, text in kinds.items() if text is not None}


class TestMetrics:
    async def test_what_is_measured(self, watched: Watched) -> None:
        """Durations are in seconds, and no series has the id of a thread or a call."""
        page = watched.page(enqueuing(*TWO), steps=[[calls("enqueues")], speaks("Done.")])
        await page.say()
        watched.clock.now += 2
        await page.answer()

        name = {"gen_ai.tool.name": "run_search_animation"}
        outcome = {"chatkit_clienttools.outcome": "completed", "gen_ai.operation.name": "execute_tool"}
        assert {
            "gen_ai.execute_tool.duration s": [({**name, **outcome}, 2)],
            "chatkit_clienttools.queue.duration s": [(name, 2)],
            "chatkit_clienttools.open_calls {call}": [(name, 1)],
        } == watched.metrics()

    async def test_a_tool_that_waits(self, watched: Watched) -> None:
        """How long tools wait is measured from the model's call to their return."""
        await chosen(watched)

        assert [({"gen_ai.tool.name": "chooses"}, 2)] == watched.metrics()[
            "chatkit_clienttools.waiting_tool.duration s"
        ]

    async def test_no_call_stays_open(self, watched: Watched) -> None:
        """A call that was answered, has failed or was cancelled is not open any more, also one that was never sent."""
        steps = [
            [calls("chooses")],
            speaks("Oh."),
            [calls("enqueues")],
            speaks("Done."),
            [calls("chooses")],
            speaks("Bye."),
        ]
        page = watched.page(enqueuing(*TWO), tool(chooses), steps=steps)
        await page.say()
        await page.fail()
        await page.say("go on")
        await page.answer()
        await page.answer()
        await page.say("and on")
        await page.say("never mind")

        opened = watched.metrics()["chatkit_clienttools.open_calls {call}"]
        assert {0} == {value for _, value in opened}

    async def test_boundaries(self, watched: Watched) -> None:
        """The boundaries of histograms are made for seconds: from a hundredth of one to a day."""
        await chosen(watched)

        data = watched.reader.get_metrics_data()
        assert data
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        points: dict[str, Any] = {each.name: each.data.data_points[0] for each in metrics if each.unit == "s"}
        found = {name: tuple(point.explicit_bounds) for name, point in points.items()}
        assert {otel.SECONDS} == set(found.values())
        assert 3 == len(found)


def event_of(state: State, **fields: Any) -> LifecycleEvent:
    event = LifecycleEvent("thr_1", "call_1", "tc_1", "animate", 0, 1, State.PENDING, state, 40)
    return replace(event, **fields)


class TestInstrument:
    async def test_other_observers_stay(self, watched: Watched) -> None:
        """The observers that the sequencer was given hear of everything as before."""
        events: list[LifecycleEvent] = []
        page = watched.page(tool(chooses), steps=[[calls("chooses")]], observers=[events.append])

        await page.say()

        assert [State.QUEUED, State.PENDING] == [event.state for event in events]

    def test_twice(self, watched: Watched) -> None:
        """A sequencer is instrumented once: everything would count twice."""
        page = watched.page(steps=[])

        with pytest.raises(UsageError, match="once for each sequencer"):
            watched.instrument(page.sequencer)

    def test_without_opentelemetry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without opentelemetry-api the module says what to install."""
        monkeypatch.delitem(sys.modules, "chatkit_clienttools.otel")
        monkeypatch.setitem(sys.modules, "opentelemetry", None)

        with pytest.raises(ImportError, match=r"needs opentelemetry-api: pip install 'chatkit-clienttools\[otel\]'"):
            importlib.import_module("chatkit_clienttools.otel")


async def test_the_picture_in_the_docs_is_of_a_real_trace() -> None:
    """The picture in docs/guides/traces.md shows what a conversation exports now: `make docs` draws it."""
    page = trace_picture.PAGE.read_text("utf-8")

    assert await trace_picture.current(page) == page
