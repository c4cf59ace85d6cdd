"""What holds for every test: its module stands alone, and so does the rule that it states."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LEANS_ON_ANOTHER = re.compile(
    r"(?:Nor|So|The same|And|But|Also|As"
    r"|Its?|They|Them|Their|He|She|His|Her|This|That|These|Those|There|Here|Then|Such|Both|Neither)\b"
)


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """The modules of tests, those of the examples among them, by their paths."""
    found = sorted(path for room in ("tests", "examples") for path in (ROOT / room).rglob("test_*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in found}


def test_no_module_imports_from_another(modules: dict[str, ast.Module]) -> None:
    """What several modules of tests need is in a module without tests."""
    imported = {
        (name, found)
        for name, module in modules.items()
        for node in ast.walk(module)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for found in [getattr(node, "module", None) or "", *(each.name for each in node.names)]
        if found.rpartition(".")[2].startswith("test_")
    }

    assert len(modules) > 1
    assert set() == imported


def test_each_rule_makes_sense_alone(modules: dict[str, ast.Module]) -> None:
    """A test has a docstring, and that does not begin with a word that needs the test's name or another test."""
    without = [
        f"{name}::{node.name}: {rule}"
        for name, module in modules.items()
        for node in cases_of(module)
        for rule in [ast.get_docstring(node)]
        if rule is None or LEANS_ON_ANOTHER.match(rule)
    ]

    assert [] == without


@pytest.fixture
def tracer() -> Any:
    return sys.gettrace()


@pytest.mark.no_cover
def test_what_is_not_measured_is_not_traced(tracer: Any) -> None:
    """No tracer makes a test slow that is marked as not measured, nor a fixture."""
    assert (None, None) == (tracer, sys.gettrace())


def cases_of(module: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the tests of a module, and not functions in tests that are called like one."""
    classes = [each for each in module.body if isinstance(each, ast.ClassDef)]
    bodies = [module.body, *(each.body for each in classes)]
    functions = [each for body in bodies for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [each for each in functions if each.name.startswith("test")]
