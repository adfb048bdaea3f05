"""KeyboardInterrupt, SystemExit and the like: E5."""

import signal
import types
from collections.abc import Generator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import (
    CancelScope,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow._cancellation import contexts
from flexiflow.events import HANDLER_FAILED
from tests.accounting import EVENT, Boom, Fatal, Ledger, Publisher
from tests.attacks import (
    FrozenExit,
    each_exit,
    each_mode,
    each_parallel_mode,
    each_policy,
    each_style,
    exit_in_cleanup,
    failing_in_cleanup,
    let_out,
    wait,
)


@pytest.mark.unmeasured
@each_mode
@each_policy
@each_exit
@pytest.mark.parametrize("turns", [0, 1, 4])
async def test_an_exit_leaves_bare(
    mode: DeliveryMode, policy: ErrorPolicy, kind: type[BaseException], turns: int
) -> None:
    """E5: an exit leaves as it is, unreported, after the siblings' cleanup."""
    story: list[str] = []
    leaving = kind()

    async def sibling(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            story.append("cleaned up")

    async with Ledger() as ledger:
        if mode != "sequential":
            await ledger.on(sibling, priority=2)
        await ledger.on(partial(let_out, leaving, turns), priority=2)
        later = await ledger.on(story.append, priority=5, once=True)
        if mode == "concurrent" and turns:
            ledger.bus.unsubscribe(later)
        with pytest.raises(kind) as caught:
            await ledger.publish(mode, policy)
    assert caught.value is leaving
    assert story == ([] if mode == "sequential" else ["cleaned up"])
    assert later.active is not (mode == "concurrent" and turns > 0)
    assert ledger.records == []


@each_parallel_mode
@each_policy
@each_exit
async def test_of_several_exits_the_first_leaves(
    mode: DeliveryMode, policy: ErrorPolicy, kind: type[BaseException]
) -> None:
    """E5: the others are noted on it, where it takes notes."""
    leaving = kind()

    async def exit_in_cleanup(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            raise SystemExit(3)

    async with Ledger() as ledger:
        for handler in (exit_in_cleanup, partial(let_out, leaving, 3), exit_in_cleanup):
            await ledger.on(handler)
        with pytest.raises(kind) as caught:
            await ledger.publish(mode, policy)
    assert caught.value is leaving
    notes = getattr(leaving, "__notes__", [])
    assert notes == ["so did: SystemExit: 3"] * 2 * (kind is not FrozenExit)


@each_parallel_mode
@each_policy
async def test_a_failure_in_cleanup_beside_an_exit_is_reported(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E4, E5: an exit cancels the siblings, not `publish`, so their failures are published."""
    async with Ledger() as ledger:
        await ledger.on(failing_in_cleanup(ledger))
        await ledger.on(partial(let_out, Fatal(), 3))
        await ledger.on(failing_in_cleanup(ledger))
        with pytest.raises(Fatal):
            await ledger.publish(mode, policy)
    assert len(ledger.records) == 2


@each_parallel_mode
async def test_an_exit_in_cleanup_takes_the_place_of_a_failure(mode: DeliveryMode) -> None:
    """E4, E5: the exit leaves, and the failure before it is reported and noted."""
    async with Ledger() as ledger:
        await ledger.on(exit_in_cleanup)
        await ledger.on(partial(let_out, ledger.inject(Boom("first")), 3))
        with pytest.raises(Fatal) as caught:
            await ledger.publish(mode, "raise")
    assert len(ledger.records) == 1
    assert ["Boom: first" in note for note in caught.value.__notes__] == [True]


@each_mode
@each_policy
@each_style
async def test_an_exit_in_a_cancelled_publish_leaves(
    mode: DeliveryMode, policy: ErrorPolicy, style: str
) -> None:
    """E5: an exit raised in the cleanup of a cancelled handler takes the cancellation's place."""
    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, policy)
        await ledger.on(exit_in_cleanup)
        await publisher.run_until_blocked()
    assert type(publisher.left) is Fatal


@each_mode
@each_exit
@pytest.mark.parametrize("turns", [0, 2])
async def test_an_exit_in_an_observer_leaves_bare(
    mode: DeliveryMode, kind: type[BaseException], turns: int
) -> None:
    """E5: wherever it struck, also in a handler of `event.handler.failed`."""
    leaving, siblings = kind(), list[str]()

    async def sibling(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            siblings.append("cleaned up")

    async with Ledger() as ledger:
        if mode != "sequential":
            await ledger.on(sibling)
        await ledger.on(partial(let_out, ledger.inject(Boom()), 2))
        await ledger.on(partial(let_out, leaving, turns), event=HANDLER_FAILED)
        with pytest.raises(kind) as caught:
            await ledger.publish(mode)
    assert caught.value is leaving
    assert not hasattr(leaving, "__notes__")
    assert siblings == ([] if mode == "sequential" else ["cleaned up"])


@each_parallel_mode
async def test_an_exit_in_an_observer_of_cleanup_leaves_bare(mode: DeliveryMode) -> None:
    """E5, E4: it takes the place of the failure that was about to leave, which is logged."""
    async with Ledger(announced=None) as ledger:
        await ledger.on(failing_in_cleanup(ledger))
        await ledger.on(partial(let_out, ledger.inject(Boom()), 3))
        await ledger.on(partial(let_out, Fatal(), 1), event=HANDLER_FAILED)
        with pytest.raises(Fatal):
            await ledger.publish(mode, "raise")
    assert len(ledger.records) == 2


@types.coroutine
def suspend() -> Generator[None, None, None]:
    """Wait for nobody."""
    yield


@each_policy
def test_an_abandoned_publish_can_be_closed(
    policy: ErrorPolicy, backend_name: str, backend_options: dict[str, Any]
) -> None:
    """E5: the GeneratorExit that closes a publish whose loop is gone leaves it bare."""
    bus, closed = EventBus(), list[type[BaseException]]()

    async def handle(_: Any) -> None:
        try:
            await suspend()
        except BaseException as exc:
            closed.append(type(exc))
            raise

    async def subscribe() -> None:
        await bus.subscribe(EVENT, "worker", handle)

    anyio.run(subscribe, backend=backend_name, backend_options=backend_options)
    publishing = bus.publish(EVENT, on_error=policy)
    publishing.send(None)
    publishing.close()
    assert closed == [GeneratorExit]


@each_mode
@each_policy
@pytest.mark.parametrize("turns", [0, 2])
def test_ctrl_c_in_a_handler_ends_the_run(
    mode: DeliveryMode,
    policy: ErrorPolicy,
    turns: int,
    backend_name: str,
    backend_options: dict[str, Any],
) -> None:
    """E5: Ctrl-C while a handler runs is a KeyboardInterrupt of the run, and no failure."""
    ended: list[str] = []

    async def interrupt(_: Any) -> None:
        for _turn in range(turns):
            await checkpoint()
        signal.raise_signal(signal.SIGINT)
        await sleep_forever()

    async def clean_up(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            ended.append("cleaned up")

    async def main() -> None:
        async with Ledger() as ledger:
            await ledger.on(interrupt if mode == "sequential" else clean_up)
            await ledger.on(interrupt)
            try:
                await ledger.publish(mode, policy)
            finally:
                ended.append(f"{len(ledger.records)} logged")

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend=backend_name, backend_options=backend_options)
    assert ended == ["cleaned up"] * (mode != "sequential") + ["0 logged"]


@each_mode
@each_policy
@pytest.mark.parametrize("anyio_backend", ["trio"])
def test_ctrl_c_in_the_wait_of_publish_leaves_bare(
    mode: DeliveryMode, policy: ErrorPolicy, anyio_backend: str
) -> None:
    """E5: on trio Ctrl-C strikes the main task, in the bus's own waiting, and leaves it bare."""
    trio = pytest.importorskip("trio")
    left: list[BaseException] = []

    @trio.lowlevel.enable_ki_protection  # type: ignore[untyped-decorator, unused-ignore]
    async def interrupt(_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        await sleep_forever()

    async def main() -> None:
        async with Ledger() as ledger:
            await ledger.on(wait if mode != "sequential" else interrupt)
            await ledger.on(interrupt)
            try:
                await ledger.publish(mode, policy)
            except BaseException as exc:
                left.append(exc)
                raise

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert [type(each) for each in left] == [KeyboardInterrupt]


def test_a_ring_of_contexts_has_an_end() -> None:
    """E5: to look for a cancellation among contexts that were set by hand comes to an end."""
    first, second = Boom("first"), Boom("second")
    first.__context__, second.__context__ = second, first
    assert [*contexts(first)] == [first, second]
