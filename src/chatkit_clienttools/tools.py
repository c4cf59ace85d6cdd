"""Declared client tools and effects: their arguments, and the answer that is wanted."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientEffectEvent
from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, RootModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import ParamSpec
from typing_extensions import TypeVar as DefaultTypeVar

from .answers import reason_in
from .errors import InvalidArgumentsError, UsageError, not_json
from .media import TAKEN_OUT, holds_media
from .observe import log_and_return

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from agents import RunContextWrapper
    from pydantic_core import ErrorDetails

    from .media import Media

MAX_PROBLEMS = 10
"""How many fields that do not fit are named."""

P = ParamSpec("P")
Fields = ParamSpec("Fields")
Result = TypeVar("Result")
R_co = DefaultTypeVar("R_co", default=Any, covariant=True)
TAgentContext = TypeVar("TAgentContext", bound=AgentContext[Any])


class _Declared(Generic[P]):
    """A name and the pydantic model of what goes with it."""

    _kind = "Client tool"

    def __init__(self, name: str, model: Callable[P, BaseModel] | None) -> None:
        if not name:
            raise UsageError(f"A {type(self).__name__} needs a name: the one the frontend knows it by")
        self.name = name
        self._model = None if model is None else _strict_about_names(name, model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _refusal(self, problems: list[str], kinds: Sequence[str] = ()) -> InvalidArgumentsError:
        return log_and_return(InvalidArgumentsError(self.name, problems, kind=self._kind, kinds=kinds))

    def _validated(self, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._model is None:  # as it is now: an iterator can be read once
                as_now: dict[str, Any] = json.loads(to_json(fields, inf_nan_mode="constants"))
                return as_now
            return self._model(**fields).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            # of a path only its beginning, the field: further down it may hold the keys of a dictionary
            kinds = [f"{each['loc'][0] if each['loc'] else 'value'} ({each['type']})" for each in error.errors()]
            raise self._refusal(_problems(error), kinds) from None
        except PydanticSerializationError as error:  # a field that takes anything has got what is not JSON
            why = _why_not_json(fields) or {"value": str(error)}
            raise log_and_return(not_json(self.name, why, kind=self._kind)) from None

    def _by_name(self, what: str) -> InvalidArgumentsError:
        fields = {} if self._model is None else getattr(self._model, "model_fields", {})
        names = [field.alias or name for name, field in fields.items()] or ["field"]
        return self._refusal([f"{what} are given by name: {', '.join(f'{name}=...' for name in names)}"])


if TYPE_CHECKING:

    class Call(ClientToolCall, Generic[R_co]):
        """A call of a declared client tool. Type checkers know what it is answered with."""

else:
    Call = ClientToolCall


class ClientTool(_Declared[P], Generic[P, R_co]):
    """A client tool that the frontend's `onClientTool` handles. Calling it validates and returns a `ClientToolCall`.

    Args:
        name: The name that the frontend knows.
        arguments: A pydantic model of its `params`. Without one, any JSON is accepted.
        result: The type of the browser's answer. An answer that does not fit makes the call fail. `None`: no answer is
            needed, and the model neither runs for the call nor sees it. `Any`, the default: any answer is accepted.
        required: Send it even when the other open calls are cancelled, as for the call that stops an animation.
        expires_after: How long the browser may take to answer, from when the call is first sent. Then the call has
            failed: see `ClientToolSequencer.expire`.
    """

    @overload
    def __init__(
        self: ClientTool[..., Result],
        name: str,
        arguments: None = None,
        *,
        result: type[Result],
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: ClientTool[Fields, Result],
        name: str,
        arguments: Callable[Fields, BaseModel],
        *,
        result: type[Result],
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: ClientTool[..., None],
        name: str,
        arguments: None = None,
        *,
        result: None,
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: ClientTool[Fields, None],
        name: str,
        arguments: Callable[Fields, BaseModel],
        *,
        result: None,
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: ClientTool[..., Any],
        name: str,
        arguments: None = None,
        *,
        result: Any = Any,
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: ClientTool[Fields, Any],
        name: str,
        arguments: Callable[Fields, BaseModel],
        *,
        result: Any = Any,
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        arguments: Callable[..., BaseModel] | None = None,
        *,
        result: Any = Any,
        required: bool = False,
        expires_after: timedelta | None = None,
    ) -> None:
        super().__init__(name, arguments)
        if not _may_be_time(expires_after):
            raise UsageError(
                f"The time that the browser has for client tool {name!r} is a timedelta of more than nothing, "
                f"expires_after=timedelta(minutes=5); not {expires_after!r}"
            )
        self.answer_wanted = result is not None
        self.required = required
        self.expires_after = expires_after
        self._answer = _adapter_of_answers(name, Any if result is None else result)

    def __call__(self, /, *args: P.args, **arguments: P.kwargs) -> Call[R_co]:
        """Return a call of this tool; raise `InvalidArgumentsError` if its arguments are wrong."""
        if args:
            raise self._by_name("arguments")
        return Call(name=self.name, arguments=self._validated(arguments))

    @cached_property
    def takes_media(self) -> bool:
        """Whether an answer may hold a `ClientImage` or a `ClientFile`."""
        return holds_media(self._answer.core_schema)

    def read(self, answer: object) -> R_co | None:
        """Return a valid answer as the declared type; None if no answer is wanted."""
        return self._answer.validate_json(to_json(answer)) if self.answer_wanted else None

    def media_in(self, answer: object) -> tuple[str, list[Media]]:
        """Return a valid answer as JSON with a line of text in the place of each image and file, and all of these."""
        found: list[Media] = []
        value, context = self.read(answer), {TAKEN_OUT: found}
        text = self._answer.dump_json(value, by_alias=True, exclude_unset=True, warnings=False, context=context)
        return text.decode(), found

    @staticmethod
    def report_in(answer: object) -> str | None:
        """Return what an error report of the browser says; None if the answer is no such report."""
        return answer["error"] if is_error_report(answer) and not reason_in(answer) else None  # type: ignore[index]

    def params_schema(self, **options: Any) -> dict[str, Any]:
        """Return the JSON schema of the `params` that the browser gets; the options are `TypeAdapter.json_schema`'s."""
        params: Any = dict[str, Any] if self._model is None else self._model
        return TypeAdapter(params).json_schema(mode="serialization", **options)

    def result_schema(self, **options: Any) -> dict[str, Any]:
        """Return the JSON schema of the answer that is wanted back; the options are the same."""
        return self._answer.json_schema(mode="validation", **options)

    def problem_with(self, answer: object) -> str | None:
        """Return why `answer` is invalid, or None.

        It is invalid if it is an error report, an object with one field, `error`, that holds a text; if the server has
        refused it; or if it does not fit the declared type.
        """
        error = self._error_in(answer)
        if isinstance(error, ValidationError):
            return f"the browser's answer does not fit: {'; '.join(_problems(error))}"
        return None if error is None else self._in_short(error)

    def why_it_failed(self, answer: object) -> str | None:
        """Return the same for a log: which fields do not fit, and not what is in them."""
        error = self._error_in(answer)
        if isinstance(error, ValidationError):
            cure = _NO_ANSWER if answer is None else ""
            return f"the answer does not fit the tool's result type: {', '.join(self._misfits(error))}{cure}"
        return None if error is None else self._in_short(error)

    def _error_in(self, answer: object) -> Exception | None:
        if is_error_report(answer):
            return _ReportedError(reason_in(answer) or "the browser reported an error")
        try:
            self._answer.validate_json(to_json(answer))
        except Exception as error:  # noqa: BLE001  a validator of the application may raise anything
            return error
        return None

    @staticmethod
    def _in_short(error: Exception) -> str:
        if isinstance(error, _ReportedError):
            return str(error)
        return f"the browser's answer could not be checked: {type(error).__name__}"

    def _misfits(self, error: ValidationError) -> list[str]:
        """Name each field that does not fit. Keys of dictionaries are what users said: they are left out."""
        try:
            declared = _property_names(self.result_schema())
        except Exception:  # noqa: BLE001  a type without a JSON schema
            declared = set()
        misfits = []
        found = error.errors(include_input=False, include_context=False, include_url=False)
        for each in found[:MAX_PROBLEMS]:
            path = ".".join(str(part) for part in each["loc"] if isinstance(part, int) or part in declared)
            misfits.append(f"{path or 'value'} ({each['type']})")
        return [*misfits, *_and_more(found)]


_NO_ANSWER = ": the page has sent none. It belongs under `result`, beside `_receipt`"


class _ReportedError(Exception):
    """The browser's handler has failed, or the server has refused its answer."""


class ClientEffect(_Declared[P]):
    """A client effect that the frontend's `onEffect` handles. Calling it validates and returns a `ClientEffectEvent`.

    An effect is streamed at once, and neither stored nor answered. A run can have any number of them.
    """

    _kind = "Client effect"

    @overload
    def __init__(self: ClientEffect[...], name: str, data: None = None) -> None: ...
    @overload
    def __init__(self, name: str, data: Callable[P, BaseModel]) -> None: ...
    def __init__(self, name: str, data: Callable[P, BaseModel] | None = None) -> None:
        super().__init__(name, data)

    def __call__(self, /, *args: P.args, **data: P.kwargs) -> ClientEffectEvent:
        """Return an event of this effect; raise `InvalidArgumentsError` if its data are wrong."""
        if args:
            raise self._by_name("data")
        return ClientEffectEvent(name=self.name, data=self._validated(data))


@asynccontextmanager
async def showing(
    ctx: RunContextWrapper[TAgentContext] | AgentContext[Any], begin: ClientEffectEvent, end: ClientEffectEvent
) -> AsyncGenerator[None, None]:
    """Stream `begin` at once, and `end` afterwards, also if the code in between raises.

    Use it for an indicator that spins while the server works. Calls that are enqueued would come too late for that.
    """
    context = agent_context_of(ctx)
    await context.stream(begin)
    try:
        yield
    finally:
        await context.stream(end)


def agent_context_of(ctx: object) -> AgentContext[Any]:
    """Return the `AgentContext` that a tool's `ctx` carries."""
    inner = ctx if isinstance(ctx, AgentContext) else getattr(ctx, "context", None)
    if not isinstance(inner, AgentContext):
        raise log_and_return(UsageError(_without_a_context(ctx, inner)))
    return inner


def _without_a_context(ctx: object, inner: object) -> str:
    run = "run the agent with `context=AgentContext(thread=thread, store=self.store, request_context=context)`"
    if inner is None and hasattr(ctx, "context"):
        return (
            f"The agent run that this tool belongs to has no context: {run}, and an agent inside a tool with "
            "`Runner.run(agent, ..., context=ctx.context)`"
        )
    comes_later = isinstance(ctx, ClientToolCall) or callable(ctx)
    cure = "`ctx` comes first, as in enqueue(ctx, ...), ask(ctx, ...) and step(ctx, ...)" if comes_later else run
    found = type(ctx if inner is None else inner).__name__
    return f"A RunContextWrapper[AgentContext] or an AgentContext is needed, not a {found}: {cure}"


def is_error_report(answer: object) -> bool:
    """Whether an answer says that the browser's handler failed."""
    return isinstance(answer, dict) and answer.keys() == {"error"} and isinstance(answer["error"], str)


def _adapter_of_answers(name: str, result: Any) -> TypeAdapter[Any]:
    """Return what checks the answers of a tool, or say that what was declared is no type."""
    problem = ""
    # pydantic takes a text for a name, a function for what it returns, and fails in its own way at a dictionary
    if not isinstance(result, (str, dict)):
        try:
            return TypeAdapter(result)
        except PydanticSchemaGenerationError as error:
            problem = f" ({error.message.split('. ')[0]})"
    raise UsageError(
        f"The result of client tool {name!r} is a type that pydantic can check, or None if no answer is wanted; "
        f"not {result!r}{problem}"
    )


def _may_be_time(value: object) -> bool:
    """Whether a value says how long something may take, or that it may take as long as it likes."""
    return value is None or (isinstance(value, timedelta) and value > timedelta())


def _strict_about_names(name: str, model: Callable[P, BaseModel]) -> Callable[..., BaseModel]:
    """Return `model`, refusing fields it does not have unless it says otherwise: a misspelt one would be lost."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or issubclass(model, RootModel):
        raise UsageError(f"What {name!r} takes is declared as a pydantic model with named fields, not as {model!r}")
    if "extra" in model.model_config:
        return model
    said = {"__doc__": model.__doc__, "__module__": model.__module__}
    return type(model.__name__, (model,), {**said, "model_config": ConfigDict(extra="forbid")})


def _why_not_json(fields: Mapping[str, object]) -> dict[str, str]:
    """Say of each field that is not JSON why."""
    problems = {}
    for name, value in fields.items():
        try:
            to_json(value, inf_nan_mode="strings")
        except PydanticSerializationError as error:
            problems[name] = str(error)
    return problems


def _property_names(schema: object) -> set[str]:
    """Collect the names of all declared fields in a JSON schema."""
    names = set(schema.get("properties", ())) if isinstance(schema, dict) else set[str]()
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return names.union(*map(_property_names, parts))


def _problems(error: ValidationError) -> list[str]:
    """Say for each field what is wrong with it, and the type of what was given instead of the value."""
    found = error.errors(include_url=False)
    problems = [f"{'.'.join(map(str, each['loc'])) or 'value'}: {_problem(each)}" for each in found[:MAX_PROBLEMS]]
    return [*problems, *_and_more(found)]


def _and_more(found: Sequence[object]) -> list[str]:
    more = len(found) - MAX_PROBLEMS
    return [f"and {more} more"] if more > 0 else []


def _problem(each: ErrorDetails) -> str:
    if each["type"] == "missing":
        return each["msg"]  # what was given is the object around it
    if each["type"] == "union_tag_invalid":  # pydantic's own sentence quotes the value
        context = each.get("ctx", {})
        return f"The tag under {context['discriminator']} is none of {context['expected_tags']}"
    return f"{each['msg']} (got {type(each['input']).__name__})"
