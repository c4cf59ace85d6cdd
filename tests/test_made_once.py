"""What takes long to make is made once in a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._step import requests
from chatkit_clienttools.testing.browser import _page, _wire

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("make", [requests._adapter, _page._events, _wire._trusted])
def test_it_is_made_once(make: Callable[[], Any]) -> None:
    """The types of requests and events, and the trusted certificates, are made when they are wanted first, and once."""
    make.cache_clear()  # type: ignore[attr-defined]  # another test has wanted it, which may not be measured

    first = make()

    assert first is make()
