"""`FakeBrowser`: a page without a page, which plays ChatKit.js against a server."""

from ._browser import FakeBrowser
from ._failures import MissingHandlerError
from ._handlers import Answering, Call, Delivery

__all__ = ["Answering", "Call", "Delivery", "FakeBrowser", "MissingHandlerError"]
