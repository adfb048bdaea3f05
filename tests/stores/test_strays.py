"""A cancellation that leaves a store, and is nobody's (E6)."""

from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, get_cancelled_exc_class, sleep, sleep_forever

from flexiflow import Engine, HandlerCancelled, Outcome, State, StateMachine, Transition
from tests.attacks import stray
from tests.hosting import GO, Diary, run_clocked
from tests.stores.keeping import DictStore, Tally, hosting, once, send_go

TIMED = StateMachine(
    "a",
    [Transition("a", "go", "b"), Transition("b", "late", "c"), Transition("c", "go", "a")],
    states=[State("b", after=(900.0, "late"))],
)
strays = partial(stray, None)


async def test_load_that_lets_one_out_fails_the_message() -> None:
    """E6, K4: The sender gets `HandlerCancelled`; nothing is registered, one more try succeeds."""
    store = DictStore()
    engine = hosting(store)
    store.before["load"] = once(strays)
    failure = await send_go(engine)
    assert isinstance(failure, HandlerCancelled)
    assert failure.culprit == "DictStore.load"
    assert isinstance(failure.__cause__, get_cancelled_exc_class())
    assert not engine.components
    assert await send_go(engine) is Outcome.TRANSITIONED


async def test_load_that_lets_one_out_fails_register() -> None:
    """E6, K4: `register` raises `HandlerCancelled`, and may be called again."""
    store, tally = DictStore(), Tally("t")
    engine = Engine(store=store)
    store.before["load"] = once(strays)
    with pytest.raises(HandlerCancelled):
        await engine.register(tally)
    await engine.register(tally)
    assert engine.components["t"] is tally


async def test_save_that_lets_one_out_fails_the_message() -> None:
    """E6, K3: The state stays as it was, and the component loads before its next message."""
    store = DictStore()
    engine = hosting(store)
    await engine.send("t", {"type": "stay"})
    store.before["save"] = once(strays)
    failure = await send_go(engine)
    assert isinstance(failure, HandlerCancelled)
    assert failure.culprit == "DictStore.save"
    assert (engine.components["t"].state, store.calls["load"]) == ("a", 1)
    assert await send_go(engine) is Outcome.TRANSITIONED
    assert (store.state("t"), store.calls["load"]) == ("b", 2)


async def test_save_that_is_cancelled_is_no_failure() -> None:
    """E5, K3: The sender's own cancellation goes on as it is."""
    store, results = DictStore(), list[object]()
    engine = hosting(store)

    async def send() -> None:
        with scope:
            results.append(await send_go(engine))

    async def cancel() -> None:
        scope.cancel()
        await sleep_forever()

    scope = CancelScope()
    store.before["save"] = cancel
    async with create_task_group() as group:
        group.start_soon(send)
    assert (results, scope.cancelled_caught) == ([], True)


def test_due_that_lets_one_out_is_logged_and_asked_again(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E6, M2: The engine goes on to load what is due, as after any failure of `due`."""

    async def scenario() -> None:
        store = DictStore()
        store.put("t", "b", {"n": 1}, due=0.0)
        store.before["due"] = once(strays)
        async with hosting(store, TIMED).running():
            await sleep(5.0)
        assert store.state("t") == "c"

    run_clocked(scenario, backend)
    assert logged(caplog) == [HandlerCancelled]


def test_loading_what_is_due_that_lets_one_out_is_reported(backend: str) -> None:
    """E6, M2: The failure is announced, and the component loaded a minute later."""

    async def scenario() -> None:
        store = DictStore()
        store.put("t", "b", {"n": 1}, due=0.0)
        store.before["load"] = once(strays)
        engine = hosting(store, TIMED)
        diary = await Diary().keep(engine.bus)
        async with engine.running():
            await sleep(70.0)
        assert [type(each) for each in diary.failures] == [HandlerCancelled]
        assert store.state("t") == "c"

    run_clocked(scenario, backend)


@pytest.mark.unmeasured
@pytest.mark.parametrize("method", ["save", "load"])
def test_upkeep_that_lets_one_out_is_logged_and_done_again(
    backend: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E6, K3: A trigger is handled all the same, once the component could be loaded."""

    async def scenario() -> None:
        store = DictStore()
        engine = hosting(store, TIMED)
        diary = await Diary().keep(engine.bus)
        async with engine.running():
            await engine.send("t", GO)
            store.before["save"] = once(strays)
            if method == "load":
                store.before["load"] = once(strays)
            await sleep(910.0)
        assert store.state("t") == "c"
        assert [type(each) for each in diary.failures] == [HandlerCancelled]

    run_clocked(scenario, backend)
    assert logged(caplog) == [HandlerCancelled] * (1 if method == "save" else 2)


def logged(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """Return the types of the failures that were logged."""
    return [record.exc_info[0] for record in caplog.records if record.exc_info]
