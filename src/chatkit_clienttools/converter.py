"""`ClientToolConverter`: which client tool calls the model reads, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chatkit.agents import ThreadItemConverter
from chatkit.types import ClientToolCallItem
from openai.types.responses import ResponseFunctionToolCallParam
from openai.types.responses.response_input_item_param import FunctionCallOutput

from ._protocol.outputs import output_in
from ._step.lookup import current_body, current_run
from .content import is_content, loaded
from .errors import UsageError
from .media import ClientImage
from .news import News, as_answers, call_id_of, marks_in, renamed, that_hold, waiting_in, with_outputs
from .receipts import ASKED, answer_of, unstamped
from .sequencer import ClientToolSequencer
from .store import newest_items
from .tools import is_error_report

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from agents.memory import Session
    from chatkit.store import Store
    from chatkit.types import SDKHiddenContextItem, ThreadItem, ThreadMetadata, UserMessageItem

    from .media import ClientFile, Media

TContext = TypeVar("TContext")

FURTHEST = 500
"""How many items are read at most to find what the model has read before."""

HELD = 40
"""How many items of a session are read: the model's calls that wait are among its newest ones."""


class ClientToolConverter(ThreadItemConverter):
    """A `ThreadItemConverter` that hides client tool calls which do not concern the model.

    Calls with `result=None` are left out. A failed call is shown as `{"error": ...}`, so that the model can say so or
    try something else. Receipts are left out. What a tool that waited has returned is shown as the tool's output.

    The images and files in answers (`ClientImage`, `ClientFile`) reach it as images and files: the newest ones, and a
    line of text for each older one. `newest_images=0` is for a model that sees no images.

    To use, to subclass, or to put before a converter of your own:
    `class MyConverter(ClientToolConverter, TheConverterIHave)`.
    """

    def __init__(
        self,
        sequencer: ClientToolSequencer,
        *args: Any,
        newest_images: int = 3,
        newest_files: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(sequencer, ClientToolSequencer):
            raise UsageError(
                f"ClientToolConverter takes the ClientToolSequencer that the tools and the server share, not a "
                f"{type(sequencer).__name__}"
            )
        self._sequencer = sequencer
        self._newest = {"input_image": newest_images, "input_file": newest_files}

    async def sdk_hidden_context_to_input(
        self, item: SDKHiddenContextItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        """Convert the output of a tool that waited into the model's call and its output."""
        output = output_in(item)
        if output is None:
            return await super().sdk_hidden_context_to_input(item)
        if body := current_body():
            body.has_read_outputs = True
        call = ResponseFunctionToolCallParam(
            type="function_call", call_id=output.call_id, name=output.name, arguments=output.arguments
        )
        return [call, FunctionCallOutput(type="function_call_output", call_id=output.call_id, output=output.output)]

    async def to_agent_input(self, thread_items: Sequence[ThreadItem] | ThreadItem) -> list[TResponseInputItem]:
        """Convert the items of a thread, oldest first.

        What a tool returned because the user had written comes before the user's message. A call id is read once: the
        output of a tool and an answer that it has asked for may have the same one, that of the model's call.
        """
        items = list(thread_items) if isinstance(thread_items, Sequence) else [thread_items]
        read = await super().to_agent_input(self._with_own_ids(_in_order(items)))
        return await self._with_newest_media(read)

    def _with_own_ids(self, items: list[ThreadItem]) -> list[ThreadItem]:
        """Return the items with another call id in the place of each that the model reads before."""
        known: set[str] = set()
        own: list[ThreadItem] = []
        for item in items:
            call_id = call_id_of(item) if self._is_read(item) else None
            own.append(renamed(item) if call_id in known else item)
            known |= {call_id} if call_id else set()
        return own

    async def load_history(
        self, store: Store[TContext], thread: ThreadMetadata, context: TContext, *, limit: int = 30
    ) -> list[ThreadItem]:
        """Load the newest items of a thread that the model will read, oldest first.

        Client tool calls that the model does not see do not count for `limit`. Otherwise many calls would push the
        user's question out of sight.
        """
        items = await self._load_newest(store, thread, context, limit)
        return [item for item in items if self._is_read(item)][:limit][::-1]

    async def load_news(
        self,
        store: Store[TContext],
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,
        context: TContext,
        *,
        session: Session | None = None,
        limit: int = 30,
    ) -> News:
        """Load what the model has not read yet, where OpenAI or a session keeps what it has.

        `thread` and `input_user_message` are what `respond` gets. Stream the run with `News.keep`. The answer to one of
        the model's calls is an output alone; any other answer is a call and its output.

        `session` is one of this thread alone. If it holds what nobody knows of, because a run has failed or a message
        is retried, it is cleared, and the newest `limit` items of the thread are sent, as for one without a history.
        """
        held = None if session is None else await session.get_items(limit=HELD)
        marks = marks_in(thread, held)
        if marks:

            def is_enough(items: Mapping[str, ThreadItem]) -> bool:
                return len(items) >= FURTHEST or bool(that_hold(marks, [*items.values()], input_user_message))

            items = await newest_items(store, thread.id, context, first=limit, then=limit, is_enough=is_enough)
            if marks := that_hold(marks, items, input_user_message):
                newest = marks[-1]
                waiting = newest.open if held is None else {each: newest.open.get(each) for each in waiting_in(held)}
                news = [item for item in newest.news_in(items) or () if self._is_read(item)]
                sent = await self.to_agent_input(as_answers(news[::-1], waiting, held or ()))
                return News(thread, items, with_outputs(sent, waiting), marks, session)
        if session is not None and held:
            await session.clear_session()
            await session.get_items(limit=1)  # a conversation at OpenAI gets its new id now
        items = await self._load_newest(store, thread, context, limit)
        read = [item for item in items if self._is_read(item)][:limit]
        return News(thread, items, await self.to_agent_input(read[::-1]), (), session)

    async def _load_newest(
        self, store: Store[TContext], thread: ThreadMetadata, context: TContext, limit: int
    ) -> list[ThreadItem]:
        """Load the newest items of a thread, newest first, until there are enough that the model will read."""

        def is_enough(items: Mapping[str, ThreadItem]) -> bool:
            return sum(map(self._is_read, items.values())) >= limit

        return await newest_items(store, thread.id, context, first=limit, then=limit, is_enough=is_enough)

    def _is_read(self, item: ThreadItem) -> bool:
        """Whether the model reads an item: of client tool calls, those whose answer it wants and has."""
        if not isinstance(item, ClientToolCallItem):
            return item.type != "end_of_turn"
        is_awaited = item.call_id.startswith(ASKED)
        return item.status == "completed" and self._sequencer.tool(item.name).answer_wanted and not is_awaited

    async def client_tool_call_to_input(
        self, item: ClientToolCallItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        """Convert a call and its answer, or leave both out."""
        tool = self._sequencer.tool(item.name)
        if not self._is_read(item):
            return None
        answer = answer_of(item)
        problem = tool.problem_with(answer)
        parts: list[dict[str, Any]] = []
        if problem is not None and not is_error_report(answer):
            answer = {"error": problem}
        elif problem is None and tool.takes_media:
            text, media = tool.media_in(answer)
            parts = [_text(text), *[_Shown(each, item.thread_id) for each in media]]
            answer = None  # it would be written once more, with all that is in it
        bare = item.model_copy(update={"arguments": unstamped(item), "output": answer})
        read = await super().client_tool_call_to_input(bare)
        return _with_output(read, parts) if parts else read

    async def resolve(self, media: Media) -> str | None:
        """Return the URL, `https:` or `data:`, of an image or a file that the page has only referred to.

        To override: look up `media.reference`, and whether the user may see it. None if there is no such thing any
        more, as it is by default: a page may name what it likes. `media` is a `ClientImage` or a `ClientFile`.
        """
        self._sequencer.rules.warn_once(
            "The page has answered with a %s that only refers to something, and nobody looks it up: the model reads "
            "that it is gone. Override `async def resolve(self, media)` of your ClientToolConverter: return its URL",
            type(media).__name__,
        )
        return None

    async def _with_newest_media(self, read: list[TResponseInputItem]) -> list[TResponseInputItem]:
        """Return what the model reads with the newest images and files, and a line of text for each other one.

        Only what is shown is looked up.
        """
        left = dict(self._newest)
        items: list[Any] = [*read]
        for n, item in reversed([*enumerate(items)]):
            if item.get("type") == "function_call_output" and isinstance(item["output"], list):
                parts = [await self._part(part, left) for part in reversed(item["output"])][::-1]
                is_text = all(part.get("type") == "input_text" for part in parts)
                items[n] = {**item, "output": "\n".join(part["text"] for part in parts) if is_text else parts}
        return items

    async def _part(self, part: dict[str, Any], left: dict[str, int]) -> dict[str, Any]:
        """Return an image or a file as the model gets it; anything else as it is."""
        kind = part.get("type", "")
        if kind in left and left[kind] <= 0:
            return _text(f"[{kind.removeprefix('input_')} that is not shown here]")
        if isinstance(part, _Shown):
            part = await self._resolved(part)
        if kind in left and part["type"] == kind:
            left[kind] -= 1
        return part

    async def _resolved(self, shown: _Shown) -> dict[str, Any]:
        media = shown.media
        url = media.data_url or await self._url_of(media, shown.thread_id)
        if url is None:
            return _text(f"[{media.kind} that is gone]")
        if isinstance(media, ClientImage):
            return {"type": shown["type"], "image_url": url, "detail": media.detail}
        if url.startswith("data:"):
            return {"type": shown["type"], "filename": cast("ClientFile", media).filename, "file_data": url}
        return {"type": shown["type"], "file_url": url}

    async def _url_of(self, media: Media, thread_id: str) -> str | None:
        """Return the URL of what an answer only refers to."""
        if not is_content(media.reference):
            return await self.resolve(media)
        run = current_run()
        if run is None:
            self._sequencer.rules.warn_once(_NO_REQUEST)  # no error: any page can make up such a reference
            return None
        url = await loaded(run.store, thread_id, media.reference, run.context)
        return url if url and media.could_be(url) else None


_NO_REQUEST = (
    "An image or a file of this thread is kept by a MediaStore, and to_agent_input() was called outside of a request "
    "to a ClientToolServer: the model reads that it is gone. First give each client tool call to `await "
    "with_content(store, item, context)` of chatkit_clienttools.content"
)


class _Shown(dict[str, Any]):
    """The place of an image or a file in the output of a call, before it is known which are the newest."""

    def __init__(self, media: Media, thread_id: str) -> None:
        super().__init__(type="input_image" if isinstance(media, ClientImage) else "input_file")
        self.media = media
        self.thread_id = thread_id


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _with_output(read: Any, parts: list[dict[str, Any]]) -> Any:
    """Return a call and its output with these parts for an output."""
    items = read if isinstance(read, list) else [read]
    return [
        {**item, "output": parts} if item and item.get("type") == "function_call_output" else item for item in items
    ]


def _in_order(items: list[ThreadItem]) -> list[ThreadItem]:
    """Return the items with each output of a tool before the message that it has to be read before."""
    for item in [*items]:
        output = output_in(item)
        if output is None or output.before is None:
            continue
        place = next((n for n, each in enumerate(items) if each.id == output.before), len(items))
        if place < items.index(item):
            items.remove(item)
            items.insert(place, item)
    return items
