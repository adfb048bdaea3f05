"""What a failure does to its siblings under `raise`: E3."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, Event, get_cancelled_exc_class, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow._bus import DeliveryMode
from flexiflow.events import HANDLER_FAILED, HandlerFailed
from tests.accounting import Boom, Ledger
from tests.attacks import (
    each_kind,
    each_parallel_mode,
    failing,
    failing_in_cleanup,
    wait,
)


@each_parallel_mode
async def test_siblings_are_cancelled_and_waited_for(mode: DeliveryMode) -> None:
    """E3: the failure leaves when the siblings' cleanup is over, however long that is."""
    story: list[str] = []

    async def sibling(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                for _turn in range(5):
                    await checkpoint()
            story.append("cleaned up")

    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            await checkpoint()
            await checkpoint()
            story.append("failed")
            raise ledger.inject(Boom())

        for handler in (sibling, fail, sibling):
            await ledger.on(handler)
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
        story.append("raised")
    assert story == ["failed", "cleaned up", "cleaned up", "raised"]


@each_parallel_mode
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("others", [0, 1, 3])
async def test_a_failure_is_bare_whatever_the_timing(
    mode: DeliveryMode, turns: int, others: int
) -> None:
    """E3: `except Boom` works whether siblings have ended, wait, or fail in their turn."""
    async with Ledger() as ledger:

        async def fail(after: int, _: Any) -> None:
            for _turn in range(after):
                await checkpoint()
            raise ledger.inject(Boom())

        await ledger.on(partial(fail, turns))
        for after in range(others):
            await ledger.on(partial(fail, after + 1))
            await ledger.on(wait)
            await ledger.on(failing_in_cleanup(ledger))
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
    assert len(ledger.raised) == 1


@each_parallel_mode
@each_kind
async def test_what_siblings_raise_in_cleanup_is_reported_and_noted(
    mode: DeliveryMode, kind: type[Exception]
) -> None:
    """E3: it is logged, published, and noted on the raised exception."""
    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            for _turn in range(3):
                await checkpoint()
            raise ledger.inject(Boom("first"))

        await ledger.on(failing_in_cleanup(ledger, kind()))
        await ledger.on(fail)
        await ledger.on(failing_in_cleanup(ledger, Boom("the other")))
        with pytest.raises(Boom, match="first") as caught:
            await ledger.publish(mode, "raise")
    notes = "\n".join(caught.value.__notes__)
    told = [failing_in_cleanup.__name__, kind.__name__, "Boom: the other"]
    assert [each for each in told if each not in notes] == []
    assert len(caught.value.__notes__) == len(ledger.records) == len(ledger.observed) == 2


@each_parallel_mode
async def test_a_note_tells_all_that_the_exception_does(mode: DeliveryMode) -> None:
    """E3: a note is the handler, the exception's line, and the exception's own notes."""
    other = Boom("the other")
    other.add_note("in the cellar")
    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            await checkpoint()
            await checkpoint()
            raise ledger.inject(Boom())

        await ledger.on(clean_up_badly := failing_in_cleanup(ledger, other))
        await ledger.on(fail)
        with pytest.raises(Boom) as caught:
            await ledger.publish(mode, "raise")
    name = clean_up_badly.__qualname__
    line = f"{Boom.__module__}.{Boom.__qualname__}: the other"
    assert caught.value.__notes__ == [f"{name} failed too: {line}\nin the cellar"]


@each_parallel_mode
@each_kind
async def test_an_exception_that_takes_no_notes_leaves_all_the_same(
    mode: DeliveryMode, kind: type[Exception]
) -> None:
    """E3: the siblings' failures are noted only where notes are taken."""
    async with Ledger() as ledger:
        exception = kind()

        async def fail(_: Any) -> None:
            await checkpoint()
            await checkpoint()
            raise ledger.inject(exception)

        await ledger.on(failing_in_cleanup(ledger))
        await ledger.on(fail)
        with pytest.raises(kind) as caught:
            await ledger.publish(mode, "raise")
    assert caught.value is exception
    assert len(ledger.records) == 1


@each_parallel_mode
async def test_reports_of_siblings_are_not_cut_short(mode: DeliveryMode) -> None:
    """E3: siblings having been cancelled, observers of their failures may still wait."""
    heard: list[str] = []

    async def observe(failed: HandlerFailed) -> None:
        await checkpoint()
        heard.append(str(failed["exception"]))

    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            await checkpoint()
            await checkpoint()
            raise ledger.inject(Boom())

        await ledger.on(failing_in_cleanup(ledger, Boom("sibling")))
        await ledger.on(fail)
        await ledger.on(observe, event=HANDLER_FAILED)
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
    assert heard == ["sibling"]


@each_parallel_mode
async def test_a_sibling_may_end_well_though_cancelled(mode: DeliveryMode) -> None:
    """E3: a sibling that makes light of its cancellation is neither failure nor reported."""
    ended: list[str] = []

    async def shrug(_: Any) -> None:
        with suppress(get_cancelled_exc_class()):
            await sleep_forever()
        ended.append("sibling")

    async with Ledger() as ledger:
        await ledger.on(shrug)
        await ledger.on(failing(ledger))
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
    assert ended == ["sibling"]
    assert ledger.records == []


@each_parallel_mode
async def test_two_failures_in_one_turn_are_both_accounted_for(mode: DeliveryMode) -> None:
    """E4: of two handlers woken together, one failure is raised and the other reported."""
    together = Event()
    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            await together.wait()
            raise ledger.inject(Boom())

        async def wake(_: Any) -> None:
            await checkpoint()
            await checkpoint()
            together.set()

        for handler in (fail, fail, wake):
            await ledger.on(handler)
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
