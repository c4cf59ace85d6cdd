"""What Merak's page can do, and the server tool that asks for it."""

from typing import Literal

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext
from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, LifecycleEvent
from chatkit_clienttools.observe import Observer

from .people import Profile, RequestContext, find


class Animation(BaseModel):
    state: Literal["start", "stop"]


class Profiles(BaseModel):
    agents: list[Profile]


# neither wants an answer; an animation that was started is stopped even if the user interrupts
animation = ClientTool("run_search_animation", Animation, result=None, required=True)
profiles = ClientTool("display_agent_profiles", Profiles, result=None)

watchers: list[Observer] = []


def tell_watchers(event: LifecycleEvent) -> None:
    """Pass each step of each call on: to a support page, to metrics, or to the timeline that this example prints."""
    for watch in watchers:
        watch(event)


sequencer = ClientToolSequencer([animation, profiles], observers=[tell_watchers])
converter = ClientToolConverter(sequencer)


@function_tool
async def search_agents(ctx: RunContextWrapper[AgentContext[RequestContext]], query: str) -> str:
    """Find people who can answer a question, and show them on the user's canvas."""
    found = await find(query)
    sequencer.enqueue(ctx, animation(state="start"), profiles(agents=found), animation(state="stop"))
    return f"{len(found)} people are on screen."
