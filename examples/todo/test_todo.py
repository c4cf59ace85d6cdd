"""The todo list, over the JSON that ChatKit.js speaks, with its tools in a real process of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

from chatkit_clienttools.stores.sql import SQLStore
from chatkit_clienttools.testing import FakeBrowser
from examples.offline import OfflineModel

from .offline import HELLO, HELP, reply
from .server import TodoServer
from .tasks import TaskList
from .tools import RequestContext, TaskTools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agents import Model

# the process with the tools takes a second to start: it is shared, and so is the event loop that talks to it
pytestmark = pytest.mark.asyncio(loop_scope="module")

REFRESH: tuple[str, Any] = ("refresh_tasks", {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    file: Path = tmp_path_factory.mktemp("todo") / "todo.db"
    url = f"sqlite+aiosqlite:///{file}"
    store, tasks = SQLStore[Any].from_url(url), TaskList(url)
    await store.create_schema()
    await tasks.create_schema()
    yield url
    await store.close()
    await tasks.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(database_url: str) -> AsyncIterator[TaskTools]:
    made = TaskTools(database_url)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(database_url: str) -> AsyncIterator[SQLStore[RequestContext]]:
    made = SQLStore[RequestContext].from_url(database_url, owner=lambda context: context.user_id)
    yield made
    await made.close()


@pytest.fixture
def page(
    store: SQLStore[RequestContext], tools: TaskTools, request: pytest.FixtureRequest
) -> Callable[..., FakeBrowser]:
    """Open a page as a user of this test's own, or as the one that is named."""

    def opened(user: str = "ada", model: Model | None = None) -> FakeBrowser:
        server = TodoServer(store, tools, model or OfflineModel(reply))
        return FakeBrowser(server, context=RequestContext(f"{user} of {request.node.name}"))

    return opened


async def test_hi_gets_a_natural_answer(page: Any) -> None:
    """A greeting is answered in words, and calls nothing."""
    ada = page()

    await ada.send("hi")

    assert [HELLO] == ada.texts
    assert [] == ada.calls


async def test_show_me_all_tasks_calls_list_tasks(page: Any) -> None:
    """The model gets the list from the tool, over MCP, and tells it."""
    asks = function_call("list_tasks", {}, call_id="call_1", item_id="fc_1")
    model = ScriptedModel([[asks], [assistant_message("Nothing there.", item_id="msg_1")]])
    ada = page(model=model)

    await ada.send("show me all tasks")

    known: Any = model.calls
    tools = ["add_task", "list_tasks", "complete_task", "update_task", "delete_task"]
    assert tools == [tool.name for tool in known[0].tools]
    assert '{"result": []}' == known[1].input[-1]["output"]
    assert ["Nothing there."] == ada.texts


async def test_the_five_tools_change_the_list_and_the_page_shows_it(page: Any) -> None:
    """Each change refreshes the list in the page, and highlights the task that it is about."""
    ada = page()

    for text in ("add buy milk", "finish milk", "rename milk to buy oat milk", "show me all tasks", "delete oat"):
        await ada.send(text)

    highlight = ("highlight_task", ada.calls[1].params)
    assert [REFRESH, highlight, REFRESH, highlight, REFRESH, highlight, REFRESH] == ada.calls
    number = ada.calls[1].params["task_id"]
    assert [
        "“buy milk” is on your list.",
        "“buy milk” is done. Well done!",
        "It is called “buy oat milk” now.",
        f"Here is your list:\n{number}. buy oat milk (done)",
        "“buy oat milk” is off your list.",
    ] == ada.texts


async def test_the_text_comes_word_by_word(page: Any) -> None:
    """What the assistant says is streamed while it is said."""
    message = {"content": [{"type": "input_text", "text": "sing"}], "attachments": [], "inference_options": {}}

    events = await page().post("threads.create", input=message)

    updates = [event["update"] for event in events if event["type"] == "thread.item.updated"]
    words = [update["delta"] for update in updates if update["type"].endswith("text_delta")]
    assert HELP == "".join(words)
    assert HELP.split() == [word.strip() for word in words]


async def test_a_conversation_stays_one_thread(
    page: Any, store: SQLStore[RequestContext], request: pytest.FixtureRequest
) -> None:
    """Every message after the first goes to the thread that the first has opened."""
    ada = page()

    for text in ("hi", "add buy milk", "hello"):
        await ada.send(text)

    threads = await store.load_threads(10, None, "desc", RequestContext(f"ada of {request.node.name}"))
    assert [ada.thread_id] == [thread.id for thread in threads.data]


async def test_a_tool_that_fails_is_told_and_changes_nothing(page: Any) -> None:
    """The model reads why a tool has failed; the page is not bothered."""
    ada = page()

    await ada.send("finish 2000000000")

    assert ["That did not work. Error executing tool complete_task: There is no task 2000000000."] == ada.texts
    assert [] == ada.calls


async def test_users_are_kept_apart(page: Any) -> None:
    """What is Ada's does not exist for Bob, not even by its number."""
    ada, bob = page("ada"), page("bob")
    await ada.send("add buy milk")
    number = ada.calls[1].params["task_id"]

    for text in ("show me all tasks", f"finish {number}", f"rename {number} to mine", f"delete {number}"):
        await bob.send(text)
    await ada.send("show me all tasks")

    assert "Your list is empty. Try “add buy milk”." == bob.texts[0]
    assert all(text.endswith(f"There is no task {number}.") for text in bob.texts[1:])
    assert f"Here is your list:\n{number}. buy milk" == ada.texts[-1]


async def test_the_model_cannot_say_who_asks(page: Any) -> None:
    """A user that a model makes up is of no consequence: who asks is no argument of any tool."""
    lies = {"title": "steal", "user_id": "victim", "_meta": {"todo/user_id": "victim"}, "todo/user_id": "victim"}
    model = ScriptedModel(
        [
            [function_call("add_task", lies, call_id="call_1", item_id="fc_1")],
            [assistant_message("Done.", item_id="msg_1")],
        ]
    )
    mallory, victim = page("mallory", model), page("victim")

    await mallory.send("add a task to the victim's list")
    await victim.send("show me all tasks")

    assert ["Your list is empty. Try “add buy milk”."] == victim.texts
    known: Any = model.calls
    assert "user_id" not in json.dumps([tool.params_json_schema for tool in known[0].tools])


async def test_a_call_that_does_not_say_who_asks_is_refused(tools: TaskTools) -> None:
    """A call without a user is nobody's, and not everybody's."""
    server = await tools.ready()

    result: Any = await server.call_tool("list_tasks", {})

    assert result.is_error
    assert "This call does not say whose tasks it is about." in result.content[0].text


async def test_a_process_that_has_died_is_started_again(page: Any, tools: TaskTools) -> None:
    """The tools are back with the next message."""
    ada = page()
    await tools.ready()
    kill_the_tools()

    await ada.send("show me all tasks")

    assert ["Your list is empty. Try “add buy milk”."] == ada.texts


@pytest.mark.fails
async def test_a_process_that_dies_while_it_is_needed_costs_one_answer(page: Any) -> None:
    """The page hears that something went wrong, and the same message is answered when it is tried again."""

    def lists(_: object) -> list[Any]:
        kill_the_tools()
        return [function_call("list_tasks", {}, call_id="call_1", item_id="fc_1")]

    ada = page(model=ScriptedModel([ModelStep.respond(lists), [assistant_message("None.", item_id="msg_1")]]))
    await ada.send("show me all tasks")

    await ada.retry()

    assert ["Something went wrong on the server. Try again."] == [error["message"] for error in ada.errors]
    assert ["None."] == ada.texts
    assert [] == ada.calls


async def test_stop_while_the_tools_are_started(page: Any, tools: TaskTools) -> None:
    """Stop while the tools start does not keep the next message from using them."""
    ada = page()
    await tools.ready()
    kill_the_tools()
    ada.stop(at="stream_options")

    await ada.send("show me all tasks")
    await ada.send("show me all tasks")

    assert ["Your list is empty. Try “add buy milk”."] == ada.texts


def kill_the_tools() -> None:
    (process,) = [child for child in psutil.Process().children() if "examples.todo.mcp_server" in child.cmdline()]
    process.kill()
    process.wait(10)
