"""A model that says what the test has written, for a server whose agent would ask a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union
from uuid import uuid4

if TYPE_CHECKING:
    from agents.testing import ScriptedModel

Says = Union[str, tuple[str, Mapping[str, Any]]]  # noqa: UP007  # needed at run time on 3.10
"""What a run of the model comes to: a text, or a call of one of the agent's tools as its name and its arguments."""


def scripted_model(*runs: Says | list[Says]) -> ScriptedModel:
    """Return a model that does in its first run what the first argument says, and so on.

    ```python
    model = scripted_model(("search", {"query": "law"}), "Ada is on screen.")
    ```

    A text is said; a pair of a name and arguments calls that tool; a list does several things in one run. Each has an
    id of its own, as ChatKit needs it. `model.calls` shows what each run was given. It is `ScriptedModel` of the Agents
    SDK, which has it since version 0.21.
    """
    from agents.testing import ScriptedModel, assistant_message, function_call  # noqa: PLC0415  older SDKs lack it

    def output(says: Says) -> Any:
        if isinstance(says, str):
            return assistant_message(says, item_id=f"msg_{uuid4().hex}")
        name, arguments = says
        return function_call(name, arguments, call_id=f"call_{uuid4().hex}", item_id=f"fc_{uuid4().hex}")

    return ScriptedModel([[output(says) for says in (run if isinstance(run, list) else [run])] for run in runs])
