"""Traces and metrics with OpenTelemetry: `instrument(sequencer)` (extra `otel`).

A span is made when what it shows has ended, with the times at which that began and ended. The process that hears the
answer may be another one than that which has sent the call, and days may lie between. All that is kept meanwhile is
the plan's `Trace`: the request that began the plan, in whose trace all its spans are, and the one that released the
call which is out.

A span of the plan cannot be the parent of those of its calls. A parent's id has to be known when its first child is
exported, and OpenTelemetry makes no span under an id that was chosen before. So they are children of one request.

Metrics never hold arguments or answers. Spans do only if they are asked for, with `contents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import to_json

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("instrument() needs opentelemetry-api: pip install 'chatkit-clienttools[otel]'") from error

from . import __version__
from ._protocol.states import State
from .answers import OUTCOMES
from .errors import UsageError
from .observe import logger, place_of
from .receipts import answer_of

if TYPE_CHECKING:
    from chatkit.types import ClientToolCallItem
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import SpanContext, TracerProvider

    from ._protocol.plan import PlannedCall, Trace
    from .observe import LifecycleEvent, ToolEvent
    from .sequencer import ClientToolSequencer

Contents = Callable[[str, Literal["arguments", "result"], Any], Any]
"""Returns what a span may show of the arguments or the answer of a call, by the name of the tool; None for nothing."""

MAX_CONTENT = 32 * 1024
"""How many characters of JSON a span shows of one content. It has no part of a larger one: an image is megabytes."""

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)
"""The boundaries of histograms: a page answers in milliseconds, a person in minutes, or the next day."""

ERROR_TYPES = {
    "the answer does not fit": "invalid_answer",
    "the browser's answer could not be checked": "unchecked_answer",
    "the browser's answer was refused": "refused_answer",
}
"""What the reason of a failed call begins with, and its `error.type`."""

BROWSER_ERROR = "browser_error"
"""The `error.type` of a call whose handler in the page has failed."""


def instrument(
    sequencer: ClientToolSequencer,
    *,
    contents: bool | Contents = False,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Let a sequencer make spans of its calls, and measure how long they wait.

    Without providers those are used that the application has set for OpenTelemetry, also if it sets them later.

    Args:
        sequencer: What is instrumented; once.
        contents: Whether spans show the arguments and the answers of calls. A function is called with the name of the
            tool, with "arguments" or "result", and with the value, and returns what may be shown of it.
        tracer_provider: What makes spans.
        meter_provider: What measures.
    """
    rules = sequencer.rules
    if rules.tracer is not None:
        raise UsageError("This sequencer is instrumented already: call instrument() once for each sequencer")
    rules.tracer = _Tracer(sequencer, trace.get_tracer("chatkit_clienttools", __version__, tracer_provider), contents)
    meter = metrics.get_meter("chatkit_clienttools", __version__, meter_provider)
    rules.observers = (*rules.observers, _Calls(meter))
    rules.tool_observers = (*rules.tool_observers, _Tools(meter))


class _Tracer:
    """Makes a span of each call, each tool that waits, and each plan, when it is over."""

    def __init__(self, sequencer: ClientToolSequencer, tracer: trace.Tracer, contents: bool | Contents) -> None:  # noqa: FBT001
        self._sequencer = sequencer
        self._tracer = tracer
        self._contents = contents

    def here(self) -> str | None:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        ids = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        return f"00-{ids[0]}-{ids[1]}-{context.trace_flags:02x}"

    def of_call(
        self, call: PlannedCall, item: ClientToolCallItem | None, belongs: Trace | None
    ) -> Callable[[LifecycleEvent], None]:
        def end(event: LifecycleEvent) -> None:
            if not event.state.is_final or event.previous is State.QUEUED:
                return  # it goes on, or was never sent
            self._span(
                f"execute_tool {event.tool}",
                event.waited_ms / 1000,
                belongs,
                {
                    **outcome_attributes(event),
                    "gen_ai.tool.call.id": event.call_id,
                    "gen_ai.tool.type": "function",
                    "gen_ai.conversation.id": event.thread_id,
                    "chatkit_clienttools.position": event.position,
                    "chatkit_clienttools.attempt": event.attempt,
                    "chatkit_clienttools.answer_wanted": self._sequencer.tool(event.tool).answer_wanted,
                    **self._shown(call, item),
                },
                released=belongs.released if belongs and belongs.item == event.item_id else None,
                problem=event.reason if is_error(event) else None,
            )

        return end

    def of_tool(self, belongs: Trace | None) -> Callable[[ToolEvent], None]:
        def end(event: ToolEvent) -> None:
            attributes = {
                "gen_ai.tool.name": event.tool,
                "gen_ai.tool.call.id": event.call_id,
                "gen_ai.conversation.id": event.thread_id,
            }
            self._span(f"waiting_tool {event.tool}", event.waited_ms / 1000, belongs, attributes)

        return end

    def of_plan(self, thread_id: str) -> Callable[[Trace], None]:
        def end(belongs: Trace) -> None:
            seconds = self._sequencer.rules.clock() - belongs.began
            self._span("client_tool_calls", seconds, belongs, {"gen_ai.conversation.id": thread_id})

        return end

    def _span(
        self,
        name: str,
        seconds: float,
        belongs: Trace | None,
        attributes: dict[str, Any],
        *,
        released: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Make the span of what has ended now and took so long, as a child of the request that began its plan."""
        now = round(self._sequencer.rules.clock() * 1e9)
        began = _context_of(belongs.asked if belongs else None)
        requests = {"released": _context_of(released), "answered": trace.get_current_span().get_span_context()}
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(trace.NonRecordingSpan(began) if began else trace.INVALID_SPAN),
            attributes=attributes,
            links=[
                trace.Link(context, {"chatkit_clienttools.link": kind})
                for kind, context in requests.items()
                if context is not None and context.is_valid
            ],
            start_time=now - round(max(0.0, seconds) * 1e9),
        )
        if problem is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, problem))
        span.end(now)

    def _shown(self, call: PlannedCall, item: ClientToolCallItem | None) -> dict[str, str]:
        """Return the contents of a call that its span may show, as JSON."""
        if self._contents is False:
            return {}
        values: dict[Literal["arguments", "result"], Any] = {"arguments": call.arguments}
        if item is not None and item.status == "completed":
            values["result"] = answer_of(item)
        shown = {f"gen_ai.tool.call.{kind}": self._redacted(call.name, kind, value) for kind, value in values.items()}
        return {key: text for key, text in shown.items() if text is not None}

    def _redacted(self, tool: str, kind: Literal["arguments", "result"], value: Any) -> str | None:
        if callable(self._contents):
            try:
                value = self._contents(tool, kind, value)
                text = None if value is None else to_json(value).decode()
            except Exception as error:  # noqa: BLE001  the function is the application's, and its error may quote the value
                kept, place = type(error).__name__, place_of(error)
                logger.warning("contents= of instrument() raised %s%s: a span has no %s of %s", kept, place, kind, tool)
                return None
        else:
            text = to_json(value).decode()
        return text if text is None or len(text) <= MAX_CONTENT else f"[left out: {len(text):,} characters]"


class _Calls:
    """Measures calls."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._duration = _histogram(
            meter, "gen_ai.execute_tool.duration", "Time from the release of a call to its answer"
        )
        self._queued = _histogram(
            meter, "chatkit_clienttools.queue.duration", "Time from the request for a call to its release"
        )
        self._open = meter.create_up_down_counter(
            "chatkit_clienttools.open_calls", "{call}", "Calls that are queued or at the browser"
        )
        self._repeats = meter.create_counter("chatkit_clienttools.repeats", "{call}", "Calls that were sent again")
        self._expiries = meter.create_counter("chatkit_clienttools.expiries", "{call}", "Calls whose time was over")

    def __call__(self, event: LifecycleEvent) -> None:
        tool, seconds = {"gen_ai.tool.name": event.tool}, event.waited_ms / 1000
        if event.previous is None:
            self._open.add(1, tool)
        elif event.state is State.PENDING:
            if event.attempt > 1:
                self._repeats.add(1, tool)
            if event.previous is State.QUEUED:
                self._queued.record(seconds, tool)
        elif event.state.is_final:
            self._open.add(-1, tool)
            if event.reason == "expired":
                self._expiries.add(1, tool)
            if event.previous is not State.QUEUED:  # otherwise it was never sent
                self._duration.record(seconds, outcome_attributes(event))


class _Tools:
    """Measures tools that wait."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._duration = _histogram(
            meter, "chatkit_clienttools.waiting_tool.duration", "Time from the model's call of a tool to its return"
        )

    def __call__(self, event: ToolEvent) -> None:
        if event.state == "returned":
            self._duration.record(event.waited_ms / 1000, {"gen_ai.tool.name": event.tool})


def outcome_attributes(event: LifecycleEvent) -> dict[str, str]:
    """Return the attributes that a span and its duration share."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": event.tool,
        "chatkit_clienttools.outcome": outcome_of(event),
    }
    return {**attributes, "error.type": error_type_of(event)} if is_error(event) else attributes


def is_error(event: LifecycleEvent) -> bool:
    """Whether a call has failed; that it has expired, or was denied, is an outcome and no error."""
    return event.state is State.FAILED and event.reason not in OUTCOMES.values()


def outcome_of(event: LifecycleEvent) -> str:
    """Say how a call has ended: completed, failed, cancelled, expired or denied."""
    return event.reason if event.reason is not None and event.reason in OUTCOMES.values() else event.state.value


def error_type_of(event: LifecycleEvent) -> str:
    """Say in one word why a call has failed."""
    reason = event.reason or ""
    return next((kind for begins, kind in ERROR_TYPES.items() if reason.startswith(begins)), BROWSER_ERROR)


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)


def _context_of(traceparent: str | None) -> SpanContext | None:
    """Return the context of the span that a traceparent names."""
    if traceparent is None:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
