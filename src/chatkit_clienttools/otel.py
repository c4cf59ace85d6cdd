"""Traces and metrics with OpenTelemetry: `instrument(sequencer)` (extra `otel`).

A span is made when its call has ended, with the times at which it began and ended. The process that hears the answer
may be another one than that which has sent the call, and days may lie between. Nothing has to be kept meanwhile.

Neither spans nor metrics hold arguments or answers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("instrument() needs opentelemetry-api: pip install 'chatkit-clienttools[otel]'") from error

from . import __version__
from ._protocol.states import State
from .errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import SpanContext, TracerProvider

    from .observe import LifecycleEvent, ToolEvent
    from .sequencer import ClientToolSequencer

Key = tuple[str, str, str]
"""A call or a tool: which of the two, the id of its thread, and its own."""

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)
"""The boundaries of histograms: a page answers in milliseconds, a person in minutes, or the next day."""

REMEMBERED = 1000
"""How many requests that have released a call are remembered, for the link to them."""

NO_ERRORS = frozenset({"denied", "expired"})
"""The reasons for which a call ends as failed that are outcomes of their own."""

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
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Let a sequencer make a span for each call that has ended, and measure how long calls wait.

    Without providers those are used that the application has set for OpenTelemetry, also if it sets them later.
    """
    rules = sequencer.rules
    if any(isinstance(observer, _Calls) for observer in rules.observers):
        raise UsageError("This sequencer is instrumented already: call instrument() once for each sequencer")
    tracer = _Tracer(sequencer, tracer_provider)
    meter = metrics.get_meter("chatkit_clienttools", __version__, meter_provider)
    rules.observers = (*rules.observers, _Calls(sequencer, tracer, meter))
    rules.tool_observers = (*rules.tool_observers, _Tools(tracer, meter))


class _Tracer:
    """Makes spans of what is over, linked to the requests in which it began and ended."""

    def __init__(self, sequencer: ClientToolSequencer, provider: TracerProvider | None) -> None:
        self._sequencer = sequencer
        self._tracer = trace.get_tracer("chatkit_clienttools", __version__, provider)
        self._begun: OrderedDict[Key, SpanContext] = OrderedDict()

    def has_begun(self, key: Key) -> bool:
        """Whether the request is remembered in which something began."""
        return key in self._begun

    def begin(self, key: Key) -> None:
        """Remember the request in which something begins."""
        self._begun[key] = trace.get_current_span().get_span_context()
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)

    def end(
        self,
        key: Key,
        name: str,
        waited_ms: int,
        attributes: dict[str, Any],
        status: trace.Status | None = None,
    ) -> None:
        """Make the span of what has ended now, and has begun `waited_ms` ago."""
        now = round(self._sequencer.rules.clock() * 1e9)
        requests = {"released": self._begun.pop(key, None), "answered": trace.get_current_span().get_span_context()}
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(trace.INVALID_SPAN),  # a trace of its own: it began before this request
            attributes=attributes,
            links=[
                trace.Link(context, {"chatkit_clienttools.link": kind})
                for kind, context in requests.items()
                if context is not None and context.is_valid
            ],
            start_time=now - waited_ms * 1_000_000,
        )
        if status is not None:
            span.set_status(status)
        span.end(now)


class _Calls:
    """Observes calls."""

    def __init__(self, sequencer: ClientToolSequencer, tracer: _Tracer, meter: metrics.Meter) -> None:
        self._sequencer = sequencer
        self._tracer = tracer
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
        tool = {"gen_ai.tool.name": event.tool}
        seconds, key = event.waited_ms / 1000, ("call", event.thread_id, event.call_id)
        if event.previous is None:
            self._open.add(1, tool)
        elif event.state is State.PENDING:
            self._tracer.begin(key)
            if event.attempt > 1:
                self._repeats.add(1, tool)
            if event.previous is State.QUEUED:
                self._queued.record(seconds, tool)
        elif event.state.is_final:
            self._open.add(-1, tool)
            self._end(event, seconds, key)

    def _end(self, event: LifecycleEvent, seconds: float, key: Key) -> None:
        if event.reason == "expired":
            self._expiries.add(1, {"gen_ai.tool.name": event.tool})
        if event.previous is State.QUEUED:
            return  # it was never sent
        measured = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.tool,
            "chatkit_clienttools.outcome": outcome_of(event),
        }
        has_failed = event.state is State.FAILED and event.reason not in NO_ERRORS
        if has_failed:
            measured["error.type"] = error_type_of(event)
        self._duration.record(seconds, measured)
        self._tracer.end(
            key,
            f"execute_tool {event.tool}",
            event.waited_ms,
            {
                **measured,
                "gen_ai.tool.call.id": event.call_id,
                "gen_ai.tool.type": "function",
                "gen_ai.conversation.id": event.thread_id,
                "chatkit_clienttools.position": event.position,
                "chatkit_clienttools.attempt": event.attempt,
                "chatkit_clienttools.answer_wanted": self._sequencer.tool(event.tool).answer_wanted,
            },
            trace.Status(trace.StatusCode.ERROR, event.reason) if has_failed else None,
        )


class _Tools:
    """Observes tools that wait."""

    def __init__(self, tracer: _Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._duration = _histogram(
            meter, "chatkit_clienttools.waiting_tool.duration", "Time from the model's call of a tool to its return"
        )

    def __call__(self, event: ToolEvent) -> None:
        tool, key = {"gen_ai.tool.name": event.tool}, ("tool", event.thread_id, event.call_id)
        if event.state == "waiting" and not self._tracer.has_begun(key):
            self._tracer.begin(key)
        elif event.state == "returned":
            self._duration.record(event.waited_ms / 1000, tool)
            attributes = {**tool, "gen_ai.tool.call.id": event.call_id, "gen_ai.conversation.id": event.thread_id}
            self._tracer.end(key, f"waiting_tool {event.tool}", event.waited_ms, attributes)


def outcome_of(event: LifecycleEvent) -> str:
    """Say how a call has ended: completed, failed, cancelled, expired or denied."""
    return event.reason if event.reason in NO_ERRORS else event.state.value


def error_type_of(event: LifecycleEvent) -> str:
    """Say in one word why a call has failed."""
    reason = event.reason or ""
    return next((kind for begins, kind in ERROR_TYPES.items() if reason.startswith(begins)), BROWSER_ERROR)


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)
