"""What has to be true of a thread, whenever one looks at it, and of the model's runs, at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.processes.application import NOTHING, ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chatkit.types import ClientToolCallItem, ThreadItem

    from tests.processes.ledger import ModelRun

Finals = dict[str, Any]
"""The settled calls of a thread: the answer, by item id."""


def calls_among(items: Iterable[ThreadItem]) -> list[ClientToolCallItem]:
    return [item for item in items if item.type == "client_tool_call"]


def settled_among(items: Iterable[ThreadItem]) -> list[ClientToolCallItem]:
    return [call for call in calls_among(items) if call.status == "completed"]


def mark_of(call: ClientToolCallItem) -> str:
    """What the call is known by, whatever its ids: the run that asked for it, and its number there."""
    mark: str = call.arguments["mark"]
    return mark


def numbers_of(run: str, calls: Iterable[ClientToolCallItem]) -> list[int]:
    """The numbers of the calls of one run, in the order of the thread."""
    marks = [mark_of(call).split("/") for call in calls]
    return [int(number) for its, number in marks if its == run]


def finals(items: list[ThreadItem]) -> Finals:
    return {call.id: call.output for call in settled_among(items)}


def problems_of_thread(items: list[ThreadItem], before: Finals, executed: Mapping[str, int]) -> list[str]:
    """Return what is wrong with a thread, given the settled calls that it had before."""
    calls, now = calls_among(items), finals(items)
    recorded = Counter(mark_of(call) for call in settled_among(items))
    runs = {mark.partition("/")[0] for mark in recorded}
    return [
        *(["two calls are pending"] if sum(call.status == "pending" for call in calls) > 1 else []),
        *(f"{id_}: a final state has changed" for id_, answer in before.items() if now.get(id_) != answer),
        *(f"{mark}: recorded {times} times" for mark, times in recorded.items() if times > 1),
        *(f"{mark}: executed {executed[mark]} times" for mark in recorded if executed[mark] != 1),
        *(
            f"{mark_of(call)}: has the answer {call.output!r}"
            for call in settled_among(items)
            if call.output != {"mark": mark_of(call)}
        ),
        *(f"{run}: out of order" for run in runs if not _is_rising(numbers_of(run, calls))),
    ]


def is_complete(run: str, items: list[ThreadItem]) -> bool:
    """Whether all calls that a run has asked for are settled, and the model has been told what it wanted to know."""
    calls = [call for call in settled_among(items) if mark_of(call).startswith(f"{run}/")]
    if not calls or len(calls) != calls[0].arguments["of"]:
        return False
    wanted = [mark_of(call) for call in calls if call.name == ask.name]
    heard = [item.content[0].text for item in items[items.index(calls[-1]) :] if item.type == "assistant_message"]
    return not wanted or any(all(mark in text for mark in wanted) for text in heard)


def problems_of_runs(runs: Iterable[ModelRun], killed: set[int]) -> list[str]:
    """The model runs once after a last answer; again only if its worker was killed before the stream was over.

    Otherwise it runs for what the user has written, and never for nothing.
    """
    after: defaultdict[str, list[ModelRun]] = defaultdict(list)
    for run in runs:
        if run.after is not None:
            after[run.after].append(run)
    return [
        f"the model ran {len(its)} times after {item_id}"
        for item_id, its in after.items()
        if item_id == NOTHING
        or sum(run.is_over or run.pid not in killed for run in its) > 1
        or any(run.is_over for run in its[:-1])
    ]


def _is_rising(numbers: list[int]) -> bool:
    return all(one < another for one, another in pairwise(numbers))
