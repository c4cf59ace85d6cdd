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
from .observe import log_and_return
from .receipts import ASKED, answer_of, unstamped
from .store import newest_items
from .tools import is_error_report

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from chatkit.store import Store
    from chatkit.types import SDKHiddenContextItem, ThreadItem, ThreadMetadata

    from .media import ClientFile, Media
    from .sequencer import ClientToolSequencer


TContext = TypeVar("TContext")


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

        What a tool returned because the user had written comes before the user's message.
        """
        items = list(thread_items) if isinstance(thread_items, Sequence) else [thread_items]
        return await self._with_newest_media(await super().to_agent_input(_in_order(items)))

    async def load_history(
        self, store: Store[TContext], thread: ThreadMetadata, context: TContext, *, limit: int = 30
    ) -> list[ThreadItem]:
        """Load the newest items of a thread that the model will read, oldest first.

        Client tool calls that the model does not see do not count for `limit`. Otherwise many calls would push the
        user's question out of sight.
        """

        def is_enough(items: Mapping[str, ThreadItem]) -> bool:
            return sum(map(self._is_read, items.values())) >= limit

        items = await newest_items(store, thread.id, context, first=limit, then=limit, is_enough=is_enough)
        return [item for item in items if self._is_read(item)][:limit][::-1]

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
            raise log_and_return(UsageError(_NO_REQUEST))
        url = await loaded(run.store, thread_id, media.reference, run.context)
        return url if url and media.could_be(url) else None


_NO_REQUEST = (
    "An image or a file of this thread is kept by a MediaStore, and to_agent_input() was called outside of a request "
    "to a ClientToolServer: first give each client tool call to `await with_content(store, item, context)` of "
    "chatkit_clienttools.content"
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
