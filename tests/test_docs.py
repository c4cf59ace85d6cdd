"""What README.md and docs/ say. Sybil runs their fences (conftest.py); here it is checked that they are current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import FENCES
from tools import lifecycle_diagram

from chatkit_clienttools import errors
from chatkit_clienttools._protocol.states import TRANSITIONS, Change, State

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCS = sorted(ROOT.glob("docs/**/*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
RUN = [ROOT / "README.md", *DOCS]
CODE = ROOT / "src" / "chatkit_clienttools"
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_lifecycle_in_the_docs_is_the_one_in_the_code() -> None:
    """The generated part of docs/concepts.md is current: `make docs` writes it."""
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
    visible = re.findall(r"^ *```(\w*)$", text, re.MULTILINE)
    hidden = text.count("<!--- invisible-code-block: python")

    assert visible.count("python") + hidden == len(list(FENCES.parse(page).examples()))
    assert set(visible) <= {"", "python", "js", "ts", "mermaid"}
    assert "skip:" not in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link points to a file or folder of this project, and what is behind its # to a heading there."""
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", prose_of(page)) if "://" not in link]

    found = [(page.parent / path if path else page, heading) for path, _, heading in links]

    assert [] == [path for path, _ in found if not path.exists()]
    assert [] == [(path, heading) for path, heading in found if heading and heading not in headings_of(path)]


def prose_of(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$|<!---.*?-->", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings_of(page: Path) -> set[str]:
    """Return what links call the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_log_line_is_in_the_code() -> None:
    """What docs/troubleshooting.md quotes of the log stands in the code; `...` and arrows are what it fills in."""
    code = re.sub(r'" f?"', "", " ".join(" ".join(path.read_text("utf-8").split()) for path in CODE.glob("**/*.py")))
    lines = log_lines()

    assert len(lines) > 20
    assert [] == [line for line in lines if not all(part.strip() in code for part in re.split(r"\.\.\.|->", line))]


def log_lines() -> list[str]:
    """Return what docs/troubleshooting.md quotes of the log."""
    table = TROUBLESHOOTING.partition("<!-- log lines: begin -->")[2].partition("<!--")[0]
    return [line for row in table.splitlines() if row.startswith("| ") for line in quoted(row.split("|")[1])]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_warning_and_error_is_in_the_docs() -> None:
    """Each text that the library logs at WARNING or ERROR is found in docs/troubleshooting.md by some part of it."""
    lines = [re.split(r"\.\.\.|->", line) for line in log_lines()]
    logged = [text for path in CODE.glob("**/*.py") if "testing" not in path.parts for text in texts_logged_by(path)]

    logged = [text for text in logged if not text.startswith("client tool call %s")]  # `pending -> failed` in the docs

    assert len(logged) > 28
    assert [] == [text for text in logged if not any(all(part.strip() in text for part in line) for line in lines)]


def texts_logged_by(path: Path) -> Iterator[str]:
    """Yield the words that a module logs at WARNING or ERROR, without those that only pass on an error's own text."""
    module = ast.parse(path.read_text("utf-8"))
    constants = {
        target.id: words_of(node.value, {})
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr="warning" | "error" | "exception" | "warn_once" | "log"), args=args):
                texts = [words_of(each, constants) for each in args]
            case ast.Call(func=ast.Name(id="log_and_return"), args=[ast.Call() as error]):
                texts = [words_of(error, constants)]
            case _:
                continue
        yield from (text for text in texts if re.search(r"\w{3,} \w+ \w+", text.replace("thread %s", "")))


def words_of(node: ast.AST, constants: dict[str, str]) -> str:
    """Return the texts in an expression, with those of the constants that it names."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants.get(name, "")
        case _:
            return "".join(words_of(each, constants) for each in ast.iter_child_nodes(node))


def test_every_error_class_is_in_the_docs() -> None:
    """The table of docs/troubleshooting.md has a row for each error of `chatkit_clienttools.errors`, and no other."""
    table = TROUBLESHOOTING.partition("<!-- errors: begin -->")[2].partition("<!--")[0]
    named = [name for row in table.splitlines() for name in quoted(row.split("|")[1] if "|" in row else "")]
    public = [
        each for each, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    ]

    assert sorted(named) == sorted(public)


@pytest.mark.long
def test_the_played_lines_are_what_is_played() -> None:
    """Each line of the played request in docs/index.md is printed by the demo, at whatever second."""
    shown = (ROOT / "docs" / "index.md").read_text("utf-8").partition("<!-- played: begin -->")[2].partition("<!--")[0]
    command = [sys.executable, "-m", "examples", "--play", "merak_search"]

    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603

    assert without_seconds(shown) - {"```"} <= without_seconds(played)


def test_the_readme_shows_the_same() -> None:
    """README.md shows parts of the played request in docs/index.md, at the same seconds, and nothing else."""
    shown = re.search(r"^ 0\.0 s.*?^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    whole = re.sub(r" {2,}", "  ", (ROOT / "docs" / "index.md").read_text("utf-8"))

    assert shown
    parts = {part for line in shown[0].splitlines() for part in re.split(r" {2,}", line.strip())}

    assert [] == [part for part in parts if part.rstrip('"') not in whole]


def without_seconds(text: str) -> set[str]:
    return {re.sub(r"^ *[\d.]+ s", "", line).strip() for line in text.splitlines()}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_exists(page: Path) -> None:
    """What a page says about `make` is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)) <= targets
