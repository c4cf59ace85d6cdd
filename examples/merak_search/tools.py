"""The server tool of the agent: it searches, and waits for the page three times on the way."""

from agents import RunContextWrapper
from chatkit.agents import AgentContext
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.errors import CallCancelledError, CallFailedError

from .client_tools import animation, choose, sequencer
from .people import RequestContext, find


@sequencer.function_tool
async def search_agents(ctx: RunContextWrapper[AgentContext[RequestContext]], query: str) -> str:
    """Find people who can answer a question, and let the user choose one of them."""

    async def tell(text: str) -> None:
        await ctx.context.stream(ProgressUpdateEvent(text=text))

    try:
        await sequencer.ask(ctx, animation(state="start"))  # it turns on the page before the search begins
        # a step runs once, though this function runs again after each answer: the progress is streamed once, too
        found = await sequencer.step(ctx, find, query, tell)
        choice = await sequencer.ask(ctx, choose(agents=found)) if found else None
        await sequencer.ask(ctx, animation(state="stop"))
    except (CallCancelledError, CallFailedError) as error:  # the user has written instead, or the page could not do it
        sequencer.enqueue(ctx, animation(state="stop"))  # nothing waits for this one
        return f"Nobody was chosen. {error}"
    # a user can post any name: look it up in what the server has found
    for person in found:
        if choice and person.name == choice.name:
            return f"The user chose {person.name}, who knows {person.knows}."
    return "There is nobody."
