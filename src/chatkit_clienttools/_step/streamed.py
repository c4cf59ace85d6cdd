"""A run of an agent that is taken up again as it was when one of its tools began to wait.

Without it the model goes on from the thread's items, which know the tools that waited and their outputs. That is enough
for most agents. The Agents SDK's own state of a run knows more: which agent was used as a tool, which had taken over,
and what other tools have returned. It changes with the versions of the SDK, so it is never needed: a state that cannot
be read is dropped, and the model goes on from the items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper, Runner
from agents.run_state import RunState

from chatkit_clienttools.observe import logger

from .run import open_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agents import Agent, RunResultStreaming
    from agents.items import ToolApprovalItem
    from agents.stream_events import StreamEvent
    from chatkit.agents import AgentContext

    from .rules import Rules
    from .run import Run


class StreamedRun:
    """A streamed run of an agent, for `stream_agent_response`. Its result is there when it has begun."""

    def __init__(
        self, rules: Rules, agent: Agent[Any], history: Any, context: AgentContext[Any], options: Mapping[str, Any]
    ) -> None:
        self._rules = rules
        self._agent = agent
        self._history = history
        self._context = context
        self._options = options
        self._result: RunResultStreaming | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what the result of the run has: `final_output`, `interruptions`, `to_input_list()`."""
        if self._result is None:
            raise AttributeError(f"{name}: the run has not begun. Stream it first.")
        return getattr(self._result, name)

    async def stream_events(self) -> AsyncIterator[StreamEvent]:
        """Begin the run, or take it up again, and yield its events."""
        run = open_run(self._rules, self._context)
        if run is not None:
            run.keeps_state = True
        state = await self._state_of(run) if run else None
        start = self._history if state is None else state
        options = dict(self._options) if state is not None else {**self._options, "context": self._context}
        self._result = result = Runner.run_streamed(self._agent, start, **options)
        async for event in result.stream_events():
            yield event
        if run is not None and run.waits:
            run.keep_state(result.to_state().to_string(context_serializer=_nothing_of))

    async def _state_of(self, run: Run) -> RunState[Any, Any] | None:
        """Return the state to go on from, with the tools that have returned let go."""
        kept = await run.state_to_go_on_from()
        if kept is None:
            return None
        text, run.returned = kept
        state: RunState[Any, Any] | None = None
        try:
            state = await RunState.from_string(
                self._agent,
                text,
                context_override=RunContextWrapper(self._context),
                context_deserializer=lambda _: self._context,  # of the runs of agents that are used as tools
            )
            go_on = [self._goes_on(state, waiting, run) for waiting in state.get_interruptions()]
            problem = None if all(go_on) else "a tool in it has not returned"
        except Exception as error:  # noqa: BLE001  whatever another version of the SDK has written
            problem = f"it cannot be read, {type(error).__name__}"
        if problem is None:
            return state
        run.returned = {}
        logger.info("the state of a run is dropped (%s): the model goes on from the items", problem)
        return None

    def _goes_on(self, state: RunState[Any, Any], waiting: ToolApprovalItem, run: Run) -> bool:
        """Let a tool go that has returned; False for one of ours that has not."""
        if _call_id_of(waiting) in run.returned:
            state.approve(waiting)
            return True
        return waiting.tool_name not in self._rules.waiting  # the application's own stays open


def _call_id_of(waiting: ToolApprovalItem) -> str | None:
    call: Any = waiting.raw_item
    call_id: str | None = call.get("call_id") if isinstance(call, dict) else getattr(call, "call_id", None)
    return call_id


def _nothing_of(context: Any) -> dict[str, Any]:  # noqa: ARG001  it is made anew, and may hold what is nobody's business
    return {}
