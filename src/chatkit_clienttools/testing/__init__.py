"""What is shipped for the tests of others: a browser that plays ChatKit.js, and a contract any store can be held to."""

from ._factory import FactoryError
from ._model import scripted_model
from .browser import FakeBrowser
from .browser._failures import BrokenLifecycleError, BrokenStreamError, FaultError, HandlerError, MissingHandlerError
from .stores import Report, Result, Status, StoreContract, check_store

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
    "scripted_model",
]
