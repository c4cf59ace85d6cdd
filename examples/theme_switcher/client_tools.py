"""What the page can do. The tools and the server both import this module, so it imports neither of them.

The tools were written for plain ChatKit and did not change. These declarations are new. They say that no call needs an
answer, so the model does not speak again after the page has run one.
"""

from typing import Literal

from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer


class Fact(BaseModel):
    """Something that the user wants to be remembered."""

    text: str = Field(min_length=1, max_length=200, description="One short sentence.")
    topic: Literal["person", "place", "work", "other"] = "other"


class Theme(BaseModel):
    """What the page looks like."""

    scheme: Literal["light", "dark"]


sequencer = ClientToolSequencer(
    [ClientTool("record_fact", Fact, result=None), ClientTool("switch_theme", Theme, result=None)],
    receipts=True,
)
converter = ClientToolConverter(sequencer)
