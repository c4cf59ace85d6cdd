"""What has to be true of a thread, whenever one looks at it, and of the model's runs, at the end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from chatkit_clienttools._protocol.outputs import Output, output_in
from chatkit_clienttools.receipts import ASKED
from tests.processes.application import NOTHING
from tests.processes.tools import CANCELLED, ask, asks_in

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


def outputs_among(items: Iterable[ThreadItem]) -> dict[str, Output]:
    """What tools that waited have returned, by the runs that had called them."""
    outputs = [output for item in items if (output := output_in(item))]
    return {output.call_id: output for output in outputs}


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
        *(
            f"{run}: the tool has returned {output.output!r}, with the answers {sorted(recorded)}"
            for run, output in outputs_among(items).items()
            if output.output != _expected(run, output, recorded)
        ),
    ]


def _expected(run: str, output: Output, recorded: Iterable[str]) -> str:
    """What a tool has to return: the mark of each answer, in order, but for the calls that were cancelled."""
    asks = asks_in(json.loads(output.arguments)["does"])
    marks = [f"{run}/{number}" for number in range(1, len(asks) + 1)]
    return json.dumps([mark if mark in recorded else CANCELLED for mark in marks])


def problems_of_reading(items: list[ThreadItem], runs: Iterable[ModelRun]) -> list[str]:
    """Nothing that a tool has returned may be kept from the model."""
    read = {call_id for run in runs for call_id in run.reads}
    return [f"{run}: the model has never read what the tool has returned" for run in {*outputs_among(items)} - read]


def is_complete(run: str, items: list[ThreadItem]) -> bool:
    """Whether all calls that a run has asked for are settled, and the model has been told what it wanted to know."""
    calls = [call for call in settled_among(items) if mark_of(call).startswith(f"{run}/")]
    if not calls or len(calls) != calls[0].arguments["of"]:
        return False
    wanted = [mark_of(call) for call in calls if call.name == ask.name or call.call_id.startswith(ASKED)]
    heard = [item.content[0].text for item in items[items.index(calls[-1]) :] if item.type == "assistant_message"]
    return not wanted or any(all(mark in text for mark in wanted) for text in heard)


def problems_of_runs(runs: list[ModelRun], killed: set[int]) -> list[str]:
    """The model runs once after a last answer; again only if its worker was killed before the stream was over.

    Otherwise it runs for what the user has written, or for what came before that and was not told; never for nothing.
    """
    after: defaultdict[str, list[ModelRun]] = defaultdict(list)
    for run in runs:
        if run.after is not None:
            after[run.after].append(run)
    return [
        f"the model ran {len(its)} times after {item_id}"
        for item_id, its in after.items()
        if item_id != NOTHING
        and (sum(run.is_over or run.pid not in killed for run in its) > 1 or any(run.is_over for run in its[:-1]))
    ] + [f"the model ran for nothing: {run.id}" for run in after[NOTHING] if not _unheard(run, runs)]


def _unheard(run: ModelRun, runs: list[ModelRun]) -> set[str]:
    """What no run before has told the model."""
    before = [each for each in runs[: runs.index(run)] if each.thread_id == run.thread_id and each.is_over]
    return {*run.news}.difference(*(each.news for each in before))


def _is_rising(numbers: list[int]) -> bool:
    return all(one < another for one, another in pairwise(numbers))
