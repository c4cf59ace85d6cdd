"""What must hold after every step, and what must come true in the end."""

from __future__ import annotations

import re
from collections import Counter
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit_clienttools.answers import has_expired

from .browser import RECEIPT
from .scenario import DEADLINE, TOOLS, picture_of
from .stores import durable, read
from .waiting import Bodies, is_awaited, outputs_in, request_of

if TYPE_CHECKING:
    from .gates import Request
    from .scenario import Scenario
    from .world import World


_LABEL = re.compile(r'"label\\?": ?\\?"([^"\\]+)')


class Violation(Exception):  # noqa: N818  it is what the search looks for
    """Something that must not happen has happened."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Call(NamedTuple):
    """A client tool call, as the store holds it."""

    item_id: str
    label: str
    n: int
    name: str
    status: str
    output: Any

    @property
    def turn(self) -> str:
        return turn_of(self.label)


class Times:
    """Watches the calls whose time is limited: an answer that was posted too late is never theirs."""

    def __init__(self) -> None:
        self.out: dict[str, tuple[str, float]] = {}
        """By item, the call that is out, and since when. A call that was withdrawn goes out as another item."""
        self.over: set[str] = set()
        """The calls whose time may be over: it begins a moment before the item is there."""
        self.in_time: set[str] = set()
        """The calls that were answered in time, be it recorded or not."""

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(sorted(self.out.items())), frozenset(self.over), frozenset(self.in_time)

    def copy(self) -> Times:
        other = Times()
        other.out, other.over, other.in_time = {**self.out}, {*self.over}, {*self.in_time}
        return other

    def posted(self, request: Request) -> None:
        """Something is posted: if it is an answer, see whether it comes in time."""
        kind, _, label = request.name.partition(" ")
        label = label.partition(" ")[0]
        if kind == "answer" and all(
            request.world.now < since + DEADLINE for each, since in self.out.values() if each == label
        ):
            self.in_time.add(label)

    def check(self, calls: list[Call], world: World) -> list[tuple[str, str]]:
        """Return what is wrong with the calls as the store holds them now."""
        limited = [call for call in calls if TOOLS[call.name].expires_after]
        pending = [call for call in limited if call.status == "pending"]
        self.over |= {label for label, since in self.out.values() if world.now >= since + DEADLINE}
        self.out = {call.item_id: self.out.get(call.item_id, (call.label, world.now)) for call in pending}
        wrong = []
        for call in limited:
            if call.status == "pending" or call.item_id in world.monitor.final:
                continue
            if not has_expired(call.output) and call.label not in self.in_time:
                wrong.append(("a late answer is taken", call.label))
            if has_expired(call.output) and call.label not in self.over and not world.was_at_work:
                wrong.append(("expired too early", call.label))
        return wrong


class Run:
    """One time that the model ran."""

    def __init__(self, request: Request, kind: str, saw: frozenset[str]) -> None:
        self.request = request
        self.kind = kind
        self.saw = saw
        self.completed = False
        self.failed = False
        self.died = False

    @property
    def counts(self) -> bool:
        """Whether nothing has come in between that excuses another run for the same answers."""
        is_hit = self.failed or self.died
        return not is_hit and not self.request.disturbed and not self.request.saw_store_fail

    @property
    def tells(self) -> bool:
        """Whether nobody else has to tell the model what this run tells it: that is over, or what it is there for."""
        return self.counts and (self.kind == "continue" or (self.kind == "message" and self.request.is_over))

    def after_all_died(self) -> Run:
        """Return this run as it is when every process is gone."""
        other = copy(self)
        other.died = not self.request.is_over
        return other

    @property
    def key(self) -> tuple[Any, ...]:
        return self.request.name, self.request.is_over, self.saw, self.completed, self.failed, self.counts


class Monitor:
    """Watches one execution. It knows what was asked for and what was answered, and nothing of how it is done."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.runs: list[Run] = []
        self.final: dict[str, Call] = {}
        self.emitted = Counter[str]()
        self.asked: dict[str, tuple[str, ...]] = {}
        self.needless: list[str] = []
        self.promised: set[str] = set()
        self.posts: list[str] = []
        self.beside: dict[str, list[str]] = {}
        self.seen: Any = None
        self.bodies = Bodies(self)
        self.times = Times()
        self.was_hit = False
        """Whether this goes on after a crash."""

    @property
    def key(self) -> tuple[Any, ...]:
        emitted = tuple(sorted(self.emitted.items()))
        runs = tuple(run.key for run in self.runs)
        return runs, emitted, self._excused(), frozenset(self.promised), self.bodies.key, self.times.key

    @property
    def history(self) -> tuple[Any, ...]:
        """What a recovery depends on besides: what was final once, and what was posted, in whatever order."""
        return frozenset(self.final), frozenset(self.posts)

    def after_all_died(self) -> Monitor:
        """Return a monitor that goes on when every process is gone."""
        other = Monitor(self.scenario)
        other.runs = [run.after_all_died() for run in self.runs]
        other.final, other.emitted = {**self.final}, self.emitted.copy()
        other.asked, other.posts, other.promised = {**self.asked}, [*self.posts], {*self.promised}
        other.beside = {**self.beside}
        other.bodies = self.bodies.after_all_died(other)
        other.times = self.times.copy()
        other.was_hit = True
        return other

    # what it is told

    def posted(self, request: Request) -> None:
        """The browser has posted something, perhaps while other requests are under way."""
        self.posts.append(request.name)
        self.times.posted(request)
        self.beside[request.name] = [other.name for other in request.world.live]

    def streamed(self, request: Request, event: dict[str, Any]) -> bool:
        """An event is streamed; return whether it is a call, or an effect of a tool."""
        if self.bodies.streams(request, event):
            return True
        item = event.get("item", {})
        if event["type"] != "thread.item.done" or item["type"] != "client_tool_call":
            return False
        self.emitted[item["arguments"]["label"]] += 1
        return True

    def run_begins(self, request: Request, kind: str, world: World) -> Run:
        """The model runs: for a message or an action, or to continue with the answers it has not seen."""
        held = durable(world.store)
        calls, outputs = calls_in(held.items), outputs_in(held)
        run = Run(request, kind, frozenset([*(c.label for c in calls if c.status == "completed"), *outputs]))
        self.bodies.model_runs(request, kind, held)
        news = (wanted_answers(calls) | self.bodies.waited(outputs)) - self._told(lambda run: run.tells)
        if kind == "continue" and self.scenario.is_exact and not self._was_retried and not news:
            self.needless.append(request.name)  # the server would catch what is raised here
        self.runs.append(run)
        return run

    # what must hold after every step

    def check(self, world: World) -> None:
        if self.needless:
            raise Violation("a model run too many", f"in {self.needless[0]}")
        for request in world.requests:
            self._check_stream(request)
        if world.durable is not self.seen:
            self.seen = world.durable
            calls = calls_in(world.durable.items)
            labels = {call.label for call in calls} | labels_in(world.durable.plan or world.durable.thread)
            self.promised.update(turn_of(label) for label in labels if not is_awaited(label))
            for kind, text in self.times.check(calls, world):
                raise Violation(kind, text)
            self._check_items(calls)
            self._check_contents(calls, dict(world.durable.contents))
        self._check_leftovers(world)
        done = {run.request.name for run in self.runs if run.completed and run.request.has_ended_well}
        self.promised |= done & self.asked.keys()
        self.bodies.committed(done)
        for kind, text in self.bodies.check(world.durable, calls_in(world.durable.items)):
            raise Violation(kind, text)
        self._check_browser(world)
        self._check_title(world)

    def _check_title(self, world: World) -> None:
        """Check that what an application writes to the thread is still there when all is quiet."""
        renames = [request for request in world.requests if request.name.startswith("rename")]
        if not renames or world.live or any(r.disturbed or r.saw_store_fail for r in world.requests):
            return
        if read(world.durable.thread)["title"] != "renamed":
            raise Violation("a foreign write lost", "the new title is gone")

    def _check_stream(self, request: Request) -> None:
        if request.dead or request.disturbed or not request.task.done() or request.task.cancelled():
            return
        broken, is_rename = request.error, request.name.startswith("rename")
        errors = [event for event in request.events if event["type"] == "error"]
        if request.saw_store_fail:
            if broken is not None and not is_rename and self.scenario.subject == "protected":
                raise Violation("a broken stream", f"{request.name}: {broken!r}")
            if broken is None and not errors and not is_rename:
                raise Violation("a swallowed error", f"{request.name} ends as if nothing had happened")
        elif broken is not None:
            raise Violation("a broken stream", f"{request.name}: {broken!r}")
        elif request.name.startswith("form") and self._was_retried:
            return  # ChatKit deletes the form with the rest of the turn, before anybody is asked
        elif errors and not any(run.failed for run in self.runs if run.request is request):
            raise Violation("a broken stream", f"{request.name}: {errors}")

    def _check_items(self, calls: list[Call]) -> None:
        pending = [call for call in calls if call.status == "pending"]
        if len(pending) > 1:
            raise Violation("two pending", " and ".join(call.label for call in pending))
        by_id = {call.item_id: call for call in calls}
        gone: list[str] = []
        for item_id, was in self.final.items():
            now = by_id.get(item_id)
            if now is None and self._was_retried:
                gone.append(item_id)
            elif now != was:
                raise Violation("a final state changed", f"{was.label}: {was} became {now}")
        for item_id in gone:
            del self.final[item_id]
        for call in calls:
            if call.status == "completed" and call.item_id not in self.final:
                self.final[call.item_id] = call
                self._check_answer(call)
        self._check_order(calls)

    def _check_contents(self, calls: list[Call], contents: dict[str, bytes]) -> None:
        """Check that each answer with an image has a reference to it, and that it is there."""
        for call in calls:
            if call.name == "draws" and call.status == "completed":
                reference = referred_to(call)
                if reference not in contents:
                    raise Violation("a content is missing", f"{call.label}: {reference}")
                if contents[reference] != picture_of(call.label):
                    raise Violation("a content of another answer", call.label)

    def _check_leftovers(self, world: World) -> None:
        """Check that nothing is kept that no item refers to, unless a request was hit."""
        if world.live or any(r.disturbed or r.saw_store_fail for r in world.requests) or self.was_hit:
            return
        calls = [call for call in calls_in(world.durable.items) if call.name == "draws" and call.status == "completed"]
        left = {content_id for content_id, _ in world.durable.contents} - {referred_to(call) for call in calls}
        if left:
            raise Violation("a content left over", ", ".join(left))

    def _check_answer(self, call: Call) -> None:
        output = call.output
        if has_expired(output):
            return  # whether it may have is another question
        if isinstance(output, dict) and RECEIPT in output and not self._are_stored_bare:
            output = {key: value for key, value in output.items() if key != RECEIPT}
            output = output.get("result", output)
        if call.name == "draws" and self.scenario.around == "media":
            output = {**output, "picture": None}  # the reference in it is looked at elsewhere
        answer = {"answer to": call.label, **({"picture": None} if call.name == "draws" else {})}
        expected = {"error": call.label} if call.n in self.scenario.failing else answer
        if output != expected:
            raise Violation("an answer under another call", f"{call.label} has {output}")
        if [other.label for other in self.final.values()].count(call.label) > 1:
            raise Violation("recorded twice", call.label)

    @property
    def _are_stored_bare(self) -> bool:
        return self.scenario.receipts and self.scenario.subject in (
            "protected",
            "agent",
            "waiting",
            "waiting agent",
            "taken up",
        )

    def _check_order(self, calls: list[Call]) -> None:
        done = {call.label for call in self.final.values()}
        for call in calls:
            before = {f"{call.turn}.{n}" for n in range(call.n)}
            if call.status == "pending" and not before <= done | self._excused():
                raise Violation("out of order", f"{call.label} is out before {sorted(before - done)}")

    def _check_browser(self, world: World) -> None:
        if self.scenario.receipts and (
            twice := [x for x, times in Counter(world.browser.executed).items() if times > 1]
        ):
            raise Violation("executed twice", ", ".join(twice))
        again = world.posted["resume"] + world.posted["dismissal"] + world.posted["message"]  # which is 1 at least
        again += sum(times - 1 for times in world.browser.posts.values())  # a repeated answer may have been lost
        if self.scenario.is_exact and world.now == world.started and not self._was_retried:
            for label, times in self.emitted.items():
                if times > again:
                    raise Violation("emitted twice", label)

    # what must come true in the end

    def check_ended(self, world: World) -> None:
        """Check that every request has come to its end, now that nothing is left to happen."""
        for request in world.requests:
            if not (request.dead or request.frozen or request.task.done()):
                raise Violation("stuck", f"{request.name} never ends")

    def unsettled(self, world: World) -> list[str]:
        """Return the calls that were promised and are not settled, and the answers the model has not seen."""
        calls = calls_in(world.durable.items)
        done = {call.label for call in self.final.values()}
        excused = self._excused()
        labels = [f"{turn}.{n}" for turn in sorted(self.promised) for n in range(len(self.asked[turn]))]
        missing = [label for label in labels if label not in done and label not in excused]
        missing += [f"pending {call.label}" for call in calls if call.status == "pending" and call.label not in missing]
        missing += self.bodies.unsettled(world.durable)
        untold = wanted_answers(calls) | self.bodies.waited(outputs_in(world.durable))
        untold -= self._told(lambda run: run.completed)
        return missing + [f"the answer to {label}" for label in sorted(untold - excused)]

    def _told(self, which: Any) -> set[str]:
        return {label for run in self.runs if which(run) for label in run.saw}

    @property
    def _was_retried(self) -> bool:
        return any(post.startswith("retry") for post in self.posts)

    def _excused(self) -> frozenset[str]:
        """Return the calls that may be given up: a message, a retry or a failure has come after them."""
        excused: set[str] = set()
        for turn, tools in self.asked.items():
            since = self.since(turn)
            labels = {f"{turn}.{n}": TOOLS[tool] for n, tool in enumerate(tools)}
            if any(post.startswith("retry") for post in since):
                excused.update(labels)
            if self.has_aborted() or any(self.cancels(post) for post in since):
                excused.update(label for label, tool in labels.items() if not tool.required)
        return frozenset(excused | self.bodies.excused())

    def since(self, name: str) -> list[str]:
        """Return what was posted after a request, or that of a tool, and while it was under way."""
        name = request_of(name)
        return self.posts[self.posts.index(name) + 1 :] + self.beside[name]

    def cancels(self, post: str) -> bool:
        """Whether a request cancels open calls."""
        is_cancelling = post.startswith("message") and self.scenario.on_user_message == "cancel"
        return is_cancelling or post.startswith("dismissal")

    def has_aborted(self) -> bool:
        """Whether a call has failed, and with it all that waited behind it, whoever asked for it."""
        return self.scenario.on_failure == "abort" and any(c.n in self.scenario.failing for c in self.final.values())


def referred_to(call: Call) -> str:
    """Return the id of the content that an answer with an image refers to."""
    _, content_id, _ = call.output["picture"]["reference"].split(":", 2)
    return str(content_id)


def turn_of(label: str) -> str:
    """Return the request in whose run the call was asked for."""
    return label.rsplit(".", 1)[0]


def calls_in(items: tuple[str, ...]) -> list[Call]:
    """Return the client calls among the items, in their order."""
    found = [read(item) for item in items if '"client_tool_call"' in item]
    return [
        Call(i["id"], i["arguments"]["label"], i["arguments"]["n"], i["name"], i["status"], i.get("output"))
        for i in found
    ]


def wanted_answers(calls: list[Call]) -> set[str]:
    """Return the calls whose answers are there for the model."""
    done = [call for call in calls if call.status == "completed" and not is_awaited(call.label)]
    return {call.label for call in done if TOOLS[call.name].answer_wanted}


def labels_in(document: str) -> set[str]:
    """Return the labels that stand in the document of a plan, whatever its form."""
    return set(_LABEL.findall(document))
