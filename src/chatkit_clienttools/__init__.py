"""Let ChatKit tools ask the browser for any number of things, one at a time, and wait for the answers."""

from ._step.plans import SupportsPlans
from .converter import ClientToolConverter
from .errors import ClientToolError
from .observe import LifecycleEvent
from .sequencer import ClientToolSequencer, SequencedAgentContext
from .server import ClientToolServer
from .store import StoreWrapper, ValidatingStore
from .tools import ClientEffect, ClientTool, showing

__version__ = "0.2.0"

__all__ = [
    "ClientEffect",
    "ClientTool",
    "ClientToolConverter",
    "ClientToolError",
    "ClientToolSequencer",
    "ClientToolServer",
    "LifecycleEvent",
    "SequencedAgentContext",
    "StoreWrapper",
    "SupportsPlans",
    "ValidatingStore",
    "showing",
]
