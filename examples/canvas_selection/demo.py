"""How the site shows this demo: nothing of this is needed in a copy."""

from examples import kept
from examples.demo import Demo
from examples.offline import model_or_offline

from . import offline
from .main import create_app

CIRCLE = {"id": "n1", "kind": "circle", "colour": "red", "size": 84}
SQUARE = {"id": "n4", "kind": "square", "colour": "orange", "size": 44}

DEMO = Demo(
    title="Canvas, an assistant that asks the page",
    about="The model needs to know what you have selected. It waits for that, and answers about it. The canvas can "
    "fail, or never answer.",
    says=("hi", "What have I selected?", "Which of these is the largest?"),
    answers={"get_selected_canvas_nodes": {"nodes": [CIRCLE, SQUARE]}},
    make_apps=lambda: {
        "": create_app(kept.database("canvas_selection"), model_or_offline(offline.reply)),
    },
    keeps=lambda: kept.shown(kept.database("canvas_selection")),
)
