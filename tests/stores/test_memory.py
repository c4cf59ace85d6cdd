"""`MemoryStore`: the rules, and what is its own."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from chatkit_clienttools.errors import DamagedDocumentError
from chatkit_clienttools.stores import MemoryStore
from tests.stores.rules import FORGED, SHOWN, StoreRules
from tests.stores.values import ADA, BOB, by_user, filled, note, thread, thread_ids


class TestMemoryStore(StoreRules):
    @pytest.fixture
    def store(self) -> MemoryStore[Any]:
        return MemoryStore(owner=by_user)

    @pytest.fixture
    def hasty(self) -> MemoryStore[Any]:
        return MemoryStore(owner=by_user, time_limit=0.2)


async def test_without_an_owner_everything_is_everybodys() -> None:
    """A store that is not told how to tell owners apart does not."""
    store = MemoryStore[Any]()
    await store.save_thread(thread(), ADA)

    assert ["thr"] == await thread_ids(store, BOB) == await thread_ids(store, None)


async def test_a_document_that_cannot_be_read_says_so() -> None:
    """What ChatKit cannot read is an error that names it and keeps its contents to itself."""
    store = await filled(MemoryStore(owner=by_user), note("i1"))
    items = store._owned["ada"].threads["thr"].items
    items["i1"] = items["i1"]._replace(document='{"type":"from_the_future","secret":1}')

    with pytest.raises(DamagedDocumentError, match=r"Item i1 is stored, but cannot be read: .*Upgrade") as damaged:
        await store.load_item("thr", "i1", ADA)

    assert ("Item", "i1") == (damaged.value.kind, damaged.value.key)
    assert "secret" not in str(damaged.value)


def test_the_error_of_a_damaged_document_is_one_line() -> None:
    """Neither the id nor the reason can break the line of the log."""
    damaged = DamagedDocumentError("Item", FORGED, f"metadata.{FORGED}: wrong")

    assert re.match(rf"Item {SHOWN} is stored, but cannot be read: metadata\.{SHOWN}: wrong\.", str(damaged))
    assert FORGED == damaged.key


def test_it_needs_no_database() -> None:
    """`chatkit_clienttools.stores` does without SQLAlchemy; `stores.sql` says what to install."""
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import chatkit_clienttools.stores\n"
        "try:\n"
        "    import chatkit_clienttools.stores.sql\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )

    printed = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert "SQLStore needs SQLAlchemy: pip install 'chatkit-clienttools[sql]'\n" == printed
