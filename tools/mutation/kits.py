"""The kit: `flexiflow.testing` with few examples, for mutants that the tests leave alive."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings

from flexiflow import Component, EventBus
from flexiflow.extras.stores import MemoryStateStore, SqliteStateStore
from flexiflow.testing import check_bus, check_component, check_store, check_transport
from flexiflow.testing._examiner import examine
from tests.durable.transports import TRANSPORTS, Tried

EXAMPLES = 30
"""How many programs of each clause are tried; the checkers try 200 by themselves."""
SEED = 1

Kit = Callable[[], object]


def check_opened(opened: Callable[[], AbstractContextManager[Tried]], backend: str) -> None:
    """Check a transport as the tests do."""
    with opened() as tried:
        check_transport(tried.factory, backend=backend, seed=SEED, **tried.terms)


def check_files(backend: str) -> None:
    """Check the store in files of SQLite's."""
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="kit") as folder:

        def make(beside: SqliteStateStore | None = None) -> SqliteStateStore:
            return beside or SqliteStateStore(Path(folder, f"{next(numbers)}.db"))

        check_store(make, backend=backend, examples=EXAMPLES, seed=SEED)


def check_memory(backend: str) -> None:
    """Check the store in memory."""

    def make(beside: MemoryStateStore | None = None) -> MemoryStateStore:
        return beside or MemoryStateStore()

    check_store(make, backend=backend, examples=EXAMPLES, seed=SEED)


def kits_of(*, is_core: bool) -> dict[str, Kit]:
    """Name the checkers that concern the core, or what is delivered durably."""
    # What is found need not be made small.
    unshrunk = settings(examine._SETTINGS, phases=[Phase.generate])
    setattr(examine, "_SETTINGS", unshrunk)  # noqa: B010  it is declared as Final
    found: dict[str, Kit] = {}
    how: dict[str, Any] = {"examples": EXAMPLES, "seed": SEED}
    for backend in ("trio", "asyncio"):
        if is_core:
            found[f"check_bus, {backend}"] = partial(check_bus, EventBus, backend=backend, **how)
            found[f"check_component, {backend}"] = partial(
                check_component, Component, backend=backend, **how
            )
        else:
            for opened in TRANSPORTS:
                name = f"check_transport, {opened.__name__}, {backend}"
                found[name] = partial(check_opened, opened, backend)
            found[f"check_store, memory, {backend}"] = partial(check_memory, backend)
            found[f"check_store, files, {backend}"] = partial(check_files, backend)
    return found
