"""What is shipped for the tests of others: a browser that plays ChatKit.js, and a contract any store can be held to."""

from ._factory import FactoryError
from ._failures import BrokenLifecycleError, BrokenStreamError, FaultError, HandlerError, MissingHandlerError
from ._report import Report, Result, Status
from .browser import FakeBrowser
from .contract import StoreContract, check_store

__all__ = [
    "BrokenLifecycleError",
    "BrokenStreamError",
    "FactoryError",
    "FakeBrowser",
    "FaultError",
    "HandlerError",
    "MissingHandlerError",
    "Report",
    "Result",
    "Status",
    "StoreContract",
    "check_store",
]
