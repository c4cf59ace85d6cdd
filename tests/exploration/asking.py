"""The tool that awaits the browser, and what the Agents SDK does with it, without the SDK: that is faster.

It is as the SDK was measured, in every version from 0.8 on: all gates are asked at once, in tasks that inherit the
context; a tool whose gate says no is invoked; if any says yes, the run ends without another turn of the model. A client
that leaves does not stop the tools.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agents import FunctionTool, RunContextWrapper
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext
from chatkit.types import ClientEffectEvent

from chatkit_clienttools.errors import CallCancelledError, CallExpiredError, CallFailedError, StepFailedError

from .gates import current
from .scenario import TOOLS, Drawn, answer_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from chatkit.types import ThreadStreamEvent

    from chatkit_clienttools import ClientToolSequencer

    from .waiting import Running

Context = RunContextWrapper[AgentContext[Any]]


async def counts(body: Running, number: int) -> str:
    """Be a step of a body: it takes its time."""
    body.request.world.monitor.bodies.begins_step(body)
    await body.request.wait("step", f"{body.label} {number}")
    body.request.world.monitor.bodies.takes_step(body)
    body.request.note("step", number)
    return f"step {number}"


class BrokenError(Exception):
    """What a step raises that fails."""


async def breaks(body: Running, number: int) -> str:
    """Be a step of a body that takes its time, and fails."""
    raise BrokenError(await counts(body, number))


class Script:
    """The body of a tool: it does what its script says."""

    def __init__(self, sequencer: ClientToolSequencer, ctx: Context, label: str, words: str) -> None:
        self.sequencer = sequencer
        self.ctx = ctx
        self.label = label
        self.words = words.split()
        self.request = current.get()
        self.monitor = self.request.world.monitor
        self.body = self.monitor.bodies.begins(label, self.request)
        self.asked = 0
        self.told: list[Any] = []

    async def play(self) -> str:
        try:
            for word in self.words:
                await self._do(word)
            return self.monitor.bodies.returns(self.body, json.dumps(self.told))
        finally:
            self.body.has_ended = True

    async def _do(self, word: str) -> None:
        body = self.body
        match word:
            case "step":
                self.told.append(await self.sequencer.step(self.ctx, counts, body, body.steps))
                self.monitor.bodies.passes_step(body)
            case "fails":
                try:
                    await self.sequencer.step(self.ctx, breaks, body, body.steps)
                except StepFailedError as error:
                    self.told.append(f"{error.kind}: {error.text}")
                self.monitor.bodies.passes_step(body)
            case "effect":
                data = {"label": f"{self.label}.e{body.effects}", "position": body.position, "known": body.known}
                await self.ctx.context.stream(ClientEffectEvent(name="effect", data=data))
                body.effects += 1
            case "queues":
                label, number = self.monitor.bodies.queues(body)
                self.sequencer.enqueue(self.ctx, TOOLS["gets"](label=label, n=number))
            case "until":
                while not await self._ask("picks"):
                    pass
            case _:
                await self._ask(word)

    async def _ask(self, name: str) -> bool:
        """Ask the browser, and say whether that is over: only an answer that is an error can be asked again."""
        number, self.asked = self.asked, self.asked + 1
        label, bodies = f"{self.label}.{number}", self.monitor.bodies
        try:
            answer = await self.sequencer.ask(self.ctx, TOOLS[name](label=label, n=number))
        except CallCancelledError:
            bodies.is_cancelled(self.body, label)
            self.told.append("cancelled")
        except CallExpiredError:
            self.told.append("expired")
        except CallFailedError as error:
            bodies.is_told(label, error.report, expected=label)
            self.told.append("failed")
            self.body.position += 1
            return False
        else:
            told = answer.model_dump(exclude_unset=True) if isinstance(answer, Drawn) else answer
            bodies.is_told(label, told, expected=answer_to(name, label) if TOOLS[name].answer_wanted else None)
            self.told.append(label)
        self.body.position += 1
        return True


def tool_for(sequencer: ClientToolSequencer) -> FunctionTool:
    """Make the tool of a server: what it does, the model says."""

    @sequencer.function_tool
    async def works(ctx: RunContextWrapper[AgentContext[Any]], of: str, script: str) -> str:
        """Do what the script says."""
        return await Script(sequencer, ctx, of, script).play()

    return works


class Turn:
    """One turn of the model, in which it calls tools: what the SDK does with them."""

    def __init__(self, context: AgentContext[Any], tool: FunctionTool, calls: Mapping[str, str]) -> None:
        self.context = context
        self.tool = tool
        self.calls = calls
        self.is_interrupted = False

    async def events(self) -> AsyncIterator[ThreadStreamEvent]:
        """Run the tools, and yield what they stream."""
        if not self.calls:
            return
        events: asyncio.Queue[Any] = self.context._events
        end = object()
        task = asyncio.create_task(self._all())
        task.add_done_callback(lambda _: events.put_nowait(end))
        while (event := await events.get()) is not end:
            yield event
        await task

    async def _all(self) -> None:
        ctx = RunContextWrapper(self.context)
        await asyncio.gather(*(self._one(ctx, label, script) for label, script in self.calls.items()))

    async def _one(self, ctx: Context, label: str, script: str) -> None:
        call_id, arguments = f"call-{label}", {"of": label, "script": script}
        has_to_wait: Any = self.tool.needs_approval
        if await has_to_wait(ctx, arguments, call_id):
            self.is_interrupted = True
            return
        text = json.dumps(arguments)
        its = ToolContext(self.context, tool_name="works", tool_call_id=call_id, tool_arguments=text)
        await self.tool.on_invoke_tool(its, text)
