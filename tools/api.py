"""The public names, with their parameters and attributes, one per line, as tests/api.txt holds them.

`make api` writes that file. A test compares it with the code, so that no change of a public name lands unnoticed.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import griffe  # openai-agents depends on it

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SNAPSHOT = ROOT / "tests" / "api.txt"
NAME = "chatkit_clienttools"

ALL = ()
"""What the module's `__all__` has; without one, every class in it whose name has no underscore."""

PUBLIC: dict[str, tuple[str, ...]] = {
    "": ALL,
    "content": ("ContentStore", "MediaStore", "with_content"),
    "errors": ALL,
    "frontend": ALL,
    "media": ("ClientImage", "ClientFile"),
    "news": ("News",),
    "observe": ("ToolEvent", "Observer", "ToolObserver"),
    "otel": ("instrument",),
    "sequencer": ("CallSnapshot", "ToolSnapshot"),
    "stores": ALL,
    "stores.sql": ("SQLStore",),
    "testing": ALL,
    "testing.machine": ("LifecycleMachine",),
}
"""Each module that people import from, and the names in it. "" is the package itself."""

ELSEWHERE = {"answers", "converter", "receipts", "server", "store", "stores.folder", "stores.memory", "tools"}
"""The modules without an underscore whose public names are imported from one of those above."""


def public() -> Iterator[tuple[str, list[tuple[str, griffe.Object]]]]:
    """Yield each public module with its public names and what they stand for."""
    for module, names in PUBLIC.items():
        found = package()[module] if module else package()
        chosen = names or [str(name) for name in found.exports or _classes(found)]
        yield module, [(name, target(found[name])) for name in chosen]


def _classes(module: griffe.Module) -> list[str]:
    return [name for name, each in module.classes.items() if not each.is_alias and not name.startswith("_")]


@cache
def package() -> griffe.Module:
    """Read the source of the package; nothing is imported."""
    return cast("griffe.Module", griffe.load(NAME, search_paths=[ROOT / "src"], resolve_aliases=True))


def target(found: griffe.Object | griffe.Alias) -> griffe.Object:
    """Return what a name stands for, wherever that is defined."""
    return found.final_target if isinstance(found, griffe.Alias) else found


def members(owner: griffe.Object) -> list[tuple[str, griffe.Object]]:
    """Return the public members of a class, those of its bases in this package included, but no rules of Hypothesis."""
    found = [(name, target(each)) for name, each in sorted(owner.all_members.items())]
    return [
        (name, each)
        for name, each in found
        if (not name.startswith("_") or name == "__call__")
        and not (isinstance(each, griffe.Function) and any(map(_is_rule, each.decorators)))
    ]


def _is_rule(decorator: griffe.Decorator) -> bool:
    return str(decorator.value).partition("(")[0] in ("rule", "initialize", "invariant", "precondition")


def signatures(found: griffe.Function) -> list[griffe.Function]:
    """Return the overloads of a function, or the function itself if it has none."""
    return list(found.overloads or [found])


def snapshot() -> str:
    """Return all public names, one per line, each followed by its own parameters and attributes."""
    lines = [
        line
        for module, names in public()
        for name, found in sorted(names)
        for line in _lines(".".join(filter(None, (NAME, module, name))), found)
    ]
    return "".join(f"{line}\n" for line in lines)


def _lines(name: str, found: griffe.Object) -> Iterator[str]:
    if isinstance(found, griffe.Class):
        yield f"{name}: class {', '.join(map(str, found.bases))}".rstrip()
        constructor = target(found.all_members["__init__"]) if "__init__" in found.all_members else None
        if isinstance(constructor, griffe.Function):
            for full, signature in numbered(name, constructor):
                yield from _parameters(full, signature)
        for own, member in members(found):
            yield from _lines(f"{name}.{own}", member)
    elif isinstance(found, griffe.Function):
        for full, signature in numbered(name, found):
            yield f"{full}: {'async ' if 'async' in found.labels else ''}function -> {signature.returns}"
            yield from _parameters(full, signature)
    elif isinstance(found, griffe.Attribute):
        is_own = "instance-attribute" in found.labels and "class-attribute" not in found.labels
        annotation = str(found.annotation or "attribute")
        value = "" if found.value is None or is_own else f" = {found.value}"
        yield f"{name}: {'property ' if 'property' in found.labels else ''}{annotation}{value}"


def numbered(name: str, found: griffe.Function) -> list[tuple[str, griffe.Function]]:
    """Return the signatures of a function under its name, with a number if it has several."""
    several = signatures(found)
    return [(name if len(several) == 1 else f"{name} #{n}", each) for n, each in enumerate(several, 1)]


def _parameters(name: str, found: griffe.Function) -> Iterator[str]:
    for place, parameter in enumerate(each for each in found.parameters if each.name != "self"):
        by_name = parameter.kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_keyword)
        by_place = parameter.kind is griffe.ParameterKind.positional_only
        yield f"{name}({'' if by_name else f'{place}: '}{parameter_text(parameter)}{', /' if by_place else ''})"


def parameter_text(parameter: griffe.Parameter) -> str:
    """Return a parameter as it is written in a signature."""
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    star = stars.get(parameter.kind, "") if parameter.kind else ""
    if parameter.annotation is None:
        return f"{star}{parameter.name}" + ("" if parameter.default is None or star else f"={parameter.default}")
    default = "" if parameter.default is None or star else f" = {parameter.default}"
    return f"{star}{parameter.name}: {parameter.annotation}{default}"


def main() -> None:
    """Write tests/api.txt, and print what has changed in it."""
    before = SNAPSHOT.read_text("utf-8") if SNAPSHOT.exists() else ""
    SNAPSHOT.write_text(snapshot(), "utf-8")
    changed = difflib.unified_diff(before.splitlines(), snapshot().splitlines(), "before", "now", n=0, lineterm="")
    lines = [line for line in changed if not line.startswith(("---", "+++", "@@"))]
    print(*lines or ["No public name has changed."], sep="\n")
    if any(line.startswith("-") for line in lines):
        print("Lines with - may break applications: they need a line in CHANGELOG.md, under Changed or Removed.")


if __name__ == "__main__":
    main()
