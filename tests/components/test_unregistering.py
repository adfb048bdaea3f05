"""Unregistering a component with work, while its deferred messages are reported (C1, M3)."""

from anyio import CancelScope, Event, fail_after, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import Engine
from flexiflow.events import HANDLER_FAILED
from tests.components.lasting import Worker
from tests.helpers import PATIENCE, settle
from tests.hosting import Gate, together


async def test_work_that_ends_before_it_is_awaited() -> None:
    """M3: `unregister` returns also if the work has ended while an observer was being told."""
    engine, ended, gate = Engine(), Event(), Gate()

    async def work(component: object) -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            ended.set()

    async def act(message: object, component: object) -> None:
        if message == {"type": "note"}:
            await engine.send("a", {"type": "note", "n": 1})
            await gate()

    async def wait_for_the_end(data: object) -> None:
        await ended.wait()
        await settle()

    worker = await Worker(engine, work, act=act).register()
    await engine.bus.subscribe(HANDLER_FAILED, "observer", wait_for_the_end)

    async def unregister() -> None:
        await gate.reached.wait()
        await engine.unregister("a")
        gate.open.set()

    async def send() -> None:
        await worker.send("note")

    with fail_after(PATIENCE):
        async with engine.running():
            await settle()
            await together(send, unregister)
    assert "a" not in engine.components
