"""The checkers of the clauses of streams, of waiting and of topics (S1 to S4, T1)."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from flexiflow.testing._bus import waiting_programs as waiting
from flexiflow.testing._bus.stream_script import StreamScript
from flexiflow.testing._examiner.checker import MODES, Checker, number, often, programs, scheduled

if TYPE_CHECKING:
    from flexiflow._stream import Overflow
    from flexiflow.testing._bus.stream_script import StreamStep

_OVERFLOWS: Final[tuple[Overflow, ...]] = ("drop_oldest", "drop_newest", "error")
_LEAVES: Final = ("pass", "raise Boom", "scope.cancel()\n            await checkpoint()")
_LEFT: Final = """
def note(event, data):
    heard.append(data)
    return True

async with anyio.create_task_group() as group:
    with suppress(Boom), anyio.CancelScope() as scope:
        async with bus.RECEIVER:
            PUBLISH
            await anyio.sleep(1)
            LEAVE
heard.clear()
with anyio.move_on_after(1):
    await bus.publish("a", 3)
assert heard == [], "its subscription is still there after its block was left"
"""
_BLOCKED: Final = """\
for number in range(3):
                group.start_soon(bus.publish, "a", number)"""
ENTERING: Final = (
    """
events = bus.stream("a")
await bus.publish("a", 0)
async with events:
    for number in (1, 2):
        await bus.publish("a", number, delivery=DELIVERY)
    with anyio.move_on_after(1):
        async for event in events:
            heard.append((event.name, event.data))
assert heard == [("a", 1), ("a", 2)], f"of 1 and 2, published within its block, it gave {heard}"
""",
    """
expected = bus.expect("a")
await bus.publish("a", 0)
async with expected:
    await bus.publish("a", 1, delivery=DELIVERY)
    with anyio.move_on_after(1):
        event = await expected
        heard.append((event.name, event.data))
assert heard == [("a", 1)], f"expecting the first event, published as 1, gave {heard}"
""",
    """
async def read():
    async for event in events:
        heard.append(event.data)

async with bus.stream("a") as events, anyio.create_task_group() as group:
    for _ in range(3):
        group.start_soon(read)
    for number in range(5):
        await bus.publish("a", number, delivery=DELIVERY)
    await anyio.sleep(1)
    group.cancel_scope.cancel()
assert sorted(heard) == [*range(5)], f"of 0 to 4, three readers together got {heard}"
""",
)
LEAVING: Final = tuple(
    _LEFT.replace("RECEIVER", receiver).replace("PUBLISH", publish).replace("LEAVE", leave)
    for (receiver, publish), leave in product(
        (
            ('stream("a", buffer=1, filter=note)', _BLOCKED),
            ('expect("a", filter=note)', "pass"),
        ),
        _LEAVES,
    )
)

_STATISTICS: Final = """
async with bus.stream("a") as events:
    counted = events.statistics()
with refused(AttributeError, "what statistics() gives can be changed"):
    counted.received = 1
"""
_READ: Final = {
    "scope": """
    with scope:
        async for event in events:
            heard.append(event.data)""",
    "native": """
    tasks.append(native_task())
    try:
        async for event in events:
            heard.append(event.data)
    except anyio.get_cancelled_exc_class():
        if not cancelled:
            raise""",
}
_CANCEL: Final = {
    "scope": "scope.cancel()",
    "native": "if tasks and tasks[0]:\n        cancelled.append(tasks[0].cancel())",
}
_CANCELLED: Final = """
scope, tasks, cancelled = anyio.CancelScope(), [], []

async def read():READ

async def read_too():
    async for event in events:
        heard.append(event.data)

async def publish():
    for number in range(3):
        await bus.publish("a", number)

async def cancel():
    for _ in range(TURNS):
        await checkpoint()
    CANCEL

async with bus.stream("a", buffer=BUFFER) as events, anyio.create_task_group() as group:
    for function in (read, read_too, publish, cancel):
        group.start_soon(function)
    await anyio.sleep(1)
    group.cancel_scope.cancel()
assert sorted(heard) == [0, 1, 2], f"of 0 to 2, with one of two readers cancelled, came {heard}"
"""
CANCELLED: Final = tuple(
    _CANCELLED.replace("READ", _READ[how])
    .replace("CANCEL", _CANCEL[how])
    .replace("TURNS", str(turns))
    .replace("BUFFER", str(buffer))
    for turns, buffer, how in product(range(8), (3, 0), ("scope", "native"))
)

_COUNTED: Final = """\
it = events.statistics()
    counted = it.received, it.delivered, it.dropped, it.buffered"""
DEADLOCKS: Final = (
    """
async with bus.stream("a", buffer=1) as events:
    for number in range(2):
        heard.extend(await bus.publish("a", number, delivery=DELIVERY, on_error="continue"))
    COUNTED
failed = [type(each.exception) for each in heard]
assert failed == [StreamDeadlock], f"published twice into its own stream of 1, it got {failed}"
assert counted == (2, 0, 1, 1), f"received, delivered, dropped, buffered are {counted}"
""".replace("COUNTED", _COUNTED),
    """
async with bus.stream("a", buffer=1) as events:
    await bus.publish("a", 0)
    async for event in events:
        if heard:
            break
        for number in range(2):
            heard.extend(await bus.publish("a", number, delivery=DELIVERY, on_error="continue"))
failed = [type(each.exception) for each in heard]
assert failed == [StreamDeadlock], f"the task that reads published into its stream: {failed}"
""",
    """
async def handler(data):
    heard.extend(await bus.publish("a", data, on_error="continue"))

await bus.subscribe("b", "c", handler)
async with bus.stream("a", buffer=1) as events:
    for number in range(2):
        await bus.publish("b", number, delivery=DELIVERY)
failed = [type(each.exception) for each in heard]
assert failed == [StreamDeadlock], f"a handler that its consumer waits for got {failed}"
""",
    """
async def read():
    async for event in events:
        heard.append(event.data)

async with bus.stream("a", buffer=1) as events, anyio.create_task_group() as group:
    group.start_soon(read)
    await anyio.sleep(1)
    for number in range(4):
        await bus.publish("a", number, delivery=DELIVERY, on_error="raise")
    await anyio.sleep(1)
    group.cancel_scope.cancel()
assert heard == [*range(4)], f"of 0 to 3, published by who no longer reads, were read {heard}"
""",
)


_publish: st.SearchStrategy[StreamStep] = st.just("publish")
_read: st.SearchStrategy[StreamStep] = st.just("read")
_give_up: st.SearchStrategy[StreamStep] = st.sampled_from(["readers give up", "publishers give up"])
_step = st.one_of(often(3, _publish), often(2, _read), _give_up)


def _steps(most: int, then: tuple[StreamStep, ...]) -> st.SearchStrategy[tuple[StreamStep, ...]]:
    drawn = st.lists(_step, min_size=2, max_size=most)
    return drawn.map(lambda steps: (*steps, *then))


_modes = st.sampled_from(MODES)
_streams = st.one_of(
    st.builds(
        StreamScript,
        number(1, 2),
        st.sampled_from(_OVERFLOWS),
        _modes,
        # Whatever was dropped then shows in what is read.
        _steps(6, ("publish", "read", "read")),
    ),
    st.builds(StreamScript, number(0, 2), st.just("block"), _modes, _steps(8, ("read",))),
)
S1 = Checker(programs(*ENTERING, *LEAVING))
S2 = Checker(st.one_of(often(2, _streams), scheduled(*CANCELLED), programs(_STATISTICS)))
S3 = Checker(programs(*DEADLOCKS))
S4 = Checker(st.one_of(scheduled(*waiting.ORDER), programs(*waiting.WAITING)))
T1 = Checker(programs(*waiting.TOPICS))
