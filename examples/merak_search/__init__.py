"""Merak finds people for a question, and lets the user choose one: one server tool that waits for the page."""

from examples.demo import Demo

DEMO = Demo(
    title="Merak, a search for people",
    about="One tool asks the page for three things, and waits for each: start an animation, let the user choose one of "
    "the people who were found, stop the animation. Next to it, what plain ChatKit makes of the same three.",
    says=("Who knows about maritime law?",),
    answers={"choose_agent": {"name": "Dara"}},
    endpoints={
        "Plain ChatKit. The tool sets ctx.context.client_tool_call three times: the last one stays.": "plain/chatkit",
        "With chatkit-clienttools. The tool asks three times, and goes on with each answer.": "chatkit",
    },
)
