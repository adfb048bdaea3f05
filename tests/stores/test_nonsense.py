"""Stores that return nonsense, or fail when they are closed: a clear error, and nothing is lost."""

from __future__ import annotations

import math
from typing import Any, Self

import pytest
from anyio import fail_after, wait_all_tasks_blocked

from flexiflow import Engine, Outcome
from flexiflow._stores import Stored
from tests.accounting import Boom
from tests.helpers import PATIENCE
from tests.hosting import GO
from tests.stores.keeping import CYCLE, tallies

PLAIN = Stored(1, "a", {"n": 1}, None)


class Liar:
    """A store that returns what it was told to return, by the name of the method."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"load": None, "save": 1, "due": [], **answers}

    async def load(self, name: str) -> Any:
        """Return anything."""
        return self.answers["load"]

    async def save(self, *given: object, **named: object) -> Any:
        """Return anything."""
        return self.answers["save"]

    async def due(self, until: float, limit: int) -> Any:
        """Return anything."""
        return self.answers["due"]

    async def delete(self, name: str) -> None:
        """Do nothing."""


def over(store: Any) -> Engine:
    """Make an engine over a store."""
    return Engine(component_factory=tallies(CYCLE), store=store)


@pytest.mark.parametrize(
    "found",
    [
        {"state": "a"},
        (1, "a", None, None),
        PLAIN._replace(version="1"),  # type: ignore[arg-type]
        PLAIN._replace(version=0),
        PLAIN._replace(state=None),  # type: ignore[arg-type]
        PLAIN._replace(data=[1]),  # type: ignore[arg-type]
        PLAIN._replace(due="soon"),  # type: ignore[arg-type]
        PLAIN._replace(due=math.nan),
    ],
)
async def test_what_is_no_stored_component_is_refused(found: Any) -> None:
    """K2, K4: The sender is told, and nothing is registered; the next one tries again."""
    store = Liar(load=found)
    engine = over(store)
    with pytest.raises(
        TypeError, match=r"^load of <.*> must return None or a Stored, .* returned "
    ):
        await engine.send("t", GO)
    assert not engine.components
    store.answers["load"] = PLAIN
    store.answers["save"] = 2
    assert await engine.send("t", GO) is Outcome.TRANSITIONED


@pytest.mark.parametrize("version", [None, "2", 1, 0, -1, 2.0])
async def test_what_is_no_later_version_is_refused(version: Any) -> None:
    """K2, K3: The message has failed; the component is loaded before its next one."""
    store = Liar(load=PLAIN, save=version)
    engine = over(store)
    with pytest.raises(
        TypeError, match=r"^save of <.*> must return a version, an int of more than"
    ):
        await engine.send("t", GO)
    assert engine.components["t"].state == "a"
    store.answers["load"] = {}
    with pytest.raises(TypeError, match=r"^load of"):
        await engine.send("t", GO)
    store.answers |= {"load": Stored(7, "b", {"n": 7}, None), "save": 8}
    assert await engine.send("t", GO) is Outcome.TRANSITIONED
    assert engine.components["t"].state == "c"


@pytest.mark.parametrize("names", [None, "ab", [1], [None], {"a"}])
async def test_what_are_no_names_is_logged(names: Any, caplog: pytest.LogCaptureFixture) -> None:
    """M2: The engine goes on running."""
    engine = over(Liar(due=names))
    with fail_after(PATIENCE):
        async with engine.running():
            await wait_all_tasks_blocked()
            assert await engine.send("t", GO) is Outcome.TRANSITIONED
    assert [*engine.components] == ["t"]
    [record] = caplog.records
    assert record.exc_info is not None
    told = str(record.exc_info[1])
    assert told.startswith("due of ")
    assert "must return a list of names; it returned" in told


class Leaky(Liar):
    """A store that fails when it is closed."""

    async def __aenter__(self) -> Self:
        """Open it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Fail."""
        raise OSError


async def test_failure_to_close_does_not_hide_what_left_the_block() -> None:
    """M4, E8: What left the block is the context of what the store raised, as in `async with`."""
    engine = over(Leaky())
    with pytest.raises(OSError) as caught:  # noqa: PT011  it has no text
        async with engine.running():
            raise Boom
    assert isinstance(caught.value.__context__, Boom)
    with pytest.raises(OSError) as caught:  # noqa: PT011  as above
        async with engine.running():
            pass
    assert caught.value.__context__ is None
