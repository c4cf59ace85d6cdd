"""The databases of the stores' tests."""

from tests.stores.conftest import postgres, postgres_url, shared, sqlite_file

__all__ = ["postgres", "postgres_url", "shared", "sqlite_file"]
