"""What an execution must not depend on: the time of day. And what it need not do over and over."""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = 1_700_000_000.0


def standing_time(now: float) -> datetime:
    return datetime.fromtimestamp(now)  # noqa: DTZ006  naive, as ChatKit writes it


class _Standing(datetime):
    """ChatKit's `datetime.now()`: every item of an execution has the same time, the hardest case for an order."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.fromtimestamp(EPOCH, tz)


class _BuiltOnce:
    """`TypeAdapter[X](X)`, which ChatKit builds anew for every request: two thirds of the time one takes."""

    def __class_getitem__(cls, kind: Any) -> Any:
        return _adapter


_adapter = lru_cache(maxsize=None)(TypeAdapter)


@contextmanager
def standing() -> Iterator[None]:
    """Let the clock stand still, and keep the logs and the garbage collector out of it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what is there already need not be looked through again and again
    gc.disable()
    try:
        with (
            patch("chatkit.server.datetime", _Standing),
            patch("chatkit.agents.datetime", _Standing),
            patch("chatkit.server.TypeAdapter", _BuiltOnce),
        ):
            yield
    finally:
        gc.enable()
        gc.unfreeze()
        logging.disable(disabled)
