"""Stores that are right.

`MemoryStore` for development and tests; `chatkit_clienttools.stores.sql.SQLStore` for everything else.
"""

from chatkit_clienttools._step.plans import StoredPlan

from .memory import MemoryStore

__all__ = ["MemoryStore", "StoredPlan"]
