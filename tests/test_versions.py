"""The versions that the project names agree with each other."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

from agents import Agent, FunctionTool, RunContextWrapper, Runner
from agents.testing import ScriptedModel
from packaging.requirements import Requirement
from tools.floors import floors

from tests.helpers.merak import calls, speaks

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
SDKS = re.findall(r"^SDKS := (.+)$", MAKEFILE, re.MULTILINE)[0].split()
CHATKITS = re.findall(r"^CHATKITS := (.+)$", MAKEFILE, re.MULTILINE)[0].split()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_the_tested_chatkits_are_the_supported_ones() -> None:
    """`make test-chatkits` begins with the lowest ChatKit that pip may install and ends with that of `make test`."""
    oldest = re.findall(r"^OLDEST_CHATKIT := (\S+)$", MAKEFILE, re.MULTILINE)
    newest = re.findall(r"^CHATKIT \?= (\S+)$", MAKEFILE, re.MULTILINE)

    assert [floors(PYPROJECT)["openai-chatkit"]] == oldest == CHATKITS[:1]
    assert newest == CHATKITS[-1:]
    assert sorted(set(CHATKITS), key=numbers) == CHATKITS


def test_the_tested_sdks_are_the_supported_ones() -> None:
    """`make test-sdks` begins with the lowest openai-agents that pip may install and ends with that of `make test`."""
    tested = [sdk.partition(":")[0] for sdk in SDKS]
    newest = re.findall(r"^openai-agents==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)

    assert [floors(PYPROJECT)["openai-agents"], *newest] == [tested[0], tested[-1]]
    assert sorted(set(tested), key=numbers) == tested


def test_every_dependency_has_a_tested_lower_bound() -> None:
    """`make test-floors` installs a lowest version of every dependency, those of the extras included."""
    bounds = floors(PYPROJECT)
    wanted = {Requirement(line).name for line in metadata.requires("chatkit-clienttools") or []}

    assert set() == wanted - bounds.keys()


def test_bounds_are_read_from_every_kind_of_requirement() -> None:
    """A bound is found with an extra, with an upper bound and with neither; a requirement without one is left out."""
    text = '["plain>=1.2", "extra[one,two]>=2.0.1", "both>=3,<4", "none"]'

    assert {"plain": "1.2", "extra": "2.0.1", "both": "3"} == floors(text)


class Gate:
    """A tool that is asked whether it needs approval, and what it is asked."""

    def __init__(self, *waits: str) -> None:
        self.waits = waits
        self.asked: list[tuple[type, object, str]] = []
        self.invoked: list[str] = []
        self.tool = FunctionTool(
            name="gated",
            description="",
            params_json_schema={"type": "object", "properties": {}},
            on_invoke_tool=self._invoke,
            needs_approval=self._asks,
        )

    async def _asks(self, ctx: RunContextWrapper[Any], params: dict[str, Any], call_id: str) -> bool:
        assert call_id not in self.invoked
        self.asked.append((type(ctx), params, call_id))
        return call_id in self.waits

    async def _invoke(self, ctx: Any, arguments: str) -> str:
        self.invoked.append(ctx.tool_call_id)
        return "done"

    async def run(self, *steps: Any) -> Any:
        agent = Agent[Any](name="Gated", model=ScriptedModel(steps), tools=[self.tool])
        result = Runner.run_streamed(agent, "go")
        async for _ in result.stream_events():
            pass
        return result


class TestGate:
    """What waiting tools are built on: a tool of the Agents SDK is asked whether it needs approval, then invoked."""

    async def test_it_is_asked_once_for_each_call(self) -> None:
        """A tool is asked before it is invoked, once for each call, with the arguments and the call's id."""
        gate = Gate()
        together = [calls("gated", {"n": 1}, call_id="call_1"), calls("gated", {"n": 2}, call_id="call_2")]

        result = await gate.run(together, [calls("gated", call_id="call_3")], speaks("Good."))

        assert [({"n": 1}, "call_1"), ({"n": 2}, "call_2"), ({}, "call_3")] == [each[1:] for each in gate.asked]
        assert {RunContextWrapper} == {each[0] for each in gate.asked}
        assert ["call_1", "call_2", "call_3"] == gate.invoked
        assert "Good." == result.final_output

    async def test_one_that_waits_is_asked_once(self) -> None:
        """A tool that says yes is not invoked; one beside it is, and then the run ends without an output."""
        gate = Gate("call_1")
        together = [calls("gated", call_id="call_1"), calls("gated", call_id="call_2")]

        result = await gate.run(together, speaks("Never."))

        assert ["call_1", "call_2"] == [each[2] for each in gate.asked]
        assert (["call_2"], None) == (gate.invoked, result.final_output)
        assert ["call_1"] == [each.raw_item.call_id for each in result.interruptions]
