"""Workers that are killed at random; `python -m tests.processes` does it for longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes.trial import Goal, Trial

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.databases import Place

pytestmark = pytest.mark.long

GOAL = Goal(kills=25, calls=70, seconds=240)
NO_END = Goal(kills=200, calls=1000, seconds=60)


async def test_nothing_is_lost_and_nothing_is_done_twice(
    shared: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers, killed again and again: every call is recorded once, in order, and every tool that waits returns."""
    figures = await Trial(shared.url, tmp_path, GOAL, seed=1, prefix=shared.prefix).run()

    with capsys.disabled():
        print(f"\n{figures}")  # noqa: T201  what a run has seen is part of its result
    assert [] == figures.violations
    assert figures.kills >= GOAL.kills
    assert figures.calls >= GOAL.calls
    assert figures.broken >= GOAL.kills / 2
    assert figures.cut_runs > 0
    assert figures.awaited >= GOAL.calls / 4
    assert figures.bodies > figures.tools > 0
    assert figures.steps > 0


async def test_without_receipts_it_is_seen_what_goes_wrong(sqlite_file: str, tmp_path: Path) -> None:
    """With pages that do not honour receipts, the trial sees an answer under another call, or a call executed twice."""
    figures = await Trial(sqlite_file, tmp_path, NO_END, seed=1, receipts=False).run()

    assert any(sign in figures.violations[0] for sign in ("has the answer", "executed 2 times")), figures
