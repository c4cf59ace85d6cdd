"""All mutants of a module: what mutmut changes, and what else is worth a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

# pyright: reportMissingImports=false

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

STATES = ("QUEUED", "PENDING", "COMPLETED", "FAILED", "CANCELLED")
EVENTS = ("RELEASE", "ANSWER", "FAIL", "CANCEL", "WITHDRAW", "SEND_AGAIN")
ANOTHER = {name: names[n - 1] for names in (STATES, EVENTS) for n, name in enumerate(names)}
FOR_TYPE_CHECKERS = {"TypeVar", "ParamSpec", "cast"}
OVERLOAD = cst.Name("overload")


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    where: str
    """The class and function, or an empty text for what stands in neither."""
    lines: range
    before: str
    after: str
    source: str


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, each source once."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    positions = wrapper.resolve(PositionProvider)
    seen = {source}
    for where, lines, node in _places(wrapper.module, positions):
        for changed in _changes(node):
            mutated = wrapper.module.deep_replace(node, changed).code
            if mutated not in seen:
                seen.add(mutated)
                yield Mutant(module, where, lines, *_difference(source, mutated), mutated)


def _places(root: Any, positions: Mapping[Any, Any]) -> Iterator[tuple[str, range, Any]]:
    """Yield each node that may be changed, where it is, and the lines that are executed with it."""
    waiting: list[tuple[Any, str, range | None]] = [(root, "", None)]
    while waiting:
        node, where, statement = waiting.pop()
        if _is_for_type_checkers(node):
            continue
        if isinstance(node, (cst.ClassDef, cst.FunctionDef)):
            where = f"{where}.{node.name.value}".lstrip(".")
        if isinstance(node, cst.SimpleStatementLine):
            statement = _lines(positions[node])
        if node in positions:
            yield where, statement or _lines(positions[_header(node)]), node
        waiting += [(child, where, statement) for child in reversed(node.children)]


def _lines(position: Any) -> range:
    return range(position.start.line, position.end.line + 1)


def _header(node: Any) -> Any:
    if isinstance(node, cst.If):
        return node.test
    return node.items[0] if isinstance(node, cst.With) else node


def _is_for_type_checkers(node: Any) -> bool:
    """Whether nothing of it has to do with what happens."""
    if isinstance(node, cst.If):
        return isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"
    if isinstance(node, cst.Call):
        return isinstance(node.func, cst.Name) and node.func.value in FOR_TYPE_CHECKERS
    if isinstance(node, cst.Assign):
        return _is_for_type_checkers(node.value)
    if isinstance(node, cst.FunctionDef):
        return any(cst.ensure_type(each, cst.Decorator).decorator.deep_equals(OVERLOAD) for each in node.decorators)
    return isinstance(node, cst.Annotation)


def _changes(node: Any) -> Iterator[Any]:
    for kind, operator in [*mutation_operators, *OPERATORS]:
        if isinstance(node, kind):
            yield from (changed for changed in operator(node) if not _is_none_for_false(node, changed))


def _is_none_for_false(node: Any, changed: Any) -> bool:
    """Whether None is assigned where False was: no condition tells them apart."""
    return isinstance(node, (cst.Assign, cst.AnnAssign)) and _is(node.value, "False") and _is(changed.value, "None")


def _is(node: Any, name: str) -> bool:
    return node is not None and node.deep_equals(cst.Name(name))


def _nothing(node: Any) -> Iterable[Any]:
    """Leave out a statement; a string that is one is a docstring, and `...` does nothing."""
    if not (isinstance(node, cst.Expr) and isinstance(node.value, (cst.BaseString, cst.Ellipsis))):
        yield cst.Pass()


def _return_nothing(node: Any) -> Iterable[Any]:
    """Return None, or do not return where that is what is returned."""
    is_nothing = node.value is None or _is(node.value, "None")
    yield cst.Pass() if is_nothing else cst.Return()


def _unguarded(node: Any) -> Iterable[Any]:
    """Leave out a lock, or whatever else surrounds the statements."""
    if all(item.asname is None for item in node.items):
        yield cst.If(cst.Name("True"), node.body)


def _the_opposite(node: Any) -> Iterable[Any]:
    """Negate a condition, where mutmut does not do that by another operator."""
    if not isinstance(node.test, (cst.Comparison, cst.UnaryOperation)):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))


def _an_entry_less(node: Any) -> Iterable[Any]:
    for n in range(len(node.elements)):
        yield node.with_changes(elements=[*node.elements[:n], *node.elements[n + 1 :]])


def _another_member(node: Any) -> Iterable[Any]:
    if isinstance(node.value, cst.Name) and node.value.value in {"State", "Event"}:
        yield node.with_changes(attr=cst.Name(ANOTHER[node.attr.value]))


OPERATORS: list[tuple[Any, Callable[[Any], Iterable[Any]]]] = [
    ((cst.Expr, cst.Raise), _nothing),
    (cst.Return, _return_nothing),
    (cst.With, _unguarded),
    ((cst.If, cst.CompIf), _the_opposite),
    (cst.Dict, _an_entry_less),
    (cst.Attribute, _another_member),
]


def _difference(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, each side as one line."""
    old, new = before.splitlines(), after.splitlines()
    above = _common(old, new)
    old, new = old[above:], new[above:]
    below = _common(old[::-1], new[::-1])
    return _joined(old[: len(old) - below]), _joined(new[: len(new) - below])


def _common(some: list[str], others: list[str]) -> int:
    """Count the lines with which both begin."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(some), len(others)))


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
