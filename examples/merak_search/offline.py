"""What the model says when there is no key for a real one."""

import re

from examples.offline import Heard, Reply, Use

GREETING = re.compile(
    r"\s*(hi|hello|hey|good (morning|day|evening)|thanks?|thank you)\b[\s\w]{0,12}[.!]*\s*", re.IGNORECASE
)
CHOICE = re.compile(r"The user chose (\w+), who knows (.+)\.")


def reply(heard: Heard) -> Reply:
    found = heard.said("search_agents")
    if found is not None:
        return spoken(found)
    if heard.outputs:  # plain ChatKit asks again when the page has run a client tool; there is nothing to add
        return heard.spoken
    if GREETING.fullmatch(heard.text):
        return "Hello! Ask me who knows about something, for example maritime law, and choose one of them."
    return [Use("search_agents", {"query": heard.text})]


def spoken(found: str) -> str:
    """Say what came of a search."""
    if choice := CHOICE.fullmatch(found):
        return f"{choice[1]} knows {choice[2]}. I will let {choice[1]} know that you ask."
    if "nobody" in found:
        return "Nobody I know can help with that. Try maritime law, or the harbour."
    return found
