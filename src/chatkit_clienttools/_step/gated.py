"""Tools that may wait for the browser: what the Agents SDK makes of such a tool, and how its body gets to run.

The SDK asks whether a tool needs approval before it invokes it. That is where the body runs. If it waits, the SDK takes
the tool for one that waits for an approval: it lets parallel tools finish, and ends the run in good order. If the body
has come to its end, the SDK invokes the tool, which returns what is known already.
"""

from __future__ import annotations

import functools
import inspect
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

from .lookup import current_body, current_queue, open_body
from .queued import transaction
from .repetitions import mute_repetitions
from .replay import Replay, current_replay
from .requests import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class GatedTool:
    """What a sequencer knows of one of its tools: the function, and what the Agents SDK has made of it."""

    def __init__(self, rules: Rules, function: ToolFunction[...], options: Mapping[str, Any]) -> None:
        self.rules = rules
        self.function: Any = function
        self.tool = agents.function_tool(self._wrapped(), **options)
        self._invoke = self.tool.on_invoke_tool
        self.tool.on_invoke_tool = self._on_invoke
        if in_parts := [f"{name}=" for name in SEEN_IN_PARTS if options.get(name)]:
            rules.cannot_wait[self.name] = f"has {' and '.join(in_parts)}"
        else:
            self.tool.needs_approval = self._gate
            rules.register(self)

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
                return await self.call(args, kwargs)

        return body

    async def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function; what it returns has to be more than the promise of a result."""
        result = await self.function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()
            raise log_and_return(
                UsageError(f"The tool {self.name} returns a coroutine: write `await` before {result.__name__}(...)")
            )
        return result

    async def _gate(self, ctx: RunContextWrapper[Any], params: Any, call_id: str) -> bool:
        """Say whether the tool waits: the Agents SDK asks before it invokes it."""
        return await self.has_to_wait(ctx, json.dumps(params), call_id)

    async def has_to_wait(self, ctx: RunContextWrapper[Any], arguments: str, call_id: str) -> bool:
        """Run the function as far as it goes, and say whether it waits."""
        body = open_body(self.rules, ctx.context)
        if body is None or call_id in body.returned:
            return False  # without a body the tool says what is wrong if it asks or enqueues
        if body.run.knows_as_waiting(call_id, self.name, arguments):
            return True
        known = body.tools.get(call_id)
        if known is not None and known.output is not None:
            body.tools[known.waiting.id] = known  # it has been told: some providers give the next call the same id
            known = None
        if known is None:
            waiting = WaitingTool(
                id=new_tool_id(),
                call_id=call_id,
                name=self.name,
                arguments=arguments,
                at=self.rules.clock(),
                turn=body.turn,
            )
            is_nested = current_replay.get() is not None or (isinstance(ctx, ToolContext) and not body.keeps_state)
            known = body.tools[call_id] = Replay(self, body, waiting, is_nested=is_nested)
            await self._run(known, ctx.context)
        return known.is_waiting

    async def _on_invoke(self, ctx: ToolContext[Any], arguments: str) -> Any:
        """Return what the body has returned, or run it if nobody has asked whether it has to wait."""
        body, latest = open_body(self.rules, ctx.context), current_body()
        # after Stop too, when the body is not open any more: the function has run already
        known = latest.tools.get(ctx.tool_call_id) if latest else None
        if latest is not None and ctx.tool_call_id in latest.returned:
            return latest.returned[ctx.tool_call_id]  # in a run that is taken up again
        if body is not None and (
            known.is_waiting if known else body.run.knows_as_waiting(ctx.tool_call_id, self.name, arguments)
        ):
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
            span.span_data.output = str(output)
        running.output = _as_json(running.waiting, output)

    async def _run(self, running: Replay, context: AgentContext[Any]) -> None:
        """Run the body up to its end, or up to the first answer that is missing."""
        mute_repetitions(context)
        running.begin(context)
        # the Agents SDK wants to note errors in a span, and warns if there is none
        untraced = agents.get_current_trace() is None
        with setting(current_replay, running), _span(self.name) if untraced else nullcontext():
            await self._invoke(_tool_context(context, running.waiting), running.waiting.arguments)
        if not running.has_run:  # the arguments do not fit (any more): the Agents SDK tells the model why
            running.has_ended = True


def _span(name: str) -> Span[FunctionSpanData]:
    """Return a span for a tool that has gone on; it is recorded if the application has a trace around the request."""
    return agents.function_span(name, disabled=agents.get_current_trace() is None)


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
