"""How the site shows this demo: nothing of this is needed in a copy."""

from examples import kept
from examples.demo import Demo
from examples.offline import model_or_offline

from . import offline
from .main import create_app

DEMO = Demo(
    title="Facts, a theme switcher",
    about="Two tools that were written for plain ChatKit, used in one turn. Not a line of them has changed, and both "
    "reach the page.",
    says=("I sail on Sundays. Make it dark.",),
    make_apps=lambda: {
        "": create_app(kept.database("theme_switcher"), model_or_offline(offline.reply)),
    },
    keeps=lambda: kept.shown(kept.database("theme_switcher")),
)
