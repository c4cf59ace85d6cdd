"""How the site shows this demo: nothing of this is needed in a copy."""

from base64 import b64encode

from examples import kept
from examples.demo import Demo
from examples.offline import model_or_offline

from . import offline
from .main import create_app

RED, BLUE, PAPER = (220, 47, 60), (55, 114, 232), (255, 255, 255)


def flag() -> bytes:
    """Draw what the terminal's user has drawn: a red flag with a blue bar, on white paper."""
    return offline.png(
        [[RED if 15 < y < 65 and 20 < x < 140 else PAPER for x in range(160)] for y in range(80)]
        + [[BLUE] * 160 for _ in range(20)]
    )


DEMO = Demo(
    title="Drawing, an assistant that looks",
    about="Draw something, by hand or with stamps from the keyboard, and ask what it is. The page's canvas goes to the "
    "model as an image, and what it says is about that.",
    says=("hi", "What have I drawn?"),
    answers={
        "get_drawing": {"image": {"data_url": f"data:image/png;base64,{b64encode(flag()).decode()}"}, "marks": 2},
    },
    make_apps=lambda: {"": create_app(kept.database("drawing"), model_or_offline(offline.reply))},
    keeps=lambda: kept.shown(kept.database("drawing")),
)
