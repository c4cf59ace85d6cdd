"""The client tools of a trial, and the tool that waits for them: it does, in order, what the message says."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from agents import Agent, RunContextWrapper, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext  # noqa: TC002  the Agents SDK reads what a tool takes

from chatkit_clienttools import ClientTool
from chatkit_clienttools.errors import CallCancelledError

if TYPE_CHECKING:
    from agents import FunctionTool

    from chatkit_clienttools import ClientToolSequencer
    from tests.processes.ledger import Ledger

set_tracing_disabled(True)

show = ClientTool("show", result=None)
ask = ClientTool("ask", result=dict[str, str])  # the model gets the answer
stop = ClientTool("stop", result=None, required=True)  # goes out even if the user writes first
TOOLS = {tool.name: tool for tool in (show, ask, stop)}

STEP = "step"
"""What a message says if the tool is to take a step; everything else that it says is a client tool."""

STEP_SECONDS = 0.05
"""How long a step takes, and what the tool does with its result."""

CANCELLED = "cancelled"
"""What the tool hears instead of an answer if the user has written before."""


def waiting_tool(sequencer: ClientToolSequencer, ledger: Ledger) -> FunctionTool:
    """Make the tool. It returns what it has heard: the mark of each answer, in order."""

    async def token(run: str, number: int) -> str:
        """Return something else each time that it runs."""
        made = uuid4().hex
        ledger.write(kind="step", run=run, number=number, pid=os.getpid())
        try:
            await asyncio.sleep(STEP_SECONDS)
        except asyncio.CancelledError:  # the page has lost another stream, and has given up this one, too
            ledger.write(kind="cut", run=run, number=number, pid=os.getpid())
            raise
        return made

    @sequencer.function_tool
    async def obey(ctx: RunContextWrapper[AgentContext[Any]], run: str, does: list[str]) -> str:
        ledger.write(kind="body", run=run)
        heard: list[str] = []
        tokens: list[str] = []
        for what in does:
            if what == STEP:
                tokens.append(await sequencer.step(ctx, token, run, len(tokens)))
            else:
                mark = f"{run}/{len(heard) + 1}"
                try:
                    answer = await sequencer.ask(ctx, TOOLS[what](mark=mark, of=len(asks_in(does))))
                except CallCancelledError:
                    heard.append(CANCELLED)
                else:
                    heard.append(answer["mark"] if answer else mark)
            if heard:  # it was woken: what it has by now is in its journal
                ledger.write(kind="seen", run=run, tokens=tokens)
            if what == STEP:
                await asyncio.sleep(STEP_SECONDS)
        return json.dumps(heard)

    return obey


def asks_in(does: list[str]) -> list[str]:
    """The client tools that a message names."""
    return [what for what in does if what != STEP]


def agent(tool: FunctionTool, run: str, does: list[str] | None) -> Agent[Any]:
    """Make an agent that calls the tool; without anything to do, one that says what its tools have returned."""

    def reply(call: Any) -> list[Any]:
        if does is not None:
            return [function_call(tool.name, {"run": run, "does": does}, call_id=run, item_id=uuid4().hex)]
        heard = outputs_in(call.input[_place_of_message(call.input) :])
        return [assistant_message(json.dumps(list(heard.values())), item_id=uuid4().hex)]

    return Agent(name="obedient", model=ScriptedModel([{"responder": reply}]), tools=[tool])


def outputs_in(history: list[Any]) -> dict[str, str]:
    """What tools have returned, as the model reads it, by the ids of their calls."""
    return {each["call_id"]: each["output"] for each in history if each.get("type") == "function_call_output"}


def _place_of_message(history: list[Any]) -> int:
    """The place of the newest message of the user."""
    return max(place for place, each in enumerate(history) if each.get("role") == "user")
