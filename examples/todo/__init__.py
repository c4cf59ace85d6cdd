"""A todo list with an assistant: tools over MCP, one database, users kept apart, any number of workers."""

from examples.demo import Demo

from .settings import read_settings

DEMO = Demo(
    title="Todo, a list in a database",
    about="Five tools over MCP, conversations and tasks that outlast a restart, and a list for each user. "
    "Several workers share it.",
    says=("hi", "add buy milk", "finish milk", "show me all tasks"),
    shares=True,
    keeps=lambda: read_settings().database,
)
