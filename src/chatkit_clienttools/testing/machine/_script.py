"""What can be said to a server, and what it then asks for: the subject of a random conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from chatkit_clienttools import ClientTool
from chatkit_clienttools.errors import UsageError

from ._oracle import Tool
from ._server import ACTIONS, MESSAGES, TOOLS, RehearsalServer

OnUserMessage = Literal["cancel", "keep"]
OnFailure = Literal["continue", "abort"]

OURS = {"messages": MESSAGES, "actions": ACTIONS, "tools": TOOLS}
"""What the server answers to that is brought along for a store."""


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


def script_of(machine: Any) -> Script:
    """Return what a machine was told; raise if a conversation cannot be made of it, naming the attribute."""
    _refuse_options(machine)
    _refuse_asks(machine, "messages")
    _refuse_asks(machine, "actions")
    _refuse_a_script_without_calls(machine)
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


def _refuse_options(machine: Any) -> None:
    for name, options in (("on_user_message", get_args(OnUserMessage)), ("on_failure", get_args(OnFailure))):
        if getattr(machine, name) not in options:
            raise _wrong(
                machine, name, f"is {getattr(machine, name)!r}, and has to be {' or '.join(map(repr, options))}"
            )
    for tool in machine.tools:
        if not isinstance(tool, ClientTool):
            raise _wrong(machine, "tools", f"has {tool!r}, and each of them has to be a ClientTool")


def _refuse_asks(machine: Any, attribute: str) -> None:
    asks = getattr(machine, attribute)
    if asks is OURS[attribute]:
        return
    if not isinstance(asks, Mapping):
        raise _wrong(machine, attribute, f"is {asks!r}, and has to be a dict of texts and the tools they ask for")
    declared = {tool.name for tool in machine.tools}
    for said, names in asks.items():
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise _wrong(machine, attribute, f"has {names!r} for {said!r}, and has to have a list of names of tools")
        for name in names:
            if name not in declared:
                raise _wrong(machine, "tools", f"lacks {name!r}, which {said!r} asks for: ClientTool({name!r}, ...)")
        if len(names) > machine.max_queued:
            many = f"{len(names)} calls, more than max_queued={machine.max_queued}"
            raise _wrong(machine, attribute, f"could never say {said!r}: it asks for {many}")


def _refuse_a_script_without_calls(machine: Any) -> None:
    """Raise if the user has nothing to begin with, or nothing that is said leads to a call."""
    said, pressed = machine.messages.values(), machine.actions.values()
    if not any(len(names) <= machine.max_queued for names in said):
        raise _wrong(machine, "messages", f"has none that asks for max_queued={machine.max_queued} calls or fewer")
    if not any(0 < len(names) <= machine.max_queued for names in (*said, *pressed)):
        raise _wrong(machine, "messages", "has none that asks for a client tool, nor has actions: what is to be tried?")


def _refuse_answers(machine: Any, script: Script) -> None:
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


def refuse_a_script_of_another(machine: Any) -> None:
    """Raise if what can be said is not what the machine's server answers to: a server of one's own, or ours."""
    is_ours = isinstance(machine.server, RehearsalServer)
    for attribute, ours in OURS.items():
        if is_ours and getattr(machine, attribute) is not ours:
            why = "the server that is brought along for a store has its own; one of yours comes from make_server"
            raise _wrong(machine, attribute, f"is not looked at: {why}")
        if not is_ours and attribute != "tools" and getattr(machine, attribute) is ours:
            what = "what can be written to it" if attribute == "messages" else "the actions that it has, or {}"
            raise _wrong(machine, attribute, f"is needed with a server of your own: {what}, and what it then asks for")


def is_report(answer: Any) -> bool:
    """Whether the page says that it could not do what it was asked for."""
    return isinstance(answer, dict) and answer.keys() == {"error"}


def _wrong(machine: Any, attribute: str, what: str) -> UsageError:
    return UsageError(f"{type(machine).__name__}.{attribute} {what}")
