"""What is shipped for the tests of others: a contract any store can be held to."""

from ._factory import FactoryError
from ._report import Report, Result, Status
from .contract import StoreContract, check_store

__all__ = ["FactoryError", "Report", "Result", "Status", "StoreContract", "check_store"]
