"""The model that says what a test has written."""

from __future__ import annotations

from agents import Agent, Runner, function_tool

from chatkit_clienttools.testing import scripted_model


@function_tool
def find(query: str) -> str:
    """Find people."""
    return f"Ada, for {query}"


async def test_it_calls_a_tool_and_speaks() -> None:
    """A pair calls a tool of the agent in one run, and a text is said in the next, which is given the tool's answer."""
    model = scripted_model(("find", {"query": "law"}), "There.")

    result = await Runner.run(Agent(name="Merak", model=model, tools=[find]), "Who?")

    assert "There." == result.final_output
    assert 2 == len(model.calls)
    assert "Ada, for law" in str(model.calls[1].input)


async def test_a_list_is_one_run() -> None:
    """A list says and calls several things in one run of the model, each with an id that no other one has."""
    model = scripted_model(["Wait.", ("find", {"query": "a"}), ("find", {"query": "b"})], "There.")

    result = await Runner.run(Agent(name="Merak", model=model, tools=[find]), "Who?")

    said, first, second = result.raw_responses[0].output
    assert 2 == len(model.calls)
    assert 3 == len({getattr(each, "id", None) for each in (said, first, second)})
    assert getattr(first, "call_id", 1) != getattr(second, "call_id", 1)
