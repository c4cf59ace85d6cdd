"""The page's `onClientTool`: runs a client tool, and once for each receipt if it honours them."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

import anyio

from ._failures import HandlerError, MissingHandlerError

if TYPE_CHECKING:
    from ._transcript import Transcript

Json = dict[str, Any]
ByName = Mapping[str, Callable[[Json], Any]]
Handlers = Union[ByName, Callable[[str, Json], Any], None]  # noqa: UP007  # needed at run time on 3.10
"""By tool, a function of the params; or one function of the tool and the params. Either may be async, and may raise."""

Answering = Literal["once", "at once", "twice", "twice at once", "never", "when told"]
"""How a page answers a call: once, when the stream has ended; at once, when the call arrives and the stream is still
open; twice, one after the other or both together; never, though it does execute the call; or when told by `answer()`,
and does not execute it before."""

RECEIPT = "_receipt"
STAMPS = (RECEIPT, "_expires_at", "_expires_in")


class Call(NamedTuple):
    """A client tool that was executed: equal to the tuple of its name and its params."""

    name: str
    params: Json


@dataclass(eq=False)
class Delivery:
    """A client tool call as it arrived."""

    item_id: str
    name: str
    params: Json
    """As they came, with the receipt if there was one."""
    is_executed: bool = False
    answer: Any = None
    """What the page posts, once the call is executed."""

    @property
    def receipt(self) -> str | None:
        """The receipt that the answer is to carry."""
        return self.params.get(RECEIPT)


def reported(error: Exception) -> Json:
    """Return the answer of a page that reports what its handler raised."""
    return {"error": str(error) or type(error).__name__}


def wrapped(answer: Any) -> Json:
    """Return an answer as a page posts it that wraps every one, as some clients do."""
    if isinstance(answer, dict) and answer.keys() == {"error"}:
        return {"type": "error", "message": answer["error"]}
    return {"type": "success", "data": answer}


def bare(answer: Any) -> Any:
    """Return an answer without its receipt."""
    if not (isinstance(answer, dict) and RECEIPT in answer):
        return answer
    return answer["result"] if "result" in answer else {"error": answer["error"]}


class OnClientTool:
    """Runs client tools, each delivery once; with receipts, each receipt once, however often it is delivered."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        receipts: bool,
        on_error: Callable[[Exception], Any],
        time_limit: float,
        executed: Callable[[Call], object],
        raised: Callable[[str, Exception], object],
        transcript: Transcript,
    ) -> None:
        self.handlers = handlers
        self._receipts = receipts
        self._on_error = on_error
        self._time_limit = time_limit
        self._executed = executed
        self._raised = raised
        self._transcript = transcript
        self._answers: dict[Delivery | str, asyncio.Future[Any]] = {}
        self._fitting: dict[str, Callable[[Json], Any]] = {}
        """The handlers that are known to take what they get."""

    async def answer_to(self, call: Delivery) -> Any:
        """Return what the page posts for a call, and run its handler if that has not been done."""
        receipt = call.receipt if self._receipts else None
        known = self._answers.get(receipt or call)
        if known is None or known.cancelled():
            known = asyncio.ensure_future(self._answer(call, self._handler(call.name), receipt))
            self._answers[receipt or call] = known
        call.answer = await known
        call.is_executed = True
        return call.answer

    async def _answer(self, call: Delivery, handler: Callable[[Json], Any], receipt: str | None) -> Any:
        with_receipt = {} if receipt is None else {RECEIPT: receipt}
        stamps = () if receipt is None else STAMPS
        params = {key: value for key, value in call.params.items() if key not in stamps}
        try:
            result = await self._run(call.name, handler, params)
        except HandlerError:
            raise
        except AssertionError as error:
            raise self._failed(call.name, f"has failed: {error}") from error
        except Exception as error:  # noqa: BLE001  whatever else a handler raises is the page's to report
            self._raised(call.name, error)
            result = self._on_error(error) if receipt is None else reported(error)
            return self._json(call.name, {**with_receipt, **result} if with_receipt else result)
        return self._json(call.name, {**with_receipt, "result": result} if with_receipt else result)

    async def _run(self, name: str, handler: Callable[[Json], Any], params: Json) -> Any:
        self._executed(Call(name, copy.deepcopy(params)))
        with anyio.move_on_after(self._time_limit) as scope:
            result = handler(copy.deepcopy(params))
            result = await result if isinstance(result, Awaitable) else result
            if anyio.current_time() < scope.deadline:  # one that is not async cannot be stopped at it
                return result
        raise self._failed(name, f"has not returned for {self._time_limit:g} seconds: let it end, or raise time_limit")

    def _json(self, name: str, answer: Any) -> Any:
        """Return an answer as it goes over the wire."""
        try:
            return json.loads(json.dumps(answer, allow_nan=False))
        except (TypeError, ValueError) as error:
            result = type(bare(answer)).__name__
            cure = 'A pydantic model becomes JSON with `model_dump(mode="json")`, NaN is best posted as None'
            raise self._failed(name, f"has answered with a {result}, which is not JSON: {error}. {cure}") from error

    def _handler(self, name: str) -> Callable[[Json], Any]:
        """Return what runs a call; raise if the test has nothing that could: that is no answer of a page."""
        if self.handlers is None:
            return lambda _: {}
        if not isinstance(self.handlers, Mapping):
            handler: Callable[[Json], Any] = partial(self.handlers, name)
        elif name in self.handlers:
            handler = self.handlers[name]
        else:
            raise MissingHandlerError(name, sorted(self.handlers), self._transcript)
        if self._fitting.get(name) is handler:
            return handler
        try:
            inspect.signature(handler, follow_wrapped=False).bind({})
        except ValueError:  # some functions written in C do not say what they take
            pass
        except TypeError as error:
            what = "takes (params)" if isinstance(self.handlers, Mapping) else "for all tools takes (name, params)"
            raise self._failed(name, f"{what}, and this one does not fit: {error}") from None
        self._fitting[name] = handler
        return handler

    def _failed(self, name: str, what: str) -> HandlerError:
        return HandlerError(f"The handler of client tool {name!r} {what}", self._transcript)
