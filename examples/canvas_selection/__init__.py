"""An assistant that asks what is selected on a canvas: the model waits for the page's answer."""

from examples.demo import Demo

CIRCLE = {"id": "n1", "kind": "circle", "colour": "red", "size": 84}
SQUARE = {"id": "n4", "kind": "square", "colour": "orange", "size": 44}

DEMO = Demo(
    title="Canvas, an assistant that asks the page",
    about="The model stops until you have selected shapes on a canvas, then answers about them. The canvas can fail, "
    "and it can keep quiet until you write again.",
    says=("hi", "What have I selected?", "Which of these is the largest?"),
    answers={"get_selected_canvas_nodes": {"nodes": [CIRCLE, SQUARE]}},
)
