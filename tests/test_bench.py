"""The bench: its arithmetic, its table, and that each row can be measured."""

from __future__ import annotations

import gc
import json
import logging
from typing import TYPE_CHECKING

import pytest
from tools.bench import counts, publish, report, shares, timing
from tools.bench.__main__ import main
from tools.bench.bench import Bench, Result, Row, measured
from tools.bench.conversations import Ours, OursWaits, Plain
from tools.bench.figures import Cost, Pair, Ratio, parts_of, ratio_of
from tools.bench.rows import ROWS
from tools.bench.timing import in_turns

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

DEPLOYMENT = publish.DOCS / "deployment.md"

HERE = [row for row in ROWS if not row.against.startswith(("pydantic-ai", "LangGraph"))]
"""The rows that need nothing but what the suite needs; `make bench` installs the rest."""


def pairs(*ratios: float) -> list[Pair]:
    """Pairs in which we take so many times as long."""
    return [Pair({"wall": 2 * ratio}, {"wall": 2.0}) for ratio in ratios]


def result(goal: float | None, *ratios: float) -> Result:
    return Result("a row", "another", goal, "wall", len(ratios), {"wall": ratio_of(pairs(*ratios), "wall")})


class TestFigures:
    def test_the_ratio_is_the_middle_one_of_five_parts(self) -> None:
        """The pairs are cut into five parts; the ratio is the median of theirs, and the spread goes from end to end."""
        found = ratio_of(pairs(1, 1, 2, 2, 3, 3, 4, 4, 9, 9), "wall")

        assert Ratio(3.0, 1.0, 9.0, ours=6.0, theirs=2.0) == found

    def test_a_part_is_a_ratio_of_medians(self) -> None:
        """Within a part a single slow repetition changes nothing."""
        quiet = [1.0, 1.0, 50.0]

        assert ratio_of(pairs(*quiet * 5), "wall") == Ratio(1.0, 1.0, 1.0, ours=2.0, theirs=2.0)

    @pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 11, 100])
    def test_parts_hold_every_pair_once(self, number: int) -> None:
        """No pair is left out, none counts twice, and no part is empty."""
        taken = pairs(*range(1, number + 1))

        parts = parts_of(taken)

        assert taken == [pair for part in parts for pair in part]
        assert min(5, number) == len(parts)
        assert all(parts)

    def test_nothing_measured_is_no_ratio(self) -> None:
        """A row without pairs is an error, and not a goal that was reached."""
        with pytest.raises(ValueError, match="nothing was measured"):
            ratio_of([], "wall")

    @pytest.mark.parametrize(
        ("ratios", "is_missed"),
        [((1.1, 1.2, 1.3, 1.4, 1.5), True), ((1.0, 1.2, 1.3, 1.4, 1.5), False), ((0.5, 0.5, 0.5, 0.5, 2.0), False)],
    )
    def test_a_goal_is_missed_by_more_than_the_spread(self, ratios: tuple[float, ...], *, is_missed: bool) -> None:
        """A goal is missed only if every part of the measurements misses it."""
        assert is_missed == result(1.0, *ratios).is_missed

    def test_what_has_no_goal_cannot_miss_it(self) -> None:
        """A row without a goal is shown as such, in the table alone, and is not counted among the goals."""
        taken = report.Taken([result(None, 9), result(1.0, 2)], [])

        assert [False, True] == [each.is_missed for each in taken.results]
        assert "| a row | another | none | 9.00 |" in publish.table(taken)
        assert "1 of these 1 goals are missed" in publish.table(taken)
        assert "9.00" not in publish.picture(taken.results)
        assert taken == report.read(report.as_json(taken))


class TestTurns:
    async def test_the_collector_is_set_as_the_deployment_guide_says(self) -> None:
        """The row of a worker is measured with the thresholds that docs/deployment.md names, and no other row is."""
        before = gc.get_threshold()

        with timing.collecting_seldom():
            inside = gc.get_threshold()

        assert f"`gc.set_threshold({', '.join(f'{each:_}' for each in inside)})`" in DEPLOYMENT.read_text("utf-8")
        assert before == gc.get_threshold()

    async def test_both_sides_take_turns(self) -> None:
        """The side that is first changes with each pair, so that what comes before is the same for both."""
        done: list[str] = []

        async def ours() -> Cost:
            done.append("ours")
            return {"wall": 1.0}

        async def theirs() -> Cost:
            done.append("theirs")
            return {"wall": 2.0}

        taken = await in_turns(ours, theirs, 3, warm_up=0)

        assert ["ours", "theirs", "theirs", "ours", "ours", "theirs"] == done
        assert [Pair({"wall": 1.0}, {"wall": 2.0})] * 3 == taken


class TestReport:
    def test_it_can_be_read_again(self) -> None:
        """What was written as JSON is read as it was."""
        counted = counts.Counts("a conversation", 4, 2, 10, 5, 100, 30, 20)
        taken = report.Taken([result(1.0, 1, 2, 3, 4, 5)], [counted])

        assert taken == report.read(report.as_json(taken))

    def test_it_names_what_it_depends_on(self) -> None:
        """The JSON says with which versions it was measured, and on what."""
        document = json.loads(report.as_json(report.Taken([], [])))

        assert set(report.VERSIONS) == set(document["versions"])
        assert document["machine"].startswith("Python 3.")

    def test_it_says_which_goals_are_missed(self) -> None:
        """The last line names every goal that is missed, or says that there is none."""
        assert "Every goal is reached." == report.verdict([])
        assert "a row against another" in report.verdict([result(1.0, 2)])


class TestCounts:
    """What a conversation with three calls costs on a store that keeps plans."""

    @pytest.mark.parametrize(
        ("server", "expected"),
        [
            (Ours, {"requests": 4, "model_runs": 2, "reads": 17, "writes": 18}),
            (OursWaits, {"requests": 4, "model_runs": 2, "reads": 17, "writes": 26}),
            (Plain, {"requests": 4, "model_runs": 4, "reads": 17, "writes": 9}),
        ],
        ids=["enqueued", "waiting", "plain"],
    )
    async def test_operations(self, server: type[Ours], expected: dict[str, int]) -> None:
        """Requests, runs of the model and store operations are exactly these: a change of one is a change of cost."""
        counted = await counts.operations(server)
        del counted["bytes_written"]

        assert expected == counted

    @pytest.mark.parametrize(("server", "at_most"), [(Ours, 2300), (OursWaits, 4700), (Plain, 600)])
    async def test_bytes(self, server: type[Ours], at_most: int) -> None:
        """On average a request writes no more than a known number of bytes of JSON, threads and plans included."""
        counted = await counts.operations(server)

        assert 0 < counted["bytes_written"] <= at_most

    @pytest.mark.parametrize(
        ("server", "expected"),
        [(Ours, (81, 46)), (OursWaits, (106, 56)), (Plain, (54, 37))],
        ids=["enqueued", "waiting", "plain"],
    )
    async def test_statements(
        self, server: type[Ours], expected: tuple[int, int], sqlite_file: str, postgres_url: str
    ) -> None:
        """`SQLStore` sends exactly so many statements, with those that begin and end transactions."""
        found = [await counts.statements(server, url) for url in (sqlite_file, postgres_url)]

        assert list(expected) == found


class TestPublishing:
    def test_the_page_and_the_picture_are_those_of_the_json(self) -> None:
        """docs/speed.md and its picture hold what docs/speed.json says; nobody types a figure."""
        taken = report.read((publish.DOCS / "speed.json").read_text("utf-8"))
        page = (publish.DOCS / "speed.md").read_text("utf-8")

        assert publish.page_with(page, taken) == page
        assert publish.picture(taken.results) == (publish.DOCS / "pictures" / "speed.svg").read_text("utf-8")

    @pytest.mark.parametrize(
        ("files", "owner"),
        [
            (["/lib/json/decoder.py", "/x/chatkit_clienttools/stores/memory.py", "/x/chatkit/server.py"], "the store"),
            (["/lib/pydantic/main.py", "/x/chatkit_clienttools/_step/step.py"], "us"),
            (["/x/chatkit/server.py", "/x/chatkit_clienttools/server.py"], "ChatKit"),
            (["/x/agents/run.py"], "the Agents SDK"),
            (["/lib/asyncio/events.py"], "the event loop"),
        ],
    )
    def test_time_belongs_to_the_innermost_of_them(self, files: list[str], owner: str) -> None:
        """What Python and pydantic do counts for the one who has called them."""
        assert owner == shares.owner_of(files)


class TestTheWholeBench:
    @pytest.mark.parametrize(("goal", "expected"), [(1.4, 0), (1.0, 0), (0.9, 1)])
    def test_it_fails_if_a_goal_is_missed(self, goal: float, expected: int, tmp_path: Path) -> None:
        """The exit code is 1 if every part of a row's measurements misses the goal, and 0 if one part reaches it."""

        async def measure(_bench: Bench) -> list[Pair]:
            return pairs(1.0, 1.1, 1.2, 1.3, 1.4)

        row = Row("a row", "another", goal, measure, by="wall")

        try:
            code = main(["--only", "a row", "--json", str(tmp_path / "bench.json")], [row])
        finally:
            logging.disable(logging.NOTSET)

        assert expected == code
        assert [bool(expected)] == [
            each.is_missed for each in report.read((tmp_path / "bench.json").read_text()).results
        ]


class TestRows:
    @pytest.mark.parametrize("items", ["10", "10,000"])
    def test_an_answer_has_its_goal_in_every_plan(self, items: str) -> None:
        """Plans of 3, 20 and 60 calls, threads of 10 and of 10,000 items: each may take 0.20 of plain ChatKit."""
        goals = {row.name: row.goal for row in ROWS if row.against.startswith("plain ChatKit's answer")}

        for calls in (3, 20, 60):
            assert 0.2 == goals[f"an answer that releases the next call: plan of {calls}, thread of {items} items"]

    def test_an_answer_may_not_grow(self) -> None:
        """A plan of 60 calls and a thread of 10,000 items cost at most 1.2 times what 3 calls and 10 items cost."""
        [goal] = [row.goal for row in ROWS if row.against == "the same: plan of 3, thread of 10 items"]

        assert 1.2 == goal

    def test_a_row_is_named_once(self) -> None:
        """What is measured against what tells the rows apart, whatever "the same" stands for."""
        rows = [(row.name, row.against, row.measure) for row in ROWS]

        assert len(set(rows)) == len(rows)

    @pytest.mark.long
    @pytest.mark.parametrize("row", HERE, ids=lambda row: f"{row.name}, {row.against}"[:90])
    async def test_a_row_can_be_measured(self, row: Row) -> None:
        """Each row measures both sides, in the unit that its goal is about."""
        with Bench(share=0.01) as bench:
            found = await measured(row, bench)

        assert found.pairs >= 1
        assert found.ratio.ours >= 0
        assert found.ratio.theirs > 0
