"""Tools as they were written for plain ChatKit: each assigns its call to `ctx.context.client_tool_call`.

With `SequencedAgentContext` (see server.py) every assignment joins the queue, so not a line of these tools changes.
"""

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.widgets import WidgetTemplate
from pydantic import BaseModel

from .client_tools import Fact, Theme


class RequestContext(BaseModel):
    """Who asks."""

    user_id: str


Ctx = RunContextWrapper[AgentContext[RequestContext]]

FACT_CARD = WidgetTemplate(
    {
        "version": "1.0",
        "name": "fact",
        "template": '{"type": "Card", "children": [{"type": "Text", "value": {{ text | tojson }}}]}',
    }
)


@function_tool
async def record_fact(ctx: Ctx, fact: Fact) -> str:
    """Note a fact about the user, and show it as a card.

    Args:
        fact: What to note.
    """
    await ctx.context.stream_widget(FACT_CARD.build({"text": fact.text}), copy_text=fact.text)
    ctx.context.client_tool_call = ClientToolCall(name="record_fact", arguments=fact.model_dump())
    return "Noted."


@function_tool
async def switch_theme(ctx: Ctx, theme: Theme) -> str:
    """Switch the page to another colour scheme.

    Args:
        theme: The scheme to switch to.
    """
    ctx.context.client_tool_call = ClientToolCall(name="switch_theme", arguments=theme.model_dump())
    return f"The page is {theme.scheme} now."
