"""Play one search in the terminal: `python -m examples.merak_search`. No key, no network, no page."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from agents import set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

from chatkit_clienttools import LifecycleEvent, ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser

from .people import RequestContext
from .plain import PlainMerakServer
from .server import MerakServer
from .tools import watchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents import Model
    from chatkit.server import ChatKitServer

WIDTH = 100
COLOURS = {"user": 1, "chat": 1, "model": 33, "browser": 36, "call": 32}
CLIENT_TOOL_SECONDS = 0.04


class Timeline:
    """Prints what happens, one line each, with the milliseconds since it began."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colours = COLOURS if has_colours else {}
        self.model_runs = 0
        self.calls = 0

    def tell(self, who: str, what: str) -> None:
        """Print a line, cut to the width of the page."""
        elapsed = (time.perf_counter() - self._began) * 1000
        line = f"{elapsed:6.0f} ms  {who:<8}  {what}"
        line = line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
        colour = self._colours.get(who.partition(" ")[0])
        print(line if colour is None else f"\033[{colour}m{line}\033[0m", flush=True)

    def browser(self, step: str, what: Any) -> None:
        """Tell what the browser does."""
        if step == "says":
            self.tell("user", f'"{what}"')
        elif step == "reads":
            self.tell("chat", f'"{what}"')
        elif step == "gets":
            self.calls += 1
            self.tell("browser", f"gets {what[0]} {json.dumps(what[1])}")
        else:
            self.tell("browser", f"{step} {json.dumps(what)}")

    def observe(self, event: LifecycleEvent) -> None:
        """Tell one step of one call: an observer of the sequencer."""
        before = event.previous.value if event.previous else "new"
        waited = f" after {event.waited_ms} ms" if event.previous else ""
        step = f"{before} -> {event.state.value}{waited}"
        self.tell(f"call {event.position + 1}", f"{step:<32}  {event.item_id}  {event.tool}")

    def model(self) -> Model:
        """Return a model that searches, says so, and says so again if it is asked once more."""

        def runs(what: str, item: Any) -> ModelStep:
            def respond(_call: object) -> list[Any]:
                self.model_runs += 1
                self.tell("model", f"run {self.model_runs}: {what}")
                return [item]

            return ModelStep.respond(respond)

        search = function_call("search_agents", {"query": "maritime"}, call_id="call_1", item_id="fc_1")
        said = "Ada and Bela are on screen."
        return ScriptedModel(
            [
                runs("calls search_agents", search),
                runs("speaks", assistant_message(said, item_id="msg_1")),
                runs("speaks again", assistant_message(said, item_id="msg_2")),
            ]
        )


async def play(make_server: Callable[[Model], ChatKitServer[RequestContext]]) -> Timeline:
    """Ask for people once, let the browser run what it is given, and print all of it."""
    timeline = Timeline()

    async def client_tool(_params: object) -> dict[str, bool]:
        await asyncio.sleep(CLIENT_TOOL_SECONDS)
        return {"success": True}

    handlers = {"run_search_animation": client_tool, "display_agent_profiles": client_tool}
    server = make_server(timeline.model())
    browser = FakeBrowser(server, context=RequestContext("ada"), handlers=handlers, observer=timeline.browser)
    watchers.append(timeline.observe)
    try:
        await browser.send("Who knows about maritime law?")
    finally:
        watchers.remove(timeline.observe)
    return timeline


def main(arguments: list[str]) -> int:
    """Play the search on plain ChatKit and with chatkit-clienttools."""
    if arguments:
        print(f"python -m examples.merak_search takes no arguments, not {' '.join(arguments)}", file=sys.stderr)
        return 2
    set_tracing_disabled(disabled=True)

    print("One search tool wants three client tools: animation start, profiles, animation stop.\n")
    print("Plain ChatKit. The tool sets ctx.context.client_tool_call three times; the slot holds one call.")
    _sum_up(asyncio.run(play(lambda model: PlainMerakServer(MemoryStore(), model))))
    print("With chatkit-clienttools. The tool enqueues the three; each answer releases the next.")
    _sum_up(asyncio.run(play(lambda model: MerakServer(ValidatingStore(MemoryStore()), model))))
    return 0


def _sum_up(timeline: Timeline) -> None:
    print(f"=> client tool calls that reached the browser: {timeline.calls} of 3; model runs: {timeline.model_runs}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
