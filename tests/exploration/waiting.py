"""The tools that await the browser: what their bodies do, and what must not happen to them.

A body does what its script says, one word after the other. Whatever happens to an `ask`, it goes on with the next word,
and in the end it returns what it was told. It does nothing at random, so it may be run again from the top.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .stores import durable, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .gates import Request
    from .properties import Call, Monitor
    from .stores import Durable

ASKS = ("picks", "plays", "insists", "until")
"""The words of a script that ask the browser; `until` asks until the answer is no error."""

MOST_ASKS = 9
"""More asks than any script has."""

_AWAITED = re.compile(r"\.t\d+\.\d+$")
_PAIR = ("function_call", "function_call_output")
_OF_A_TOOL = re.compile(r"\.t\d+(\.q)?$")


class Waiting(NamedTuple):
    """A tool that waits, as the plan in a store has it."""

    label: str
    journal: tuple[Any, ...]
    calls: frozenset[str]
    """The calls that are in the plan with it."""
    is_at_work: bool
    """Whether a body is said to be at work, and it is that of this tool."""

    @property
    def steps(self) -> int:
        return sum(entry["kind"] == "step" for entry in self.journal)

    @property
    def is_open(self) -> bool:
        """Whether one of its calls is to be answered still."""
        return any(entry["kind"] == "ask" and not _is_known(entry) for entry in self.journal)

    @property
    def has_insisted(self) -> bool:
        """Whether it has asked for a call that nobody may cancel."""
        return any(entry["name"] == "insists" for entry in self.journal)

    @property
    def is_kept(self) -> bool:
        """Whether it waits for a call that was not cancelled."""
        return any(entry.get("call") in self.calls and not _is_known(entry) for entry in self.journal)


class Running:
    """One run of a body."""

    def __init__(self, label: str, request: Request, waiting: Waiting | None) -> None:
        self.label = label
        self.request = request
        self.known = len(waiting.journal) if waiting else 0
        """How long the journal was when it began."""
        self.position = 0
        self.steps = 0
        self.effects = 0
        self.queued = 0
        self.has_ended = False
        self.is_woken = waiting is not None

    @property
    def keeps_its_steps(self) -> bool:
        """Whether each step that it has begun comes to its end and is recorded."""
        request = self.request
        return self.is_woken and not (request.dead or request.outlived or request.saw_store_fail or request.disturbed)

    @property
    def counts(self) -> bool:
        """Whether nothing has hit its request: then nobody may have taken it for dead."""
        return not (self.request.dead or self.request.disturbed or self.request.saw_store_fail)

    @property
    def key(self) -> tuple[Any, ...]:
        where = (self.known, self.position, self.steps, self.effects)
        return self.label, self.request.name, *where, self.has_ended, self.counts


class Bodies:
    """Watches the bodies of one execution."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.called: dict[str, tuple[str, ...]] = {}
        """By request, the tools that the model has called in it."""
        self.promised: set[str] = set()
        """The tools that have been seen to wait."""
        self.outputs: dict[str, Any] = {}
        self.returned: dict[str, set[str]] = {}
        self.running: list[Running] = []
        self.streamed: dict[str, list[Request]] = {}
        self.begun: dict[tuple[str, int], list[Running]] = {}
        """By step, the runs of bodies in which it has begun."""
        self.passed: dict[str, int] = {}
        """How many steps of a body are behind it."""
        self.silenced: dict[str, frozenset[str]] = {}
        """The tools that the user has cancelled by writing, with the calls they had by then."""
        self.cancelled: list[tuple[str, str]] = []
        self.problems: list[tuple[str, str]] = []

    @property
    def key(self) -> tuple[Any, ...]:
        streamed = tuple(sorted((label, sum(map(_has_gone_well, seen))) for label, seen in self.streamed.items()))
        running = tuple(run.key for run in self.running if not run.has_ended)
        silenced = tuple(sorted((label, tuple(sorted(calls))) for label, calls in self.silenced.items()))
        begun = frozenset(step for step, runs in self.begun.items() if any(run.keeps_its_steps for run in runs))
        return running, streamed, frozenset(self.promised), tuple(sorted(self.passed.items())), begun, silenced

    def after_all_died(self, monitor: Monitor) -> Bodies:
        """Return a watch that goes on when every process is gone."""
        other = Bodies(monitor)
        other.called, other.promised, other.outputs = {**self.called}, {*self.promised}, {**self.outputs}
        other.returned = {label: {*outputs} for label, outputs in self.returned.items()}
        other.streamed = {label: [r for r in seen if r.is_over] for label, seen in self.streamed.items()}
        other.passed, other.silenced = {**self.passed}, {**self.silenced}
        return other

    # what it is told

    def calls(self, request: Request, labels: Iterable[str]) -> None:
        """The model calls tools in the run that `request` has begun."""
        self.called[request.name] = tuple(labels)

    def begins(self, label: str, request: Request) -> Running:
        """A body begins, from the top."""
        held = _now(request)
        waiting = waiting_in(held).get(label)
        run = Running(label, request, waiting)
        if run.counts and self.monitor.scenario.is_exact:
            if any(other.label == label and not other.has_ended and other.counts for other in self.running):
                self._found("a body run twice at once", f"{label} in {request.name}")
            if label in outputs_in(held):
                self._found("a body that ran again", f"{label} in {request.name}, after it has returned")
        if waiting is not None and waiting.is_open and run.counts:
            self._found("a body woken by another call's answer", f"{label} in {request.name}: its own is not there")
        self.running.append(run)
        return run

    def begins_step(self, run: Running) -> None:
        """A function begins that is a step of a body: in no other run of it that comes to its end has it begun."""
        runs = self.begun.setdefault((run.label, run.steps), [])
        if self.monitor.scenario.is_exact and any(other.keeps_its_steps for other in runs):
            self._found("a step that ran again", f"step {run.steps} of {run.label}, in {run.request.name}")
        runs.append(run)

    def takes_step(self, run: Running) -> None:
        """A function has run that is a step of a body: no body has gone on from it, and it is not in the journal."""
        waiting = waiting_in(_now(run.request)).get(run.label)
        is_recorded = waiting is not None and waiting.steps > run.steps
        is_passed = self.monitor.scenario.is_exact and self.passed.get(run.label, 0) > run.steps
        if run.counts and (is_recorded or is_passed):
            self._found("a step that ran again", f"step {run.steps} of {run.label}, in {run.request.name}")

    def passes_step(self, run: Running) -> None:
        """A body goes on with the result of a step."""
        run.steps += 1
        run.position += 1
        self.passed[run.label] = max(run.steps, self.passed.get(run.label, 0))

    def is_told(self, label: str, answer: object, *, expected: object) -> None:
        """A body gets an answer."""
        if answer != expected:
            self._found("a body woken by another call's answer", f"{label} has {answer}")

    def queues(self, run: Running) -> tuple[str, int]:
        """A body queues a call for the model; return its label, and its number among those of the body."""
        turn = f"{run.label}.q"
        number, run.queued = run.queued, run.queued + 1
        self.monitor.asked[turn] = ("gets",) * max(run.queued, len(self.monitor.asked.get(turn, ())))
        return f"{turn}.{number}", number

    def is_cancelled(self, run: Running, label: str) -> None:
        """A body hears that its call is cancelled."""
        self.cancelled.append((run.label, label))

    def returns(self, run: Running, output: str) -> str:
        self.returned.setdefault(run.label, set()).add(output)
        return output

    def streams(self, request: Request, event: dict[str, Any]) -> bool:
        """An event is streamed; return whether it is an effect of a body."""
        if event["type"] != "client_effect":
            return False
        data = event["data"]
        seen = self.streamed.setdefault(data["label"], [])
        if not request.disturbed and (data["known"] > data["position"] or any(map(_has_gone_well, seen))):
            self._found("an effect streamed twice", f"{data['label']} in {request.name}")
        seen.append(request)
        return True

    def are_dismissed(self, tools: frozenset[str], held: Durable) -> None:
        """The application has cancelled what was open: tools are gone, and ask for nothing more, if they may go."""
        waiting = waiting_in(held)
        self.silenced |= dict.fromkeys(tools - waiting.keys(), _labels_in(held))
        for label in tools & waiting.keys():
            if not waiting[label].has_insisted:
                self._found("a tool that outlives its cancellation", label)

    def model_runs(self, request: Request, kind: str, held: Durable) -> None:
        """The model runs: all that it called before, and that is not to go on waiting, has returned."""
        waiting, outputs = waiting_in(held), outputs_in(held)
        if request.name.startswith("message") and self._cancels:
            known = _labels_in(held)
            self.silenced |= {label: known for label in waiting if not self._is_retried(label)}
        is_another_at_work = any(tool.is_at_work for tool in waiting.values())
        may_be_dead = not all(map(_has_gone_well, request.world.requests))
        for labels in self.called.values():
            is_suspended = not self.promised.isdisjoint(labels)
            for label in labels:
                if not is_suspended or label in outputs or self._is_dropped(label, waiting):
                    continue
                tool = waiting.get(label)
                is_excused = may_be_dead or is_another_at_work or tool is None or tool.is_kept or not self._cancels
                if kind == "continue" or (kind == "message" and not is_excused):
                    self._found("a model run without its tool's output", f"{label} in {request.name}")

    def model_reads(self, request: Request, outputs: Iterable[str], history: Iterable[Any]) -> None:
        """The model reads this: each output that is in the thread, and each with its call, once."""
        read = [each for each in history if each.get("type") in ("function_call", "function_call_output")]
        calls, results = ([each["call_id"] for each in read if each["type"] == kind] for kind in _PAIR)
        is_whole = sorted(calls) == sorted(results) and len({*calls}) == len(calls)
        if not is_whole or not {f"call-{label}" for label in outputs} <= {*calls}:
            self._found("a model run without its tool's output", f"in {request.name}, where it reads {read}")

    # what must hold after every step, and in the end

    def check(self, held: Durable, calls: Iterable[Call]) -> list[tuple[str, str]]:
        """Return what is wrong: the kind of the violation, and what it is about."""
        self._check_calls(calls)
        self.promised.update(waiting_in(held))
        outputs = outputs_in(held)
        for label, found in outputs.items():
            first, *more = found
            if more:
                self._found("recorded twice", f"the output of {label}")
            if first not in self.returned.get(label, ()):
                self._found("a wrong output", f"{label}: {first}")
        for label, was in self.outputs.items():
            if outputs.get(label) != was and not self._was_retried:
                self._found("a final state changed", f"the output of {label} was {was}, and is {outputs.get(label)}")
        self.outputs = outputs
        return self.problems

    def _check_calls(self, calls: Iterable[Call]) -> None:
        for tool, label in self.cancelled:  # the reason may be in the store only now
            if not self.may_be_cancelled(tool):
                self._found("cancelled for no reason", label)
        self.cancelled.clear()
        for call in calls:
            tool, is_queued, _ = call.label.rpartition(".q.")
            if is_queued and tool not in self.returned:
                self._found("out of order", f"{call.label} is out before {tool} has returned")
            tool = call.label.rpartition(".")[0]
            is_new = call.label not in self.silenced.get(tool, {call.label})
            if is_awaited(call.label) and is_new and call.name != "insists":
                self._found("asked after the user has written", call.label)

    def committed(self, requests: Iterable[str]) -> None:
        """Runs have ended well: those of their tools that have not returned wait."""
        called = [label for name in requests for label in self.called.get(name, ())]
        self.promised.update(label for label in called if label not in self.returned)

    def unsettled(self, held: Durable) -> list[str]:
        """Return the tools that have not returned, and should have."""
        outputs, waiting = outputs_in(held), waiting_in(held)
        return [f"tool {x}" for x in sorted(self.promised) if x not in outputs and not self._is_dropped(x, waiting)]

    def waited(self, labels: Iterable[str]) -> set[str]:
        """Return the tools among these that have waited: others return within the run that has called them."""
        return self.promised.intersection(labels)

    def may_be_cancelled(self, label: str) -> bool:
        """Whether the user has written, or a call has failed, since the model called a tool."""
        monitor = self.monitor
        since = monitor.since(label)
        return (
            monitor.has_aborted()
            or self._has_failed()
            or any(monitor.cancels(post) or post.startswith("retry") for post in since)
        )

    def _has_failed(self) -> bool:
        """Whether an answer was posted that cancels the rest, be it recorded or not."""
        scenario = self.monitor.scenario
        failed = tuple(f".{n}" for n in scenario.failing)
        return scenario.on_failure == "abort" and any(post.endswith(failed) for post in self.monitor.posts)

    def excused(self) -> set[str]:
        """Return the calls of tools that may be given up."""
        tools = [label for labels in self.called.values() for label in labels if self.may_be_cancelled(label)]
        untold = {label for label in tools if self._is_dismissed(label)}  # nor has the model to hear of them
        return untold | {f"{label}.{n}" for label in tools for n in range(MOST_ASKS)}

    def _is_retried(self, label: str) -> bool:
        return any(post.startswith("retry") for post in self.monitor.since(label))

    def _is_dropped(self, label: str, waiting: Mapping[str, Waiting]) -> bool:
        """Whether a tool may have been forgotten: by a retry, or because the application has cancelled it."""
        return self._is_retried(label) or (label not in waiting and self._is_dismissed(label))

    def _is_dismissed(self, label: str) -> bool:
        return any(post.startswith("dismissal") for post in self.monitor.since(label))

    @property
    def _was_retried(self) -> bool:
        return any(post.startswith("retry") for post in self.monitor.posts)

    @property
    def _cancels(self) -> bool:
        return self.monitor.scenario.on_user_message == "cancel"

    def _found(self, kind: str, text: str) -> None:
        # what is raised in a body, or in `respond`, the package would catch
        self.problems.append((kind, text))


def request_of(label: str) -> str:
    """Return the request in which the model has called a tool."""
    return _OF_A_TOOL.sub("", label)


def is_awaited(label: str) -> bool:
    """Whether a call is one that a tool awaits, and not one for the model."""
    return _AWAITED.search(label) is not None


def waiting_in(held: Durable) -> dict[str, Waiting]:
    """Return the tools that wait, by their labels."""
    if held.plan is not None:
        return _waiting_in(held.plan.partition(" ")[2])
    kept = read(held.thread)["metadata"].get("chatkit_clienttools")
    return _waiting_in(kept["plan"]) if kept else {}


def outputs_in(held: Durable) -> dict[str, tuple[str, ...]]:
    """Return what tools have returned that waited, by their labels."""
    found: dict[str, tuple[str, ...]] = {}
    for item in held.items:
        if '"sdk_hidden_context"' in item and read(item)["id"].startswith("output_"):
            content = json.loads(read(item)["content"])
            label = json.loads(content["arguments"])["of"]
            found[label] = (*found.get(label, ()), content["output"])
    return found


def _labels_in(held: Durable) -> frozenset[str]:
    """Return the labels of the calls that are among the items."""
    return frozenset(re.findall(r'"label": ?"([^"]+)"', " ".join(held.items)))


@lru_cache(maxsize=4096)
def _waiting_in(document: str) -> dict[str, Waiting]:
    head, *lines = document.split("\n")
    plan = json.loads(head)
    calls, at_work = frozenset(json.loads(line)["id"] for line in lines), (plan.get("body") or {}).get("tool")
    found = {}
    for tool in plan.get("tools", ()):
        label = json.loads(tool["arguments"])["of"]
        found[label] = Waiting(label, tuple(tool.get("journal", ())), calls, tool["id"] == at_work)
    return found


def _is_known(entry: Any) -> bool:
    return entry.get("item_id") is not None or entry.get("is_cancelled", False)


def _has_gone_well(request: Request) -> bool:
    is_hit = request.dead or request.disturbed or request.saw_store_fail
    return not is_hit and not any(event["type"] == "error" for event in request.events)


def _now(request: Request) -> Durable:
    return durable(request.world.store)
