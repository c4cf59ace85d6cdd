"""All rows of the table, in its order."""

from . import load, processes, stores, talks

ROWS = [*talks.ROWS, *stores.ROWS, *load.ROWS, *processes.ROWS]
