"""Tools that may wait for the browser: what the Agents SDK makes of such a tool, and how its body gets to run.

The SDK asks whether a tool needs approval before it invokes it. That is where the body runs. If it waits, the SDK takes
the tool for one that waits for an approval: it lets parallel tools finish, and ends the run in good order. If the body
has come to its end, the SDK invokes the tool, which returns what is known already.
"""

from __future__ import annotations

import functools
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import agents
from agents import ItemHelpers
from agents.tool import default_tool_error_function
from agents.tool_context import ToolContext
from openai.types.responses import ResponseFunctionToolCall

from chatkit_clienttools._protocol.outputs import new_tool_id
from chatkit_clienttools._protocol.plan import WaitingTool
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.observe import log_and_return

from .asked import transaction
from .replay import Replay, current_replay, mute_repetitions
from .requests import setting
from .run import current_queue, current_run, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from agents import FunctionSpanData, RunContextWrapper, Span
    from agents.tool import ToolFunction
    from chatkit.agents import AgentContext

    from .rules import Rules

SEEN_IN_PARTS = ("needs_approval", "timeout", "tool_input_guardrails", "tool_output_guardrails")
"""The options of `agents.function_tool` that a tool which waits cannot have: each would see its body in parts."""


_APPROVED = (
    "was approved while it waits for the browser, and its body was not run. `result.interruptions` holds the tools "
    "that wait, beside those that your application has to approve: leave them out."
)


class WaitingBody:
    """What a sequencer knows of one of its tools: the function, and what the Agents SDK has made of it."""

    def __init__(self, rules: Rules, function: ToolFunction[...], options: Mapping[str, Any]) -> None:
        self.rules = rules
        self.function: Any = function
        self.tool = agents.function_tool(self._wrapped(), **options)
        self._invoke = self.tool.on_invoke_tool
        self.tool.on_invoke_tool = self._on_invoke
        if not any(options.get(name) for name in SEEN_IN_PARTS):
            self.tool.needs_approval = self._has_to_wait

    @property
    def name(self) -> str:
        """What the model knows it by."""
        return self.tool.name

    @property
    def place(self) -> str:
        """Where its function stands in the code."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def _wrapped(self) -> ToolFunction[...]:
        """Wrap the function so that it runs within the run of a tool, and takes back what it enqueued if it raises."""

        @functools.wraps(self.function)
        async def body(*args: Any, **kwargs: Any) -> Any:
            running = current_replay.get()
            if running is not None and running.tool is self:
                return await running.go(args, kwargs)
            with transaction(self.name, current_queue()):
                return await self.function(*args, **kwargs)

        return body

    async def _has_to_wait(self, ctx: RunContextWrapper[Any], params: dict[str, Any], call_id: str) -> bool:
        """Run the body, and say whether it waits: the Agents SDK asks it before it invokes the tool."""
        run = open_run(self.rules, ctx.context)
        if run is None:
            return False  # the tool says what is wrong if it asks or enqueues
        if call_id in run.returned:
            return False
        if run.knows_as_waiting(call_id):
            return True
        known = run.tools.get(call_id)
        if known is not None and known.output is not None:
            run.tools[known.waiting.id] = known  # it has been told: some providers give the next call the same id
            known = None
        if known is None:
            waiting = WaitingTool(
                id=new_tool_id(),
                call_id=call_id,
                name=self.name,
                arguments=json.dumps(params),
                at=self.rules.clock(),
                turn=run.turn,
            )
            is_nested = current_replay.get() is not None or (isinstance(ctx, ToolContext) and not run.keeps_state)
            known = run.tools[call_id] = Replay(self, run.surroundings, waiting, is_nested=is_nested)
            await self._run(known, ctx.context)
        return known.is_waiting

    async def _on_invoke(self, ctx: ToolContext[Any], arguments: str) -> Any:
        """Return what the body has returned, or run it if nobody has asked whether it has to wait."""
        run, serving = open_run(self.rules, ctx.context), current_run()
        # after Stop too, when the run is not open any more: the body has run already
        known = serving.tools.get(ctx.tool_call_id) if serving else None
        if run is not None and ctx.tool_call_id in run.returned:
            return run.returned[ctx.tool_call_id]  # in a run that is taken up again
        if run is not None and (known.is_waiting if known else run.knows_as_waiting(ctx.tool_call_id)):
            log_and_return(UsageError(f"The tool {self.name} {_APPROVED}"))
            return "This tool still waits for the browser."
        with setting(current_replay, known):
            output = await self._invoke(ctx, arguments)
        if known is not None:
            known.output = _as_json(known.waiting, output)
        return output

    async def wake(self, running: Replay, context: AgentContext[Any]) -> None:
        """Run the body of a tool that waited, with the answers it has by now."""
        await self._run(running, context)
        running.raise_failure()
        if not running.has_ended:  # it waits, or another request has taken it over
            return
        ctx = _tool_context(context, running.waiting)
        with setting(current_replay, running), _span(self.name) as span:
            try:
                output = await self._invoke(ctx, running.waiting.arguments)
            except Exception as error:  # noqa: BLE001  failure_error_function=None ends a run, but there is none here
                output = default_tool_error_function(ctx, error)
            if span is not None:
                span.span_data.output = str(output)
        running.output = _as_json(running.waiting, output)

    async def _run(self, running: Replay, context: AgentContext[Any]) -> None:
        """Run the body up to its end, or up to the first answer that is missing."""
        mute_repetitions(context)
        running.context = context
        with setting(current_replay, running):
            await self._invoke(_tool_context(context, running.waiting), running.waiting.arguments)
        if not running.has_run:  # the arguments do not fit (any more): the Agents SDK tells the model why
            running.has_ended = True


def _span(name: str) -> AbstractContextManager[Span[FunctionSpanData] | None]:
    """Return a span for a tool that has gone on, if the application has a trace around the request."""
    return nullcontext() if agents.get_current_trace() is None else agents.function_span(name)


def _tool_context(context: Any, waiting: WaitingTool) -> ToolContext[Any]:
    return ToolContext(
        context=context,
        tool_name=waiting.name,
        tool_call_id=waiting.call_id,
        tool_arguments=waiting.arguments,
    )


def _as_json(waiting: WaitingTool, output: Any) -> str:
    """Return what a tool has returned as the Agents SDK shows it to the model."""
    call = ResponseFunctionToolCall(
        type="function_call", call_id=waiting.call_id, name=waiting.name, arguments=waiting.arguments
    )
    return json.dumps(ItemHelpers.tool_call_output_item(call, output)["output"])
