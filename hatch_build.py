"""The package page: README.md with links that work anywhere. hatchling calls this when it reads the metadata."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INVISIBLE = re.compile(r"<!--- invisible-code-block.*?--+>\n*", re.DOTALL)
LINK = re.compile(r"(\]\(|\b(?:src|srcset|href)=\")(?!#|[a-z]+:)([^)\"\s]+)")
PICTURE = re.compile(r"\.(?:png|svg|jpg|gif)$")


class PackagePage(MetadataHookInterface):
    """Makes the project's `readme` of README.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text into the metadata."""
        root = Path(self.root)
        readme = (root / "README.md").read_text("utf-8")
        code = (root / "src" / "chatkit_clienttools" / "__init__.py").read_text("utf-8")
        version = re.findall(r'^__version__ = "(.+)"$', code, re.MULTILINE)[0]
        text = with_absolute_links(readme, metadata["urls"]["Source"], f"v{version}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def get_metadata_hook() -> type[MetadataHookInterface]:
    """Tell hatchling which class is the hook."""
    return PackagePage


def with_absolute_links(text: str, source: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the source at a tag, without the set-up of its examples."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if PICTURE.search(match[2]) else "blob"
        return f"{match[1]}{source}/{kind}/{tag}/{match[2]}"

    parts, at, text = [], 0, INVISIBLE.sub("", text)
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(link, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(link, text[at:])])
