"""The checkers of the clauses of limits, with their programs (V1, V2)."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from flexiflow.testing._examiner.checker import Checker, programs, scheduled

TIME_LIMITS: Final = (
    """
async def handler(data):
    try:
        await anyio.sleep(9)
    finally:
        heard.append(anyio.current_time() - begin)

await bus.subscribe("a", "c", handler, time_limit=2)
begin = anyio.current_time()
failures = await bus.publish("a", delivery=DELIVERY, on_error="continue")
failed = [type(each.exception) for each in failures]
assert failed == [HandlerTimeout], f"of a handler that takes 9 s and may take 2, failed {failed}"
assert [*map(round, heard)] == [2], f"a handler that may take 2 s was ended after {heard}"
""",
    """
async def handler(data):
    await anyio.sleep(9)

await bus.subscribe("a", "c", handler, time_limit=2)
with refused(HandlerTimeout, "a handler's time is over, and publish raises nothing"):
    await bus.publish("a", delivery=DELIVERY, on_error="raise")
""",
    """
async def handler(data):
    await anyio.sleep(data)
    heard.append(data)

await bus.subscribe("a", "c", handler, time_limit=2)
failures = await bus.publish("a", 1, delivery=DELIVERY, on_error="continue")
assert (len(failures), heard) == (0, [1]), f"a handler that ends in time heard {heard}: {failures}"
""",
    """
async def handler(data):
    await anyio.sleep(9)

await bus.subscribe("a", "c", handler, time_limit=2)
with log_kept() as records, anyio.move_on_after(1) as scope:
    heard.extend(await bus.publish("a", delivery=DELIVERY, on_error=POLICY))
assert scope.cancelled_caught, f"publish swallowed the deadline around it: {heard}"
logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
assert not logged, f"the deadline around publish was taken for the handler's: {logged}"
""",
    """
async def handler(data):
    with anyio.fail_after(1):
        await anyio.sleep(9)

await bus.subscribe("a", "c", handler, time_limit=2)
failures = await bus.publish("a", delivery=DELIVERY, on_error="continue")
failed = [type(each.exception) for each in failures]
assert failed == [TimeoutError], f"of a handler with a deadline of its own failed {failed}"
""",
    """
await bus.subscribe("a", "c", heard.append, time_limit=1e-9)
failures = await bus.publish("a", 1, delivery=DELIVERY, on_error="continue")
assert not failures, f"a sync handler with a time limit failed with {failures[0].exception!r}"
assert heard == [1], f"a sync handler with a time limit heard {heard}"
""",
)

AT_ONCE: Final = """
async def handler(data):
    running.append(data)
    heard.append(data)
    most.append(len(running))
    await anyio.sleep(1)
    running.remove(data)

def accepts(event, data):
    asked.append(len(running))
    return True

running, most, asked = [], [], []
await bus.subscribe("a", "c", handler, limit=LIMIT, filter=accepts)
async with anyio.create_task_group() as group:
    for number in range(5):
        group.start_soon(partial(bus.publish, "a", number, delivery=DELIVERY))
        await anyio.sleep(0.1)
assert max(most) == LIMIT, f"limited to LIMIT at once, {max(most)} calls ran"
assert heard == [*range(5)], f"in line from 0 to 4, the calls ran in the order {heard}"
assert max(asked) < LIMIT, "the filter was asked before a call's turn had come"
"""
_WAITS: Final = """
async def handler(data):
    heard.append(data)
    await anyio.sleep(2)

s = await bus.subscribe("a", "c", handler, limit=1OPTIONS)
async with anyio.create_task_group() as group:
    for number in range(3):
        group.start_soon(publish, number)
        await anyio.sleep(0.1)
DOES
"""
_PUBLISHES: Final = """
async def publish(number):
    failures.extend(await bus.publish("a", number, delivery=DELIVERY, on_error="continue"))

failures = []
"""
WAITS: Final = (
    _PUBLISHES
    + _WAITS.replace("OPTIONS", "").replace("DOES", "    bus.unsubscribe(s)")
    + 'assert heard == [0], f"0 ran, others waited, and it was unsubscribed: heard {heard}"',
    _PUBLISHES
    + _WAITS.replace("OPTIONS", ", time_limit=3").replace("DOES\n", "")
    + 'assert not failures, f"while it waited for its turn, its time ran: {failures}"',
    _PUBLISHES
    + _WAITS.replace("OPTIONS", ", once=True").replace("DOES\n", "")
    + 'assert heard == [0], f"once only, and limited to 1 at once, it heard {heard}"',
)
DEADLOCKS: Final = (
    """
async def handler(data):
    heard.extend(await bus.publish("a", delivery=DELIVERY, on_error="continue"))

await bus.subscribe("a", "c", handler, limit=LIMIT)
await bus.publish("a", delivery=DELIVERY)
failed = [type(each.exception) for each in heard]
assert failed == [LimitDeadlock], f"called from within its own call, it failed with {failed}"
""".replace("LIMIT", "1"),
    """
async def handler(following, data):
    await anyio.sleep(1)
    if data is None:
        heard.extend(await bus.publish(following, 1, delivery=DELIVERY, on_error="continue"))

await bus.subscribe("a", "c", partial(handler, "b"), limit=1)
await bus.subscribe("b", "c", partial(handler, "a"), limit=1)
with anyio.move_on_after(9) as scope:
    async with anyio.create_task_group() as group:
        group.start_soon(bus.publish, "a")
        group.start_soon(bus.publish, "b")
failed = [type(each.exception) for each in heard]
assert not scope.cancelled_caught, "two calls wait for each other for ever"
assert failed == [LimitDeadlock], f"of two calls that wait for each other failed {failed}"
""",
)
CANCELLED: Final = tuple(
    """
async def handler(data):
    await checkpoint()
    heard.append(data)

async def publish():
    with scope:
        await bus.publish("a", 1, delivery=DELIVERY)

scope = anyio.CancelScope()
await bus.subscribe("a", "c", handler, limit=1)
async with anyio.create_task_group() as group:
    group.start_soon(bus.publish, "a", 0)
    await checkpoint()
    group.start_soon(publish)
    group.start_soon(cancel_after, scope, TURNS)
with anyio.move_on_after(1):
    await bus.publish("a", 2, delivery=DELIVERY)
assert heard[-1] == 2, f"of 0, 1, which was cancelled, and 2, the handler heard {heard}"
""".replace("TURNS", str(turns))
    for turns in range(8)
)

V1 = Checker(programs(*TIME_LIMITS))
V2 = Checker(
    st.one_of(
        programs(AT_ONCE.replace("LIMIT", "1"), AT_ONCE.replace("LIMIT", "2"), *WAITS, *DEADLOCKS),
        scheduled(*CANCELLED),
    )
)
