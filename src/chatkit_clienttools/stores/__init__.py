"""Stores that are right.

`MemoryStore` for development and tests; `chatkit_clienttools.stores.sql.SQLStore` for everything else.
`FolderContent` for the images and files of answers, beside either of them.
"""

from chatkit_clienttools._step.plans import StoredPlan

from .folder import FolderContent
from .memory import MemoryStore

__all__ = ["FolderContent", "MemoryStore", "StoredPlan"]


def __getattr__(name: str) -> object:
    """Say where `SQLStore` is: not here, since it needs SQLAlchemy."""
    if name == "SQLStore":
        raise ImportError("from chatkit_clienttools.stores.sql import SQLStore (it needs chatkit-clienttools[sql])")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
