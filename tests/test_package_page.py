"""What people see before they have the package: its page, its command and its metadata."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import hatch_build
import pytest

import chatkit_clienttools
from chatkit_clienttools.__main__ import main

ROOT = Path(__file__).parent.parent
SOURCE = "https://example.com/x"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/a.md)", f"[a]({SOURCE}/blob/v1.2.3/docs/a.md)"),
        ("[a](docs/a.md#b)", f"[a]({SOURCE}/blob/v1.2.3/docs/a.md#b)"),
        ("![a](docs/a.png)", f"![a]({SOURCE}/raw/v1.2.3/docs/a.png)"),
        ('<img src="docs/a.png" alt="a">', f'<img src="{SOURCE}/raw/v1.2.3/docs/a.png" alt="a">'),
        ("[a](https://example.com/b)", "[a](https://example.com/b)"),
        ("[a](#b)", "[a](#b)"),
        ("```python\nx[1](y)\n```", "```python\nx[1](y)\n```"),
        ("a\n\n<!--- invisible-code-block: python\nx = 1\n--->\n\nb", "a\n\nb"),
    ],
)
def test_the_package_page_has_absolute_links(written: str, shown: str) -> None:
    """Relative links and pictures of the package page lead to the source of its version; code stays as it is."""
    assert shown == hatch_build.with_absolute_links(written, SOURCE, "v1.2.3")


def test_the_package_page_is_the_readme() -> None:
    """The text is README.md, with the version of the code in its links and no relative link left."""
    found = {"urls": {"Source": SOURCE}}

    hatch_build.PackagePage(str(ROOT), {}).update(found)
    page: dict[str, str] = found["readme"]

    assert "text/markdown" == page["content-type"]
    assert page["text"].startswith("# chatkit-clienttools\n")
    assert f"{SOURCE}/blob/v{chatkit_clienttools.__version__}/" in page["text"]
    links = re.findall(r"\]\(([^)]+)\)", re.sub(r"^```.*?^```$", "", page["text"], flags=re.MULTILINE | re.DOTALL))
    assert [] == [link for link in links if not link.startswith(("https://", "#"))]


def test_the_command_is_installed() -> None:
    """The package installs the command `chatkit-clienttools`, which is what `python -m chatkit_clienttools` runs."""
    (command,) = metadata.entry_points(group="console_scripts", name="chatkit-clienttools")

    assert main is command.load()


@pytest.mark.parametrize(
    "command",
    [["chatkit-clienttools"], pytest.param(["python", "-m", "chatkit_clienttools"], marks=pytest.mark.long)],
    ids=["installed", "as a module"],
)
def test_the_command_says_its_version(command: list[str]) -> None:
    """The command prints its name and the version of the package, whichever way it is called."""
    program = [str(Path(sys.executable).parent / command[0]), *command[1:], "--version"]

    printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout  # noqa: S603

    assert f"chatkit-clienttools {chatkit_clienttools.__version__}\n" == printed


def test_the_command_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments the command lists `doctor` and `types`, and its status is 0."""
    assert 0 == main([])

    assert re.search(r"^    doctor +\w.*\n    types +\w", capsys.readouterr().out, re.MULTILINE)


def test_the_metadata_are_complete() -> None:
    """The metadata say the licence and its file, the addresses, the keywords, and that the package is typed."""
    found = metadata.metadata("chatkit-clienttools")

    assert "Apache-2.0" == found["License-Expression"]
    assert ["LICENSE"] == found.get_all("License-File")
    assert {"Documentation", "Source", "Issues", "Changelog"} == {
        address.partition(",")[0] for address in found.get_all("Project-URL") or []
    }
    assert "Typing :: Typed" in (found.get_all("Classifier") or [])
    assert (Path(chatkit_clienttools.__file__).parent / "py.typed").is_file()
