"""The rules for a store, and what tries them: `StoreContract` in a suite, `check_store` anywhere."""

from ._contract import CHECKS, TIME_LIMIT, StoreContract, check_store
from ._report import Report, Result, Status

__all__ = ["CHECKS", "TIME_LIMIT", "Report", "Result", "Status", "StoreContract", "check_store"]
