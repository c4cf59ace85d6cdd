"""What lets a step come to its end, and how long another worker's lease is waited for: the parts, one by one."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from chatkit_clienttools._step import exclusion
from chatkit_clienttools._step.exclusion import LEASE_SECONDS, Patience, in_background, left_behind, pause, to_the_end

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Clock:
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(exclusion, "pause", clock.pause)
    return clock


class TestPatience:
    async def test_pauses(self, clock: Clock) -> None:
        """The first looks at a lease are close together, and later ones half a second apart."""
        patience = Patience(lambda: clock.now)
        for _ in range(7):
            await patience.is_over("theirs")

        assert [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5] == clock.pauses

    async def test_unchanged_for_ten_seconds(self, clock: Clock) -> None:
        """A lease is over when it has been seen unchanged for ten seconds, and not a moment before."""
        patience = Patience(lambda: clock.now)
        await patience.is_over("theirs")
        begun = clock.now - 0.02
        clock.now = begun + 10 - 0.001
        is_over_before = await patience.is_over("theirs")
        clock.now = begun + 10

        assert (False, True) == (is_over_before, await patience.is_over("theirs"))

    async def test_another_lease(self, clock: Clock) -> None:
        """A lease that has changed is waited for from the beginning, and looked at often again."""
        patience = Patience(lambda: clock.now)
        await patience.is_over("theirs")
        await patience.is_over("theirs")
        clock.now += LEASE_SECONDS
        await patience.is_over("another")

        assert [0.02, 0.04, 0.02] == clock.pauses

    async def test_others_run_meanwhile(self) -> None:
        """While a worker waits for another one's lease, its other requests go on."""
        went_on = asyncio.Event()
        asyncio.get_running_loop().call_soon(went_on.set)
        await pause(0)

        assert went_on.is_set()


class Step:
    """Something that is at work until it is told to end."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.has_ended = False

    async def run(self, error: BaseException | None = None) -> str:
        self.has_begun.set()
        await self.may_end.wait()
        self.has_ended = True
        if error:
            raise error
        return "done"

    async def cut_off(self, error: BaseException | None = None) -> None:
        """Let a request begin it, and cancel the request."""
        request = asyncio.ensure_future(to_the_end(self.run(error)))
        await self.has_begun.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    async def end(self) -> None:
        tasks = left_behind()
        self.may_end.set()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)  # what notes the end of a task is called after it


class TestAStepThatIsCutOff:
    async def test_it_comes_to_its_end(self) -> None:
        """A step whose request is cancelled goes on to its end, and is known as long as it does."""
        step = Step()
        await step.cut_off()
        known = len(left_behind())
        await step.end()

        assert (1, True, []) == (known, step.has_ended, left_behind())

    async def test_one_that_has_ended_at_that_moment(self) -> None:
        """A request that is cancelled when its step has just ended leaves nothing behind."""
        step = Step()
        request = asyncio.ensure_future(to_the_end(step.run()))
        await step.has_begun.wait()
        step.may_end.set()
        while not step.has_ended:  # noqa: ASYNC110  the moment right after it counts
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

        assert [] == left_behind()

    async def test_another_event_loop(self) -> None:
        """What is at work in another event loop of this process is not this one's to wait for."""
        step = Step()
        await step.cut_off()
        seen: list[int] = []

        async def look() -> None:
            seen.append(len(left_behind()))

        other = threading.Thread(target=asyncio.run, args=(look(),))
        other.start()
        await asyncio.to_thread(other.join)
        await step.end()

        assert [0] == seen

    @pytest.mark.parametrize(
        ("error", "lines"), [(ValueError("a secret"), ["a step has failed: ValueError"]), (None, [])]
    )
    async def test_how_it_ended(
        self, caplog: pytest.LogCaptureFixture, error: Exception | None, lines: list[str]
    ) -> None:
        """If it fails, nobody is left to hear that: the log names the kind of the error, without its text."""
        caplog.set_level(logging.DEBUG, "chatkit_clienttools")
        step = Step()
        await step.cut_off(error)
        await step.end()

        assert lines == caplog.messages

    async def test_one_that_is_cancelled_itself(self, caplog: pytest.LogCaptureFixture) -> None:
        """A step that is cancelled, as at the end of the process, is forgotten without a word."""
        caplog.set_level(logging.DEBUG, "chatkit_clienttools")
        step = Step()
        await step.cut_off()
        (task,) = left_behind()
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)

        assert ([], []) == (left_behind(), caplog.messages)


class TestWhatHoldsAStep:
    """The event loop itself holds only a weak reference to a task."""

    async def test_while_it_is_at_work(self) -> None:
        """A step is not collected as garbage, though its request is gone without having been cancelled."""
        ended: list[str] = []

        async def stuck() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append("collected")

        request = to_the_end(stuck())
        request.send(None)
        await asyncio.sleep(0)
        request.close()
        gc.collect()
        before = list(ended)
        [task] = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        task.cancel()
        await asyncio.wait([task])

        assert ([], ["collected"]) == (before, ended)

    async def test_when_it_has_ended(self) -> None:
        """A step that has ended leaves nothing of it in memory."""

        class Result: ...

        async def step() -> Result:
            return Result()

        gone = weakref.ref(await to_the_end(step()))
        await asyncio.sleep(0)
        gc.collect()

        assert gone() is None


async def test_what_runs_in_the_background_is_known_until_it_has_ended() -> None:
    """What a request leaves to be done without it counts as left behind until it has ended."""
    step = Step()
    work: Coroutine[None, None, str] = step.run()
    in_background(work)
    known = len(left_behind())
    await step.end()

    assert (1, []) == (known, left_behind())
