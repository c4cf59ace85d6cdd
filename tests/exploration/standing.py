"""What an execution must not depend on: the time of day, and random ids. And what it need not do over and over."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import UUID

from pydantic import TypeAdapter

from chatkit_clienttools._step import exclusion

from .gates import current, gated_pause

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


def numbered_uuid() -> UUID:
    """Stand for `uuid4`: the same in each execution, whatever else happens before it."""
    request = current.get(None)
    if request is None:
        return UUID(int=0)
    request.ids += 1
    return UUID(bytes=blake2b(f"{request.name} {request.ids}".encode(), digest_size=16).digest())


@contextmanager
def standing() -> Iterator[None]:
    """Let the clock stand still, and keep logs, garbage collector and tracer out of it: they take half of the time."""
    tracer = sys.gettrace()
    sys.settrace(None)  # what is measured of the coverage must not depend on what is explored
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what is there already need not be looked through again and again
    gc.disable()
    package = [module for name, module in sys.modules.items() if name.startswith("chatkit_clienttools")]
    try:
        with ExitStack() as stack:
            stack.enter_context(patch("chatkit.server.datetime", _Standing))
            stack.enter_context(patch("chatkit.agents.datetime", _Standing))
            stack.enter_context(patch("chatkit_clienttools._step.body.datetime", _Standing))
            stack.enter_context(patch("chatkit.server.TypeAdapter", _BuiltOnce))
            stack.enter_context(patch.object(exclusion, "pause", gated_pause))
            for module in package:
                if hasattr(module, "uuid4"):
                    stack.enter_context(patch.object(module, "uuid4", numbered_uuid))
            yield
    finally:
        sys.settrace(tracer)
        gc.enable()
        gc.unfreeze()
        logging.disable(disabled)
