"""`ClientToolConverter`: what the model gets to read of client tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit.agents import ThreadItemConverter

from .receipts import answer_of, unstamped
from .tools import is_error_report

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from chatkit.types import ClientToolCallItem

    from .sequencer import ClientToolSequencer


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

    async def client_tool_call_to_input(
        self, item: ClientToolCallItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        """Convert a call and its answer, or leave both out."""
        tool = self._sequencer.tool(item.name)
        if not tool.answer_wanted:
            return None
        answer = answer_of(item)
        problem = tool.problem_with(answer) if item.status == "completed" else None
        if problem is not None and not is_error_report(answer):
            answer = {"error": problem}
        bare = item.model_copy(update={"arguments": unstamped(item), "output": answer})
        return await super().client_tool_call_to_input(bare)
