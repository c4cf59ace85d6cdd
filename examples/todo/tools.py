"""What the assistant can do: the five tools of the MCP server, and a hook that lets the page show what they changed."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import RunHooks
from agents.mcp import MCPServerManager, MCPServerStdio
from chatkit.agents import AgentContext
from pydantic import ValidationError

from .client_tools import highlight_task, refresh_tasks, sequencer
from .tasks import DATABASE_URL, USER_ID, Task

if TYPE_CHECKING:
    from agents import Agent, RunContextWrapper, Tool
    from agents.mcp import MCPToolMetaContext

PACKAGE = __package__ or ""
ROOT = Path(__file__).parents[1 + PACKAGE.count(".")]
"""The folder in which Python finds this package, under whatever name it was copied."""

PATIENCE = 30
"""The seconds that the tools may take, to start and to answer."""


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


TodoContext = AgentContext[RequestContext]


class ShowChanges(RunHooks[TodoContext]):
    """Lets the page show what a tool has changed. The tools run in another process and know nothing of a page."""

    async def on_tool_end(
        self, context: RunContextWrapper[TodoContext], agent: Agent[Any], tool: Tool, result: object
    ) -> None:
        task = changed_task(result)
        if task is None:
            return
        sequencer.enqueue(context, refresh_tasks())
        if tool.name != "delete_task":
            sequencer.enqueue(context, highlight_task(task_id=task.id))


def changed_task(result: object) -> Task | None:
    """Return the task that a tool has changed; None if the tool failed, or returned a list."""
    try:
        return Task.model_validate_json(result) if isinstance(result, str) else None
    except ValidationError:
        return None


class TaskTools:
    """The process that has the tools: one for each worker, started when it is needed, and again if it has died."""

    def __init__(self, database_url: str) -> None:
        self._server = MCPServerStdio(
            {
                "command": sys.executable,
                "args": ["-m", f"{PACKAGE}.mcp_server"],
                "cwd": ROOT,
                "env": {DATABASE_URL: database_url},  # it may hold a password: nothing for `args`, which all can see
            },
            name="todo",
            use_structured_content=True,
            client_session_timeout_seconds=PATIENCE,
            tool_meta_resolver=who_asks,
        )
        self._manager = MCPServerManager(
            [self._server], strict=True, connect_in_parallel=True, connect_timeout_seconds=PATIENCE
        )
        self._starting = asyncio.Lock()

    async def ready(self) -> MCPServerStdio:
        """Return the MCP server, which answers."""
        async with self._starting:
            try:
                await self._server.list_tools()
            except Exception:  # noqa: BLE001  there is no process yet, or none any more: either way a new one is needed
                await self._manager.reconnect(failed_only=False)
        return self._server

    async def close(self) -> None:
        """End the process."""
        await self._manager.cleanup_all()


def who_asks(call: MCPToolMetaContext) -> dict[str, Any]:
    """Say whose tasks a call is about: theirs whose request it is, whatever the model says."""
    context: TodoContext = call.run_context.context
    return {USER_ID: context.request_context.user_id}
