"""The door and the rooms behind it: what people import, and what may import what."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chatkit_clienttools
from chatkit_clienttools import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(chatkit_clienttools.__file__).parent
NAME = "chatkit_clienttools"

ORDER = (
    "errors",
    "_lifecycle",
    "_plan",
    "_plans",
    "observe",
    "tools",
    "receipts",
    "_requests",
    "_journal",
    "_calls",
    "_runs",
    "_rules",
    "_intake",
    "_decide",
    "_turn",
    "sequencer",
    "converter",
    "server",
    "store",
    "__init__",
    "stores",
    "testing",
    "frontend",
    "_typescript",
    "_commands",
    "__main__",
)
"""The rooms: each may import those before it, and none after it. A folder is one room."""

DEPENDENCIES = {"agents", "chatkit", "pydantic", "pydantic_core", "typing_extensions"}

MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]
CORE = ORDER[: ORDER.index("__init__")]
CORE_MODULES = [path for path in MODULES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in CORE]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, for_types: bool) -> Iterator[str]:
    """The full names of the modules that a file imports, anywhere in it; with `for_types` under TYPE_CHECKING too."""
    package = [NAME, *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text())
    only_for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inside in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in only_for_types and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import name` imports the module `name`; `from .module import name` imports `module`
            yield from ([f"{source}.{alias.name}" for alias in node.names] if source == NAME else [source])


def rooms(path: Path) -> set[str]:
    """The rooms that a file imports when it is run."""
    known = {room(module) for module in MODULES}
    found = [f"{name}.".split(".") for name in imports(path, for_types=False)]
    return {parts[1] if parts[1] in known else "__init__" for parts in found if parts[0] == NAME} - {room(path)}


class TestDoor:
    def test_the_names_are_pinned(self) -> None:
        """What people import is a contract: a name that comes or goes is seen here."""
        assert [
            "ClientEffect",
            "ClientTool",
            "ClientToolConverter",
            "ClientToolError",
            "ClientToolSequencer",
            "ClientToolServer",
            "LifecycleEvent",
            "SequencedAgentContext",
            "StoreWrapper",
            "SupportsPlans",
            "ValidatingStore",
            "showing",
        ] == chatkit_clienttools.__all__

    def test_the_names_of_the_testing_kit_are_pinned(self) -> None:
        """Its errors among them: a test that expects one imports it from there."""
        assert [
            "BrokenLifecycleError",
            "BrokenStreamError",
            "FactoryError",
            "FakeBrowser",
            "FaultError",
            "HandlerError",
            "MissingHandlerError",
            "Report",
            "Result",
            "Status",
            "StoreContract",
            "check_store",
        ] == testing.__all__

    def test_they_are_few_and_sorted(self) -> None:
        """A dozen names at most, in order."""
        assert sorted(set(chatkit_clienttools.__all__)) == chatkit_clienttools.__all__
        assert len(chatkit_clienttools.__all__) <= 12

    def test_there_is_nothing_else_at_the_door(self) -> None:
        """Each of the names is there, and whatever else is there is a module or private."""
        modules = {path.stem for path in PACKAGE.iterdir()}
        public = [name for name in vars(chatkit_clienttools) if not name.startswith("_") and name not in modules]

        assert chatkit_clienttools.__all__ == sorted(public)

    def test_it_says_its_version(self) -> None:
        """The version is where `hatch` reads it, as three numbers."""
        assert re.fullmatch(r"\d+\.\d+\.\d+", chatkit_clienttools.__version__)

    def test_every_name_has_a_docstring(self) -> None:
        """`help()` says something about each of them."""
        assert [] == [name for name in chatkit_clienttools.__all__ if not getattr(chatkit_clienttools, name).__doc__]


class TestRooms:
    def test_there_are_some(self) -> None:
        """The tests below look at the package that is tested, door included."""
        assert {"__init__.py", "_plan.py", "store.py"} <= set(IDS)

    @pytest.mark.parametrize("path", MODULES, ids=IDS)
    def test_imports_point_upwards_only(self, path: Path) -> None:
        """A room imports rooms that come before it in `ORDER`; types that only a type checker reads do not count."""
        above = ORDER[: ORDER.index(room(path))]

        assert set() == rooms(path) - set(above)

    def test_imports_are_seen(self) -> None:
        """The reading of imports is not blind: these are known."""
        assert {"errors", "_lifecycle"} == rooms(PACKAGE / "_plan.py")
        assert {"errors", "tools", "sequencer", "store"} <= rooms(PACKAGE / "__init__.py")
        assert "collections.abc" in set(imports(PACKAGE / "_plan.py", for_types=True))
        assert "collections.abc" not in set(imports(PACKAGE / "_plan.py", for_types=False))

    @pytest.mark.parametrize("name", ["_lifecycle", "_plan"])
    def test_the_lifecycle_and_the_plan_are_pure(self, name: str) -> None:
        """They know neither ChatKit nor the Agents SDK nor asyncio nor a clock, not even by type."""
        known = {found.split(".")[0] for found in imports(PACKAGE / f"{name}.py", for_types=True)}

        assert set() == known & {"chatkit", "agents", "asyncio", "time", "datetime"}

    @pytest.mark.parametrize("path", CORE_MODULES, ids=[path.stem for path in CORE_MODULES])
    def test_the_core_needs_what_is_installed_with_it(self, path: Path) -> None:
        """The core runs with its dependencies alone: what an extra brings is imported elsewhere, or by type only."""
        others = {found.split(".")[0] for found in imports(path, for_types=False)} - {NAME, *sys.stdlib_module_names}

        assert set() == others - DEPENDENCIES

    @pytest.mark.parametrize("path", MODULES, ids=IDS)
    def test_each_module_says_what_it_is_for(self, path: Path) -> None:
        """A module begins with a sentence about itself."""
        doc = ast.get_docstring(ast.parse(path.read_text()))

        assert doc
        assert doc.split("\n")[0].endswith(".")
