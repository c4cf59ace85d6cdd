"""What Merak's page can do. The tools and the server both import this module, so it imports neither of them."""

from typing import Literal

from pydantic import BaseModel

from chatkit_clienttools import ClientEffect, ClientTool, ClientToolConverter, ClientToolSequencer
from examples.timeline import Timeline

from .people import Profile


class Animation(BaseModel):
    state: Literal["start", "stop"]


class Profiles(BaseModel):
    agents: list[Profile]


class Indicator(BaseModel):
    on: bool


# An effect is sent at once. Use it for what the user sees WHILE the server works.
indicator = ClientEffect("search_indicator", Indicator)

# Client tool calls are sent after the run, one by one. Neither of these needs an answer. `required`: an animation that
# was started is stopped, even if the user interrupts.
animation = ClientTool("run_search_animation", Animation, result=None, required=True)
profiles = ClientTool("display_agent_profiles", Profiles, result=None)

timeline = Timeline()
sequencer = ClientToolSequencer([animation, profiles], receipts=True, observers=[timeline])
converter = ClientToolConverter(sequencer)
