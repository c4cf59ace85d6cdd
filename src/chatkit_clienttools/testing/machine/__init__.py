"""`LifecycleMachine`: random conversations with a server, each step held against an oracle. Needs Hypothesis."""

from chatkit_clienttools.testing.browser._failures import BrokenLifecycleError

from ._machine import LifecycleMachine

__all__ = ["BrokenLifecycleError", "LifecycleMachine"]
