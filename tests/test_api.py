"""The public names: what tests/api.txt pins, and that each is typed and documented."""

from __future__ import annotations

import difflib

import griffe
from tools import api

STORE = {name for name in api.package()["store.StoreWrapper"].members if not name.startswith("_")}
"""The methods of ChatKit's `Store`, which ChatKit documents."""

FUNCTIONS = [
    (f"{module}.{name}{'.' if owned else ''}{owned}", each)
    for module, names in api.public()
    for name, found in names
    for owned, each in [("", found), *(api.members(found) if isinstance(found, griffe.Class) else [])]
    if isinstance(each, griffe.Function)
]


def test_the_public_names_are_those_of_the_snapshot() -> None:
    """The public names, their parameters and their attributes are those of tests/api.txt; `make api` writes it."""
    pinned, found = api.SNAPSHOT.read_text("utf-8").splitlines(), api.snapshot().splitlines()

    assert [] == [line for line in difflib.ndiff(pinned, found) if line[0] in "+-"]


def test_a_change_of_a_signature_is_seen() -> None:
    """The snapshot holds names, types, defaults, order and the kind of each parameter, overloads and attributes."""
    lines = api.snapshot().splitlines()

    assert "chatkit_clienttools.ClientToolSequencer: class" in lines
    assert "chatkit_clienttools.ClientToolSequencer(0: tools: Iterable[ClientTool[..., Any]] = ())" in lines
    assert "chatkit_clienttools.ClientToolSequencer(max_queued: int = 64)" in lines
    assert "chatkit_clienttools.ClientToolSequencer.step #1: function -> Coroutine[Any, Any, T]" in lines
    assert "chatkit_clienttools.ClientToolSequencer.enqueue(1: *calls: ClientToolCall)" in lines
    assert "chatkit_clienttools.LifecycleEvent.reason: str | None = None" in lines
    assert "chatkit_clienttools.errors.CallFailedError.report: attribute" in lines
    assert "chatkit_clienttools.errors.CallFailedError: class ClientToolError" in lines


def test_every_module_is_public_or_behind_a_public_one() -> None:
    """A module without an underscore has its names in the snapshot, or they are imported from elsewhere."""
    found = [name for name, each in modules(api.package()) if not name.startswith("_") and "._" not in name]

    assert sorted({*api.PUBLIC, *api.ELSEWHERE} - {""}) == sorted({*found} - {"testing.browser", "testing.stores"})


def modules(owner: griffe.Module) -> list[tuple[str, griffe.Module]]:
    """Return the modules of a package and of the packages in it."""
    inside = [(each.path.partition(".")[2], each) for each in owner.modules.values()]
    return inside + [found for _, each in inside for found in modules(each)]


def test_every_public_function_is_documented() -> None:
    """Each public function and method has a docstring, or ChatKit documents it."""
    assert [] == [name for name, each in FUNCTIONS if not each.docstring and name.split(".")[-1] not in STORE]


def test_every_public_function_is_typed() -> None:
    """Each parameter of each public function and method has a type, and so has what it returns."""
    without = [
        f"{name}({parameter.name})"
        for name, each in FUNCTIONS
        for parameter in each.parameters
        if parameter.annotation is None and parameter.name not in ("self", "cls")
    ]

    assert [] == without
    assert [] == [name for name, each in FUNCTIONS if each.returns is None]
