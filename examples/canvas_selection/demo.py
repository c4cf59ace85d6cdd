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
    about="The model stops until you have selected shapes on a canvas, then answers about them. The canvas can fail, "
    "and it can keep quiet until you write again.",
    says=("hi", "What have I selected?", "Which of these is the largest?"),
    answers={"get_selected_canvas_nodes": {"nodes": [CIRCLE, SQUARE]}},
    make_apps=lambda: {
        "": create_app(kept.database("canvas_selection"), model_or_offline(offline.reply)),
    },
    keeps=lambda: kept.shown(kept.database("canvas_selection")),
)
