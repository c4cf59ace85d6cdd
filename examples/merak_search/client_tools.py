"""What Merak's page can do. The tools and the server both import this module, so it imports neither of them."""

from typing import Literal

from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer

from .people import Profile


class Animation(BaseModel):
    state: Literal["start", "stop"]


class Profiles(BaseModel):
    agents: list[Profile]


class Choice(BaseModel):
    name: str


animation = ClientTool("run_search_animation", Animation, result=None)  # no answer is needed
choose = ClientTool("choose_agent", Profiles, result=Choice)  # the answer is checked, and read as a Choice

sequencer = ClientToolSequencer([animation, choose], receipts=True)
converter = ClientToolConverter(sequencer)
