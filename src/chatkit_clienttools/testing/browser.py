"""`FakeBrowser`: what ChatKit.js does with a server, without a page, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union, get_args

import anyio
from chatkit.types import ThreadStreamEvent
from pydantic import TypeAdapter, ValidationError

from chatkit_clienttools._requests import RESUME
from chatkit_clienttools.errors import UsageError

from ._factory import said
from ._handlers import Call, Delivery, Handlers, MissingHandlerError, OnClientTool, reported
from ._page import Json, Page
from ._transcript import Transcript
from ._wire import InProcess, OverHttp, WireError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from chatkit.server import ChatKitServer

    from ._wire import Stream, Wire

__all__ = ["Answering", "Call", "Delivery", "FakeBrowser", "MissingHandlerError"]

Answering = Literal["once", "at once", "twice", "twice at once", "never", "when told"]
"""How a page answers a call: once, when the stream has ended; at once, when the call arrives and the stream is still
open; twice, one after the other or both together; never, though it does execute the call; or when told by `answer()`,
and does not execute it before."""

At = Union[int, str, Callable[[Json], bool]]  # noqa: UP007  # needed at run time on 3.10
"""Where in a response: after so many of its events, after the first event of a type, or after one that is true of."""

LAST = -1


class BrokenStreamError(AssertionError):
    """A response was not what ChatKit.js can take: it broke off, was an HTTP error, or not made of ChatKit's events."""

    def __init__(self, what: str, transcript: Transcript) -> None:
        """Say what came, and what had happened before."""
        self.what = what
        self.transcript = transcript
        super().__init__(f"{what}\n\nWhat had happened:\n{transcript}")


@dataclass
class _Cut:
    """An end of a response before its time."""

    how: Literal["stops", "drops"]
    at: At

    def is_due(self, seen: list[Json]) -> bool:
        if isinstance(self.at, int):
            return len(seen) >= self.at
        if isinstance(self.at, str):
            return bool(seen) and seen[-1]["type"] == self.at
        return bool(seen) and self.at(seen[-1])


@dataclass
class _Response:
    """A response that is being read."""

    stream: Stream
    runs_calls: bool
    cut: _Cut | None
    seen: list[Json] = field(default_factory=list)
    scope: anyio.CancelScope | None = None

    @property
    def is_cut_off(self) -> bool:
        return self.cut is not None and self.cut.is_due(self.seen)


class FakeBrowser:
    """One page with one thread. It runs every client tool call that it is given, and posts the answer.

    Args:
        server: The ChatKit server, in this process; or the URL of one, to talk to over HTTP.
        context: In process: what the web framework would make of each request, such as who the user is.
        handlers: The page's `onClientTool`: for each tool a function of its params, or one function of the tool's name
            and its params. Each may be async, and may raise. Without any the page answers every call with `{}`.
        answering: How it answers. Can be changed at any time.
        receipts: Whether it honours receipts: it executes a call once for each receipt, sends the receipt back with the
            answer, and shows its handlers params without it. With `False` it has never heard of them.
        on_error: What a page without receipts answers when a handler has raised: a function of the error.
        observer: Told of each step while it happens: what kind of step, and of what.
        headers: Over HTTP: sent with every request.
        cookies: Over HTTP: the page's cookies. What the server sets is kept.
        time_limit: How many seconds the next event of a response may take.
    """

    def __init__(
        self,
        server: ChatKitServer[Any] | str,
        *,
        context: Any = None,
        handlers: Handlers = None,
        answering: Answering = "once",
        receipts: bool = True,
        on_error: Callable[[Exception], Any] = reported,
        observer: Callable[[str, Any], object] = lambda _kind, _what: None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        time_limit: float = 10.0,
    ) -> None:
        if isinstance(server, type):
            raise UsageError(f"A server is needed, and {server.__name__} is a class: {server.__name__}(store)")
        self._wire: Wire = (
            OverHttp(server, headers or {}, cookies or {}, time_limit)
            if isinstance(server, str)
            else InProcess(server, context)
        )
        self._handlers = handlers
        self.answering: Answering = answering
        self._receipts = receipts
        self._on_error = on_error
        self._observer = observer
        self._time_limit = time_limit
        self.transcript = Transcript()
        self._numbers = itertools.count(1)
        self._open_page(None)

    def _open_page(self, thread_id: str | None) -> None:
        self._number = next(self._numbers)
        self.thread_id = thread_id
        self.title: str | None = None
        self.calls: list[Call] = []
        self.delivered: list[Delivery] = []
        self.effects: list[Json] = []
        self.progress: list[str] = []
        self.notices: list[Json] = []
        self.errors: list[Json] = []
        self._page = Page()
        self._on_client_tool = OnClientTool(
            self._handlers, self.calls.append, receipts=self._receipts, on_error=self._on_error
        )
        self._to_run: deque[Delivery] = deque()
        self._responses: list[_Response] = []
        self._cut: _Cut | None = None
        self._last_request = ""

    @property
    def items(self) -> list[Json]:
        """The items that the page shows, oldest first, as JSON."""
        return self._page.items

    @property
    def texts(self) -> list[str]:
        """What the assistant's messages say that the page shows."""
        messages = self._page.of_type("assistant_message")
        return ["".join(part["text"] for part in message["content"]) for message in messages]

    @property
    def widgets(self) -> list[Json]:
        """The widget items that the page shows."""
        return self._page.of_type("widget")

    async def send(self, text: str) -> None:
        """Write a message, then run client tools for as long as the server asks for one."""
        self._tell("says", text)
        content = [{"type": "input_text", "text": text}]
        message = {"content": content, "attachments": [], "inference_options": {}}
        await self._converse("threads.add_user_message" if self.thread_id else "threads.create", input=message)

    async def retry(self) -> None:
        """Let the last message be answered again: what came after it is gone."""
        item_id = self._last("user_message")["id"]
        self._tell("retries", item_id)
        self._page.cut_after(item_id)
        await self._converse("threads.retry_after_item", item_id=item_id)

    async def action(self, kind: str, payload: Any = None, *, item_id: str | None = None) -> None:
        """Send an action; with `item_id`, of that widget."""
        if self.thread_id is None:
            raise UsageError("There is no thread yet that an action could belong to: send() first")
        self._tell("acts", kind)
        sender = {"item_id": item_id} if item_id else {}
        await self._converse("threads.custom_action", action={"type": kind, "payload": payload}, **sender)

    async def resume(self) -> None:
        """Ask for a pending call again, as a page does that has been loaded anew."""
        await self.action(RESUME)

    async def fill_in(self, answers: Mapping[str, str | list[str]]) -> None:
        """Fill in the last form: an answer, or several, for each question's id. Questions left out are skipped."""
        self._tell("fills in", dict(answers))
        values = {question: [said] if isinstance(said, str) else said for question, said in answers.items()}
        submission = {"answers": {question: {"values": said} for question, said in values.items()}}
        await self._converse(
            "threads.add_structured_input", item_id=self._last("structured_input")["id"], input=submission
        )

    async def rename(self, title: str) -> None:
        """Give the thread another title."""
        self._tell("renames", title)
        self.title = (await self._fetch("threads.update", title=title)).get("title")

    async def reload(self, *, resume: bool = False) -> None:
        """Load the thread anew, all of it; with `resume`, ask for a pending call again, as our client code does.

        The page forgets what it shows and what it had still to do. It does not forget which receipts it has
        answered: `client-tools.js` keeps them where a reload does not reach.
        """
        self._tell("reloads", self.thread_id)
        self._to_run.clear()
        thread = await self._fetch("threads.get_by_id")
        self.title = thread.get("title")
        page, items = thread["items"], thread["items"]["data"]
        while page.get("has_more"):
            page = await self._fetch("items.list", order="asc", after=page["after"])
            items += page["data"]
        self._page.show(items)
        if resume:
            await self.resume()

    def tab(self) -> FakeBrowser:
        """Open the thread in a second tab: same user and cookies, nothing in mind. Its `reload()` shows the thread."""
        tab = copy.copy(self)
        tab._open_page(self.thread_id)  # noqa: SLF001  it is one of us
        return tab

    async def execute(self, number: int = LAST) -> Any:
        """Execute a call that has arrived, if that was not done before, and return the answer that is to be posted."""
        return await self._on_client_tool.answer_to(self._delivered(number))

    async def answer(self, number: int = LAST) -> None:
        """Post the answer to a call that has arrived, late or again: to the last, or by its place in `delivered`."""
        await self._post_answer(self._delivered(number))
        await self._run_calls()

    def stop(self, at: At = 0) -> None:
        """Press Stop in the response that is being read, or else in the next one: at once, or at a chosen event.

        The connection is closed while the server works on the next event. What it would have sent is not seen, and
        calls that have arrived are not executed; `answer()` does it, if the page is to do it all the same.
        """
        self._cut_off(_Cut("stops", at))

    def drop(self, after: int = 0) -> None:
        """Lose the connection after so many events of the response that is being read, or of the next one.

        Unlike with `stop()` the server does not notice: in process it is left where it waits for the last event to be
        taken. `repost()` posts the request again, as ChatKit.js does when a stream breaks.
        """
        self._cut_off(_Cut("drops", after))

    async def repost(self) -> None:
        """Post the last request that had a stream again, and run what comes of it."""
        await self._exchange(self._last_request, runs_calls=True)
        await self._run_calls()

    async def post(self, kind: str, **params: Any) -> list[Json]:
        """Post any request that has a stream, and return its events. No client tool is run for them."""
        return await self._exchange(self._request(kind, params), runs_calls=False)

    async def _converse(self, kind: str, **params: Any) -> None:
        await self._exchange(self._request(kind, params), runs_calls=True)
        await self._run_calls()

    async def _run_calls(self) -> None:
        while self._to_run:
            await self._run(self._to_run.popleft())

    async def _run(self, call: Delivery) -> None:
        answering = self.answering
        if answering not in get_args(Answering):
            raise UsageError(f"answering must be one of {', '.join(map(repr, get_args(Answering)))}, not {answering!r}")
        if answering == "when told":
            self._tell("waits", call.name)
        elif answering == "never":
            await self._on_client_tool.answer_to(call)
            self._tell("withholds", call.name)
        elif answering == "twice at once":
            await _both(self._post_answer(call), self._post_answer(call))
        else:
            for _ in range(2 if answering == "twice" else 1):
                await self._post_answer(call)

    async def _post_answer(self, call: Delivery) -> None:
        answer = await self._on_client_tool.answer_to(call)
        self._tell("answers", answer, noted=(call.name, answer))
        self._page.answered(call.item_id)
        await self._exchange(self._request("threads.add_client_tool_output", {"result": answer}), runs_calls=True)

    def _request(self, kind: str, params: Json) -> str:
        if self.thread_id:
            params = {"thread_id": self.thread_id, **params}
        return json.dumps({"type": kind, "params": params})

    async def _fetch(self, kind: str, **params: Any) -> Json:
        self._note("posts", kind)
        try:
            with anyio.fail_after(self._time_limit):
                answer: Json = json.loads(await self._wire.fetch(self._request(kind, params)))
                return answer
        except Exception as error:
            raise self._broken(error) from error

    async def _exchange(self, request: str, *, runs_calls: bool) -> list[Json]:
        self._last_request = request
        self._note("posts", json.loads(request)["type"])
        try:
            with anyio.fail_after(self._time_limit):
                stream = await self._wire.open(request)
        except Exception as error:
            raise self._broken(error) from error
        response = _Response(stream, runs_calls, self._cut)
        self._cut = None
        self._responses.append(response)
        try:
            await self._read(response)
        finally:
            self._responses.remove(response)
            await stream.close()
        return response.seen

    async def _read(self, response: _Response) -> None:
        while not response.is_cut_off and (event := await self._next(response)) is not None:
            response.seen.append(event)
            await self._take(event, response)
        if response.cut and response.is_cut_off:
            await self._end_early(response, response.cut.how)

    async def _next(self, response: _Response) -> Json | None:
        data = None
        try:
            with anyio.fail_after(self._time_limit) as response.scope:
                data = await response.stream.next()
            return None if data is None else _validated(data)
        except Exception as error:
            raise self._broken(error) from error
        finally:
            response.scope = None

    def _cut_off(self, cut: _Cut) -> None:
        if not self._responses:
            self._cut = cut
            return
        response = self._responses[-1]
        response.cut = cut
        if response.scope and response.is_cut_off:
            response.scope.cancel()

    async def _end_early(self, response: _Response, how: Literal["stops", "drops"]) -> None:
        self._to_run.clear()
        self._tell(how, f"after {len(response.seen)} events")
        await (response.stream.stop() if how == "stops" else response.stream.drop())

    async def _take(self, event: Json, response: _Response) -> None:
        self._note("event", _summary(event))
        self._page.apply(event)
        kind = event["type"]
        if kind in {"thread.created", "thread.updated"}:
            self.thread_id = event["thread"]["id"]
            self.title = event["thread"].get("title")
        elif kind == "client_effect":
            self._keep(self.effects, "effect", {"name": event["name"], "data": event["data"]})
        elif kind == "progress_update":
            self._keep(self.progress, "progress", event["text"])
        elif kind in {"notice", "error"}:
            self._keep(self.notices if kind == "notice" else self.errors, kind, event)
        elif kind == "thread.item.done":
            await self._done(event["item"], response)

    async def _done(self, item: Json, response: _Response) -> None:
        if item["type"] == "assistant_message":
            self._tell("reads", self.texts[-1])
        elif item["type"] == "widget":
            self._tell("widget", item)
        elif item["type"] == "client_tool_call" and item.get("status") == "pending":
            call = Delivery(item["id"], item["name"], item["arguments"])
            self.delivered.append(call)
            self._tell("gets", (call.name, call.params))
            if response.runs_calls:
                await self._arrived(call)

    async def _arrived(self, call: Delivery) -> None:
        if self.answering == "at once":
            # a request of its own, as in a page: not a part of the one that is being read
            await asyncio.create_task(self._post_answer(call))
        else:
            self._to_run.append(call)

    def _delivered(self, number: int) -> Delivery:
        try:
            return self.delivered[number]
        except IndexError:
            raise UsageError(f"There is no call {number}: {len(self.delivered)} have arrived on this page") from None

    def _last(self, kind: str) -> Json:
        return self._page.of_type(kind)[LAST]

    def _keep(self, kept: list[Any], kind: str, what: Any) -> None:
        kept.append(what)
        self._tell(kind, what)

    def _tell(self, kind: str, what: Any, noted: Any = None) -> None:
        self._note(kind, what if noted is None else noted)
        self._observer(kind, what)

    def _note(self, kind: str, what: Any) -> None:
        self.transcript.add(self._number, kind, what)

    def _broken(self, error: Exception) -> BrokenStreamError:
        waited = f"nothing came for {self._time_limit:g} seconds" if isinstance(error, TimeoutError) else said(error)
        return BrokenStreamError(f"The stream is broken: {waited}", self.transcript)

    def __repr__(self) -> str:
        return f"<FakeBrowser on {self.thread_id}: {self.transcript!r}>"


async def _both(*posts: Coroutine[Any, Any, None]) -> None:
    """Let two posts come to their ends, whatever becomes of the other one; then raise what one of them has raised."""
    for outcome in await asyncio.gather(*posts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _summary(event: Json) -> str:
    item = event.get("item", {})
    about = [event["type"], item.get("type"), item.get("status"), item.get("id") or event.get("item_id")]
    return " ".join(each for each in about if each)


def _validated(data: str) -> Json:
    """Return an event as JSON, if ChatKit knows such an event."""
    try:
        _events().validate_json(data)
    except ValidationError as error:
        raise WireError(f"no event of ChatKit: {data[:500]}\n{error}") from error
    event: Json = json.loads(data)
    return event


@functools.cache
def _events() -> TypeAdapter[ThreadStreamEvent]:
    """All that may come in a stream; building it takes as long as a whole conversation."""
    return TypeAdapter(ThreadStreamEvent)
