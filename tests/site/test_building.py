"""How the site is put together, and what its build refuses."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from tools import api, reference
from tools.site import __main__ as site

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

PAGE = '<p id="here"><a href="{to}">there</a></p>'


def written(html: Path, **pages: str) -> Path:
    html.mkdir(exist_ok=True)
    (html / "llms.txt").write_text("- [One](one.html): a page.", "utf-8")
    for name, text in pages.items():
        (html / f"{name}.html").write_text(text, "utf-8")
    return html


@pytest.mark.parametrize(
    "to", ["one.html", "one.html#here", "#here", "https://example.com/away", "mailto:a@example.com"]
)
def test_a_link_that_leads_somewhere_is_accepted(tmp_path: Path, to: str) -> None:
    """A page of the site, a place in it and another site are places that a link may lead to."""
    html = written(tmp_path / "html", one=PAGE.format(to="#here"), two=PAGE.format(to=to))

    assert [] == list(site.check(html))


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (PAGE.format(to="three.html"), "two.html leads to three.html, and there is no such file"),
        (PAGE.format(to="one.html#gone"), "two.html leads to one.html#gone, and that page has no such place"),
        ('<img src="gone.png">', "two.html leads to gone.png, and there is no such file"),
        ('<script src="https://example.com/a.js">', "two.html loads https://example.com/a.js from another host"),
        ('<link rel="x" href="//example.com/a.css">', "two.html loads //example.com/a.css from another host"),
    ],
)
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, page: str, problem: str) -> None:
    """A file or a place that is not there is an error, and so is whatever a page loads from another host."""
    html = written(tmp_path / "html", one=PAGE.format(to="#here"), two=page)

    assert [problem] == list(site.check(html))


def test_llms_txt_is_checked(tmp_path: Path) -> None:
    """A page that llms.txt lists and that is not there is an error."""
    assert ["llms.txt leads to one.html, and there is no such file"] == list(site.check(written(tmp_path / "html")))


def test_every_page_has_a_place() -> None:
    """A page that is not in the navigation is an error, and so is an entry without a page."""
    with pytest.raises(site.SiteError) as refused:
        site.agree({"listed.md", "both.md"}, {"both.md", "there.md"})

    assert str(refused.value).splitlines() == [
        "zensical.toml lists listed.md, and there is no such page",
        "there.md is not in the navigation: add it to `nav` in zensical.toml",
    ]


def test_links_out_of_the_pages_lead_to_the_source() -> None:
    """A file of the project that is no page is linked at its source; a page is linked as a page, whatever its name."""
    pages = dict(site.pages())
    everything = "\n".join(pages.values())

    assert f"]({site.source_url()}/blob/main/src/chatkit_clienttools/_protocol/__init__.py)" in everything
    assert "](security.md)" in pages["security-policy.md"]
    assert "](changelog.md)" in pages["security-policy.md"]
    assert "](../" not in "".join(text for path, text in pages.items() if "/" not in path)


def test_the_set_up_of_examples_is_left_out() -> None:
    """What only the test of an example needs is not in the site."""
    assert "invisible-code-block" not in "".join(dict(site.pages()).values())


def test_the_first_mention_of_a_public_name_leads_to_the_reference() -> None:
    """In a page the first mention of a public name is a link, later ones are not, and those in code never are."""
    seen: set[str] = set()

    first = reference.linked("Use `ClientTool`, then `ClientTool`; not `Unknown`.", "guides", seen=seen)
    second = reference.linked("`ClientTool`, `chatkit_clienttools.errors.UsageError`", "guides", seen=seen)

    assert (
        "Use [`ClientTool`](../reference/chatkit_clienttools.md#ClientTool), then `ClientTool`; not `Unknown`." == first
    )
    known = "[`chatkit_clienttools.errors.UsageError`](../reference/chatkit_clienttools.errors.md#UsageError)"
    assert f"`ClientTool`, {known}" == second


def test_the_reference_has_every_public_name() -> None:
    """Each public name has a section of its own, and a line in the list of all names."""
    pages = reference.pages()

    for module, names in api.public():
        for name, _ in names:
            assert f"## `{name}` {{#{name}}}\n" in pages[reference.page_of(module)]
            assert f"[`{name}`]({reference.page_of(module).partition('/')[2]}#{name})" in pages["reference/index.md"]


def test_a_signature_is_written_as_in_python() -> None:
    """A signature has its parameters, types, defaults and what is returned; a class has what its constructor takes."""
    page = reference.pages()["reference/chatkit_clienttools.md"]

    begin = "    ctx: RunContextWrapper[TAgentContext] | AgentContext[Any],\n"
    assert f"async def ask(\n{begin}    call: Call[R],\n) -> R\n" in page
    assert f"async def step(\n{begin}" in page
    assert "@asynccontextmanager\nasync def showing(\n" in page
    assert "    *,\n    on_user_message: Literal['cancel', 'keep'] = 'cancel',\n" in page
    assert "| `max_queued` | How many calls may be open in a thread. |" in page


def test_the_reference_has_the_order_in_which_a_reader_meets_things() -> None:
    """What every adopter needs comes first, in the list of names, in its page, and among the methods of a class."""
    page = reference.pages()["reference/chatkit_clienttools.md"]

    headings = re.findall(r"^## `(\w+)`", page, re.MULTILINE)
    methods = re.findall(r"^### `(\w+)` \{#ClientToolSequencer", page, re.MULTILINE)

    assert headings[:4] == ["ClientTool", "ClientToolSequencer", "ClientToolServer", "ClientToolConverter"]
    assert methods[:4] == ["function_tool", "enqueue", "ask", "step"]


def test_the_order_of_the_reference_is_the_one_of_the_navigation() -> None:
    """The modules have the same order in the list of all names and in the navigation, and each public one is there."""
    nav = [path for _, _, path in site.entries(site._settings()["nav"]) if path.startswith("reference/chatkit")]

    assert nav == [reference.page_of(module) for module in reference.ORDER]
    assert sorted(reference.ORDER) == sorted(module for module, _ in api.public())


def test_what_the_reference_puts_first_exists() -> None:
    """Each name that the order of the reference, or one of its examples, is about is a public name."""
    known = reference.anchors()
    methods = [f"{owner}.{method}" for owner, first in reference.FIRST.items() for method in first]

    assert [] == [
        name for name in [*chain(*reference.ORDER.values()), *methods, *reference.EXAMPLES] if name not in known
    ]


def test_examples_of_the_reference_run_in_the_docs() -> None:
    """Each line of an example in the reference stands in a Python fence of README.md or docs/, which is run."""
    pages = [site.ROOT / "README.md", *site.ROOT.glob("docs/**/*.md")]
    run = "\n".join(code for page in pages for code in PYTHON.findall(page.read_text("utf-8")))

    assert [] == [line for example in reference.EXAMPLES.values() for line in example.splitlines() if line not in run]


def test_each_page_is_described_for_those_who_read_no_html() -> None:
    """llms.txt lists each page of the navigation under its section, with its first sentence."""
    nav = [("", "Why", "index.md"), ("Guides", "One", "one.md"), ("Guides", "Two", "two.md")]
    texts = {
        "index.md": "# Why\n\n![picture](x.png)\n\nIt **works**. It does.",
        "one.md": "# One\n\n```python\nx = 1\n```\n\nUse [one](x.md).",
        "two.md": "# Two",
    }

    listed = site.llms(nav, texts).splitlines()[5:]

    assert listed == [
        *("", "## Start", "", "- [Why](index.md): It works."),
        *("", "## Guides", "", "- [One](one.md): Use one.", "- [Two](two.md): "),
    ]
