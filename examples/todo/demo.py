"""How the site shows this demo: nothing of this is needed in a copy."""

from examples import kept
from examples.demo import Demo
from examples.offline import model_or_offline

from . import offline
from .main import create_app

DEMO = Demo(
    title="Todo, a list in a database",
    about="Five tools over MCP, on SQLite or PostgreSQL. Users are kept apart, and any number of workers share it.",
    says=("hi", "add buy milk", "finish milk", "show me all tasks"),
    make_apps=lambda: {"": create_app(kept.todo_database(), kept.session_secret(), model_or_offline(offline.reply))},
    keeps=lambda: kept.shown(kept.todo_database()),
)
