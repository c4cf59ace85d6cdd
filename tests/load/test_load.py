"""The load test itself, with next to no load."""

from __future__ import annotations

import pytest

from tests.load.__main__ import main

pytestmark = pytest.mark.long

FEW = ["--only", "sqlite", "--at-once", "5", "--rounds", "1"]


def test_a_few_conversations(capsys: pytest.CaptureFixture[str]) -> None:
    """Five conversations at once on two workers end without an error, and the table has a row of them."""
    status = main(FEW)

    header, row = capsys.readouterr().out.splitlines()
    assert 0 == status
    assert ["database", "at", "once", "errors", "requests"] == header.split()[:5]
    assert ["sqlite", "5", "0", "20"] == row.split()[:4]


def test_nothing_measured_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A load test that has no time for a single conversation fails, and says why."""
    status = main([*FEW, "--seconds", "0"])

    assert 1 == status
    assert "no conversation was held" == capsys.readouterr().out.splitlines()[-1]
