"""What the model says when there is no key for a real one."""

import re

from examples.offline import Heard, Reply, Use

SCHEME = re.compile(r"\b(dark|light)\b", re.IGNORECASE)
FACT = re.compile(r"\b(I|I'm|my|we|our)\b", re.IGNORECASE)
MAX_SENTENCES = 10
NOTHING = "Tell me something about yourself, or ask me for the dark or the light theme."


def reply(heard: Heard) -> Reply:
    if heard.outputs:
        return " ".join(said for _, said in heard.outputs)
    sentences = [sentence.strip() for sentence in re.split(r"(?<=[.!?])\s+", heard.text) if sentence.strip()]
    return [use for sentence in sentences[:MAX_SENTENCES] for use in uses(sentence)] or NOTHING


def uses(sentence: str) -> list[Use]:
    """Return what a sentence asks for: a theme, or else that a fact is noted."""
    scheme = SCHEME.search(sentence)
    if scheme:
        return [Use("switch_theme", {"theme": {"scheme": scheme[1].lower()}})]
    if FACT.search(sentence) and not sentence.endswith("?"):
        return [Use("record_fact", {"fact": {"text": sentence[:200], "topic": "person"}})]
    return []
