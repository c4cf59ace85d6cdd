"""How the site shows this demo: nothing of this is needed in a copy."""

import os

from examples import kept
from examples.demo import Demo
from examples.offline import model_or_offline

from . import offline, people
from .main import create_app
from .plain import create_plain_app

people.SEARCH_SECONDS = float(os.environ.get("DEMO_SEARCH_SECONDS", people.SEARCH_SECONDS))

DEMO = Demo(
    title="Merak, a search for people",
    about="One tool starts an animation, searches, waits for your choice, and goes on with it. Kill the server while "
    "it waits: nothing is lost.",
    says=("Who knows about maritime law?",),
    answers={"choose_agent": {"name": "Dara"}},
    endpoints={
        "Plain ChatKit: the tool sets ctx.context.client_tool_call three times; the last one stays.": "plain/chatkit",
        "With chatkit-clienttools: the tool asks three times, and goes on with each answer.": "chatkit",
    },
    make_apps=lambda: {
        "/plain": create_plain_app(kept.database("merak_search"), model_or_offline(offline.reply)),
        "": create_app(kept.database("merak_search"), model_or_offline(offline.reply)),
    },
    keeps=lambda: kept.shown(kept.database("merak_search")),
)
