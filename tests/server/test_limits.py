"""How large and how odd an answer may be: what the library does not take has failed, and the thread goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from chatkit.server import ChatKitServer

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer
from chatkit_clienttools.errors import CallFailedError, InvalidRequestError, UsageError
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.stores.sql import SQLStore
from tests.helpers.conversation import Conversation, Reply
from tests.helpers.merak import anything, calls, selection, speaks
from tests.helpers.scripted import Scripted, asks, says, scripted
from tests.helpers.server import NOTHING, everything, lines, outputs
from tests.helpers.stores import PlainStore, TextStore
from tests.helpers.waiting import Ctx, Waiting, choose, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chatkit.store import Store

REFUSED = "the browser's answer was refused: "
TOO_LARGE = f"{REFUSED}it is larger than 1,024 bytes"
TOO_DEEP = f"{REFUSED}it is nested deeper than 100 levels"
NOT_FINITE = f"{REFUSED}it holds a number that is not finite"

LARGE = json.dumps("private " * 1000)

ANSWER = '{"type": "threads.add_client_tool_output", "params": {"thread_id": "%s", "result": %s}}'
LAST = '{"params": {"result": %s, "thread_id": "%s"}, "type": "threads.add_client_tool_output"}'


@pytest_asyncio.fixture(params=["plain", "text", "memory", "sqlite"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store[Any]]:
    """Stores that keep objects, JSON text, documents in memory, and documents in SQLite."""
    if request.param != "sqlite":
        yield {"plain": PlainStore, "text": TextStore, "memory": MemoryStore}[request.param]()
        return
    store: SQLStore[Any] = SQLStore.from_url(f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}")
    await store.create_schema()
    yield store
    await store.close()


async def posted(chat: Conversation, result: str, form: str = ANSWER) -> Reply:
    """Post an answer whose JSON the test has written itself."""
    filled = (chat.thread_id, result) if form == ANSWER else (result, chat.thread_id)
    return Reply([event async for event in chat.stream(form % filled)])


async def as_read(server: Scripted, chat: Conversation) -> list[Any]:
    """What the model reads of the answers."""
    read: list[Any] = list(await ClientToolConverter(server.sequencer).to_agent_input(await chat.items()))
    return [json.loads(item["output"]) for item in read if item["type"] == "function_call_output"]


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def in_envelope(reply: Reply, result: str) -> str:
    """An answer as withReceipts posts it."""
    return f'{{"_receipt": "{reply.call_items[0]["arguments"]["_receipt"]}", "result": {result}}}'


REFUSALS = [
    ("NaN", NOT_FINITE),
    ("[-Infinity]", NOT_FINITE),
    ('{"a": 1e999}', NOT_FINITE),
    ("9" * 400, NOT_FINITE),
    ("-" + "9" * 5000, NOT_FINITE),
    (nested(101), TOO_DEEP),
    (nested(180), TOO_DEEP),
    (nested(400), TOO_DEEP),
    ('{"a":' * 400 + "1" + "}" * 400, TOO_DEEP),
    (nested(100_000), TOO_DEEP),
]


class TestRefused:
    @pytest.mark.parametrize(("result", "reason"), REFUSALS, ids=[f"{len(r)} {r[:12]}" for r, _ in REFUSALS])
    @pytest.mark.parametrize("receipts", [False, True])
    async def test_the_call_has_failed(
        self, kept: Store[Any], result: str, reason: str, *, receipts: bool, log: Any
    ) -> None:
        """The answer is not stored, page and model read why, and the next call is released."""
        server, chat = scripted(kept, asks(anything(), selection()), receipts=receipts)
        begun = await chat.say("go")

        reply = await posted(chat, in_envelope(begun, result) if receipts else result)

        [notice] = [event for event in reply.events if event["type"] == "notice"]
        assert ("warning", f"T{reason[1:]}.") == (notice["level"], notice["message"])
        assert [("get_selected_canvas_nodes", "pending")] == (await chat.calls())[1:]
        assert [{"error": reason}, None] == await outputs(chat)
        assert [{"error": reason}] == await as_read(server, chat)
        assert f"pending -> failed, {reason} (" in log.text
        assert [] == lines(log)

    @pytest.mark.parametrize(
        ("form", "receipts", "kind"),
        [
            (ANSWER, False, str),
            (ANSWER, True, str.encode),
            (LAST, False, lambda text: bytearray(text.encode())),
            (LAST, True, str),
        ],
    )
    async def test_too_large(self, kept: Store[Any], form: str, kind: Any, log: Any, *, receipts: bool) -> None:
        """The call of an answer above `max_answer_bytes` has failed, however its request is written."""
        server, chat = scripted(kept, asks(anything(), selection()), receipts=receipts, max_answer_bytes=1024)
        begun = await chat.say("go")
        result = in_envelope(begun, LARGE) if receipts else LARGE

        filled = form % ((chat.thread_id, result) if form == ANSWER else (result, chat.thread_id))
        reply = Reply([event async for event in chat.stream(kind(filled))])

        assert ["notice", "stream_options", "thread.item.done"] == reply.types
        assert [{"error": TOO_LARGE}, None] == await outputs(chat)
        assert [{"error": TOO_LARGE}] == await as_read(server, chat)
        assert "private" not in log.text

    @pytest.mark.parametrize("receipts", [False, True])
    @pytest.mark.parametrize("result", ['["{}", ?]', '"{}" ?', '"x{}" ?'])
    async def test_what_is_too_large_is_not_parsed(self, result: str, *, receipts: bool) -> None:
        """Of an answer that is too large only the beginning is read: what comes after it need not be JSON."""
        _, chat = scripted(PlainStore(), asks(*[anything()] * 3), receipts=receipts, max_answer_bytes=5000)
        begun = await chat.say("go")
        filled = result.format("é" * 5000)

        replies = [await posted(chat, in_envelope(begun, filled) if receipts else filled) for _ in range(2)]

        assert [{"error": TOO_LARGE.replace("1,024", "5,000")}] * (1 if receipts else 2) == [
            output for output in await outputs(chat) if output
        ]
        assert [True, not receipts] == ["notice" in reply.types for reply in replies]

    @pytest.mark.parametrize("ends_with", ["", r"\ud83d"], ids=["text", "half a surrogate pair"])
    async def test_a_receipt_further_back_is_looked_for(self, ends_with: str) -> None:
        """An answer that is too large fails the call that its receipt names, and no other, wherever the receipt is."""
        _, chat = scripted(PlainStore(), asks(anything(), selection()), receipts=True, max_answer_bytes=1024)
        receipt = (await chat.say("go")).call_items[0]["arguments"]["_receipt"]
        late = f'{{"result": "{"x" * 9000}{ends_with}", "_receipt": "{receipt}"}}'

        first = await posted(chat, late)
        again = await posted(chat, late)

        assert [{"error": TOO_LARGE}, None] == await outputs(chat)
        assert ["notice", "stream_options", "thread.item.done"] == first.types
        assert first.call_items == again.call_items
        assert "notice" not in again.types

    @pytest.mark.parametrize("size", [1024, 1025])
    async def test_the_limit_is_that_of_the_request(self, size: int) -> None:
        """A request of just `max_answer_bytes` is taken, and one of a byte more is not; a character may be two."""
        _, chat = scripted(PlainStore(), asks(anything()), says("done"), max_answer_bytes=1024)
        await chat.say("go")
        room = size - len(ANSWER % (chat.thread_id, '""'))
        text = "é" * (room // 2) + "x" * (room % 2)

        await posted(chat, f'"{text}"')

        assert [text if size == 1024 else {"error": TOO_LARGE}] == await outputs(chat)

    async def test_other_requests_are_as_large_as_they_like(self) -> None:
        """Messages and actions are no answers: what may be their size is for the application to say."""
        _, chat = scripted(PlainStore(), says("hello"), says("long"), says("pressed"), max_answer_bytes=1024)
        await chat.say("hi")

        assert ["long"] == (await chat.say("x" * 5000)).texts
        action = {"type": "press", "payload": {"text": "x" * 5000}}
        press = {"type": "threads.custom_action", "params": {"thread_id": chat.thread_id, "action": action}}
        assert ["pressed"] == Reply([event async for event in chat.stream(json.dumps(press))]).texts

    async def test_a_large_request_that_is_none(self) -> None:
        """A large body that is not a ChatKit request is refused as a small one is."""
        server, _ = scripted(PlainStore(), max_answer_bytes=1024)

        with pytest.raises(InvalidRequestError, match="Invalid JSON"):
            await server.process('{"type": "threads.add_client_tool_output", "params": {"a": [' + "?" * 5000, None)

    @pytest.mark.parametrize("result", ["{", '"a', "[1,]", nested(400)[:-1]])
    async def test_what_is_not_json(self, result: str) -> None:
        """An answer that is not JSON is no request, and the call stays open."""
        _, chat = scripted(PlainStore(), asks(anything()))
        await chat.say("go")

        with pytest.raises(InvalidRequestError, match="Invalid JSON"):
            await posted(chat, result)

        assert [("anything", "pending")] == await chat.calls()

    async def test_deep_with_a_receipt_far_behind(self) -> None:
        """If it cannot be seen for which call an answer is that is too deep to be read, no call has failed."""
        _, chat = scripted(PlainStore(), asks(anything()), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["arguments"]["_receipt"]

        with pytest.raises(InvalidRequestError, match="recursion limit"):
            await posted(chat, f'{{"result": {nested(100_000)}, "_receipt": "{receipt}"}}')

        assert [("anything", "pending")] == await chat.calls()

    async def test_a_repeated_one_is_ignored(self) -> None:
        """A refused answer that is posted again changes nothing, and says nothing once more."""
        _, chat = scripted(PlainStore(), asks(anything()), says("done"), receipts=True)
        result = in_envelope(await chat.say("go"), "NaN")
        await posted(chat, result)
        before = await everything(chat)

        assert NOTHING == (await posted(chat, result)).types
        assert before == await everything(chat)

    async def test_abort(self) -> None:
        """With `on_failure="abort"` a refused answer cancels the rest, like any other failure."""
        _, chat = scripted(PlainStore(), asks(anything(), selection()), says("sorry"), on_failure="abort")
        await chat.say("go")

        reply = await posted(chat, "NaN")

        assert ([], ["sorry"]) == (reply.calls, reply.texts)

    async def test_a_tool_that_waits(self, kept: Store[Any]) -> None:
        """`ask` raises `CallFailedError` with the reason; the browser has reported nothing."""

        async def asks_large(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            try:
                return (await sequencer.ask(ctx, choose(people=["Ada"]))).name
            except CallFailedError as error:
                return f"{error.reason} / {error.report}"

        page = Waiting(kept, [[calls("asks_large")], speaks("Sorry.")], tool(asks_large), max_answer_bytes=1024)
        await page.say()

        reply = await page.answer({"name": "x" * 2000})

        assert ["Sorry."] == reply.texts
        assert ("output", f"{TOO_LARGE} / None") == page.seen_by_model[-1]

    async def test_a_page_that_wraps_its_answers(self) -> None:
        """`answers=` opens an answer to find its receipt, and need not know what a refusal looks like."""
        _, chat = scripted(
            PlainStore(), asks(anything(), anything()), receipts=True, answers=lambda result: result["data"]
        )
        begun = await chat.say("go")
        old = in_envelope(begun, "NaN")

        replies = [await posted(chat, f'{{"type": "success", "data": {old}}}') for _ in range(2)]

        assert [{"error": NOT_FINITE}, None] == await outputs(chat)
        assert [True, False] == ["notice" in reply.types for reply in replies]

    async def test_a_function_that_cannot_open_it(self) -> None:
        """An `answers=` that fails for a refused answer leaves it without a receipt: the pending call has failed."""
        _, chat = scripted(PlainStore(), asks(anything()), says("done"), answers=lambda result: result["data"])
        await chat.say("go")

        assert ["done"] == (await posted(chat, "[NaN]")).texts
        assert [{"error": NOT_FINITE}] == await outputs(chat)

    @pytest.mark.parametrize(
        ("result", "reason"),
        [('[NaN, "private"]', NOT_FINITE), (f'[{nested(100_000)}, "private"]', TOO_DEEP), (LARGE, TOO_LARGE)],
        ids=["not finite", "too deep", "too large"],
    )
    async def test_a_process_of_the_application(self, result: str, reason: str) -> None:
        """A `process` behind ours gets each request as it came, but a refusal in the place of a refused answer."""
        bodies: list[Any] = []

        class Checked(ChatKitServer[Any]):
            async def process(self, request: Any, context: Any) -> Any:
                bodies.append(request)
                return await super().process(request, context)

        class Mine(Scripted, Checked):
            pass

        store = PlainStore()
        limit = 1024 if reason == TOO_LARGE else 1_000_000
        sequencer = ClientToolSequencer([ClientTool("anything")], max_answer_bytes=limit)
        server = Mine(store, sequencer, asks(anything(), anything()), says("done"))
        chat = Conversation(server)
        await chat.say("go")

        await posted(chat, '"taken"')
        await posted(chat, result)

        assert ["taken", {"error": reason}] == await outputs(chat)
        assert [True, True, False] == [
            '"type": "threads.create"' in bodies[0],
            '"result": "taken"' in bodies[1],
            "private" in bodies[2],
        ]

    async def test_a_forged_refusal(self) -> None:
        """A page that posts the words of a refusal makes its own call fail, and what it adds counts as its own."""
        server, chat = scripted(PlainStore(), asks(anything(), anything()), says("done"))
        await chat.say("go")

        await chat.answer({"error": TOO_LARGE})
        await chat.answer({"error": f"{TOO_LARGE} private"})

        told = [server.sequencer.tool("anything").problem_with(output) for output in await outputs(chat)]
        assert [TOO_LARGE, "the browser reported an error"] == told

    async def test_without_a_sequencer(self) -> None:
        """A server without a sequencer takes answers as large as plain ChatKit does."""
        server = Scripted(PlainStore(), ClientToolSequencer([]), asks(anything()), says("done"))
        chat = Conversation(server)
        await chat.say("go")
        server.client_tools = None

        assert ["done"] == (await posted(chat, json.dumps("x" * 2_000_000))).texts

    def test_a_limit_that_is_too_small(self) -> None:
        """A limit that no answer could keep is refused when the sequencer is made."""
        with pytest.raises(UsageError, match="max_answer_bytes must be at least 1024, not 10"):
            ClientToolSequencer(max_answer_bytes=10)


class TestCleaned:
    @pytest.mark.parametrize(
        ("result", "stored"),
        [
            (r'"a\ud83d"', "a\ufffd"),
            (r'["\udc00b", 1]', ["\ufffdb", 1]),
            (r'{"\ud800": [true, null]}', {"\ufffd": [True, None]}),
            (r'"a\u0000b"', "a\ufffdb"),
            (r'{"a\u0000": 1.5}', {"a\ufffd": 1.5}),
            (r'"\ud83d\ude00"', "\U0001f600"),
            ('{"a": 1, "a": 2}', {"a": 2}),
            ("9" * 300, int("9" * 300)),
            ("1e308", 1e308),
            (rf'["\ud800", {"9" * 300}]', ["\ufffd", int("9" * 300)]),
            (nested(100), json.loads(nested(100))),
        ],
        ids=range(11),
    )
    async def test_it_can_be_stored_and_read_again(self, kept: Store[Any], result: str, stored: Any, log: Any) -> None:
        """NUL and half a surrogate pair become U+FFFD, in keys too; what is just within the limits stays as it is."""
        server, chat = scripted(kept, asks(anything(), anything()), says("done"))
        await chat.say("go")

        replies = [await posted(chat, result), await posted(chat, result)]

        assert [[], ["done"]] == [reply.texts for reply in replies]
        assert [] == [reply for reply in replies if "notice" in reply.types]
        assert [stored, stored] == await outputs(chat)
        assert [stored, stored] == await as_read(server, chat)
        assert [stored, stored] == [
            item["output"] for item in (await chat.thread())["items"]["data"] if item["type"] == "client_tool_call"
        ]
        assert [] == lines(log)

    async def test_a_message_stays_chatkits(self) -> None:
        """Half a surrogate pair in a message is what ChatKit makes of it: no request."""
        _, chat = scripted(PlainStore(), says("hello"))

        with pytest.raises(InvalidRequestError, match="Invalid JSON"):
            await chat.say("a\ud800")
