"""A row about whole processes: how long an import takes."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from .bench import Bench, Row
from .timing import in_turns

if TYPE_CHECKING:
    from .figures import Cost, Pair

_PROGRAM = """
import time
cpu, wall = time.process_time(), time.perf_counter()
import {module}
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


async def imports(bench: Bench) -> list[Pair]:
    """The import of the package, and that of the part of ChatKit that every backend imports."""
    return await in_turns(lambda: _import("chatkit_clienttools"), lambda: _import("chatkit.agents"), bench.times(15))


async def _import(module: str) -> Cost:
    """Return what an import takes in a new process; what Python has compiled is kept, as it is wherever it matters."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM.format(module=module), stdout=asyncio.subprocess.PIPE, env=environment
    )
    printed, _ = await process.communicate()
    cpu, wall = map(float, printed.split())
    return {"cpu": cpu, "wall": wall}


ROWS = [Row("import of `chatkit_clienttools`", "import of `chatkit.agents`", 1.05, imports)]
