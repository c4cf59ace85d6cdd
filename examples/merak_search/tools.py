"""What Merak's page can do, and the server tool that asks for it."""

from typing import Literal

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext
from pydantic import BaseModel

from chatkit_clienttools import ClientEffect, ClientTool, ClientToolConverter, ClientToolSequencer, showing
from examples.timeline import Timeline

from .people import Profile, RequestContext, find


class Animation(BaseModel):
    state: Literal["start", "stop"]


class Profiles(BaseModel):
    agents: list[Profile]


class Indicator(BaseModel):
    on: bool


# an effect is on its way at once: it is for what is to be seen WHILE the server works
indicator = ClientEffect("search_indicator", Indicator)

# client tools come after the run, one by one. Neither wants an answer; an animation that was started is stopped even
# if the user interrupts
animation = ClientTool("run_search_animation", Animation, result=None, required=True)
profiles = ClientTool("display_agent_profiles", Profiles, result=None)

timeline = Timeline()
sequencer = ClientToolSequencer([animation, profiles], receipts=True, observers=[timeline])
converter = ClientToolConverter(sequencer)


@function_tool
async def search_agents(ctx: RunContextWrapper[AgentContext[RequestContext]], query: str) -> str:
    """Find people who can answer a question, and show them on the user's stage."""
    async with showing(ctx, indicator(on=True), indicator(on=False)):
        found = await find(query)
    sequencer.enqueue(ctx, animation(state="start"), profiles(agents=found), animation(state="stop"))
    return f"On stage: {', '.join(person.name for person in found) or 'nobody'}."
