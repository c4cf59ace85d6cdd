"""Each safeguard removed in turn: what the exploration must then find. If it did not, its green would mean nothing."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, patch

from chatkit_clienttools import StoreWrapper
from chatkit_clienttools._protocol import decide
from chatkit_clienttools._protocol.plan import Plan

from . import awaited
from .scenario import Scenario
from .scenarios import CALLS, MEDIA, METADATA, SWEEP, TWO
from .search import Search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chatkit.types import ClientToolCallItem

    from chatkit_clienttools._protocol.decide import Policy
    from chatkit_clienttools._protocol.plan import WaitingTool
    from chatkit_clienttools._protocol.thread import Thread
    from chatkit_clienttools._step.gated import GatedTool
    from chatkit_clienttools._step.rules import Rules
    from chatkit_clienttools._step.run import Run

    from .search import Found


def by_the_plan_alone(thread: Thread) -> dict[int, ClientToolCallItem]:
    """Stand for `Thread._in_sight`: what is not pending waits, whatever the items say."""
    places = [(thread.plan.calls.position(item.id), item) for item in thread.items if item.status == "pending"]
    return {place: item for place, item in places if place is not None}


def going_on_beside_others(policy: Policy, thread: Thread, by: str) -> Thread:
    """Stand for `Policy._go_on`: whether another body tells the model already is not looked at."""
    if thread.pending or thread.next:
        return policy._release(thread)
    return decide._claiming(thread, by) if thread.has_news else thread


@asynccontextmanager
async def alone_with_others(_rules: Any, _thread_id: str) -> AsyncIterator[None]:
    """Stand for `Rules.alone_on`: nobody is kept out."""
    yield


def waking_beside_others(thread: Thread, by: str) -> Thread | None:
    """Stand for `_waking`: whether a body is at work already is not looked at."""
    tool = thread.ready
    return None if tool is None else decide._claiming(thread, by, decide._waiting(thread), tool.id)


async def going_on_at_once(_run: Run, _tool: WaitingTool) -> bool:
    """Stand for `Run.record`: the body goes on, and what its step has returned is written when it waits again."""
    return True


def waiting_without_receipts(rules: Rules, tool: GatedTool) -> None:
    """Stand for `Rules.register`: it does not turn receipts on."""
    rules.gated[tool.name] = tool


def forgetting_the_message(thread: Thread, tool: WaitingTool) -> Thread:
    """Stand for `_replacing`: that the user has written meanwhile is forgotten."""
    its = tool.but(is_cancelled=False)
    return thread.planning(tools=tuple(its if each.id == its.id else each for each in thread.plan.tools))


def text_without_outputs(plan: Plan, to_text: Callable[[Plan], str] = Plan.to_text) -> str:
    """Stand for `Plan.to_text`: what a tool has returned is not in the plan before it is an item."""
    return to_text(plan.but(tools=tuple(tool.but(output=None) for tool in plan.tools)))


async def item_before_content(store: Any, thread_id: str, item: Any, context: Any, write: Any) -> None:
    """Stand for `MediaStore._write`: the item is written first, and then what it refers to."""
    kept: dict[str, bytes] = {}
    if getattr(item, "status", None) == "completed":
        item, kept = store._taken_apart(item)
    await write(item)
    for content_id, data in kept.items():
        await store._content.save_content(thread_id, content_id, data, context)


@dataclass(frozen=True)
class Ablation:
    """One safeguard, a scenario in which it is needed, and how it is taken away."""

    safeguard: str
    intact: Scenario
    without: dict[str, Any] = field(default_factory=dict)
    """How the scenario is changed."""
    instead: dict[str, Any] = field(default_factory=dict)
    """What stands for a name of the package."""
    finds: str = ""

    def explore(self) -> Found:
        with self._removed():
            return Search(self.intact.but(**self.without), until=filter(None, [self.finds])).run()

    @contextmanager
    def _removed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, value in self.instead.items():
                stack.enter_context(patch(f"chatkit_clienttools.{name}", value))
            yield


ABLATIONS = [
    Ablation(
        "receipts",
        Scenario(calls=CALLS[2], repeats=1),
        without={"receipts": False},
        finds="an answer under another call",
    ),
    Ablation(
        "the browser's memory",
        SWEEP.but(calls=CALLS[2], resumes=1),
        without={"remembers": False},
        finds="executed twice",
    ),
    Ablation(
        "reconcile",
        SWEEP.but(calls=CALLS[2], crashes=1),
        instead={"_protocol.thread.Thread._in_sight": property(by_the_plan_alone)},
        finds="stuck",
    ),
    Ablation("write before emit", SWEEP.but(calls=CALLS[2], crashes=1), without={"around": "late"}, finds="stuck"),
    Ablation(
        "compare-and-set",
        TWO.but(calls=CALLS[2], repeats=1, store="dicts, plans"),
        without={"store": "plans, no comparison"},
        finds="a model run too many",
    ),
    Ablation(
        "the lease",
        SWEEP.but(calls=CALLS[2], crashes=1),
        instead={"_step.exclusion.LEASE_SECONDS": inf},
        finds="stuck",
    ),
    Ablation(
        "merge",
        Scenario(calls=CALLS[2], store=METADATA, around="validating", renames=1),
        instead={"_step.plans.PlansInMetadata.save_thread": StoreWrapper.save_thread},
        finds="stuck",
    ),
    Ablation(
        "no lock across a yield",
        SWEEP.but(calls=CALLS[2], freezes=1),
        without={"subject": "holding"},
        finds="stuck",
    ),
    Ablation(
        "the lock of a thread",
        Scenario(calls=CALLS[2], store="dicts", repeats=1),
        instead={"_step.rules.Rules.alone_on": alone_with_others},
        finds="a model run too many",
    ),
    Ablation(
        "the claim of the body",
        Scenario(calls=CALLS[1], opened=True, repeats=1),
        instead={"_protocol.decide.Policy._go_on": going_on_beside_others},
        finds="a model run too many",
    ),
    Ablation(
        "items that have to go are remembered",
        SWEEP.but(calls=("stops",), messages=1, crashes=1),
        instead={"_protocol.plan.Plan.removing": lambda plan, *_: plan},
        finds="recorded twice",
    ),
    Ablation(
        "the claim of a woken body",
        awaited.OPEN.but(tools=("picks step",), repeats=1),
        instead={"_protocol.decide._waking": waking_beside_others},
        finds="a body run twice at once",
    ),
    Ablation(
        "a step is recorded before the body goes on",
        awaited.SWEEP.but(tools=("picks step step",), crashes=1),
        instead={"_step.run.Run.record": going_on_at_once},
        finds="a step that ran again",
    ),
    Ablation(
        "the receipt of an ask",
        awaited.OPEN.but(tools=("picks picks",), repeats=1),
        without={"receipts": False},
        instead={"_step.rules.Rules.register": waiting_without_receipts},
        finds="an answer under another call",
    ),
    Ablation(
        "what was streamed before is not streamed again",
        awaited.SWEEP.but(tools=("effect picks",)),
        instead={"_step.replay.Replay.is_silent": False},
        finds="an effect streamed twice",
    ),
    Ablation(
        "compare-and-set, for a step that goes on without reading",
        awaited.OPEN.but(tools=("picks step picks",), store="dicts, plans", messages=1, at_random=True),
        without={"store": "plans, no comparison"},
        finds="asked after the user has written",
    ),
    Ablation(
        "a body does not undo that the user has written",
        awaited.OPEN.but(tools=("picks step picks",), messages=1, at_random=True),
        instead={"_protocol.decide._replacing": forgetting_the_message},
        finds="asked after the user has written",
    ),
    Ablation(
        "what a tool has returned is planned before it is written",
        awaited.SWEEP.but(tools=("queues picks",), crashes=1),
        instead={"_protocol.plan.Plan.to_text": text_without_outputs},
        finds="executed twice",
    ),
    Ablation(
        "a call whose time is over ends before an answer is looked at",
        Scenario(calls=("waits",), opened=True, deadlines=1),
        instead={"_protocol.thread.Thread.overdue": None},
        finds="a late answer is taken",
    ),
    Ablation(
        "after Stop nobody waits for a lease",
        awaited.STOP.but(repeats=1),
        instead={"_step.run.Run.leave": lambda _: None},
        finds="stuck",
    ),
    Ablation(
        "a content before its item",
        MEDIA.but(crashes=1),
        instead={"content.MediaStore._write": item_before_content},
        finds="a content is missing",
    ),
]

CLEANUP = Ablation(
    "all code that cleans up",
    SWEEP.but(calls=CALLS[2], cancels=1, freezes=1),
    instead={"_step.run.Run.leave": lambda _: None, "_step.run.Run.give_back": AsyncMock()},
)
"""Nothing rests on it: without it nothing is lost, and nobody is kept waiting longer than a lease."""
