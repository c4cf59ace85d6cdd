"""Tools that await the browser, with a process of its own for each request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from tests.helpers.conversation import Conversation
from tests.processes.fresh import AProcessForEach, OneProcess, Site, told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.conversation import Reply, Wire
    from tests.helpers.databases import Place
    from tests.processes.fresh import Backend

ADA, GRACE = {"name": "Ada"}, {"name": "Grace"}


@dataclass
class Account:
    """What came to the page in each response, and what that took."""

    replies: list[list[Any]] = field(default_factory=list)
    repeats: list[list[Any]] = field(default_factory=list)
    """The responses to repeated answers."""
    items: list[str] = field(default_factory=list)
    """What the thread holds in the end."""
    operations: list[int] = field(default_factory=list)
    """How many store operations each request took."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often the model ran, bodies began and steps were taken."""
    reads: list[list[str]] = field(default_factory=list)
    """What tools have returned, as each run of the model read it."""
    pids: list[int] = field(default_factory=list)
    """The processes that have served the requests."""


class Case(NamedTuple):
    """What the user writes and answers, and what has to come of it."""

    says: str
    answers: list[Any]
    asks: list[Any]
    """The calls that reach the page, in order."""
    returns: list[str]
    """What the model reads in the end."""
    counts: dict[str, int]


async def held(backend: type[Backend], site: Site, case: Case) -> Account:
    """Write a message, answer each call, and post each answer once more."""
    server, account = backend(site), Account()
    chat = Conversation(cast("Any", server))
    reply = await chat.say(case.says)
    account.replies.append(in_short(reply))
    for answer in case.answers:
        receipt = reply.call_items[-1]["arguments"]["_receipt"]
        result = {"_receipt": receipt, "result": answer}
        reply, again = await chat.answer(result), await chat.answer(result)
        account.replies.append(in_short(reply))
        account.repeats.append(in_short(again))
    account.items = [item.type for item in await chat.items()]
    await server.close()
    for line in told(site):
        match line.pop("kind"):
            case "request":
                account.pids.append(line["pid"])
                account.operations.append(line["operations"])
            case kind:
                account.counts[kind] += 1
                account.reads += [line["reads"]] if kind == "model" else []
    return account


def in_short(reply: Reply) -> list[Any]:
    """The events of a response, without ids and times."""
    return [_in_short(event) for event in reply.events]


def _in_short(event: Wire) -> Any:
    match event:
        case {"item": {"type": "client_tool_call", "name": name, "arguments": arguments}}:
            return name, {key: value for key, value in arguments.items() if key != "_receipt"}
        case {"item": {"type": "assistant_message", "content": [{"text": text}]}, "type": "thread.item.done"}:
            return "assistant_message", text
    return event["type"]


CASES = {
    "three asks and a step": Case(
        "search_agents",
        [None, ADA, None],
        [
            ("run_search_animation", {"state": "start"}),
            ("choose_agent", {"people": ["Ada", "Grace"]}),
            ("run_search_animation", {"state": "stop"}),
        ],
        ["The user chose Ada."],
        {"model": 2, "body": 4, "step": 1},
    ),
    "two tools that wait": Case(
        "first second",
        [ADA, GRACE, None],
        [
            ("choose_agent", {"people": ["poets"]}),
            ("choose_agent", {"people": ["poets"]}),
            ("run_search_animation", {"state": "stop"}),
        ],
        ["first: Ada", "second: Grace"],
        {"model": 2, "body": 5},
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.long if "step" not in case.counts else (), id=name)
        for name, case in CASES.items()
    ],
)
async def test_a_process_for_each_request(shared: Place, tmp_path: Path, case: Case) -> None:
    """A conversation looks the same, and takes as much, whether one process serves it or each request has its own."""
    store = shared.store()
    await store.create_schema()
    await store.close()

    one = await held(OneProcess, Site(shared.url, shared.prefix, tmp_path / "one"), case)
    many = await held(AProcessForEach, Site(shared.url, shared.prefix, tmp_path / "many"), case)

    assert [*case.asks, ("assistant_message", " ".join(case.returns))] == [events[-1] for events in many.replies]
    assert (case.counts, [[], case.returns]) == (many.counts, many.reads)
    assert (1 + 2 * len(case.answers), 1) == (len({*many.pids}), len({*one.pids}))
    one.pids = many.pids = []
    assert one == many
