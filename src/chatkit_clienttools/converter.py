"""`ClientToolConverter`: what the model gets to read of client tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from chatkit.agents import ThreadItemConverter
from chatkit.types import ClientToolCallItem
from openai.types.responses import ResponseFunctionToolCallParam
from openai.types.responses.response_input_item_param import FunctionCallOutput

from ._protocol.outputs import output_in
from ._step.lookup import current_body
from .receipts import ASKED, answer_of, unstamped
from .store import newest_items
from .tools import is_error_report

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from chatkit.store import Store
    from chatkit.types import SDKHiddenContextItem, ThreadItem, ThreadMetadata

    from .sequencer import ClientToolSequencer


TContext = TypeVar("TContext")


class ClientToolConverter(ThreadItemConverter):
    """A `ThreadItemConverter` that knows which client tool calls concern the model.

    A call whose answer nobody wanted does not reach it. A call that failed reaches it as `{"error": ...}`, so that it
    can say so or try something else. Receipts are left out.

    To use, to subclass, or to put before a converter of your own:
    `class MyConverter(ClientToolConverter, TheConverterIHave)`.
    """

    def __init__(self, sequencer: ClientToolSequencer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sequencer = sequencer

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

        What a tool has returned because the user wrote comes before what the user wrote.
        """
        items = list(thread_items) if isinstance(thread_items, Sequence) else [thread_items]
        return await super().to_agent_input(_in_order(items))

    async def load_history(
        self, store: Store[TContext], thread: ThreadMetadata, context: TContext, *, limit: int = 30
    ) -> list[ThreadItem]:
        """Load the newest items of a thread that the model will read, oldest first.

        Client tool calls that it does not see do not count, however many there are between the others: they would push
        the user's own question out of sight.
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
        if problem is not None and not is_error_report(answer):
            answer = {"error": problem}
        bare = item.model_copy(update={"arguments": unstamped(item), "output": answer})
        return await super().client_tool_call_to_input(bare)


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
