"""The timeline of calls: what the library logs, kept for every worker and for the next start."""

from __future__ import annotations

from agents.testing import ScriptedModel, assistant_message, function_call

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from examples.merak_search.people import RequestContext
from examples.merak_search.server import MerakServer
from examples.timeline import Timeline


def browser() -> FakeBrowser:
    search = function_call("search_agents", {"query": "maritime"}, call_id="call_1", item_id="fc_1")
    model = ScriptedModel([[search], [assistant_message("Bela it is.", item_id="msg_1")]])
    handlers = {"run_search_animation": lambda _: {}, "choose_agent": lambda _: {"name": "Bela"}}
    return FakeBrowser(MerakServer(MemoryStore(), model), context=RequestContext("ada"), handlers=handlers)


async def test_another_worker_knows_the_steps() -> None:
    """What one worker has written down another one reads, the oldest step first, and what the tool did with it."""
    page = browser()
    with Timeline().listening():
        await page.send("Who knows about maritime law?")

    steps = Timeline().steps(page.thread_id or "", 0)

    whole = ["queued", "pending", "completed"]
    of_tool = ["waits for run_search_animation", "woken", "waits for choose_agent", "woken"]
    assert of_tool == [step.state for step in steps if step.item_id is None][:4]
    assert whole * 3 == [
        step.state
        for call in dict.fromkeys(step.call_id for step in steps if step.item_id)
        for step in steps
        if step.call_id == call
    ]


async def test_only_what_is_new_is_told() -> None:
    """A page that names the last step it has gets the later ones only."""
    page = browser()
    with Timeline().listening():
        await page.send("Who knows about maritime law?")

    steps = Timeline().steps(page.thread_id or "", 0)

    assert steps[5:] == Timeline().steps(page.thread_id or "", steps[4].number)
    assert [] == Timeline().steps("thr_another", 0)


async def test_a_reload_is_sent_again() -> None:
    """A call that a page which was loaded again gets once more was sent again, and not cancelled."""
    page = browser()
    page.answering = "never"
    with Timeline().listening():
        await page.send("Who knows about maritime law?")
        await page.reload(resume=True)

    steps = Timeline().steps(page.thread_id or "", 0)

    assert ["queued", "pending", "sent again"] == [step.state for step in steps if step.item_id]
