"""What a page shows, and what else its user does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from chatkit.types import (
    AssistantMessageItem,
    ClientEffectEvent,
    ErrorEvent,
    HiddenContextItem,
    NoticeEvent,
    ProgressUpdateEvent,
    ThreadItemAddedEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    WidgetItem,
    WorkflowItem,
)

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from chatkit_clienttools.testing.machine._server import rehearsal
from tests.helpers.bodies import Server, asks, done, item, nothing, says, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TestPage:
    async def test_an_answered_call_shows_its_answer(self) -> None:
        """Bare, as it is after a reload, and the first one if there are several."""
        server = rehearsal(MemoryStore(), time.time, receipts=True)
        browser = FakeBrowser(server, handlers=lambda name, params: {"n": params["n"]}, answering="when told")
        await browser.send("show one")

        await browser.answer()
        await browser.answer()
        shown = browser.items[-1]["output"]
        await browser.reload()

        assert ({"n": 1}, {"n": 1}) == (shown, browser.items[-1]["output"])

    async def test_a_reload_shows_the_whole_thread(self) -> None:
        """A reload shows the whole thread, page by page over the wire, without hidden items."""

        async def thirty(thread: Any) -> AsyncIterator[Any]:
            yield done(HiddenContextItem, thread, "h_1", content="x")
            for n in range(30):
                async for event in says(str(n), f"msg_{n}")(thread):
                    yield event

        browser = FakeBrowser(Server(thirty))
        await browser.send("Go")
        shown = browser.items

        await browser.reload()

        assert shown == browser.items
        assert [str(n) for n in range(30)] == browser.texts

    async def test_a_reload_can_resume(self) -> None:
        """A reload that resumes sends the action of our client code, and runs the call that comes."""
        server = Server(nothing, asks(), nothing)
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.reload(resume=True)

        action = {"type": "chatkit_clienttools.resume", "payload": None}
        assert [action] == [params["action"] for kind, params in server.posted if kind == "threads.custom_action"]
        assert [("shows", {})] == browser.calls

    async def test_a_reload_forgets_what_was_to_do(self) -> None:
        """A call that has arrived is not executed by the page that was loaded anew."""
        browser = FakeBrowser(Server(asks()), answering="when told")

        await browser.send("Go")
        await browser.reload()

        assert ["pending"] == [item["status"] for item in browser.items if item["type"] == "client_tool_call"]
        assert [] == browser.calls

    async def test_another_server_and_other_handlers(self) -> None:
        """A page can be given another server, as after a restart, and other handlers; it keeps what it shows."""
        store = MemoryStore[Any]()
        browser = FakeBrowser(rehearsal(store, time.time, receipts=True), answering="when told")
        await browser.send("show one")

        browser.server = other = rehearsal(store, time.time, receipts=True)
        browser.handlers = handlers = {"shows": lambda params: {"shown": params["n"]}}
        await browser.answer()

        assert (other, handlers) == (browser.server, browser.handlers)
        assert [{"shown": 1}] == [call.answer["result"] for call in browser.delivered]
        assert "completed" == browser.items[-1]["status"]

    async def test_a_server_of_another_kind(self) -> None:
        """A page that talks to a server in process cannot go on over HTTP."""
        browser = FakeBrowser(rehearsal(MemoryStore(), time.time, receipts=True))

        with pytest.raises(UsageError, match="make another FakeBrowser"):
            browser.server = "http://example.com/"

    async def test_a_second_tab(self) -> None:
        """A second tab has the same thread, nothing in mind, and one transcript with the first."""
        server = Server(asks(_receipt="r1"), nothing)
        browser = FakeBrowser(server, answering="when told")
        await browser.send("Go")
        tab = browser.tab()
        assert [] == tab.items

        await tab.reload()
        await browser.answer()

        assert browser.thread_id == tab.thread_id
        assert ["user_message", "client_tool_call"] == [item["type"] for item in tab.items]
        assert ([("shows", {})], []) == (browser.calls, tab.calls)
        assert "tab 1  says      Go" in str(tab.transcript)
        assert "tab 2  reloads" in str(tab.transcript)

    async def test_retry(self) -> None:
        """The last message is answered again, and what came after it is gone."""
        server = Server(says("One", "msg_1"), says("Two", "msg_2"))
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.retry()

        assert ["Two"] == browser.texts
        assert "threads.retry_after_item" == server.posted[-1][0]

    async def test_an_action_of_a_widget(self) -> None:
        """An action says which widget sent it."""
        card = {"type": "Card", "children": [{"type": "Text", "value": "Ada"}]}
        server = Server(streams(lambda thread: done(WidgetItem, thread, "w_1", widget=card)), says("Done."))
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.action("press", {"n": 1}, item_id=browser.widgets[0]["id"])

        action = {"type": "press", "payload": {"n": 1}}
        assert ("threads.custom_action", {"thread_id": browser.thread_id, "action": action, "item_id": "w_1"}) == (
            server.posted[-1]
        )
        assert ["Done."] == browser.texts

    async def test_rename(self) -> None:
        """The title that comes back is the page's."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Go")

        await browser.rename("People")

        assert "People" == browser.title

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_a_form(self) -> None:
        """Each question of a form can be given one answer, several, or none."""
        questions = [{"id": f"q{n}", "type": "freeform", "question": "?"} for n in (1, 2, 3)]
        form = streams(lambda thread: done(chatkit.types.StructuredInputItem, thread, "f_1", inputs=questions))
        browser = FakeBrowser(Server(form, nothing))
        await browser.send("Go")

        await browser.fill_in({"q1": "Ada", "q2": ["Bela", "Chen"]})

        answers = [question["answer"] for question in browser.items[-1]["inputs"]]
        assert [["Ada"], ["Bela", "Chen"], []] == [answer["values"] for answer in answers]
        assert [False, False, True] == [answer["skipped"] for answer in answers]

    async def test_what_is_streamed_and_not_stored(self) -> None:
        """Effects, progress, notices and errors are kept in the order they came."""
        body = streams(
            ClientEffectEvent(name="spin", data={"on": True}),
            ProgressUpdateEvent(text="Reading"),
            NoticeEvent(level="info", message="Hm"),
            ErrorEvent(message="Oh", allow_retry=True),
        )
        browser = FakeBrowser(Server(body))

        await browser.send("Go")

        assert [{"name": "spin", "data": {"on": True}}] == browser.effects
        assert ["Reading"] == browser.progress
        assert ["Hm"] == [notice["message"] for notice in browser.notices]
        assert ["Oh"] == [error["message"] for error in browser.errors]

    async def test_items_change_as_events_say(self) -> None:
        """A page adds, updates, replaces and removes its items as the events say."""

        def update(item_id: str, **fields: Any) -> ThreadItemUpdatedEvent:
            return ThreadItemUpdatedEvent.model_validate({"item_id": item_id, "update": fields})

        def part(text: str) -> dict[str, Any]:
            return {"type": "output_text", "text": text, "annotations": []}

        def card(text: str) -> dict[str, Any]:
            return {"type": "Card", "children": [{"type": "Text", "value": text}]}

        message, kind = "assistant_message.content_part", "custom"
        body = streams(
            lambda t: ThreadItemAddedEvent(item=item(AssistantMessageItem, t, "msg_1", content=[])),
            update("msg_1", type=f"{message}.added", content_index=0, content=part("")),
            update("msg_1", type=f"{message}.text_delta", content_index=0, delta="Hel"),
            update("msg_1", type=f"{message}.text_delta", content_index=0, delta="lo"),
            lambda t: ThreadItemAddedEvent(item=item(AssistantMessageItem, t, "msg_2", content=[part("Gone")])),
            ThreadItemRemovedEvent(item_id="msg_2"),
            update("msg_2", type=f"{message}.done", content_index=0, content=part("Too late")),
            lambda t: ThreadItemAddedEvent(item=item(WidgetItem, t, "w_1", widget=card("Ada"))),
            update("w_1", type="widget.root.updated", widget=card("Bela")),
            update("w_1", type="widget.streaming_text.value_delta", component_id="c", delta="x", done=True),
            lambda t: ThreadItemAddedEvent(item=item(WorkflowItem, t, "wf_1", workflow={"type": kind, "tasks": []})),
            update("wf_1", type="workflow.task.added", task_index=0, task={"type": kind, "title": "One"}),
            update("wf_1", type="workflow.task.updated", task_index=0, task={"type": kind, "title": "Two"}),
            lambda t: done(WidgetItem, t, "w_2", widget=card("Chen")),
            lambda t: ThreadItemReplacedEvent(item=item(WidgetItem, t, "w_2", widget=card("Dora"))),
        )
        browser = FakeBrowser(Server(body))

        await browser.send("Go")

        assert ["Hello"] == browser.texts
        assert ["Bela", "Dora"] == [widget["widget"]["children"][0]["value"] for widget in browser.widgets]
        assert ["Two"] == [task["title"] for task in browser.items[-2]["workflow"]["tasks"]]
