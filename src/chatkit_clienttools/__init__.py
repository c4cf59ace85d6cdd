"""Queue any number of ChatKit client tool calls and release them one per run, through ChatKit's own slot."""

from ._step.plans import SupportsPlans
from .converter import ClientToolConverter
from .errors import ClientToolError
from .observe import LifecycleEvent
from .sequencer import ClientToolSequencer, SequencedAgentContext
from .server import ClientToolServer
from .store import StoreWrapper, ValidatingStore
from .tools import ClientEffect, ClientTool, showing

__version__ = "0.1.0"

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
