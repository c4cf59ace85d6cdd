"""Declared tools and effects: what they take, what is wanted back, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable  # noqa: TC003  a field has this type
from datetime import date, datetime, timezone
from typing import Annotated, Any, Literal

import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientEffectEvent, ThreadMetadata
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, Strict, field_validator

from chatkit_clienttools import ClientEffect, ClientTool, showing
from chatkit_clienttools.errors import ClientToolError, InvalidArgumentsError, UsageError
from chatkit_clienttools.tools import agent_context_of, is_error_report
from tests.helpers.conversation import at
from tests.helpers.stores import PlainStore

SECRET = "do-not-show-me"  # noqa: S105  it stands for what a user did


class Animation(BaseModel):
    state: Literal["start", "stop"]
    speed: float = 1.0


class Meeting(BaseModel):
    starts: datetime = Field(alias="startsAt")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Heir(Open):
    age: int = 0


class Ignoring(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str


class Circle(BaseModel):
    kind: Literal["circle"]


class Square(BaseModel):
    kind: Literal["square"]


class Drawing(BaseModel):
    shape: Annotated[Circle | Square, Field(discriminator="kind")]


class Loose(BaseModel):
    anything: Any


class Quoting(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"nobody is called {value}")


class Callback(BaseModel):
    call: Callable[[], None]


class Names(RootModel[list[str]]):
    pass


def refuse_all(value: str) -> str:
    raise TypeError(value)


def nothing_of_a_model(**fields: Any) -> Animation:
    return Animation(**fields)


DECLARED: list[Any] = [ClientTool, ClientEffect]


def refused(declared: Any, /, *args: Any, **fields: Any) -> InvalidArgumentsError:
    with pytest.raises(InvalidArgumentsError) as raised:
        declared(*args, **fields)
    return raised.value


class TestCalls:
    def test_a_call_is_chatkits_own(self) -> None:
        """Calling a tool gives a plain `ClientToolCall`, with the defaults of the model filled in."""
        tool = ClientTool("animate", Animation)

        call = tool(state="start")

        assert ClientToolCall(name="animate", arguments={"state": "start", "speed": 1.0}) == call
        assert type(call) is ClientToolCall

    def test_an_event_is_chatkits_own(self) -> None:
        """Calling an effect gives a plain `ClientEffectEvent`."""
        effect = ClientEffect("spin", Animation)

        event = effect(state="start")

        assert ClientEffectEvent(name="spin", data={"state": "start", "speed": 1.0}) == event
        assert type(event) is ClientEffectEvent

    def test_without_a_model_anything_goes(self) -> None:
        """A tool or effect without a model passes on what it is given."""
        assert {"a": [1]} == ClientTool("x")(a=[1]).arguments
        assert {"a": [1]} == ClientEffect("x")(a=[1]).data
        assert ({}, {}) == (ClientTool("x")().arguments, ClientEffect("x")().data)

    @pytest.mark.parametrize("declare", DECLARED)
    def test_it_needs_a_name(self, declare: Any) -> None:
        """The frontend knows a tool by its name, so there has to be one."""
        with pytest.raises(UsageError, match=f"A {declare.__name__} needs a name"):
            declare("")

    @pytest.mark.parametrize("declare", DECLARED)
    def test_the_repr_shows_the_name(self, declare: Any) -> None:
        """The repr of a declared tool shows how it was declared and its name, and no more."""
        assert f"{declare.__name__}('animate')" == repr(declare("animate", Animation))

    def test_fields_go_out_under_their_alias(self) -> None:
        """The alias is what the frontend reads; values are JSON."""
        tool = ClientTool("meet", Meeting)

        call = tool(startsAt=datetime(2026, 1, 1, tzinfo=timezone.utc))

        assert {"startsAt": "2026-01-01T00:00:00Z"} == call.arguments

    def test_a_model_may_take_more(self) -> None:
        """A model that says what it does with other fields is taken at its word, its heirs included."""
        tools: list[ClientTool[..., Any]] = [ClientTool("x", Open), ClientTool("x", Heir), ClientTool("x", Ignoring)]

        assert [
            {"name": "Ada", "more": 1},
            {"name": "Ada", "age": 0, "more": 1},
            {"name": "Ada"},
        ] == [tool(name="Ada", more=1).arguments for tool in tools]

    def test_the_declared_model_stays_as_it_is(self) -> None:
        """Refusing misspelt fields is the tool's business: the model is not changed."""
        refused(ClientTool("animate", Animation), state="stop", pace=2)

        assert "extra" not in Animation.model_config
        assert Animation(state="stop") == Animation.model_validate({"state": "stop", "pace": 2})


KINDS: dict[Any, str] = {ClientTool: "Client tool", ClientEffect: "Client effect"}


@pytest.mark.parametrize("declare", DECLARED)
class TestWrongArguments:
    def test_the_error_names_tool_field_and_type(self, declare: Any) -> None:
        """A wrong value raises at once; the message has its type, and not the value."""
        error = refused(declare("animate", Animation), state=SECRET, speed=[SECRET])

        assert "animate" == error.tool
        assert [
            "state: Input should be 'start' or 'stop' (got str)",
            "speed: Input should be a valid number (got list)",
        ] == error.problems
        assert (
            f"{KINDS[declare]} 'animate' was called with wrong arguments: "
            "state: Input should be 'start' or 'stop' (got str); speed: Input should be a valid number (got list)"
        ) == str(error)

    def test_a_missing_field_is_named(self, declare: Any) -> None:
        """A field that is missing has no type to tell."""
        assert ["state: Field required"] == refused(declare("animate", Animation)).problems

    def test_a_misspelt_field_is_refused(self, declare: Any) -> None:
        """A field that the model does not have would be lost on the way: it is refused."""
        error = refused(declare("animate", Animation), state="start", pace=SECRET)

        assert ["pace: Extra inputs are not permitted (got str)"] == error.problems

    def test_an_alias_is_the_name(self, declare: Any) -> None:
        """A field with an alias is known by that alone, in the error too."""
        error = refused(declare("meet", Meeting), starts=SECRET)

        assert ["startsAt: Field required", "starts: Extra inputs are not permitted (got str)"] == error.problems

    def test_the_tag_of_a_union_is_not_shown(self, declare: Any) -> None:
        """A tag that fits no member of a union is a value like any other."""
        error = refused(declare("draw", Drawing), shape={"kind": SECRET})

        assert ["shape: The tag under 'kind' is none of 'circle', 'square'"] == error.problems

    def test_a_field_inside_a_field_is_named_by_its_path(self, declare: Any) -> None:
        """The path leads to the value that is wrong."""
        error = refused(declare("draw", Drawing), shape={"kind": "circle", "r": 1}, scale=2)

        assert ["scale: Extra inputs are not permitted (got int)"] == error.problems
        assert ["shape.kind: Field required"] == refused(declare("draw", ShapeOnly), shape={}).problems

    def test_what_is_not_json_is_refused(self, declare: Any) -> None:
        """A field that takes anything still has to be JSON in the end; the one that is not is named."""
        error = refused(declare("x", Loose), anything=object())

        assert ["anything: not JSON (Unable to serialize unknown type: <class 'object'>)"] == error.problems
        assert "PydanticSerializationError" not in "".join(traceback.format_exception(error))

    def test_arguments_are_given_by_name(self, declare: Any) -> None:
        """A positional argument is refused, and the names that there are are listed."""
        what = "data" if declare is ClientEffect else "arguments"

        assert [f"{what} are given by name: state=..., speed=..."] == refused(
            declare("animate", Animation), SECRET
        ).problems
        assert [f"{what} are given by name: startsAt=..."] == refused(declare("meet", Meeting), SECRET).problems
        assert [f"{what} are given by name: field=..."] == refused(declare("animate"), SECRET).problems

    @pytest.mark.parametrize(
        "model",
        [Names, nothing_of_a_model, dict, Animation(state="stop")],
        ids=["a root", "a function", "a dict", "an instance"],
    )
    def test_only_models_with_named_fields_are_taken(self, declare: Any, model: Any) -> None:
        """What a tool takes is declared as a pydantic model with fields; anything else is refused at once."""
        with pytest.raises(
            UsageError, match="What 'x' takes is declared as a pydantic model with named fields, not as"
        ):
            declare("x", model)

    @pytest.mark.parametrize(
        ("model", "fields", "named"),
        [
            (Animation, {"state": SECRET, "speed": SECRET}, "state (literal_error), speed (float_parsing)"),
            (Quoting, {"name": SECRET}, "name (value_error)"),
            (Loose, {"anything": object()}, "anything (not JSON)"),
        ],
        ids=["wrong", "a validator that quotes", "not JSON"],
    )
    def test_the_log_says_which_fields(
        self,
        caplog: pytest.LogCaptureFixture,
        declare: Any,
        model: Any,
        fields: dict[str, Any],
        named: str,
    ) -> None:
        """The SDK tells such an error to the model alone, so it is logged: which fields, and not what is in them."""
        refused(declare("x", model), **fields)

        line = f"{KINDS[declare]} 'x' was called with wrong arguments: {named}"
        assert [("chatkit_clienttools", logging.ERROR, line)] == caplog.record_tuples

    def test_the_log_says_when_they_are_not_named(self, caplog: pytest.LogCaptureFixture, declare: Any) -> None:
        """A positional argument is logged without what it was."""
        refused(declare("x"), SECRET)

        what = "data" if declare is ClientEffect else "arguments"
        line = f"{KINDS[declare]} 'x' was called with wrong arguments: {what} are given by name"
        assert [("chatkit_clienttools", logging.ERROR, line)] == caplog.record_tuples

    def test_the_error_is_the_callers(self, declare: Any) -> None:
        """Wrong arguments are the backend's mistake; they are told without pydantic's report, which shows values."""
        error = refused(declare("animate", Animation), state=SECRET)

        assert isinstance(error, UsageError)
        assert isinstance(error, ClientToolError)
        assert SECRET not in "".join(traceback.format_exception(error))


class ShapeOnly(BaseModel):
    shape: Circle


ONE_BY_ONE = (
    "0: Input should be a valid integer, unable to parse string as an integer (got str); "
    "1: Input should be a valid integer (got NoneType)"
)


def test_an_effect_without_a_model_has_to_be_json_too() -> None:
    """What is not JSON is refused where the effect is called, not where the stream would break."""
    with pytest.raises(InvalidArgumentsError, match=r": what: not JSON \(Unable to serialize"):
        ClientEffect("flash")(color="red", what=object())


def test_the_log_names_the_field_and_not_the_keys_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """The path to what is wrong may go through a dictionary whose keys are what users said."""

    class Scores(BaseModel):
        by_name: dict[str, int]

    with pytest.raises(InvalidArgumentsError):
        ClientTool("show", Scores)(by_name={"Ada Lovelace": "x"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]

    assert ["Client tool 'show' was called with wrong arguments: by_name (int_parsing)"] == caplog.messages


class TestAnswers:
    def test_an_answer_is_read_as_json(self) -> None:
        """What is a fitting answer in JSON fits a strict type too: a date, a tuple."""
        day = ClientTool("day", result=Annotated[date, Strict()])

        assert day.problem_with("2026-01-01") is None

    def test_a_validator_may_raise_anything(self) -> None:
        """A validator of the application that raises what it should not is no answer either, and harms nobody."""

        def look_up(value: str) -> str:
            return dict[str, str]()[value]

        tool = ClientTool("x", result=Annotated[str, AfterValidator(look_up)])

        assert tool.problem_with("s3cret") == "the browser's answer could not be checked: KeyError"

    @pytest.mark.parametrize(
        ("tool", "expected"),
        [
            (ClientTool("x"), (True, False)),
            (ClientTool("x", result=Any, required=True), (True, True)),
            (ClientTool("x", Animation, result=None), (False, False)),
            (ClientTool("x", result=int), (True, False)),
        ],
        ids=["default", "any, required", "none", "int"],
    )
    def test_what_a_tool_wants(self, tool: ClientTool[..., Any], expected: tuple[bool, bool]) -> None:
        """The answer is wanted unless `result` is None; a call is not required unless it is said."""
        assert expected == (tool.answer_wanted, tool.required)

    def test_a_text_is_not_a_type(self) -> None:
        """`result="NodeSelection"` would be a type that nothing fits: it is refused at once."""
        with pytest.raises(UsageError, match=r"The result of client tool 'x' is a type .*; not 'NodeSelection'"):
            ClientTool("x", result="NodeSelection")

    @pytest.mark.parametrize("result", [None, Any])
    def test_without_a_type_only_an_error_report_fails(self, result: Any) -> None:
        """Where no type was declared any answer is one, but not an error report."""
        tool = ClientTool("x", result=result)

        answers: list[object] = [None, 0, "", [], {}, {"ok": True}, {"error": "no", "code": 1}]

        assert [None] * len(answers) == [tool.problem_with(answer) for answer in answers]
        assert "the browser reported an error" == tool.problem_with({"error": SECRET})

    @pytest.mark.parametrize(
        ("result", "good", "bad", "problem"),
        [
            (int, 3, SECRET, "value: Input should be a valid integer, unable to parse string as an integer (got str)"),
            (list[str], ["a"], None, "value: Input should be a valid array (got NoneType)"),
            (list[str], [], ["a", 2], "1: Input should be a valid string (got int)"),
            (Animation, {"state": "stop"}, {"error": SECRET, "code": 1}, "state: Field required"),
            (Animation, {"state": "stop"}, {"state": SECRET}, "state: Input should be 'start' or 'stop' (got str)"),
            (list[int], [1], [SECRET, None], ONE_BY_ONE),
            (bool | None, None, [SECRET], "value: Input should be a valid boolean (got list)"),
        ],
    )
    def test_with_a_type_an_answer_has_to_fit(self, result: Any, good: object, bad: object, problem: str) -> None:
        """Where a type was declared an answer fails exactly when it does not fit; the value is not told."""
        tool = ClientTool("x", result=result)

        assert None is tool.problem_with(good)
        assert f"the browser's answer does not fit: {problem}" == tool.problem_with(bad)

    def test_an_error_report_is_none_whatever_the_type_takes(self) -> None:
        """A handler that has thrown has not answered, even where the type would take its report."""
        tool = ClientTool("x", result=dict[str, str])

        assert "the browser reported an error" == tool.problem_with({"error": "no"})
        assert None is tool.problem_with({"error": "no", "code": "1"})

    @pytest.mark.parametrize(
        ("result", "answer", "expected"),
        [
            (int, SECRET, "the answer does not fit the tool's result type: value (int_parsing)"),
            (Animation, {"state": SECRET}, "the answer does not fit the tool's result type: state (literal_error)"),
            (Drawing, {"shape": {"kind": "circle", SECRET: 1}}, None),
            (list[Animation], [{}], "the answer does not fit the tool's result type: 0.state (missing)"),
            (dict[str, int], {SECRET: None}, "the answer does not fit the tool's result type: value (int_type)"),
            (Quoting, {"name": SECRET}, "the answer does not fit the tool's result type: name (value_error)"),
            (Any, {"error": SECRET}, "the browser reported an error"),
            (
                Animation,
                None,
                (
                    "the answer does not fit the tool's result type: value (model_type): the page has sent none. It "
                    "belongs under `result`, beside `_receipt`"
                ),
            ),
            (
                list[int],
                [SECRET, 2, None],
                "the answer does not fit the tool's result type: 0 (int_parsing), 2 (int_type)",
            ),
            (
                Annotated[str, AfterValidator(refuse_all)],
                "x",
                "the browser's answer could not be checked: TypeError",
            ),
        ],
    )
    def test_for_the_log_only_the_fields_are_named(self, result: Any, answer: object, expected: str | None) -> None:
        """For the log the reason names which fields do not fit, and neither values nor the keys of dictionaries."""
        assert expected == ClientTool("x", result=result).why_it_failed(answer)

    def test_a_type_without_a_json_schema_fails_too(self) -> None:
        """Where the declared fields are not known the log has the kind of the problem alone."""
        tool = ClientTool("x", result=Callback)

        assert "the answer does not fit the tool's result type: value (callable_type)" == tool.why_it_failed(
            {"call": SECRET}
        )

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ({"error": ""}, True),
            ({"error": "no"}, True),
            ({"error": None}, False),
            ({"error": {"code": 1}}, False),
            ({"error": "no", "code": 1}, False),
            ({}, False),
            ("error", False),
            (None, False),
        ],
    )
    def test_what_an_error_report_is(self, answer: object, expected: bool) -> None:
        """An error report is an object with one field, `error`, that holds a text."""
        assert expected is is_error_report(answer)


def agent_context() -> AgentContext[None]:
    return AgentContext(thread=ThreadMetadata(id="thr_1", created_at=at(0)), store=PlainStore(), request_context=None)


def streamed(context: AgentContext[Any]) -> list[Any]:
    return [context._events.get_nowait() for _ in range(context._events.qsize())]


class TestContexts:
    def test_an_agent_context_is_itself(self) -> None:
        """Code outside a tool has the `AgentContext` at hand."""
        context = agent_context()

        assert context is agent_context_of(context)

    def test_a_tools_context_carries_it(self) -> None:
        """A tool gets a `RunContextWrapper`, whose `context` it is."""
        context = agent_context()

        assert context is agent_context_of(RunContextWrapper(context))

    @pytest.mark.parametrize(
        ("ctx", "found"),
        [
            (None, "NoneType"),
            ({}, "dict"),
            (RunContextWrapper({"user": SECRET}), "dict"),
        ],
        ids=["nothing", "something else", "a run with another context"],
    )
    def test_anything_else_is_refused(self, ctx: object, found: str) -> None:
        """The error names the type that was found, and the line to be written."""
        with pytest.raises(UsageError) as raised:
            agent_context_of(ctx)

        assert (
            f"A RunContextWrapper[AgentContext] or an AgentContext is needed, not a {found}: run the agent with "
            "`context=AgentContext(thread=thread, store=self.store, request_context=context)`"
        ) == str(raised.value)

    def test_a_run_without_a_context_is_told_how_to_pass_it_on(self) -> None:
        """A tool whose run was given no context hears of both places where it may be missing."""
        with pytest.raises(UsageError) as raised:
            agent_context_of(RunContextWrapper(None))

        assert (
            "The agent run that this tool belongs to has no context: run the agent with `context=AgentContext("
            "thread=thread, store=self.store, request_context=context)`, and an agent inside a tool with "
            "`Runner.run(agent, ..., context=ctx.context)`"
        ) == str(raised.value)


class TestShowing:
    BEGIN = ClientEffectEvent(name="spin", data={"on": True})
    END = ClientEffectEvent(name="spin", data={"on": False})

    @pytest.mark.parametrize("wrap", [lambda context: context, RunContextWrapper], ids=["AgentContext", "wrapped"])
    async def test_begin_comes_at_once_and_end_afterwards(self, wrap: Callable[[Any], Any]) -> None:
        """`begin` is streamed before the body runs, and `end` when it has run."""
        context = agent_context()

        async with showing(wrap(context), self.BEGIN, self.END):
            during = streamed(context)

        assert [self.BEGIN] == during
        assert [self.END] == streamed(context)

    async def test_end_comes_when_the_body_raises(self) -> None:
        """An error in the body ends the effect, and is raised as it is."""
        context = agent_context()

        async def body() -> None:
            async with showing(context, self.BEGIN, self.END):
                raise LookupError("nothing found")

        with pytest.raises(LookupError, match="nothing found"):
            await body()
        assert [self.BEGIN, self.END] == streamed(context)

    async def test_end_comes_when_the_body_is_cancelled(self) -> None:
        """A request that is cancelled in the middle ends the effect too."""
        context = agent_context()
        inside = asyncio.Event()

        async def body() -> None:
            async with showing(context, self.BEGIN, self.END):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(body())
        await inside.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert [self.BEGIN, self.END] == streamed(context)

    async def test_nothing_is_streamed_outside_a_run(self) -> None:
        """Without an `AgentContext` it raises before the body runs."""
        reached = []

        async def body() -> None:
            async with showing(None, self.BEGIN, self.END):  # type: ignore[arg-type]
                reached.append("body")

        with pytest.raises(UsageError, match="not a NoneType"):
            await body()
        assert [] == reached
