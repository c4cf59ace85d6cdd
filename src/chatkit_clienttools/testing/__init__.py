"""What is shipped for the tests of others: a browser that plays ChatKit.js, and a contract any store can be held to."""

from ._factory import FactoryError
from ._report import Report, Result, Status
from .browser import BrokenStreamError, FakeBrowser
from .contract import StoreContract, check_store

__all__ = [
    "BrokenStreamError",
    "FactoryError",
    "FakeBrowser",
    "Report",
    "Result",
    "Status",
    "StoreContract",
    "check_store",
]
