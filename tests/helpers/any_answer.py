"""What any answer is tried on: a server with tools of several result types, on a store that keeps JSON."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from itertools import cycle
from typing import TYPE_CHECKING, Any

from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from chatkit.server import StreamingResult
from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools.content import MediaStore, with_content
from chatkit_clienttools.errors import CallFailedError, InvalidRequestError
from chatkit_clienttools.media import ClientImage
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.merak import SequencedServer
from tests.helpers.waiting import Ctx  # noqa: TC001  the Agents SDK reads it

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = "s3cr3t-of-the-user"  # noqa: S105  a text to look for
RECEIPT = "RECEIPT"
"""Stands for the receipt of the pending call, and THREAD for the id of the thread."""

IMAGE = f"data:image/png;base64,{b64encode(b'%PNG'.replace(b'%', bytes([0x89])) + bytes([13, 10, 26, 10])).decode()}"
LIMIT = 4096
GONE = "This conversation, or a part of it, does not exist (any more)."
LOGGER = logging.getLogger("chatkit_clienttools")


class Screen(BaseModel):
    title: str
    image: ClientImage | None = None
    others: list[ClientImage] = []


TOOLS = (
    ClientTool("anything"),
    ClientTool("screen", result=Screen),
    ClientTool("picture", result=ClientImage),
    ClientTool("numbers", result=list[float]),
    ClientTool("nothing", result=None),
)


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()} {record.exc_text or record.exc_info or ''}")


class Target:
    """A conversation in which each tool is asked for, and each answer is one of the bodies."""

    def __init__(self) -> None:
        self.sequencer = sequencer = ClientToolSequencer(TOOLS, max_answer_bytes=LIMIT, max_media_bytes=LIMIT)
        self.store = MediaStore[Any](MemoryStore(), sequencer, min_bytes=10)
        turns = cycle(["waits", "queues"])

        def says(call: Any) -> Any:
            newest = call.input[-1]
            self.runs += 1
            if isinstance(newest, dict) and newest.get("role") == "user":
                return [function_call(next(turns), {}, call_id=f"call_{self.runs}", item_id=f"fc_{self.runs}")]
            return [assistant_message("There.", item_id=f"msg_{self.runs}")]

        async def waits(ctx: Ctx) -> str:
            for tool in TOOLS:
                try:
                    await sequencer.ask(ctx, tool())
                except CallFailedError:
                    continue
            return "done"

        async def queues(ctx: Ctx) -> str:
            sequencer.enqueue(ctx, *[tool() for tool in TOOLS])
            return "done"

        self.runs = 0
        tools = [sequencer.function_tool(waits), sequencer.function_tool(queues)]
        self.server = SequencedServer(self.store, [], tools, sequencer=sequencer)
        self.server.agent.model = ScriptedModel([ModelStep.respond(says) for _ in range(200)])
        self.chat = Conversation(self.server)
        self.log = _Log()

    async def take(self, bodies: Iterable[bytes]) -> None:
        """Post each body to each kind of call, and check that all goes on."""
        self.listen()
        try:
            left = [*bodies]
            for question in ("waits", "queues"):
                await self.chat.say(question)
                for n in range(len(TOOLS)):
                    await self.post(left[n % len(left)])
            await self.check()
        finally:
            self.leave()

    def listen(self) -> None:
        """Hear all that is logged."""
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.addHandler(self.log)

    def leave(self) -> None:
        """Hear nothing more."""
        LOGGER.removeHandler(self.log)
        LOGGER.setLevel(logging.NOTSET)

    async def post(self, body: bytes) -> None:
        """Post a body as the answer to the pending call; then a good answer, if the call is still pending."""
        pending = await self.pending()
        receipt = pending.arguments["_receipt"] if pending else "none"
        body = body.replace(b"THREAD", (self.chat.thread_id or "").encode()).replace(b"RECEIPT", receipt.encode())
        await self.sent(body)
        still = await self.pending()
        if pending and still and still.id == pending.id:
            good = self.chat.answer_request({"_receipt": receipt, "result": {"title": "a"}})
            events = await self.sent(good.encode())
            after = await self.pending()
            assert after is None or after.id != pending.id, ("an answer was not taken", events)

    async def sent(self, body: bytes) -> list[Any]:
        """Post a body; return the events, or nothing for an invalid request. No error but one of another thread."""
        try:
            result = await self.server.process(body, None)
        except InvalidRequestError as error:
            # it goes to the page, and often to a log; the type of a request that ChatKit does not know is in it
            self.log.lines.append(str(error).partition("ChatKit has no request")[0])
            return []
        if not isinstance(result, StreamingResult):
            return []
        events = [json.loads(chunk.removeprefix(b"data: ")) async for chunk in result]
        errors = [event.get("message") for event in events if event["type"] == "error"]
        assert [] == [error for error in errors if error != GONE], self.log.lines[-3:]
        assert GONE not in errors or _thread_in(body) != self.chat.thread_id, "an answer in our own thread was refused"
        return events

    async def pending(self) -> Any:
        """The call that is pending, if any."""
        if self.chat.thread_id is None:
            return None
        items = [item for item in await self.items() if item.type == "client_tool_call" and item.status == "pending"]
        return items[0] if items else None

    async def items(self) -> list[Any]:
        page = await self.store.load_thread_items(self.chat.thread_id or "", None, 1000, "asc", None)
        return page.data

    async def check(self) -> None:
        """The thread can be read, by a page, by the model and by any store, and nothing was logged."""
        await self.chat.thread()
        items = await self.items()
        for item in items:
            item.model_dump_json().encode()
            json.dumps(item.model_dump(mode="json"), allow_nan=False).encode()
            if item.type == "client_tool_call":
                await with_content(self.store, item, None)
        full = [await with_content(self.store, i, None) if i.type == "client_tool_call" else i for i in items]
        json.dumps(await self.server.converter.to_agent_input(full), allow_nan=False, default=str).encode()
        reply = await self.chat.say("Go on")
        assert "error" not in reply.types, reply.events
        found = [line for line in self.log.lines if SECRET in line]
        assert [] == found, "the log quotes the answer"


def _thread_in(body: bytes) -> Any:
    """The thread that a request names, if it can be read at all."""
    try:
        return json.loads(body)["params"]["thread_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
