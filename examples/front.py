"""The front page: the same request on plain ChatKit and with the library, as the real servers have played it.

`python -m examples.front` plays it again, and writes down what has happened: examples/web/recorded.json.
"""

from __future__ import annotations

import asyncio
import html
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from .demo import demos
from .recording import Moment, record
from .web import WEB

if TYPE_CHECKING:
    from .demo import Demo

FILE = WEB / "recorded.json"
SHOWN = "merak_search"
Line = tuple[str, int, int | None, str]
"""A line of code, when it begins to be at work and when it ends, and what became of it."""

RECORDED = TypeAdapter(list[list[Moment]])

PLAIN_CODE = (
    ("async def search_agents(ctx, query: str) -> str:", ""),
    ("    found = await find(query)", ""),
    ("    ctx.context.client_tool_call = start", "replaced"),
    ("    ctx.context.client_tool_call = choose(found)", "replaced"),
    ("    ctx.context.client_tool_call = stop", "sent"),
    ('    return f"Found: {found}."', "no choice"),
)
OUR_CODE = (
    "async def search_agents(ctx, query: str) -> str:",
    '    await sequencer.ask(ctx, animation(state="start"))',
    "    found = await sequencer.step(ctx, find, query)",
    "    choice = await sequencer.ask(ctx, choose(agents=found))",
    '    await sequencer.ask(ctx, animation(state="stop"))',
    '    return f"The user chose {choice.name}."',
)
SIGNS = {"lost": "M3 3l10 10M13 3L3 13", "kept": "M2 8.5l4 4 8-9"}
LOST = "There is room for one, and the next one takes it: <b>lost</b>"
AGAIN = "The same again: when the browser answered its one call, the model ran once more."
WAITS = "The tool waits until somebody has chosen."


def page(model: str, kept: str) -> str:
    """Return the front page."""
    plain, ours = RECORDED.validate_json(FILE.read_bytes())
    parts = {
        "plain": _plain(plain),
        "ours": _ours(ours),
        "demos": "\n".join(_card(name, demo) for name, demo in demos().items()),
        "model": model,
        "kept": html.escape(kept),
    }
    page = (WEB / "index.html").read_text("utf-8")
    for name, part in parts.items():
        page = page.replace(f"{{{{{name}}}}}", part)
    return page


async def recorded() -> list[list[Moment]]:
    """Play the request; return what has happened at each endpoint."""
    from .play import serving  # noqa: PLC0415  which imports the site, which imports this module
    from .site import app_of  # noqa: PLC0415

    demo = demos()[SHOWN]
    moments: list[list[Moment]] = [[] for _ in demo.endpoints]
    async with serving(app_of(SHOWN)) as url:
        await record(url, demo, lambda number, moment: moments[number].append(moment))
    return moments


def _plain(moments: list[Moment]) -> str:
    called = _moment(moments, "calls")
    said = [moment for moment in moments if moment.kind == "reads"]
    rows = [
        _row("lost", "Start the animation", LOST, called.at),
        _row("lost", "Let the user choose", LOST, called.at),
        _row("kept", "Stop the animation", "Arrives, though nothing was turning.", called.at),
    ]
    words = [_bubble(said[0]), _bubble(said[1], AGAIN)]
    code: list[Line] = [(line, called.at, None, note) for line, note in PLAIN_CODE]
    return _code(code) + _window(_asked(moments) + _rows(rows) + "".join(words))


def _ours(moments: list[Moment]) -> str:
    calls = [moment for moment in moments if moment.kind == "calls"]
    goes_on = [moment.at for moment in moments if moment.kind == "woken"]
    said = _moment(moments, "reads")
    choice = _moment(moments, "answers").what["name"]
    people = "".join(
        f'<li{_at(calls[1].at)} class="face"><i aria-hidden="true">{person["name"][0]}</i><span>{person["name"]}'
        f"<small>{html.escape(person['knows'])}</small></span>"
        + (f"<em{_at(goes_on[1])}>chosen</em>" if person["name"] == choice else "")
        + "</li>"
        for person in calls[1].what["agents"]
    )
    rows = [
        _row("kept", "Start the animation", "It turns <b>while</b> the server searches.", calls[0].at),
        _row("kept", "Let the user choose", f"{WAITS}<ul class='faces'>{people}</ul>", calls[1].at),
        _row("kept", "Stop the animation", "Last, as the tool says.", calls[2].at),
    ]
    ends = [0, goes_on[0], calls[1].at, goes_on[1], goes_on[2], said.at]
    begins = [0, 0, *ends[1:5]]
    code: list[Line] = [(line, begin, end, "") for line, begin, end in zip(OUR_CODE, begins, ends, strict=True)]
    return _code(code) + _window(_asked(moments) + _rows(rows) + _bubble(said))


def _moment(moments: list[Moment], kind: str) -> Moment:
    return next(moment for moment in moments if moment.kind == kind)


def _at(begin: int) -> str:
    return f' data-at="{begin}"'


def _asked(moments: list[Moment]) -> str:
    return f'<p class="bubble asked">{html.escape(str(moments[0].what))}</p>'


def _bubble(said: Moment, note: str = "") -> str:
    small = f"<small>{note}</small>" if note else ""
    return f'<p class="bubble{" again" if note else ""}"{_at(said.at)}>{html.escape(str(said.what))}{small}</p>'


def _rows(rows: list[str]) -> str:
    return f'<ol class="wanted">{"".join(rows)}</ol>'


def _row(kind: str, title: str, text: str, begin: int) -> str:
    sign = f'<svg class="sign" viewBox="0 0 16 16" aria-hidden="true"><path d="{SIGNS[kind]}"/></svg>'
    words = f'<div><b>{title}</b><div class="what">{text}</div></div>'
    return f'<li class="{kind}"{_at(begin)}>{sign}{words}</li>'


def _code(lines: list[Line]) -> str:
    shown = []
    for line, begin, end, note in lines:
        until = "" if end is None else f' data-to="{end}"'
        kind = "line gone" if note == "replaced" else "line"
        tag = f" <small{_at(begin)}># {note}</small>" if note else ""
        words = line.lstrip()
        indent = line[: -len(words)]
        code = f"{indent}<span>{html.escape(words)}</span>{tag}"
        shown.append(f'<span class="{kind}" data-from="{begin}"{until}>{code}</span>')
    return f'<pre class="code" tabindex="0" aria-label="The tool"><code>{"".join(shown)}</code></pre>'


def _window(content: str) -> str:
    return f'<div class="window">{content}</div>'


def _card(name: str, demo: Demo) -> str:
    dark = f'<source srcset="pictures/{name}-dark.png" media="(prefers-color-scheme: dark)">'
    light = f'<img src="pictures/{name}-light.png" alt="" width="672" height="420" loading="lazy">'
    title, about = html.escape(demo.title), html.escape(demo.about)
    return f'<li><a href="{name}/"><picture>{dark}{light}</picture><strong>{title}</strong></a><p>{about}</p></li>'


def main() -> None:
    """Write the recording down."""
    FILE.write_bytes(RECORDED.dump_json(asyncio.run(recorded()), indent=1) + b"\n")
    print(f"{FILE} is written.")


if __name__ == "__main__":
    main()
