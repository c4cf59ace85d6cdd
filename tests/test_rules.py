"""What a sequencer decides from its options alone: limits, warnings, locks, and the tools that may wait."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools._protocol.plan import Calls, Plan
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.media import ClientImage
from tests.protocol.values import gets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit_clienttools._step.rules import Rules

PICTURES, NUMBERS = ClientTool("picture", result=ClientImage), ClientTool("number", result=int)
REFUSED = {"error": "the browser's answer was refused: it is larger than 2,000 bytes"}
LIMITS = {"max_answer_bytes": 2000, "max_media_bytes": 5000}


def rules_of(*tools: ClientTool[..., Any], **options: Any) -> Rules:
    return ClientToolSequencer(tools, **options).rules


class TestTheSizeOfAnAnswer:
    @pytest.mark.parametrize(("tools", "most"), [((NUMBERS,), 2000), ((NUMBERS, PICTURES), 7000)])
    def test_of_what_is_posted(self, tools: tuple[ClientTool[..., Any], ...], most: int) -> None:
        """A request may be larger by the limit of images if any tool takes some: its tool is not known yet."""
        assert most == rules_of(*tools, **LIMITS).max_posted

    @pytest.mark.parametrize(
        ("name", "size", "is_taken"),
        [("number", 2000, True), ("number", 2001, False), ("picture", 2001, True)],
    )
    def test_of_what_is_stored(self, name: str, size: int, *, is_taken: bool) -> None:
        """Once its tool is known, an answer to a tool without images may be no larger than other answers."""
        text = "x" * (size - len('""'))

        assert (text if is_taken else REFUSED) == rules_of(NUMBERS, PICTURES, **LIMITS).taken(name, text)

    def test_of_an_answer_that_is_no_json(self) -> None:
        """What `answers=` makes of an answer is measured too if it is not JSON: by its text."""
        rules = rules_of(NUMBERS, PICTURES, **LIMITS)
        small, large = SimpleNamespace(), SimpleNamespace(text="x" * 3000)

        assert (small, REFUSED) == (rules.taken("number", small), rules.taken("number", large))

    def test_without_images(self) -> None:
        """If no tool takes images, what was posted was measured already."""
        text = "x" * 3000

        assert text == rules_of(NUMBERS, **LIMITS).taken("number", text)


class TestWarnings:
    def test_of_a_tool_that_was_not_declared(self, caplog: pytest.LogCaptureFixture) -> None:
        """A name that is not among the declared tools is warned of once."""
        rules = rules_of(NUMBERS)
        for name in ("number", "nmber", "nmber"):
            rules.warn_about_unknown(name)

        said = (
            "client tool 'nmber' is not in the list that this ClientToolSequencer was given: its answer is not checked "
            "and goes to the model, also with `result=None`. Add it there"
        )
        assert [said] == caplog.messages

    def test_of_a_hundred_names(self, caplog: pytest.LogCaptureFixture) -> None:
        """After a hundred such names nothing is said of others: whoever makes them up cannot fill the log."""
        rules = rules_of(NUMBERS)
        for n in range(102):
            rules.warn_about_unknown(f"made_up_{n}")

        assert 100 == len(caplog.messages)

    def test_of_another_process(self, caplog: pytest.LogCaptureFixture) -> None:
        """A plan that another process has written is warned of once, with what to do about it."""
        theirs = Plan(calls=Calls([gets("a")]), writer="theirs")
        rules = rules_of(NUMBERS)
        for thread_id in ("thr\n1", "thr_2"):
            rules.warn_about_others(thread_id, theirs)

        said = (
            "thread thr\\n1: its plan was written by another process. After a restart that is fine. With several "
            "workers two of them can release the same call: use a store with plans of its own (SupportsPlans), or give "
            "the ClientToolSequencer a lock= that all workers share."
        )
        assert [said] == caplog.messages

    def test_of_this_process(self, caplog: pytest.LogCaptureFixture) -> None:
        """A plan of its own, or one without calls, is nothing to warn of."""
        rules = rules_of(NUMBERS)
        rules.warn_about_others("thr_1", Plan(calls=Calls([gets("a")]), writer=rules.worker))
        rules.warn_about_others("thr_1", Plan(writer="theirs"))

        assert [] == caplog.messages


class TestLocks:
    async def test_each_thread_has_its_own(self) -> None:
        """Steps on one thread wait for each other, and those on another thread do not."""
        rules = rules_of()
        async with rules.alone_on("one"):
            await asyncio.wait_for(self.hold(rules, "two"), timeout=5)
            waits = asyncio.ensure_future(self.hold(rules, "one"))
            await asyncio.sleep(0)
            has_waited = not waits.done()
        await waits

        assert has_waited

    async def hold(self, rules: Rules, thread_id: str) -> None:
        async with rules.alone_on(thread_id):
            pass

    async def test_the_applications_lock(self) -> None:
        """The lock of the application is asked for by the id of the thread."""
        held: list[str] = []

        @asynccontextmanager
        async def lock(thread_id: str) -> AsyncIterator[None]:
            held.append(thread_id)
            yield

        await self.hold(rules_of(lock=lock), "one")

        assert ["one"] == held

    async def test_names_in_plans(self) -> None:
        """What a worker is known by holds its process and a random name, and for a lease the event loop too."""
        one, two = rules_of(), rules_of()

        assert re.fullmatch(r"\d+-[0-9a-f]{8}-1", one.holder)
        assert one.worker != two.worker

    def test_sequencers_are_different_ones(self) -> None:
        """Two sequencers with the same options are not taken for one: each has its own locks and queue."""
        tools = (NUMBERS,)

        assert rules_of(*tools) != rules_of(*tools)


class TestTime:
    def test_of_a_clock(self) -> None:
        """With a clock of the application's, as in tests, time is measured by it too."""
        assert 7.0 == rules_of(clock=lambda: 7.0).monotonic()

    def test_that_is_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without one, how long something takes does not depend on the time of day, which may be set."""
        monkeypatch.setattr("time.monotonic", lambda: 5.0)

        assert 5.0 == rules_of().monotonic()


class TestToolsThatMayWait:
    def test_receipts(self) -> None:
        """A tool that may wait turns receipts on, for its calls and for the check of their arguments."""
        sequencer = ClientToolSequencer()

        @sequencer.function_tool
        async def waits() -> None: ...

        assert (True, True) == (sequencer.rules.receipts, sequencer.rules.policy.receipts)

    def test_a_module_that_is_loaded_again(self) -> None:
        """A tool of the same module and name takes the place of the one before: its module was loaded again."""
        sequencer = ClientToolSequencer()

        async def waits() -> None: ...

        waits.__qualname__ = "waits"
        sequencer.function_tool(waits)
        again = sequencer.function_tool(waits)

        gated = sequencer.rules.gated["waits"]
        assert gated is not None
        assert again is gated.tool

    def test_two_of_one_name(self) -> None:
        """Two tools of one name that were made in different places are told apart by the agent only."""
        sequencer = ClientToolSequencer()

        async def waits() -> None: ...

        async def other() -> None: ...

        waits.__qualname__, other.__qualname__, other.__name__ = "waits", "other", "waits"
        sequencer.function_tool(waits)
        sequencer.function_tool(other)

        assert {"waits": None} == sequencer.rules.gated

    def test_a_third_of_one_name(self) -> None:
        """Once two tools have one name, a third does not settle which of them an answer wakes."""
        sequencer = ClientToolSequencer()
        for _ in range(3):

            @sequencer.function_tool
            async def waits() -> None: ...

        assert {"waits": None} == sequencer.rules.gated


def test_an_argument_where_the_receipt_goes() -> None:
    """A call with an argument named `_receipt` is refused as soon as a tool may wait: its receipt goes there."""
    sequencer = ClientToolSequencer()

    @sequencer.function_tool
    async def waits() -> None: ...

    with pytest.raises(UsageError, match="_receipt"):
        sequencer._check("enqueue()", ClientTool("anything")(_receipt="mine"))
