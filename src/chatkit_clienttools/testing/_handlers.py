"""The page's `onClientTool`: runs a client tool, and once for each receipt if it honours them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

Json = dict[str, Any]
ByName = Mapping[str, Callable[[Json], Any]]
Handlers = Union[ByName, Callable[[str, Json], Any], None]  # noqa: UP007  # needed at run time on 3.10
"""By tool, a function of the params; or one function of the tool and the params. Either may be async, and may raise."""

RECEIPT = "_receipt"


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


class MissingHandlerError(AssertionError):
    """The server asks for a client tool that the page has no handler for."""

    def __init__(self, name: str, known: list[str]) -> None:
        """Name it, and those there are."""
        self.name = name
        super().__init__(f"The server asks for client tool {name!r}; the page has handlers for {known}")


def reported(error: Exception) -> Json:
    """Return the answer of a page that reports what its handler raised."""
    return {"error": str(error) or type(error).__name__}


class OnClientTool:
    """Runs client tools, each delivery once; with receipts, each receipt once, however often it is delivered."""

    def __init__(
        self,
        handlers: Handlers,
        executed: Callable[[Call], object],
        *,
        receipts: bool,
        on_error: Callable[[Exception], Any],
    ) -> None:
        self._handlers = handlers
        self._executed = executed
        self._receipts = receipts
        self._on_error = on_error
        self._answers: dict[Delivery | str, asyncio.Future[Any]] = {}

    async def answer_to(self, call: Delivery) -> Any:
        """Return what the page posts for a call, and run its handler if that has not been done."""
        receipt = call.receipt if self._receipts else None
        known = self._answers.get(receipt or call)
        if known is None or known.cancelled():
            self._check(call.name)
            known = asyncio.ensure_future(self._bare(call) if receipt is None else self._receipted(call, receipt))
            self._answers[receipt or call] = known
        call.answer = await known
        call.is_executed = True
        return call.answer

    async def _bare(self, call: Delivery) -> Any:
        try:
            return await self._run(call.name, call.params)
        except Exception as error:  # noqa: BLE001  whatever a handler raises is the page's to report
            return self._on_error(error)

    async def _receipted(self, call: Delivery, receipt: str) -> Json:
        params = {key: value for key, value in call.params.items() if key != RECEIPT}
        try:
            return {RECEIPT: receipt, "result": await self._run(call.name, params)}
        except Exception as error:  # noqa: BLE001  whatever a handler raises is the page's to report
            return {RECEIPT: receipt, **reported(error)}

    async def _run(self, name: str, params: Json) -> Any:
        handler = self._handler(name)
        self._executed(Call(name, params))
        result = handler(params)
        return await result if isinstance(result, Awaitable) else result

    def _handler(self, name: str) -> Callable[[Json], Any]:
        if self._handlers is None:
            return lambda _: {}
        if not isinstance(self._handlers, Mapping):
            on_client_tool = self._handlers
            return lambda params: on_client_tool(name, params)
        return self._handlers[name]

    def _check(self, name: str) -> None:
        """Raise if there is no handler: that is the test's mistake, and no answer of the page."""
        if isinstance(self._handlers, Mapping) and name not in self._handlers:
            raise MissingHandlerError(name, sorted(self._handlers))
