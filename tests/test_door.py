"""The door and the rooms behind it: what people import, and what may import what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import pytest

import chatkit_clienttools
from chatkit_clienttools import testing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(chatkit_clienttools.__file__).parent
NAME = "chatkit_clienttools"

ORDER = (
    "errors",
    "receipts",
    "answers",
    "media",
    "observe",
    "tools",
    "_protocol",
    "_locks",
    "store",
    "content",
    "_step",
    "sequencer",
    "news",
    "converter",
    "server",
    "__init__",
    "otel",
    "stores",
    "testing",
    "frontend",
    "_typescript",
    "_commands",
    "__main__",
)
"""The rooms, from the bottom up: each may import those before it, and none after it. A folder is one room."""

INSIDE = {
    "_protocol": ("__init__", "states", "plan", "outputs", "thread", "decide", "guards"),
    "_step": (
        "__init__",
        "requests",
        "exclusion",
        "rules",
        "plans",
        "lookup",
        "suspension",
        "queued",
        "functions",
        "replay",
        "repetitions",
        "planned",
        "step",
        "body",
        "run",
        "gated",
        "streamed",
    ),
}
"""The modules of the two rooms of the core, in the same order."""

IMPURE = {"asyncio", "time", "logging", "weakref", "contextvars", "chatkit.store", "chatkit.server", "agents"}
"""What the protocol must not know, not even by type."""

IMPURE_ROOMS = {"observe", "store", "_step"}

DEPENDENCIES = {"agents", "chatkit", "openai", "pydantic", "pydantic_core", "typing_extensions"}
"""Where they come from: openai-agents brings openai."""

MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]
CORE = ORDER[: ORDER.index("__init__")]
CORE_MODULES = [path for path in MODULES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in CORE]

TESTING = {
    "testing": ("_loop", "_factory", "_model", "browser", "stores", "machine", "__init__"),
    "testing/browser": (
        "_transcript",
        "_failures",
        "_wire",
        "_page",
        "_handlers",
        "_faults",
        "_connection",
        "_browser",
        "__init__",
        "_fixture",
    ),
    "testing/stores": (
        "_samples",
        "_rules",
        "_report",
        "_bench",
        "_threads",
        "_items",
        "_changes",
        "_pages",
        "_plans",
        "_more",
        "_examine",
        "_contract",
        "__init__",
    ),
    "testing/machine": ("_oracle", "_server", "_play", "_machine", "__init__"),
}
"""The rooms of the testing kit, and their modules, in the same order."""

ORDERED = INSIDE | TESTING


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """A file, read once for all tests."""
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path, *, for_types: bool) -> list[str]:
    """The full names of the modules that a file imports, anywhere in it; with `for_types` under TYPE_CHECKING too."""
    return list(imported(path, for_types=for_types))


def imported(path: Path, *, for_types: bool) -> Iterator[str]:
    """Find them."""
    package = [NAME, *path.relative_to(PACKAGE).parts[:-1]]
    every = statements(parsed(path).body)
    only_for_types = {
        id(inside)
        for node in every
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inside in statements(node.body)
    }
    for node in every:
        if id(node) in only_for_types and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import name` imports the module `name`; `from .module import name` imports `module`
            for name in (f"{source}.{alias.name}" for alias in node.names):
                yield name if is_module(name) else source


def statements(body: Iterable[ast.AST]) -> list[ast.AST]:
    """These and all that stand in them: no import is part of an expression, where most of a tree is."""
    found = [node for node in body if not isinstance(node, ast.expr)]
    return found + [inside for node in found for inside in statements(ast.iter_child_nodes(node))]


@cache
def is_module(name: str) -> bool:
    """Whether this is the name of one of our modules or folders."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def rooms(path: Path, *, for_types: bool = False) -> set[str]:
    """The rooms that a file imports when it is run, or by type as well."""
    known = {room(module) for module in MODULES}
    found = [f"{name}.".split(".") for name in imports(path, for_types=for_types)]
    return {parts[1] if parts[1] in known else "__init__" for parts in found if parts[0] == NAME} - {room(path)}


def siblings(path: Path, folder: str, *, for_types: bool = False) -> set[str]:
    """The modules and rooms of `folder` that a file in it imports, without the one that it belongs to."""
    prefix = f"{NAME}.{folder.replace('/', '.')}"
    found = [name for name in imports(path, for_types=for_types) if f"{name}.".startswith(f"{prefix}.")]
    own = path.relative_to(PACKAGE / folder).parts[0].removesuffix(".py")
    return {name.removeprefix(prefix).split(".")[1] if name != prefix else "__init__" for name in found} - {own}


def top_two(name: str) -> str:
    """The first two parts of a module's name."""
    return ".".join(name.split(".")[:2])


def is_attribute(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute)


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
        """The names of the testing kit are pinned, and its errors are among them, so that a test can expect one."""
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
            "scripted_model",
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


class TestExtras:
    def test_what_is_there_without_them(self) -> None:
        """Without a database, pytest and Hypothesis there are FakeBrowser, MemoryStore and the checks of a store."""
        program = (
            "import sys\n"
            "sys.modules.update(dict.fromkeys(['sqlalchemy', 'pytest', 'hypothesis']))\n"
            "from chatkit_clienttools.stores import MemoryStore\n"
            "from chatkit_clienttools.testing import FakeBrowser, check_store\n"
            "try:\n"
            "    import chatkit_clienttools.stores.sql\n"
            "except ImportError as error:\n"
            "    print(error)\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", program]

        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603

        assert "SQLStore needs SQLAlchemy: pip install 'chatkit-clienttools[sql]'\n" == printed


class TestRooms:
    def test_the_package_is_read(self) -> None:
        """The tests below look at the package that is tested, its folders included."""
        assert {"__init__.py", "_protocol/plan.py", "_step/step.py", "store.py"} <= set(IDS)

    def test_every_room_has_a_place(self) -> None:
        """Each module at the top and each folder is in `ORDER`, and nothing else is."""
        assert sorted(ORDER) == sorted({room(path) for path in MODULES})

    @pytest.mark.parametrize("path", MODULES, ids=IDS)
    def test_imports_point_downwards_only(self, path: Path) -> None:
        """A room imports rooms that come before it in `ORDER`; types that only a type checker reads do not count."""
        below = ORDER[: ORDER.index(room(path))]

        assert set() == rooms(path) - set(below)

    @pytest.mark.parametrize(
        ("folder", "name"), [(folder, name) for folder, names in ORDERED.items() for name in names]
    )
    def test_imports_point_downwards_inside_a_room(self, folder: str, name: str) -> None:
        """Inside a room a module imports those that come before it; in the testing kit for types as well."""
        names = ORDERED[folder]
        files = [PACKAGE / folder / f"{name}.py", *(PACKAGE / folder / name).glob("*.py")]

        found = [siblings(path, folder, for_types=folder in TESTING) for path in files if path.exists()]

        assert found
        assert set() == set().union(*found) - set(names[: names.index(name)])

    @pytest.mark.parametrize("folder", ORDERED)
    def test_every_module_of_a_room_has_a_place(self, folder: str) -> None:
        """Each module and each room in these folders is in `ORDERED`, and nothing else is."""
        there = {path.relative_to(PACKAGE / folder).parts[0] for path in (PACKAGE / folder).rglob("*.py")}

        assert sorted(ORDERED[folder]) == sorted(name.removesuffix(".py") for name in there)

    def test_imports_are_seen(self) -> None:
        """Imports are found wherever they stand: at the top of a file, in a function, under TYPE_CHECKING."""
        assert {"errors", "receipts"} <= rooms(PACKAGE / "_protocol" / "thread.py") | rooms(
            PACKAGE / "_protocol" / "plan.py"
        )
        assert {"_protocol", "errors", "observe", "store"} <= rooms(PACKAGE / "_step" / "step.py")
        assert {"errors", "tools", "sequencer", "store"} <= rooms(PACKAGE / "__init__.py")
        assert {"plan", "states"} <= siblings(PACKAGE / "_protocol" / "thread.py", "_protocol")
        assert {"exclusion", "plans"} <= siblings(PACKAGE / "_step" / "step.py", "_step")
        assert {"_loop", "_factory"} <= siblings(PACKAGE / "testing" / "machine" / "_machine.py", "testing")
        assert {"browser"} <= siblings(PACKAGE / "testing" / "machine" / "_play.py", "testing")
        assert "chatkit.types" in imports(PACKAGE / "_protocol" / "decide.py", for_types=True)
        assert "chatkit.types" not in imports(PACKAGE / "_protocol" / "decide.py", for_types=False)
        assert "chatkit.store" in {*map(top_two, imports(PACKAGE / "store.py", for_types=False))}

    @pytest.mark.parametrize("name", INSIDE["_protocol"])
    def test_the_protocol_is_pure(self, name: str) -> None:
        """No event loop, clock, log, context variable, store or SDK in the protocol, not even by type."""
        path = PACKAGE / "_protocol" / f"{name}.py"
        found = imports(path, for_types=True)

        assert set() == IMPURE & {*found, *map(top_two, found), *(each.split(".")[0] for each in found)}
        assert set() == IMPURE_ROOMS & rooms(path, for_types=True)

    @pytest.mark.parametrize("name", INSIDE["_protocol"])
    def test_the_protocol_reads_no_clock(self, name: str) -> None:
        """The time comes in with the thread: nothing in the protocol asks for it, and nothing is awaited."""
        tree = parsed(PACKAGE / "_protocol" / f"{name}.py")
        called = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and is_attribute(node.func)}

        assert set() == called & {"now", "utcnow", "today", "time", "monotonic"}
        assert [] == [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]

    @pytest.mark.parametrize("path", CORE_MODULES, ids=[path.stem for path in CORE_MODULES])
    def test_the_core_needs_what_is_installed_with_it(self, path: Path) -> None:
        """The core runs with its dependencies alone: what an extra brings is imported elsewhere, or by type only."""
        others = {found.split(".")[0] for found in imports(path, for_types=False)} - {NAME, *sys.stdlib_module_names}

        assert set() == others - DEPENDENCIES

    @pytest.mark.parametrize("path", MODULES, ids=IDS)
    def test_each_module_says_what_it_is_for(self, path: Path) -> None:
        """A module begins with a sentence about itself."""
        doc = ast.get_docstring(parsed(path))

        assert doc
        assert doc.split("\n")[0].endswith(".")
