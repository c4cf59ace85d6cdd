"""Merak finds people for a question, and shows them on a stage: three client tools from one run of one server tool."""

from examples.demo import Demo

DEMO = Demo(
    title="Merak, a search for people",
    about="One search asks the page for three client tools in a row: start an animation, show who was found, stop it. "
    "Next to it, what plain ChatKit makes of the same three.",
    says=("Who knows about maritime law?",),
    endpoints={
        "Plain ChatKit. The tool sets ctx.context.client_tool_call three times: the last one stays.": "plain/chatkit",
        "With chatkit-clienttools. The tool enqueues the three; each answer releases the next.": "chatkit",
    },
)
