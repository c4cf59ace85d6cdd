"""What takes long to make is made once in a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._step import replay, requests
from chatkit_clienttools.testing.browser import _page, _wire

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("make", [requests._adapter, _page._events, _wire._trusted])
def test_it_is_made_once(make: Callable[[], Any]) -> None:
    """The types of requests and events, and the trusted certificates, are made when they are wanted first, and once."""
    make.cache_clear()  # type: ignore[attr-defined]  # another test has wanted it, which may not be measured

    first = make()

    assert first is make()


def test_the_type_of_a_step_is_made_once() -> None:
    """What a function of a step returns is looked up once for each function, however often bodies run again."""

    def find() -> list[str]:
        return []

    assert replay._type_of_result(find) is replay._type_of_result(find)
