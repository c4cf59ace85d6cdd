"""`FakeBrowser`: what ChatKit.js does with a server, without a page, and what goes wrong on the way."""

from __future__ import annotations

import copy
import itertools
import json
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from chatkit_clienttools._step.requests import RESUME
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing._factory import said

from ._connection import Connection, Posted, beside, both
from ._faults import Cut
from ._handlers import Answering, Call, Delivery, Handlers, OnClientTool, bare, reported, wrapped
from ._page import Json, Page, summary
from ._transcript import Transcript
from ._wire import wire_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from chatkit.server import ChatKitServer
    from typing_extensions import Self

    from ._faults import At, Faults, Response
    from ._wire import Stream

LAST = -1


class FakeBrowser:
    """One page with one thread. It runs every client tool call that it is given, and posts the answer.

    `async with FakeBrowser(...) as browser:`, or `aclose()`, ends what `drop()` has left behind in the server. The
    former also fails a test that has set a fault and done nothing after it.

    Args:
        server: The ChatKit server, in this process; or the URL of one, to talk to over HTTP.
        context: In process: what your endpoint makes of a request, such as who the user is.
        handlers: The page's `onClientTool`: for each tool a function of its params, or one function of the tool's name
            and its params. Each may be async, and may raise. Without any the page answers every call with `{}`.
        answering: How it answers: "once", when the stream has ended; "at once", while the stream is open; "twice", one
            after the other; "twice at once"; "never", though it executes the call; or "when told", by `answer()`. Can
            be changed at any time.
        receipts: Whether it honours receipts: it executes a call once for each receipt, sends the receipt back with the
            answer, and shows its handlers params without it. With `False` it does not know them.
        on_error: What a page without receipts answers when a handler has raised: a function of the error.
        reads_acknowledgements: With `False` it never looks at what comes in answer to an answer, as some pages do not.
        repeats: How many times it posts a request again that was answered neither with a stream of events nor with an
            HTTP status of 4xx. The official host page does so 5 times.
        wraps_answers: Whether it posts `{"type": "success", "data": ...}` and `{"type": "error", "message": ...}`.
        observer: Called for each step while it happens, with its kind and what it is about.
        headers: Over HTTP: sent with every request.
        cookies: Over HTTP: the page's cookies. What the server sets is kept.
        time_limit: How many seconds the next event of a response may take, and a handler; a whole operation, such as
            `send()` with all the answers that it posts, may take 60 times as long.
        max_calls: How many client tools one operation may run: a server that asks for ever must not hang a test.

    Attributes:
        calls: The client tools that were executed, each a pair of name and params, without the receipt.
        delivered: The calls that arrived, executed or not, each with `item_id`, `name`, `params` as they came,
            `receipt` (or None), `is_executed` and the `answer` that is posted.
        effects: The client effects that came, each `{"name": ..., "data": ...}`.
        progress: The texts of the progress updates that came.
        notices: The notices that came, as JSON.
        errors: The errors that the chat has shown, as JSON: all since the page was made, reloaded or not.
        thread_id: The thread that is open, or None before the first message.
        title: The thread's title.
        transcript: All that was done and seen in all tabs; `str()` makes it readable.
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
        reads_acknowledgements: bool = True,
        repeats: int = 0,
        wraps_answers: bool = False,
        observer: Callable[[str, Any], object] = lambda _kind, _what: None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        time_limit: float = 10.0,
        max_calls: int = 1000,
    ) -> None:
        self._wire = wire_to(server, context=context, headers=headers, cookies=cookies, time_limit=time_limit)
        self.answering: Answering = answering
        self._reads_acknowledgements = reads_acknowledgements
        self._wraps_answers = wraps_answers
        self._observer = observer
        self.transcript = Transcript()
        self._handlers = handlers
        self._new_on_client_tool = partial(
            OnClientTool,
            receipts=receipts,
            on_error=on_error,
            time_limit=time_limit,
            transcript=self.transcript,
        )
        self._numbers = itertools.count(1)
        self._dropped: list[Stream] = []
        self._new_connection = partial(
            Connection, self._wire, self._dropped, self.transcript, time_limit, max_calls, repeats
        )
        self._faults_of_tabs: list[Faults] = []
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
        self._on_client_tool = self._new_on_client_tool(
            self._handlers,
            executed=self.calls.append,
            raised=lambda name, error: self._note("raises", f"{name} {said(error)}"),
        )
        self._to_run: deque[Delivery] = deque()
        self._connection = self._new_connection(note=self._note, took=self._take, ended_early=self._ended_early)
        self._faults = self._connection.faults
        self._faults_of_tabs.append(self._faults)
        self._last_request = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failed: type[BaseException] | None, *_: object) -> None:
        await self.aclose()
        if not failed:
            self.check_faults()

    def check_faults(self) -> None:
        """Raise a `FaultError` if a fault was set, in any tab, and nothing was done after it."""
        for faults in self._faults_of_tabs:
            faults.check_none_is_left()

    async def aclose(self) -> None:
        """End what `drop()`, in any tab, has left in the server: in process it would rest at its `yield` for ever."""
        await self._connection.let_go()

    @property
    def server(self) -> ChatKitServer[Any] | str:
        """The server that it talks to. Another one can be set, as after a restart of your backend."""
        server: ChatKitServer[Any] | str = self._wire.server
        return server

    @server.setter
    def server(self, server: ChatKitServer[Any] | str) -> None:
        if isinstance(server, str) is not isinstance(self._wire.server, str):
            raise UsageError("A page stays in process, or stays on HTTP: make another FakeBrowser")
        self._wire.server = server

    @property
    def handlers(self) -> Handlers:
        """What the page does for each client tool. Others can be set."""
        return self._handlers

    @handlers.setter
    def handlers(self, handlers: Handlers) -> None:
        self._handlers = self._on_client_tool.handlers = handlers

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
        item_id = self._last("user_message", "message")["id"]
        self._tell("retries", item_id)
        self._page.cut_after(item_id)
        await self._converse("threads.retry_after_item", item_id=item_id)

    async def action(self, kind: str, payload: Any = None, *, item_id: str | None = None) -> None:
        """Send an action; with `item_id`, of that widget."""
        self._tell("acts", kind)
        sender = {"item_id": item_id} if item_id else {}
        await self._converse("threads.custom_action", action={"type": kind, "payload": payload}, **sender)

    async def resume(self) -> None:
        """Ask for a pending call again, as a page does that has been loaded anew."""
        await self.action(RESUME)

    async def fill_in(self, answers: Mapping[str, str | list[str]]) -> None:
        """Fill in the last form: an answer, or several, for each question's id. Questions left out are skipped."""
        form = self._last("structured_input", "form")
        self._tell("fills in", dict(answers))
        values = {question: [said] if isinstance(said, str) else said for question, said in answers.items()}
        submission = {"answers": {question: {"values": said} for question, said in values.items()}}
        await self._converse("threads.add_structured_input", item_id=form["id"], input=submission)

    async def rename(self, title: str) -> None:
        """Give the thread another title."""
        self._tell("renames", title)
        self.title = (await self.fetch("threads.update", title=title)).get("title")

    async def reload(self, *, resume: bool = False) -> None:
        """Load the thread anew, all of it; with `resume`, ask for a pending call again, as our client code does.

        The page forgets what it shows and what it had still to do. It does not forget which receipts it has
        answered: `client-tools.js` keeps them where a reload does not reach.
        """
        self._tell("reloads", self.thread_id)
        self._to_run.clear()
        thread = await self.fetch("threads.get_by_id")
        self.title = thread.get("title")
        page, items = thread["items"], thread["items"]["data"]
        while page.get("has_more"):
            page = await self.fetch("items.list", order="asc", after=page["after"])
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
        async with self._operation():
            await self._post_answer(self._delivered(number))
            await self._run_calls()

    def stop(self, at: At = 0, *, if_reached: bool = False) -> None:
        """Press Stop: at once, after so many events, or after an event of a type or one that a function is true of.

        A number counts the events of the response that is being read, or else of the next one. Any other event is
        waited for through all the requests of the operation that is under way or comes next: `send()` posts answers,
        too. If the operation ends and never got there, that is a `FaultError`, unless `if_reached`; and the cut is
        gone. There is one cut at a time: a second one is refused.

        The connection is closed while the server works on the next event. What it would have sent is not seen, and
        calls that have arrived are not executed; `answer()` does it, if the page is to do it all the same.
        """
        self._faults.set(Cut("stops", at, if_reached))

    def drop(self, after: int = 0, *, if_reached: bool = False) -> None:
        """Lose the connection after so many events of the response that is being read, or of the next one.

        If the response has fewer, that is a `FaultError` as with `stop()`. Unlike with `stop()` the server does not
        notice: in process it is left where it waits for the last event to be taken, until `aclose()`. `repost()` posts
        the request again, as ChatKit.js does when a stream breaks.
        """
        self._faults.set(Cut("drops", after, if_reached))

    def hide(self, at: At = 0, *, if_reached: bool = False) -> None:
        """Hide the tab at an event, as with `stop()`, and show it again.

        Some pages close the connection of a tab that is hidden, and post the request again when it becomes visible.
        """
        self._faults.set(Cut("hides", at, if_reached))

    async def repost(self) -> None:
        """Post the last request that had a stream again, and run what comes of it."""
        if not self._last_request:
            raise UsageError("Nothing was posted on this page yet that could be posted again: send() first")
        await self._carry_out(self._last_request)

    async def post(self, kind: str, **params: Any) -> list[Json]:
        """Post any request that has a stream, and return its events. No client tool is run for them."""
        async with self._operation():
            return await self._exchange(self._request(kind, params), runs_calls=False)

    async def fetch(self, kind: str, **params: Any) -> Json:
        """Post any request that is answered at once, without a stream, and return its answer."""
        return await self._connection.fetch(self._request(kind, params))

    async def _converse(self, kind: str, **params: Any) -> None:
        await self._carry_out(self._request(kind, params))

    async def _carry_out(self, request: str) -> None:
        async with self._operation():
            await self._exchange(request, runs_calls=True)
            await self._run_calls()

    @asynccontextmanager
    async def _operation(self) -> AsyncGenerator[None, None]:
        """Let the page do something, and the server come to its end with it."""
        try:
            with self._faults.operation():
                yield
        except BaseException:
            self._to_run.clear()  # the page may be in another thread by the time of the next one
            raise
        await self._connection.see_the_end()

    async def _run_calls(self) -> None:
        while self._to_run:
            await self._run(self._to_run.popleft())

    async def _run(self, call: Delivery) -> None:
        if self.answering == "when told":
            self._tell("waits", call.name)
        elif self.answering == "never":
            await self._on_client_tool.answer_to(call)
            self._tell("withholds", call.name)
        elif self.answering == "twice at once":
            await both(self._post_answer(call), self._post_answer(call))
        elif self.answering in {"once", "at once", "twice"}:
            for _ in range(2 if self.answering == "twice" else 1):
                await self._post_answer(call)
        else:
            raise UsageError(
                f"answering must be one of {', '.join(map(repr, get_args(Answering)))}, not {self.answering!r}"
            )

    async def _post_answer(self, call: Delivery, posted: Posted | None = None) -> None:
        answer = await self._on_client_tool.answer_to(call)
        self._tell("answers", answer, noted=(call.name, answer))
        self._page.answered(call.item_id, bare(answer))
        result = wrapped(answer) if self._wraps_answers else answer
        request = self._request("threads.add_client_tool_output", {"result": result})
        await self._exchange(request, runs_calls=True, is_read=self._reads_acknowledgements, posted=posted)

    def _request(self, kind: str, params: Json) -> str:
        if self.thread_id:
            params = {"thread_id": self.thread_id, **params}
        return json.dumps({"type": kind, "params": params})

    async def _exchange(
        self, request: str, *, runs_calls: bool, is_read: bool = True, posted: Posted | None = None
    ) -> list[Json]:
        self._last_request = request
        return await self._connection.exchange(request, runs_calls=runs_calls, is_read=is_read, posted=posted)

    def _ended_early(self, how: str, events: int) -> None:
        self._to_run.clear()
        self._tell(how, f"after {events} events")

    async def _take(self, event: Json, response: Response) -> None:
        self._note("event", summary(event))
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

    async def _done(self, item: Json, response: Response) -> None:
        if item["type"] == "assistant_message":
            self._tell("reads", self.texts[-1])
        elif item["type"] == "widget":
            self._tell("widget", item)
        elif item["type"] == "client_tool_call" and item.get("status") == "pending":
            call = Delivery(item["id"], item["name"], item["arguments"])
            self.delivered.append(call)
            self._tell("gets", (call.name, call.params))
            if response.runs_calls:
                self._connection.count_call()
                await self._arrived(call, response)

    async def _arrived(self, call: Delivery, response: Response) -> None:
        if self.answering == "at once":
            await beside(response, lambda posted: self._post_answer(call, posted))
        else:
            self._to_run.append(call)

    def _delivered(self, number: int) -> Delivery:
        try:
            return self.delivered[number]
        except IndexError:
            raise UsageError(f"There is no call {number}: {len(self.delivered)} have arrived on this page") from None

    def _last(self, kind: str, called: str) -> Json:
        shown = self._page.of_type(kind)
        if not shown:
            raise UsageError(f"The page shows no {called}: send() first, or reload() what the thread has")
        return shown[LAST]

    def _keep(self, kept: list[Any], kind: str, what: Any) -> None:
        kept.append(what)
        self._tell(kind, what)

    def _tell(self, kind: str, what: Any, noted: Any = None) -> None:
        self._note(kind, what if noted is None else noted)
        self._observer(kind, what)

    def _note(self, kind: str, what: Any) -> None:
        self.transcript.add(self._number, kind, what)

    def __repr__(self) -> str:
        return f"<FakeBrowser on {self.thread_id}: {self.transcript!r}>"
