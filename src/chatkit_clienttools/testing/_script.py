"""What can be said to a server, and what it then asks for: the subject of a random conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from chatkit_clienttools import ClientTool
from chatkit_clienttools.errors import UsageError

from ._oracle import Tool

if TYPE_CHECKING:
    from .machine import LifecycleMachine

OnUserMessage = Literal["cancel", "keep"]
OnFailure = Literal["continue", "abort"]


@dataclass(frozen=True)
class Script:
    """What can be said to a server, and what it then asks for."""

    messages: Mapping[str, Sequence[str]]
    actions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    on_user_message: OnUserMessage = "cancel"
    on_failure: OnFailure = "continue"
    max_queued: int = 64

    def tool(self, name: str) -> Tool:
        """What is known of a tool; one that was not declared wants an answer."""
        return self.tools.get(name, Tool())

    def names(self) -> set[str]:
        """All tools that the server may ask for."""
        return {name for asked in (*self.messages.values(), *self.actions.values()) for name in asked}

    def answer(self, name: str, number: int) -> Any:
        """What the page answers; different each time, unless the tool can take one answer only."""
        answer = self.answers.get(name, lambda number: {"number": number})
        return answer(number) if callable(answer) else answer


def script_of(machine: LifecycleMachine) -> Script:
    """Return what a machine was told; raise if a conversation cannot be made of it, naming the attribute."""
    _refuse_options(machine)
    _refuse_asks(machine, "messages")
    _refuse_asks(machine, "actions")
    script = Script(
        messages=machine.messages,
        actions=machine.actions,
        tools={tool.name: Tool(tool.answer_wanted, tool.required) for tool in machine.tools},
        answers=machine.answers,
        on_user_message=machine.on_user_message,
        on_failure=machine.on_failure,
        max_queued=machine.max_queued,
    )
    _refuse_answers(machine, script)
    return script


def _refuse_options(machine: LifecycleMachine) -> None:
    for name, options in (("on_user_message", get_args(OnUserMessage)), ("on_failure", get_args(OnFailure))):
        if getattr(machine, name) not in options:
            raise _wrong(
                machine, name, f"is {getattr(machine, name)!r}, and has to be {' or '.join(map(repr, options))}"
            )
    for tool in machine.tools:
        if not isinstance(tool, ClientTool):
            raise _wrong(machine, "tools", f"has {tool!r}, and each of them has to be a ClientTool")


def _refuse_asks(machine: LifecycleMachine, attribute: str) -> None:
    asks = getattr(machine, attribute)
    if not isinstance(asks, Mapping):
        raise _wrong(machine, attribute, f"is {asks!r}, and has to be a dict of texts and the tools they ask for")
    for said, names in asks.items():
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise _wrong(machine, attribute, f"has {names!r} for {said!r}, and has to have a list of names of tools")
    if attribute == "messages" and all(len(names) > machine.max_queued for names in asks.values()):
        short = f"none that asks for max_queued={machine.max_queued} calls or fewer"
        raise _wrong(machine, attribute, f"has {short}: the user has nothing to begin with")


def _refuse_answers(machine: LifecycleMachine, script: Script) -> None:
    unknown = sorted(set(script.answers) - script.names())
    if unknown:
        raise _wrong(machine, "answers", f"has {unknown}, and neither messages nor actions ask for that")
    for tool in machine.tools:
        if tool.name not in script.names():
            continue
        answer = script.answer(tool.name, 1)
        problem = tool.problem_with(answer)
        if problem and not is_report(answer):
            raise _wrong(
                machine, "answers", f"has to say what the page answers to {tool.name!r}; {answer!r}: {problem}"
            )


def is_report(answer: Any) -> bool:
    """Whether the page says that it could not do what it was asked for."""
    return isinstance(answer, dict) and answer.keys() == {"error"}


def _wrong(machine: LifecycleMachine, attribute: str, what: str) -> UsageError:
    return UsageError(f"{type(machine).__name__}.{attribute} {what}")
