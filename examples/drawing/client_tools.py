"""What the page can do. The tools and the server both import this module, so it imports neither of them."""

from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer
from chatkit_clienttools.media import ClientImage


class Drawing(BaseModel):
    """What the page answers."""

    image: ClientImage
    marks: int = Field(ge=0, description="How many lines and stamps the user has made.")


# The answer goes to the model, the image as an image. If it does not fit Drawing, the model gets an error instead.
drawing = ClientTool("get_drawing", result=Drawing)

sequencer = ClientToolSequencer([drawing], receipts=True, max_media_bytes=512 * 1024)
converter = ClientToolConverter(sequencer, newest_images=1)  # the drawing changes: older ones are of no use
