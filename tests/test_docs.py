"""What README.md and docs/ say. Sybil runs their fences (conftest.py); here it is checked that they are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import FENCES
from tools import lifecycle_diagram

from chatkit_clienttools._protocol.states import TRANSITIONS, Change, State

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RUN = [page for page in PAGES if page.parent.name == "docs" or page.name == "README.md"]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_lifecycle_in_the_docs_is_the_one_in_the_code() -> None:
    """The generated part of docs/contract.md is current: `make docs` writes it."""
    page = lifecycle_diagram.PAGE.read_text("utf-8")

    assert lifecycle_diagram.current(page) == page


def test_the_diagram_has_every_change() -> None:
    """The diagram shows each state and each change of the table, and no other."""
    arrows = re.findall(r"^    (\w+) --> (\w+): ([\w ]+)$", lifecycle_diagram.lifecycle(), re.MULTILINE)

    assert [
        (state.value, after.value, change.value) for state, row in TRANSITIONS.items() for change, after in row.items()
    ] == arrows


def test_the_diagram_shows_a_second_attempt() -> None:
    """A call that is withdrawn waits again, and one that is sent again stays pending: both are in the docs."""
    page = lifecycle_diagram.PAGE.read_text("utf-8")

    assert "pending --> queued: withdraw\n" in page
    assert "pending --> pending: send again\n" in page


def test_the_table_has_a_cell_for_every_state_and_change() -> None:
    """The table has one row for each state and one column for each change."""
    rows = [line for line in lifecycle_diagram.lifecycle().splitlines() if line.startswith("| `")]

    assert [f"`{state.value}`" for state in State] == [row.split("|")[1].strip() for row in rows]
    assert {len(Change) + 1} == {row.count("|") - 1 for row in rows}


@pytest.mark.parametrize("page", RUN, ids=name)
def test_every_python_fence_runs(page: Path) -> None:
    """Each Python fence of README.md and docs/ is one example that Sybil runs; none is skipped, none is called `py`."""
    text = page.read_text("utf-8")
    visible = re.findall(r"^```(\w*)$", text, re.MULTILINE)
    hidden = text.count("<!--- invisible-code-block: python")

    assert visible.count("python") + hidden == len(list(FENCES.parse(page).examples()))
    assert set(visible) <= {"", "python", "js", "ts", "mermaid"}
    assert "skip:" not in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link points to a file or folder of this project."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if "://" not in link]

    assert [] == [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_exists(page: Path) -> None:
    """What a page says about `make` is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)) <= targets
