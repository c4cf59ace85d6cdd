"""A run of an agent that is taken up again as it was when one of its tools began to wait.

Without it the model goes on from the thread's items, which know the tools that waited and their outputs. That is enough
for most agents. The Agents SDK's own state of a run knows more: which agent was used as a tool, which had taken over,
and what other tools have returned. It changes with the versions of the SDK, so it is never needed: a state that cannot
be read is dropped, and the model goes on from the items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agents import Runner
from agents.run_state import RunState

from chatkit_clienttools.observe import logger

from .lookup import open_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agents import Agent, RunResultStreaming
    from agents.items import ToolApprovalItem
    from agents.stream_events import StreamEvent
    from chatkit.agents import AgentContext

    from .body import RunningBody
    from .rules import Rules


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
        self._is_cancelled = False

    def __getattr__(self, name: str) -> Any:
        """Return what the result of the run has: `final_output`, `interruptions`, `to_input_list()`."""
        if self._result is None:
            raise AttributeError(f"{name}: the run has not begun. Stream it first.")
        return getattr(self._result, name)

    def cancel(self, mode: Literal["immediate", "after_turn"] = "immediate") -> None:
        """End the run, as its result would; one that has not begun does not begin."""
        self._is_cancelled = True
        if self._result is not None:
            self._result.cancel(mode)

    async def stream_events(self) -> AsyncIterator[StreamEvent]:
        """Begin the run, or take it up again, and yield its events."""
        body = open_body(self._rules, self._context)
        state, before = None, set[str]()
        if body is not None:
            body.keeps_state, before = True, {*body.tools}
            state = await self._state_of(body)
        while not self._is_cancelled:
            result = self._begin(state)
            async for event in result.stream_events():
                yield event
            if body is None or (state := await self._unparked(result, body)) is None:
                break
        ended = self._result
        if ended is None or body is None:
            return
        if _waits_in(ended, body):
            body.keep_state(ended.to_state().to_string(context_serializer=_nothing_of))
        if not self._is_cancelled:
            _tell_of_lost_runs(ended, body, before)

    def _begin(self, state: RunState[Any, Any] | None) -> RunResultStreaming:
        """Begin a run, from its state if there is one."""
        if state is None:
            self._result = Runner.run_streamed(self._agent, self._history, context=self._context, **self._options)
        else:
            self._result = Runner.run_streamed(self._agent, state, **self._options)
        return self._result

    async def _unparked(self, result: RunResultStreaming, body: RunningBody) -> RunState[Any, Any] | None:
        """Return the state to go on from if the run has ended with tools that do not wait; None if there are none.

        Since 0.19 the Agents SDK parks a call whose arguments are no JSON object, and does not ask whether it waits.
        """
        ended = [] if self._is_cancelled else result.interruptions
        parked = [each for each in ended if self._is_ours(each) and each.call_id not in body.tools]
        goes_on = [each for each in parked if not await self._has_to_wait(each, result)]
        if not goes_on:
            return None
        state: RunState[Any, Any] = result.to_state()
        for each in goes_on:
            state.approve(each)
        return state

    async def _has_to_wait(self, parked: ToolApprovalItem, result: RunResultStreaming) -> bool:
        """Run the tool of a call that was parked, and say whether it waits."""
        tool = self._rules.gated.get(str(parked.tool_name))
        arguments = (parked.arguments or "").strip() or "{}"  # some providers send nothing for a tool without arguments
        return tool is not None and await tool.has_to_wait(result.context_wrapper, arguments, str(parked.call_id))

    async def _state_of(self, body: RunningBody) -> RunState[Any, Any] | None:
        """Return the state to go on from, if all the tools that have waited in it have returned."""
        kept = await body.run.state_to_go_on_from()
        if kept is None:
            return None
        text, body.returned = kept
        try:
            # the agents that are used as tools get this context, too
            state = await RunState.from_string(self._agent, text, context_deserializer=lambda _: self._context)
            if all(self._goes_on(waiting, body) for waiting in state.get_interruptions()):
                body.has_read_outputs = True
                return state
            problem = "a tool in it has not returned"
        except Exception as error:  # noqa: BLE001  whatever another version of the SDK has written
            problem = f"it cannot be read, {type(error).__name__}"
        body.returned = {}
        logger.info("the state of a run is dropped (%s): the model goes on from the items", problem)
        return None

    def _goes_on(self, waiting: ToolApprovalItem, body: RunningBody) -> bool:
        """Whether a tool goes on when the SDK asks it again; the application's own stay open."""
        return waiting.call_id in body.returned or not self._is_ours(waiting)

    def _is_ours(self, waiting: ToolApprovalItem) -> bool:
        return waiting.tool_name in self._rules.gated


def _waits_in(result: RunResultStreaming, body: RunningBody) -> bool:
    """Whether a run has ended because a tool waits; another run of the same request may have ended before."""
    return any(each.call_id in body.tools for each in result.interruptions)


def _tell_of_lost_runs(result: RunResultStreaming, body: RunningBody, before: set[str]) -> None:
    """Say which tool waits in a run that is not part of this one, though it was made in it: nobody takes that up."""
    known = before.union(each.call_id for each in result.interruptions)
    for call_id, running in body.tools.items():
        if running.is_waiting and call_id not in known:
            logger.error(
                "the tool %s waits for the browser in an agent that another tool has run with `Runner.run`, which gets "
                "no result of it: use `agent.as_tool(...)`",
                running.tool.name,
            )


def _nothing_of(context: Any) -> dict[str, Any]:  # noqa: ARG001  it is made anew, and may hold what is nobody's business
    return {}
