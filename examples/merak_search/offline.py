"""What the model says when there is no key for a real one."""

import re

from examples.offline import Heard, Reply, Use

GREETING = re.compile(
    r"\s*(hi|hello|hey|good (morning|day|evening)|thanks?|thank you)\b[\s\w]{0,12}[.!]*\s*", re.IGNORECASE
)


def reply(heard: Heard) -> Reply:
    found = heard.said("search_agents")
    if found is not None:
        return found if "nobody" not in found else "Nobody I know can help with that. Try maritime law, or the harbour."
    if heard.outputs:  # plain ChatKit asks again when the page has run a client tool; there is nothing to add
        return heard.spoken
    if GREETING.fullmatch(heard.text):
        return "Hello! Ask me who knows about something, for example maritime law, and I put them on stage."
    return [Use("search_agents", {"query": heard.text})]
