"""Steps of a tool that waits: what they may return, and what happens if they cannot be recorded."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import sys
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext
from chatkit.widgets import Card, Text
from pydantic import BaseModel, ConfigDict, Field, computed_field

from chatkit_clienttools._step.functions import type_of_result
from chatkit_clienttools.errors import StepFailedError, UsageError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.merak import calls, speaks
from tests.helpers.server import lines
from tests.helpers.stores import WatchedStore
from tests.helpers.waiting import Waiting, animation, choose, tool

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer
    from chatkit_clienttools.stores import StoredPlan

Ctx = RunContextWrapper[AgentContext[Any]]
ADA = {"name": "Ada"}


def wrong() -> int:
    return "no number"  # type: ignore[return-value]  # the mistake is the test


def unknown() -> OnlyForTypeCheckers:
    return 7  # type: ignore[return-value]  # what it returns is not the test


def takes_unknown(price: OnlyForTypeCheckers | None = None) -> int:
    return 7


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(alias="Name")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def greeting(self) -> str:
        return f"Dear {self.name}"


def find() -> Person:
    return Person(Name="Ada")


class Anything:
    """What pydantic does not know."""


def makes_anything() -> Anything:
    return Anything()


class Shop:
    def price(self) -> int:
        return 7


def add(one: int, other: int) -> int:
    return one + other


async def test_a_step_that_does_not_return_what_it_says(store: Store[Any], log: pytest.LogCaptureFixture) -> None:
    """A step whose result is not of the type that it declares ends the tool, and the log names the step."""

    async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return str(await sequencer.step(ctx, wrong))

    page = Waiting(store, [[calls("counts")], speaks("Sorry.")], tool(counts))

    assert ["Sorry."] == (await page.say()).texts
    assert [("ERROR", "The step wrong has returned something else than its annotation says")] == errors_in(log)


async def test_a_body_that_catches_that(store: Store[Any]) -> None:
    """A body that catches the refusal of a step's result ends all the same, and what it enqueues then is dropped."""
    caught: list[UsageError] = []

    async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        try:
            return str(await sequencer.step(ctx, wrong))
        except UsageError as error:
            caught.append(error)
            sequencer.enqueue(ctx, animation(state="stop"))
            return "all is well"

    page = Waiting(store, [[calls("counts")], speaks("Sorry.")], tool(counts))
    reply = await page.say()

    assert (1, []) == (len(caught), reply.calls)
    assert "An error occurred while running the tool" in page.seen_by_model[-1][1]


def errors_in(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(level, text) for level, text in lines(log) if level == "ERROR"]


def fails(*_: Any) -> None:
    raise ValueError("s3cret")


class Fails:
    """What can be called, and has no name of its own."""

    __call__ = fails


@pytest.mark.fails
@pytest.mark.parametrize(
    ("function", "name"), [(fails, "fails"), (functools.partial(fails, 7), "fails"), (Fails(), "Fails")], ids=range(3)
)
async def test_a_step_that_raises_is_in_the_log(function: Any, name: str, log: pytest.LogCaptureFixture) -> None:
    """The log names a step that has raised, the kind of the error, and its place; the text is in the traceback only."""
    log.set_level("DEBUG", "chatkit_clienttools")

    async def tries(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        try:
            return str(await sequencer.step(ctx, function))
        except StepFailedError as error:
            return error.step

    page = Waiting(MemoryStore(), [[calls("tries")], speaks("Sorry.")], tool(tries))
    await page.say()

    [warning, traceback] = [
        record for record in log.records if record.levelname == "WARNING" or record.getMessage() == "where that was"
    ]
    place = rf"\(test_steps\.py, line {fails.__code__.co_firstlineno + 1}, in fails\)"
    assert re.fullmatch(rf"the step {name} has raised ValueError {place}", warning.getMessage())
    assert ("DEBUG", ValueError) == (traceback.levelname, traceback.exc_info and traceback.exc_info[0])
    assert [] == [record for record in log.records if "s3cret" in record.getMessage()]
    assert ("output", name) == page.seen_by_model[-1]


async def test_how_much_is_kept_of_what_it_says(store: Store[Any]) -> None:
    """Of the text of an error a thousand characters are kept, so that an error cannot fill the plan."""
    texts: list[str] = []

    def floods() -> None:
        raise ValueError("x" * 5000)

    async def tries(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        try:
            await sequencer.step(ctx, floods)
        except StepFailedError as error:
            texts.append(error.text)
        return (await sequencer.ask(ctx, choose(people=["Ada"]))).name

    page = Waiting(store, [[calls("tries")], speaks("Good.")], tool(tries))
    await page.say()
    await page.answer(ADA)

    assert ["x" * 1000] * 2 == texts


async def test_what_is_no_function(log: pytest.LogCaptureFixture) -> None:
    """A step that is called where it is given, or that is no function at all, is refused with the cure."""

    async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        await sequencer.step(ctx, add(3, 4))  # type: ignore[call-overload]  # the mistake is the test
        return "never"

    async def later() -> int:
        return 7

    begun = later()

    async def waits(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        await sequencer.step(ctx, begun)  # type: ignore[call-overload]  # the mistake is the test
        return "never"

    page = Waiting(MemoryStore(), [[calls("counts"), calls("waits")], speaks("Sorry.")], tool(counts), tool(waits))
    await page.say()

    cure = "step(ctx, function, argument), without calling it"
    assert [f"step() takes a function, not {what}: {cure}" for what in ("int", "a coroutine")] == [
        text for _, text in errors_in(log)
    ]
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(begun)


@functools.lru_cache
def finds_once() -> Person:
    return Person(Name="Ada")


class Counting(ContextDecorator):
    """A decorator of another module."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@Counting()
def counted() -> Person:
    return Person(Name="Ada")


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (takes_unknown, "7"),
        (functools.partial(add, 3, 4), "7"),
        (functools.partial(add, 3, other=4), "7"),
        (Shop().price, "7"),
        ("ada".title, "Ada"),
        (lambda: asyncio.sleep(0, 7), "7"),
        (counted, "name='Ada' greeting='Dear Ada'"),
        (finds_once, "name='Ada' greeting='Dear Ada'"),
    ],
    ids=["unknown parameter", "partial", "with a keyword", "method", "builtin", "lambda", "decorated", "cached"],
)
async def test_what_may_be_a_step(function: Any, result: str) -> None:
    """A function may be partial, a method, builtin or decorated, and only what it returns has to be of a known type."""

    async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return str(await sequencer.step(ctx, function))

    page = Waiting(MemoryStore(), [[calls("counts")], speaks("Done.")], tool(counts))
    await page.say()

    assert ("output", result) == page.seen_by_model[-1]


@pytest.mark.parametrize("function", [find, Shop().price], ids=["function", "method"])
def test_the_type_of_a_step_is_made_once(function: Any) -> None:
    """What the function of a step returns is looked up once for each function, however often bodies run again."""
    assert type_of_result("", function) is type_of_result("", function)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (unknown, "'OnlyForTypeCheckers'"),
        (functools.lru_cache(unknown), "'OnlyForTypeCheckers'"),
        (makes_anything, f"{Anything!r}"),
    ],
    ids=["for type checkers", "cached", "not for pydantic"],
)
async def test_what_cannot_be_read_from_json(function: Any, says: str, log: pytest.LogCaptureFixture) -> None:
    """A step whose result type is not known at run time, or not to pydantic, is refused before it is taken."""

    async def counts(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return str(await sequencer.step(ctx, function))

    page = Waiting(MemoryStore(), [[calls("counts")], speaks("Sorry.")], tool(counts))
    await page.say()

    [(_, refusal)] = errors_in(log)
    assert refusal == (
        f"The step {function.__name__} says that it returns {says}: a type is needed that is known at run time, and "
        "that pydantic can read from JSON"
    )


async def test_a_model_with_aliases_and_computed_fields(store: Store[Any]) -> None:
    """What a step returns comes back as it was, whatever its model calls its fields, and whatever it computes."""

    async def greets(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        return (await sequencer.step(ctx, find)).greeting

    page = Waiting(store, [[calls("greets")], speaks("Done.")], tool(greets))
    await page.say()

    assert ("output", "Dear Ada") == page.seen_by_model[-1]


async def test_what_a_step_may_not_do(store: Store[Any], log: pytest.LogCaptureFixture) -> None:
    """Inside a step nothing is enqueued: it would not happen again when the body runs again."""

    async def queues(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        async def step() -> None:
            sequencer.enqueue(ctx, animation(state="stop"))

        await sequencer.step(ctx, step)
        return "never"

    page = Waiting(store, [[calls("queues")], speaks("Sorry.")], tool(queues))

    assert [] == (await page.say()).calls
    assert "enqueue() in the tool queues: not inside a step" in log.text


async def test_one_that_raises_stop_iteration(store: Store[Any]) -> None:
    """A step in a thread that raises StopIteration has failed, where asyncio would wait for it for ever."""

    def first_named(name: str) -> str:
        return next(each for each in ["Ada"] if each == name)

    async def looks(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        try:
            return await sequencer.step(ctx, first_named, "Grace")
        except StepFailedError as error:
            return f"{error.kind}: {error.text}"

    page = Waiting(store, [[calls("looks")], speaks("Sorry.")], tool(looks))

    await asyncio.wait_for(page.say(), 10)

    assert ("output", "RuntimeError: the function has raised StopIteration") == page.seen_by_model[-1]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with Python 3.11")
async def test_an_ask_in_a_task_group(store: Store[Any]) -> None:
    """A tool may ask inside a task group, which wraps whatever ends its tasks."""

    async def groups(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        async with asyncio.TaskGroup():  # type: ignore[attr-defined]
            sequencer.enqueue(ctx, animation(state="stop"))
            first = await sequencer.ask(ctx, choose(people=["Ada"]))
            second = await sequencer.ask(ctx, choose(people=["Ada"]))
        return f"{first.name}, {second.name}"

    page = Waiting(store, [[calls("groups")], speaks("Done.")], tool(groups))
    await page.say()
    await page.answer(ADA)
    last = await page.answer({"name": "Grace"})

    assert [("run_search_animation")] == [name for name, _ in last.calls]
    await page.answer()
    assert ("output", "Ada, Grace") == page.seen_by_model[-1]


class Down(MemoryStore):
    """A store that once cannot save a plan, when it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: Any) -> bool:
        if self.is_down:
            self.is_down = False
            raise ConnectionError
        return await super().save_plan(thread_id, plan, expected, context)


@pytest.mark.fails
async def test_a_step_that_cannot_be_recorded() -> None:
    """If the store fails while a step is recorded, the tool ends there, and takes the step again after a reload."""
    store, taken = Down(), []

    async def buys(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        choice = await sequencer.ask(ctx, choose(people=["Ada"]))

        def buy() -> None:
            taken.append(choice.name)
            store.is_down = len(taken) == 1

        await sequencer.step(ctx, buy)
        await sequencer.step(ctx, taken.append, "sent")
        return "bought"

    page = Waiting(store, [[calls("buys")], speaks("Done.")], tool(buys))
    await page.say()
    failed = await page.answer(ADA)
    await page.reload()

    assert (1, ["Ada", "Ada", "sent"]) == (len(failed.errors), taken)
    assert ("output", "bought") == page.seen_by_model[-1]


async def test_answers_are_found_behind_many_other_items() -> None:
    """Whatever a tool streams between its asks, an answer costs a few reads more at most, and each answer is found."""
    store = WatchedStore(MemoryStore())
    heard: list[str] = []

    async def chats(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
        names = []
        for _ in range(8):
            for _ in range(30):
                await ctx.context.stream_widget(Card(children=[Text(value="Ada")]))
            names.append((await sequencer.ask(ctx, choose(people=["Ada"]))).name)
        heard.extend(names)
        return "done"

    page = Waiting(store, [[calls("chats")], speaks("Done.")], tool(chats))
    await page.say()
    reads = []
    for n in range(8):
        store.counts.clear()
        await page.answer({"name": f"Ada {n}"})
        reads.append(store.counts["load_thread_items"])

    assert [f"Ada {n}" for n in range(8)] == heard
    assert max(reads[:-1]) <= 5
