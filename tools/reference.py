"""Write the reference of the site from the docstrings: one page for each public module, and a list of all names."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

from chatkit_clienttools.__main__ import main as command
from tools import api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
FOLDER = "reference"
WIDTH = 80
"""How long a signature may be in one line."""

TYPES = ROOT / "src" / api.NAME / "frontend" / "client-tools.d.ts"


ORDER: dict[str, tuple[str, ...]] = {
    "": (
        *("ClientTool", "ClientToolSequencer", "ClientToolServer", "ClientToolConverter", "SequencedAgentContext"),
        *("ClientEffect", "showing", "SupportsPlans", "ValidatingStore", "StoreWrapper", "LifecycleEvent"),
    ),
    "errors": (),
    "testing": ("FakeBrowser", "scripted_model", "check_store", "StoreContract", "Report", "Result", "Status"),
    "testing.machine": (),
    "stores": ("MemoryStore", "StoredPlan", "FolderContent"),
    "stores.sql": (),
    "media": (),
    "content": ("MediaStore", "with_content", "ContentStore"),
    "news": (),
    "otel": (),
    "observe": (),
    "sequencer": (),
    "frontend": (),
}
"""The modules, and the names in them, as a reader meets them. Names that are not listed come after those that are."""

FIRST = {
    "ClientToolSequencer": ("function_tool", "enqueue", "ask", "step", "run_streamed"),
    "ClientToolConverter": ("load_history", "to_agent_input", "load_news", "resolve"),
    "FakeBrowser": ("send", "answer", "retry", "reload", "stop", "tab"),
}
"""The methods that a reader meets first. The others follow in the order of the source."""

EXAMPLES = {
    "ClientTool": 'choose = ClientTool("choose_agent", result=Choice)',
    "ClientTool.__call__": "choose(agents=found)",
    "ClientToolSequencer": "sequencer = ClientToolSequencer([animation, choose])",
    "ClientToolSequencer.function_tool": (
        "@sequencer.function_tool\nasync def search_agents(ctx: Ctx, query: str) -> str:"
    ),
    "ClientToolSequencer.enqueue": (
        'sequencer.enqueue(ctx, animation(state="start"), profiles(agents=found), animation(state="stop"))'
    ),
    "ClientToolSequencer.ask": "choice = await sequencer.ask(ctx, choose(agents=found))",
    "ClientToolSequencer.step": "found = await sequencer.step(ctx, find, query)",
    "ClientToolSequencer.run_streamed": "result = sequencer.run_streamed(lead, history, context=agent_context)",
    "ClientToolSequencer.snapshot": "calls = await sequencer.snapshot(server.store, thread_id, context)",
    "ClientToolSequencer.waiting_tools": "tools = await sequencer.waiting_tools(server.store, thread_id, context)",
    "ClientToolSequencer.cancel": "await sequencer.cancel(server.store, thread_id, context)",
    "ClientToolServer": "class MerakServer(ClientToolServer):\n    client_tools = sequencer",
    "ClientToolConverter": "converter = ClientToolConverter(sequencer)",
    "ClientToolConverter.load_history": (
        "history = await converter.to_agent_input(await converter.load_history(self.store, thread, context))"
    ),
    "ClientToolConverter.load_news": (
        "news = await converter.load_news(self.store, thread, input_user_message, context)"
    ),
    "showing": "async with showing(ctx, spinner(on=True), spinner(on=False)):",
    "scripted_model": 'model = scripted_model(("search_agents", {"query": "law"}), "Here you are.")',
    "instrument": "instrument(sequencer)",
}
"""How a name is used. Each example stands in README.md or docs/ too, where it runs."""


INDEX = """# Reference

All public names. These pages are written from the docstrings, and a test pins the signatures. What is not listed here
may change in any release.

The package is typed: mypy and pyright check your calls. [The page's module](javascript.md) and
[the command line](command-line.md) have pages of their own.
"""

JAVASCRIPT = """# client-tools.js

The module for the page. `chatkit_clienttools.frontend.path()` is where it is installed. Its types are beside it:
"""


def pages() -> dict[str, str]:
    """Return the text of each page, by its path in the site."""
    found = {page_of(module): _page(module, names) for module, names in public()}
    return {
        f"{FOLDER}/index.md": _index(),
        **found,
        f"{FOLDER}/javascript.md": _javascript(),
        f"{FOLDER}/command-line.md": _command_line(),
    }


def public() -> list[tuple[str, list[tuple[str, griffe.Object]]]]:
    """Return each public module and its names, as a reader meets them."""
    found = dict(api.public())
    return [(module, sorted(found[module], key=lambda each: _place(each[0], first))) for module, first in ORDER.items()]


def _place(name: str, first: tuple[str, ...]) -> int:
    return first.index(name) if name in first else len(first)


def page_of(module: str) -> str:
    """Return the path of a module's page."""
    return f"{FOLDER}/{'.'.join(filter(None, (api.NAME, module)))}.md"


@cache
def anchors() -> dict[str, str]:
    """Return where each public name is documented, by the name alone and by its full name; methods with their class."""
    found: dict[str, str] = {}
    for module, names in api.public():
        for name, each in names:
            at = f"{page_of(module)}#{name}"
            for known in (name, ".".join(filter(None, (api.NAME, module, name)))):
                found.setdefault(known, at)
                if isinstance(each, griffe.Class):
                    found.update({f"{known}.{own}": f"{at}.{own.strip('_')}" for own, _ in _functions(each)})
    return found


def _index() -> str:
    parts = [INDEX]
    for module, names in public():
        page = Path(page_of(module)).name
        rows = [f"| [`{name}`]({page}#{name}) | {_first_sentence(each)} |" for name, each in names]
        parts.append(
            "\n".join([f"## {page.removesuffix('.md')}\n", "| name | what it is |", "|---|---|", *rows]) + "\n"
        )
    return "\n".join(parts)


def _page(module: str, names: list[tuple[str, griffe.Object]]) -> str:
    full = ".".join(filter(None, (api.NAME, module)))
    about = api.package()[module] if module else api.package()
    listed = ", ".join(name for name, _ in names)
    sections = "\n".join("\n".join(_section(name, each)) for name, each in names)
    line = f"```python\nfrom {full} import {listed}\n```\n\n" if len(listed) < WIDTH else ""
    return f"# {full}\n\n{_text(about.docstring)}\n\n{line}{sections}"


def _section(name: str, each: griffe.Object) -> Iterator[str]:
    yield f"## `{name}` {{#{name}}}\n"
    if isinstance(each, griffe.Class):
        constructor = each.all_members.get("__init__")
        found = api.target(constructor) if constructor else None
        bases = [str(base).partition("[")[0] for base in each.bases if not str(base).startswith(("_", "Generic"))]
        if isinstance(found, griffe.Function) and not _is_enum(each):
            yield _fence([_written(f"class {name}", found, returns=False)])
        else:
            yield _fence([f"class {name}"])
        yield from _example(name)
        if bases:
            yield f"Derives from {', '.join(f'`{base}`' for base in bases)}.\n"
        yield _docstring(each)
        yield from _attributes(each)
        for own, method in _functions(each):
            yield f"### `{own}` {{#{name}.{own.strip('_')}}}\n"
            yield from _function(own, method, f"{name}.{own}")
    elif isinstance(each, griffe.Function):
        yield from _function(name, each, name)


def _function(name: str, each: griffe.Function, known: str) -> Iterator[str]:
    is_async = "async" in each.labels or _coroutine(each) is not None
    decorators = [f"@{found.value}\n" for found in each.decorators if str(found.value).endswith("contextmanager")]
    prefix = "".join(decorators) + ("async def" if is_async else "def")
    yield _fence(_written(f"{prefix} {name}", signature) for signature in api.signatures(each))
    yield from _example(known)
    yield _docstring(each)


def _example(known: str) -> Iterator[str]:
    if known in EXAMPLES:
        yield f"Used like this:\n\n{_fence([EXAMPLES[known]])}"


def _coroutine(each: griffe.Function) -> str | None:
    """Return the result of a function that returns a coroutine without being async: it is shown as an async one."""
    found = re.fullmatch(r"Coroutine\[Any, Any, (.*)\]", str(each.returns))
    return found and found[1]


def _functions(owner: griffe.Class) -> list[tuple[str, griffe.Function]]:
    """Return the methods that are documented: those of a store are documented by ChatKit."""
    found = [(name, each) for name, each in api.members(owner) if isinstance(each, griffe.Function) and each.docstring]
    first = FIRST.get(owner.name, ())
    return sorted(found, key=lambda member: (_place(member[0], first), member[1].lineno or 0))


def _attributes(owner: griffe.Class) -> Iterator[str]:
    found = [(name, each) for name, each in api.members(owner) if isinstance(each, griffe.Attribute)]
    rows = [
        f"| `{name}` | {_code(each.annotation)} | {_cell(each.docstring.value if each.docstring else '')} |"
        for name, each in sorted(found, key=lambda member: member[1].lineno or 0)
        if each.docstring or (each.annotation and not _is_constant(each)) or _is_enum(owner)
    ]
    if rows:
        yield "\n".join(["| attribute | type | what it is |", "|---|---|---|", *rows]) + "\n"


def _is_enum(owner: griffe.Class) -> bool:
    return "Enum" in map(str, owner.bases)


def _is_constant(each: griffe.Attribute) -> bool:
    return str(each.annotation).startswith("ClassVar")


def _written(begin: str, each: griffe.Function, *, returns: bool = True) -> str:
    parts: list[str] = []
    kinds = [parameter.kind for parameter in each.parameters]
    for parameter in each.parameters:
        if parameter.name in ("self", "cls"):
            continue
        starred = griffe.ParameterKind.var_positional in kinds
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred and "*" not in parts:
            parts.append("*")
        parts.append(api.parameter_text(parameter))
    end = f" -> {_coroutine(each) or each.returns}" if returns and each.returns else ""
    line = f"{begin}({', '.join(parts)}){end}"
    if len(line) <= WIDTH:
        return line
    inside = "".join(f"    {part},\n" for part in parts)
    return f"{begin}(\n{inside}){end}"


def _docstring(each: griffe.Object) -> str:
    """Return a docstring as Markdown: its text, and a table of what `Args:` says."""
    if not each.docstring:
        return ""
    parts = []
    for section in each.docstring.parse("google"):
        if section.kind is griffe.DocstringSectionKind.text:
            parts.append(_linked(section.value))
        elif section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
            rows = [f"| `{item.name}` | {_cell(item.description)} |" for item in section.value]
            parts.append("\n".join(["| argument | what it is |", "|---|---|", *rows]))
        elif section.kind is griffe.DocstringSectionKind.raises:
            parts += [f"Raises `{item.annotation}`: {_linked(item.description)}" for item in section.value]
        else:
            raise ValueError(f"{each.path}: tools/reference.py does not know the section {section.kind.value}")
    return "\n\n".join(parts) + "\n"


def _text(docstring: griffe.Docstring | None) -> str:
    return _linked(docstring.value) if docstring else ""


def _first_sentence(each: griffe.Object) -> str:
    text = " ".join((each.docstring.value if each.docstring else "").split("\n\n")[0].split())
    return _cell(re.split(r"(?<=[.!?]) (?=[A-Z])", text)[0])


def _cell(text: str) -> str:
    return _linked(" ".join(text.split())).replace("|", "\\|")


def _code(annotation: object) -> str:
    return f"`{annotation}`".replace("|", "\\|") if annotation else ""


def _fence(lines: Iterable[str]) -> str:
    return "```python\n" + "\n".join(lines) + "\n```\n"


def _linked(text: str) -> str:
    """Return a text with a link at the first mention of each public name in it."""
    return linked(text, FOLDER)


def linked(text: str, folder: str, *, seen: set[str] | None = None) -> str:
    """Link the first mention of each public name to its place in the reference, from a page in `folder`.

    `seen` has the places that the page leads to already, and gets the new ones.
    """
    known, seen = anchors(), set[str]() if seen is None else seen

    def link(match: re.Match[str]) -> str:
        name = match[1].removesuffix("()")
        if name not in known or known[name] in seen:
            return match[0]
        seen.add(known[name])
        up = "" if folder == FOLDER else "../" * len(Path(folder).parts) + f"{FOLDER}/"
        return f"[{match[0]}]({up}{known[name].removeprefix(f'{FOLDER}/')})"

    return re.sub(r"(?<![\[`])`([A-Za-z_][\w.]+(?:\(\))?)`(?![\]`])", link, text)


def _javascript() -> str:
    return f"{JAVASCRIPT}\n```ts\n{TYPES.read_text('utf-8').strip()}\n```\n"


def _command_line() -> str:
    parts = ["# Command line", "`python -m chatkit_clienttools` is the same as `chatkit-clienttools`."]
    for arguments in ([], ["doctor"], ["types"]):
        parts += [f"## {' '.join(['chatkit-clienttools', *arguments])}", f"```\n{_help(arguments)}\n```"]
    return "\n\n".join(parts) + "\n"


def _help(arguments: list[str]) -> str:
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        command([*arguments, "--help"])
    return printed.getvalue().strip()
