"""An assistant that notes facts and switches the theme: two tools, each with a client tool call, in one turn."""

from examples.demo import Demo

DEMO = Demo(
    title="Facts, a theme switcher",
    about="Two tools that were written for plain ChatKit, used in one turn: a fact is noted and the theme is switched. "
    "Both happen, and a card is streamed into the chat in the same run.",
    says=("I sail on Sundays. Make it dark.",),
)
