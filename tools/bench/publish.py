"""`python -m tools.bench.publish build/bench.json`: write results of the bench into docs/speed.md, with a picture."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from . import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Result
    from .report import Taken

DOCS = Path(__file__).parent.parent.parent / "docs"
BEGIN, END = "<!-- written by tools/bench/publish.py: begin -->\n", "<!-- written by tools/bench/publish.py: end -->\n"

HEIGHT, LEFT, WIDTH, RIGHT = 22, 800, 300, 140
LEGEND = (
    "Dashed line: the goal. Green: the goal lies within the spread of the figure, or is reached. Red: it is missed."
)
"""Of the picture: a row, the place for names, the place for bars (three times the goal), the place for figures."""


def page_with(page: str, taken: Taken) -> str:
    """Return the page with its table as it has to be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(taken)}\n{END}{after}"


def table(taken: Taken) -> str:
    """Return everything that was measured and counted, as Markdown."""
    lines = ["| measured | against | goal | ratio | spread | by | ours | theirs |", "|---|---|---|---|---|---|---|---|"]
    for each in taken.results:
        ratio, amounts = each.ratio, [report.shown(amount, each.by) for amount in (each.ratio.ours, each.ratio.theirs)]
        figure = f"**{ratio.value:.2f}**" if each.is_missed else f"{ratio.value:.2f}"
        cells = (each.name, each.against, report.goal(each), figure, report.spread(ratio), report.CLOCKS[each.by])
        lines.append(f"| {' | '.join((*cells, *amounts))} |")
    missed, goals = sum(each.is_missed for each in taken.results), len(_with_goals(taken.results))
    lines += [
        "",
        f"{missed} of these {goals} goals are missed: those in bold.",
        "",
        "| conversation | requests | model runs | reads | writes | bytes written per request | SQLite | PostgreSQL |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for count in taken.counts:
        lines.append(f"| {' | '.join(map(str, vars(count).values()))} |")
    if taken.shares:
        lines += ["", "| whose code runs in a conversation with 3 calls | share |", "|---|---|"]
        lines += [f"| {name} | {100 * share:.0f} % |" for name, share in taken.shares.items()]
    return "\n".join(lines) + "\n"


def picture(results: Sequence[Result]) -> str:
    """Return bars as SVG, each as long as its ratio is in terms of its goal; the line is where the goals are."""
    goal = LEFT + WIDTH / 3
    bars = []
    rows = _with_goals(results)
    for n, (each, allowed) in enumerate(rows):
        top, part = HEIGHT * n + 8, each.ratio.value / allowed
        color = "#c0392b" if each.is_missed else "#2e8b57"
        bars.append(
            f'<text x="{LEFT - 8}" y="{top + 11}" text-anchor="end">{escape(f"{each.name} / {each.against}")}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{min(part, 3) * WIDTH / 3:.1f}" height="14" fill="{color}"/>'
            f'<text x="{LEFT + WIDTH + 8}" y="{top + 11}">{each.ratio.value:.2f} (goal {allowed:g})</text>'
        )
    height = HEIGHT * (len(rows) + 1) + 12
    legend = f'<text x="{LEFT - 8}" y="{height - 8}" text-anchor="end">{LEGEND}</text>'
    size = f'viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}"'
    line = f'<path d="M{goal} 2V{height - HEIGHT}" stroke="#888" stroke-dasharray="3"/>'
    style = "<style>text{font:11px sans-serif;fill:#808080}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(bars)}{line}{legend}</svg>\n'


def _with_goals(results: Sequence[Result]) -> list[tuple[Result, float]]:
    return [(each, each.goal) for each in results if each.goal is not None]


def main(arguments: list[str]) -> None:
    """Write the table and the picture."""
    taken = report.read(Path(*arguments).read_text("utf-8"))
    page = DOCS / "speed.md"
    page.write_text(page_with(page.read_text("utf-8"), taken), "utf-8")
    (DOCS / "pictures" / "speed.svg").write_text(picture(taken.results), "utf-8")
    (DOCS / "speed.json").write_text(report.as_json(taken), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
