"""A `ClientToolServer` whose runs are written by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit_clienttools import ClientToolSequencer, ClientToolServer, SequencedAgentContext
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store


def guarded_class(sequencer: ClientToolSequencer) -> type[Any]:
    """A server class with one function for each body that is run, in order."""

    class Guarded(ClientToolServer[Any]):
        def __init__(self, store: Store[Any], *bodies: Any) -> None:
            super().__init__(store)
            self.sequencer = sequencer
            self.bodies = list(bodies)
            self.runs = 0

        async def _run(self, thread: Any, context: Any) -> AsyncIterator[Any]:
            self.runs += 1
            body = self.bodies.pop(0)
            agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
            async for event in body(self, agent_context):
                yield event

        @sequencer.sequenced
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            async for event in self._run(thread, context):
                yield event

        @sequencer.sequenced
        async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
            async for event in self._run(thread, context):
                yield event

    return Guarded


def guarded(store: Store[Any], *bodies: Any, **options: Any) -> tuple[Any, Conversation]:
    """A server with these bodies, and a browser that talks to it."""
    server = guarded_class(ClientToolSequencer(TOOLS, **options))(store, *bodies)
    return server, Conversation(server)
