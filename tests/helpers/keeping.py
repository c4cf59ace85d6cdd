"""A model that keeps histories as OpenAI does, and a server that sends it only what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents import Runner, SQLiteSession
from agents.testing import ScriptedModel
from chatkit.agents import AgentContext, stream_agent_response

from tests.helpers.merak import SequencedServer
from tests.helpers.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class RefusedError(Exception):
    """What the API answers with a 400 or a 404."""


class KeepingModel(ScriptedModel):
    """A scripted model that keeps responses and conversations, and refuses what the Responses API refuses."""

    def __init__(self, steps: Any = ()) -> None:
        super().__init__(steps)
        self.responses: dict[str, list[Any]] = {}
        self.conversations: dict[str, list[Any]] = {}
        self.sessions: dict[str, Any] = {}
        self.keeps_nothing = False
        self.refused: list[str] = []
        self.sent: list[list[Any]] = []
        """What each request brought."""
        self.read: list[list[Any]] = []
        """What the model has read for it, with what was kept."""

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,  # noqa: A002
        *args: Any,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        sent = [{"role": "user", "content": input}] if isinstance(input, str) else list(input)
        self.sent.append(sent)
        read = [*self._kept(previous_response_id, conversation_id), *sent]
        if problem := problem_with(read):
            self.refused.append(problem)
            raise RefusedError(problem)
        self.read.append(read)
        options |= {"previous_response_id": previous_response_id, "conversation_id": conversation_id}
        stream: Any = super().stream_response
        async for event in stream(system_instructions, input, *args, **options):
            if event.type == "response.completed":
                if self.keeps_nothing:  # what other providers answer, for the Agents SDK
                    event.response.id = "__fake_id__"
                    yield event
                    return
                event.response.id = f"resp_{len(self.responses)}"
                read = [*read, *[item.model_dump(exclude_none=True) for item in event.response.output]]
                self.responses[event.response.id] = read
                if conversation_id:
                    self.conversations[conversation_id] = read
            yield event

    def new_conversation(self, thread_id: str) -> ConversationSession:
        return ConversationSession(self)

    def _kept(self, response_id: str | None, conversation_id: str | None) -> list[Any]:
        if response_id is not None:
            if response_id not in self.responses:
                raise RefusedError(f"Previous response with id '{response_id}' not found.")
            return self.responses[response_id]
        return self.conversations[conversation_id] if conversation_id else []


def problem_with(items: list[Any]) -> str | None:
    """Why the API refuses these items; None if it takes them."""
    ids = [item["id"] for item in items if item.get("id")]
    called = [item["call_id"] for item in items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for what, found in (("item", ids), ("function call", called), ("output", outputs)):
        if repeated := [each for each in found if found.count(each) > 1]:
            return f"Duplicate {what} found with id {repeated[0]}"
    if unknown := [each for each in outputs if each not in called]:
        return f"No tool call found for function call output with call_id {unknown[0]}."
    if missing := [each for each in called if each not in outputs]:
        return f"No tool output found for function call {missing[0]}."
    return None


class ConversationSession:
    """A conversation of that model, with what `OpenAIConversationsSession` has."""

    def __init__(self, model: KeepingModel) -> None:
        self._model = model
        self._id: str | None = None
        self.numbers = 0

    @property
    def session_id(self) -> str:
        if self._id is None:
            raise ValueError("Session ID not yet available.")
        return self._id

    async def get_items(self, limit: int | None = None) -> list[Any]:
        if self._id is None:
            self.numbers += 1
            self._id = f"conv_{id(self)}_{self.numbers}"
            self._model.conversations[self._id] = []
        items = self._model.conversations[self._id]
        return items[-limit:] if limit else items

    async def clear_session(self) -> None:
        if self._id is not None:
            del self._model.conversations[self._id]
            self._id = None


class KeepingServer(SequencedServer):
    """A server whose runs get only what is new; `where` says where the history is kept."""

    where = "response"
    keeps_state = False
    model: KeepingModel

    def __init__(self, store: Any, steps: Any = (), tools: Any = (), **options: Any) -> None:
        super().__init__(store, steps, tools, **options)
        self.model = self.agent.model = KeepingModel(steps)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        session = self.session_of(thread)
        news = await self.converter.load_news(self.store, thread, input_user_message, context, session=session)
        kept: dict[str, Any] = {
            "response": lambda: {"previous_response_id": news.previous_response_id},
            "conversation": lambda: {"conversation_id": session.session_id},
            "session": lambda: {"session": session},
        }
        run: Any = self.sequencer.run_streamed if self.keeps_state else Runner.run_streamed
        result = run(self.agent, news.input, context=agent_context, **kept[self.where]())
        try:
            async for event in news.keep(result, stream_agent_response(agent_context, result)):
                yield event
        finally:
            result.cancel()

    def session_of(self, thread: Any) -> Any:
        if self.where == "response":
            return None
        if thread.id not in self.model.sessions:
            kinds: dict[str, Any] = {"session": SQLiteSession, "conversation": self.model.new_conversation}
            self.model.sessions[thread.id] = kinds[self.where](thread.id)
        return self.model.sessions[thread.id]


class InConversation(KeepingServer):
    where = "conversation"


class InSession(KeepingServer):
    where = "session"


SERVERS = {"response": KeepingServer, "conversation": InConversation, "session": InSession}


class Keeping(Waiting):
    """A page of such a server."""

    server: KeepingServer

    def __init__(self, store: Any, steps: Any, *makers: Any, where: str, **options: Any) -> None:
        self.kind = SERVERS[where]
        super().__init__(store, steps, *makers, **options)
        self.options = {**options, "where": where}

    @property
    def model(self) -> KeepingModel:
        return self.server.model

    @property
    def sent(self) -> list[list[Any]]:
        """What each request to the model brought, in short."""
        return [[in_short(item) for item in items] for items in self.model.sent]

    @property
    def read(self) -> list[Any]:
        """What the model has read in its last run, in short."""
        return [in_short(item) for item in self.model.read[-1]]

    def close(self) -> None:
        sessions: list[Any] = [each for each in self.model.sessions.values() if self.kind is InSession]
        for session in sessions:
            session.close()


def in_short(item: Any) -> Any:
    match item:
        case {"type": "function_call"}:
            return ("call", item["name"])
        case {"type": "function_call_output", "output": str(output)}:
            return ("output", output)
        case {"role": role, "content": [{"text": str(text)}, *_]}:
            return (role, text)
    return item
