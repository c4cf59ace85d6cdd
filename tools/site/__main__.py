"""Build the site from docs/ and the docstrings: `make docs`, or `make docs-serve` to look at it while you write.

The pages are put together in build/site/pages: those of docs/, some files of the top folder, and the reference. Links
that lead out of the pages go to the source. Then Zensical makes build/site/html, with its warnings as errors, and every
link, picture and anchor in the result is checked. `llms.txt` lists the pages, `llms-full.txt` holds their text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import tomli  # Zensical depends on it

from tools import npm, reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "build" / "site"

TOP = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""Files of the top folder that are pages of the site."""

MERMAID = "@mermaid-js/tiny@12.0.0"
MERMAID_SHA512 = "ZW9YXy+3tSLPscBT+NnQO0K0qYH7BGES5nExl6Snoygey7xd2N0cO7Nq30N5k/u7gIeYoCrldyVy+VTCMWrNDQ=="
MERMAID_HERE = Path(sys.prefix) / "mermaid.js"

INVISIBLE = re.compile(r"<!--- invisible-code-block.*?--+>\n*", re.DOTALL)
"""The set-up of an example, which only its test needs."""

FENCE = re.compile(r"^(```|~~~).*?^\1$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<before>\]\(|\b(?:src|srcset|href)=\")(?P<to>[^)\"\s#]+)(?P<anchor>#[^)\"\s]*)?")


class SiteError(Exception):
    """The site cannot be built, or something in it leads nowhere."""


def build(site: Path = SITE) -> Path:
    """Put the pages together in `site`, build, check the result, and return its folder."""
    pages, html = assemble(site), site / "html"
    ended = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=site,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SiteError(re.sub(r"\x1b\[[\d;]*m", "", ended.stdout + ended.stderr).partition("Traceback")[0].strip())
    for path in html.glob("**/*.html"):
        path.write_text(_improved(path.read_text("utf-8")), "utf-8")
    for path in pages.glob("**/*.md"):  # llms.txt leads to them
        shutil.copy(path, html / path.relative_to(pages))
    problems = sorted(check(html))
    if problems:
        raise SiteError("\n".join(problems))
    return html


def assemble(site: Path) -> Path:
    """Write everything that Zensical reads into `site`, and return the folder of the pages."""
    settings = (ROOT / "zensical.toml").read_text("utf-8")
    texts = dict(pages())
    nav = list(entries(_settings()["nav"]))
    agree({path for _, _, path in nav}, set(texts))

    shutil.rmtree(site, ignore_errors=True)
    folder = site / "pages"
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md"))
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    (folder / "assets").mkdir(exist_ok=True)
    for name in ("extra.css", "extra.js"):
        shutil.copy(ROOT / "tools" / "site" / name, folder / "assets" / name)
    if mermaid_is_here():
        shutil.copy(MERMAID_HERE, folder / "assets" / "mermaid.js")
        settings = settings.replace('["assets/extra.js"]', '["assets/extra.js", "assets/mermaid.js"]')
    else:
        settings = settings.replace('name = "mermaid", class = "mermaid"', 'name = "mermaid", class = "diagram"')
    (site / "zensical.toml").write_text(settings, "utf-8")
    (folder / "llms.txt").write_text(llms(nav, texts), "utf-8")
    (folder / "llms-full.txt").write_text("\n\n".join(texts[path] for _, _, path in nav), "utf-8")
    return folder


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page of the site: its path, and its Markdown with links that are right there."""
    sources = {path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").glob("**/*.md")}
    sources |= {page: ROOT / name for name, page in TOP.items()}
    sources.setdefault("index.md", ROOT / "README.md")
    places = {path.resolve(): page for page, path in sources.items()}
    for page, path in sorted(sources.items()):
        yield page, _rewritten(INVISIBLE.sub("", path.read_text("utf-8")), path, page, places)
    yield from reference.pages().items()


def _rewritten(text: str, path: Path, page: str, places: dict[Path, str]) -> str:
    """Return a page with the links of its source turned into those of the site, and with links to the reference."""

    def link(match: re.Match[str]) -> str:
        to = match["to"]
        target = (path.parent / to).resolve()
        if "://" in to or not target.exists():
            return match[0]  # what does not exist is for Zensical to report
        if target in places:
            to = os.path.relpath(places[target], Path(page).parent)
        elif target.is_relative_to(ROOT / "docs"):
            to = os.path.relpath(target.relative_to(ROOT / "docs"), Path(page).parent)
        else:
            to = f"{source_url()}/{'tree' if target.is_dir() else 'blob'}/main/{target.relative_to(ROOT).as_posix()}"
        return f"{match['before']}{to}{match['anchor'] or ''}"

    def prose(part: str) -> str:
        return reference.linked(LINK.sub(link, part), Path(page).parent.as_posix().removeprefix("."), seen=seen)

    seen: set[str] = set()
    done, at = [], 0
    for fence in FENCE.finditer(text):
        done += [prose(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*done, prose(text[at:])])


def _improved(html: str) -> str:
    """Name the parts of the navigation, and take no empty cell for a heading: screen readers read both aloud."""
    for number, entry in enumerate(_settings()["nav"], 1):
        (title,) = entry
        html = html.replace(f'aria-labelledby="__nav_{number}_label"', f'aria-label="{title}"')
    return re.sub(r"<th( [^>]*)?></th>", r"<td\1></td>", html)


def _settings() -> dict[str, Any]:
    settings: dict[str, Any] = tomli.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    return settings


def source_url() -> str:
    """Return where the source is, as pyproject.toml says."""
    urls: dict[str, str] = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    return urls["Source"]


def entries(nav: list[Any], section: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield section, title and path of each page, in the order of the navigation."""
    for entry in nav:
        for title, inside in entry.items():
            if isinstance(inside, str):
                yield section, title, inside
            else:
                yield from entries(inside, title)


def agree(listed: set[str], there: set[str]) -> None:
    """Refuse a navigation that does not have each page, or has one that is not there."""
    problems = [f"zensical.toml lists {path}, and there is no such page" for path in sorted(listed - there)]
    problems += [
        f"{path} is not in the navigation: add it to `nav` in zensical.toml" for path in sorted(there - listed)
    ]
    if problems:
        raise SiteError("\n".join(problems))


def mermaid_is_here() -> bool:
    """Fetch what draws the diagrams, once. Without it they are shown as text."""
    if not MERMAID_HERE.exists():
        try:
            with TemporaryDirectory() as directory:
                package = npm.unpacked(MERMAID, MERMAID_SHA512, Path(directory))
                shutil.copy(package / "dist" / "mermaid.tiny.js", MERMAID_HERE)
        except npm.NoPackageError as error:
            print(f"Diagrams are shown as text: {error}.")
            return False
    return True


def llms(nav: list[tuple[str, str, str]], pages: dict[str, str]) -> str:
    """Return llms.txt: what this is, and each page with its first sentence, for those who read no HTML."""
    settings = _settings()
    lines = [f"# {settings['site_name']}", "", f"> {settings['site_description']}", ""]
    lines += ["All pages in one file: [llms-full.txt](llms-full.txt)."]
    for section in dict.fromkeys(each for each, _, _ in nav):
        lines += ["", f"## {section or 'Start'}", ""]
        lines += [f"- [{title}]({path}): {_first_sentence(pages[path])}" for at, title, path in nav if at == section]
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    for paragraph in FENCE.sub("", text).split("\n\n"):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace("**", "")
        if words and not words.startswith(("#", "<", "|", "!", "-", "`from")):
            return re.split(r"(?<=[.!?:]) (?=[A-Z`])", words)[0]
    return ""


class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag holds."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if "href" in values and values.get("rel") != "canonical":
            (self.links if tag == "a" else self.loads).add(values["href"])
        self.loads |= {values[name] for name in ("src", "srcset") if name in values}


def check(html: Path) -> Iterator[str]:
    """Yield each link, picture and anchor that leads nowhere, and whatever a page loads from another host."""
    pages = {path: _Page(path.read_text("utf-8")) for path in html.glob("**/*.html") if path.name != "404.html"}
    for path, page in pages.items():
        where = path.relative_to(html)
        yield from (f"{where} loads {to} from another host" for to in page.loads if urlsplit(to).netloc)
        for to in page.links | page.loads:
            parts = urlsplit(to)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{where} leads to {to}, and there is no such file"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where} leads to {to}, and that page has no such place"
    for to in re.findall(r"\]\(([^)]+)\)", (html / "llms.txt").read_text("utf-8")):
        if not (html / to).is_file():
            yield f"llms.txt leads to {to}, and there is no such file"


def serve(port: str) -> None:
    """Build the site, show it at http://127.0.0.1:PORT, and build it again whenever a source has changed."""
    _reported()
    command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(SITE)]
    with subprocess.Popen(command) as server:  # noqa: S603
        print(f"http://127.0.0.1:{port}/html/ (Ctrl+C ends it)", flush=True)
        built = _newest()
        try:
            while server.poll() is None:
                time.sleep(0.5)
                if _newest() > built:
                    built = _newest()
                    _reported()
        except KeyboardInterrupt:
            server.terminate()


def _newest() -> float:
    return max(path.stat().st_mtime for path in _sources() if path.exists())


def _sources() -> Iterator[Path]:
    yield from (ROOT / "docs").rglob("*")
    yield from (ROOT / "src").rglob("*.py")
    yield from (ROOT / "tools" / "site").rglob("extra.*")
    yield from (ROOT / name for name in (*TOP, "README.md", "zensical.toml"))


def _reported() -> bool:
    try:
        html = build()
    except SiteError as error:
        print(error, file=sys.stderr)
        return False
    number = len(list(html.glob("**/*.html")))
    print(f"The site is in {html.relative_to(ROOT)}/: {number} pages, and every link leads somewhere.", flush=True)
    return True


def main() -> None:
    """Build, or with `serve PORT` show the site."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif not _reported():
        sys.exit(1)


if __name__ == "__main__":
    main()
