"""The server tool of the agent: it searches, and asks the page for three things."""

from agents import RunContextWrapper
from chatkit.agents import AgentContext

from chatkit_clienttools import showing

from .client_tools import animation, indicator, profiles, sequencer
from .people import RequestContext, find


@sequencer.function_tool
async def search_agents(ctx: RunContextWrapper[AgentContext[RequestContext]], query: str) -> str:
    """Find people who can answer a question, and show them on the user's stage."""
    async with showing(ctx, indicator(on=True), indicator(on=False)):
        found = await find(query)
    sequencer.enqueue(ctx, animation(state="start"), profiles(agents=found), animation(state="stop"))
    return f"On stage: {', '.join(person.name for person in found) or 'nobody'}."
