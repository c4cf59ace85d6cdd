"""What can be said to a server, and what it then asks for: the subject of a random conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from chatkit_clienttools import ClientTool
from chatkit_clienttools.errors import UsageError

from ._oracle import Tool
from ._server import ACTIONS, MESSAGES, TOOLS, RehearsalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

OnUserMessage = Literal["cancel", "keep"]
OnFailure = Literal["continue", "abort"]

OURS = {"messages": MESSAGES, "actions": ACTIONS, "tools": TOOLS}
"""What the server answers to that is brought along for a store."""


@dataclass(frozen=True)
class Script:
    """What can be said to a server, and what it then asks for."""

    messages: Mapping[str, Sequence[str]]
    actions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    """The declared client tools, by name."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    on_user_message: OnUserMessage = "cancel"
    on_failure: OnFailure = "continue"
    max_queued: int = 64

    def tool(self, name: str) -> Tool:
        """What is known of a tool; one that was not declared wants an answer."""
        declared = self.tools.get(name)
        return Tool(declared.answer_wanted, declared.required) if declared else Tool()

    def names(self) -> set[str]:
        """All tools that the server may ask for."""
        return {name for asked in (*self.messages.values(), *self.actions.values()) for name in asked}

    def answer(self, name: str, number: int) -> Any:
        """What the page answers; different each time, unless the tool can take one answer only."""
        answer = self.answers.get(name, lambda number: {"number": number})
        return answer(number) if callable(answer) else answer


def script_of(machine: Any) -> Script:
    """Return the script of a `LifecycleMachine`; raise if no conversation can be made of it, naming the attribute."""
    script = Script(
        messages=machine.messages,
        actions=machine.actions,
        tools={getattr(tool, "name", ""): tool for tool in machine.tools},
        answers=machine.answers,
        on_user_message=machine.on_user_message,
        on_failure=machine.on_failure,
        max_queued=machine.max_queued,
    )
    for attribute, problem in _problems(script):
        raise _wrong(machine, attribute, problem)
    return script


def _problems(script: Script) -> Iterator[tuple[str, str]]:
    """Yield the attributes that cannot be right, and what is wrong with them."""
    for name, options in (("on_user_message", get_args(OnUserMessage)), ("on_failure", get_args(OnFailure))):
        if getattr(script, name) not in options:
            yield name, f"is {getattr(script, name)!r}, and has to be {' or '.join(map(repr, options))}"
    for tool in script.tools.values():
        if not isinstance(tool, ClientTool):
            yield "tools", f"has {tool!r}, and each of them has to be a ClientTool"
    for attribute in ("messages", "actions"):
        yield from _problems_with_asks(script, attribute, getattr(script, attribute))
    if not any(len(names) <= script.max_queued for names in script.messages.values()):
        yield "messages", f"has none that asks for max_queued={script.max_queued} calls or fewer"
    asks = [*script.messages.values(), *script.actions.values()]
    if not any(0 < len(names) <= script.max_queued for names in asks):
        yield "messages", "has none that asks for a client tool, nor has actions: what is to be tried?"
    yield from _problems_with_answers(script)


def _problems_with_answers(script: Script) -> Iterator[tuple[str, str]]:
    if unknown := sorted(set(script.answers) - script.names()):
        yield "answers", f"has {unknown}, and neither messages nor actions ask for that"
    for name in sorted(script.names() & set(script.tools)):
        answer = script.answer(name, 1)
        problem = script.tools[name].problem_with(answer)
        if problem and not is_report(answer):
            yield "answers", f"has to say what the page answers to {name!r}; {answer!r}: {problem}"


def _problems_with_asks(script: Script, attribute: str, asks: Any) -> Iterator[tuple[str, str]]:
    if asks is OURS[attribute]:
        return
    if not isinstance(asks, Mapping):
        yield attribute, f"is {asks!r}, and has to be a dict of texts and the tools they ask for"
    for said, names in asks.items():
        if isinstance(names, str) or not isinstance(names, Sequence):
            yield attribute, f"has {names!r} for {said!r}, and has to have a list of names of tools"
        for name in names:
            if name not in script.tools:
                yield "tools", f"lacks {name!r}, which {said!r} asks for: ClientTool({name!r}, ...)"
        if len(names) > script.max_queued:
            many = f"{len(names)} calls, more than max_queued={script.max_queued}"
            yield attribute, f"could never say {said!r}: it asks for {many}"


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
