"""The model without a key: it follows its rule, and speaks word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents import Agent, Runner, function_tool

from examples.offline import Heard, OfflineModel, Reply, Use, heard, model_or_offline

if TYPE_CHECKING:
    import pytest


@function_tool
def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


def rule(told: Heard) -> Reply:
    total = told.said("add")
    return [Use("add", {"one": 1, "other": 2})] if total is None else f"That makes {total}."


async def test_it_uses_a_tool_and_says_what_came_of_it() -> None:
    """The rule decides on a tool first, and on words when it has heard what the tool said."""
    agent = Agent[Any](name="Adder", model=OfflineModel(rule), tools=[add])

    result = await Runner.run(agent, "One and two?")

    assert "That makes 3." == result.final_output


async def test_it_speaks_word_by_word() -> None:
    """What it streams are words, and together they are what it says."""
    agent = Agent[Any](name="Adder", model=OfflineModel(rule), tools=[add])

    result = Runner.run_streamed(agent, "One and two?")
    words = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]

    assert ["That", " makes", " 3."] == words


def test_it_hears_what_came_after_the_last_message() -> None:
    """Of a conversation it hears the last message, and what tools and it itself have said since then."""
    conversation = [
        {"role": "user", "content": "Before"},
        {"type": "function_call", "call_id": "call_1", "name": "old"},
        {"type": "function_call_output", "call_id": "call_1", "output": "gone"},
        {"role": "user", "content": [{"type": "input_text", "text": "Now"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
        {"type": "function_call", "call_id": "call_2", "name": "new"},
        {"type": "function_call_output", "call_id": "call_2", "output": "here"},
    ]

    assert Heard("Now", (("new", "here"),), "Wait.") == heard(conversation)


def test_a_key_is_for_the_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OPENAI_API_KEY the Agents SDK chooses its own model."""
    monkeypatch.setenv("OPENAI_API_KEY", "a key")

    assert None is model_or_offline(rule)
