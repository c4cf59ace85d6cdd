"""Whatever is posted as an answer: no stream breaks, nothing of it is logged, and the thread can be read again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.helpers.any_answer import IMAGE, RECEIPT, SECRET, Target

SHORT = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
LONG = settings(SHORT, max_examples=300)

numbers = st.floats() | st.integers() | st.integers(min_value=10**300, max_value=10**500)
texts = st.text(st.characters(codec=None) | st.sampled_from("\0\ud800\udfff😀")) | st.sampled_from(
    [SECRET, IMAGE, "data:image/png;base64,", "call_1", "__proto__"]
)
keys = texts | st.sampled_from(["_receipt", "result", "error", "data_url", "reference", "title", "image", "detail"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.just(RECEIPT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
deep = st.builds(
    lambda depth, inner, name: nested(depth, inner) if name is None else {name: nested(depth, inner)},
    st.integers(90, 260),
    values,
    st.none() | keys,
)
media = st.fixed_dictionaries(
    {},
    optional={
        "data_url": st.just(IMAGE) | texts,
        "reference": texts | st.just(f"content:{'0' * 32}:data:image/png;base64"),
        "detail": st.sampled_from(["auto", "low", SECRET]),
    },
)
screens = st.fixed_dictionaries({"title": texts}, optional={"image": media, "others": st.lists(media, max_size=2)})
results = values | deep | media | screens
answers = results | st.builds(lambda result: {"_receipt": RECEIPT, "result": result}, results)


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def posted(answer: Any) -> bytes:
    """An answer as a page posts it, which may hold more than JSON allows."""
    request = {"type": "threads.add_client_tool_output", "params": {"thread_id": "THREAD", "result": answer}}
    return json.dumps(request).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer of which some bytes are others, or are not there."""
    body = bytearray(posted(draw(answers)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(body)


FOUND = {"_receipt": RECEIPT, "result": {"title": "a", "image": {"reference": "made up"}}}
"""What the fuzzer found: with a reference that nobody looks up, each run of the thread raised."""

LIKE_A_CONTENT = {"_receipt": RECEIPT, "result": {"reference": f"content:{'0' * 32}:data:image/png;base64"}}
"""What a later search found: a reference that looks like one of a `MediaStore`."""


@SHORT
@example([posted(FOUND)])
@example([posted(LIKE_A_CONTENT)])
@given(st.lists(answers.map(posted), min_size=1, max_size=3))
def test_any_json(bodies: list[bytes]) -> None:
    """Any JSON, and what JSON does not allow as NaN, is an answer or a failed call, and the conversation goes on."""
    asyncio.run(Target().take(bodies))


@SHORT
@given(st.lists(damaged() | st.binary(max_size=200), min_size=1, max_size=3))
def test_any_bytes(bodies: list[bytes]) -> None:
    """Any bytes are an answer or an invalid request, and the conversation goes on."""
    asyncio.run(Target().take(bodies))


@pytest.mark.long
@LONG
@given(st.lists(answers.map(posted) | damaged() | st.binary(max_size=2000), min_size=1, max_size=5))
def test_many_bodies(bodies: list[bytes]) -> None:
    """The two rules above, for many more bodies, several after one another."""
    asyncio.run(Target().take(bodies))
