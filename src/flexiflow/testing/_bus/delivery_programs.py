"""Programs that assert what the clauses D2, D3 and D6 promise."""

from __future__ import annotations

from typing import Final

CANCELLED: Final = """
await bus.subscribe("a", "c", print)
with anyio.CancelScope() as scope:
    scope.cancel()
    for _ in range(61):
        await bus.publish(EVENT, delivery=DELIVERY)
assert scope.cancelled_caught, "61 publishes in a row, and none is a checkpoint"
"""
YIELDING: Final = """
async def other():
    while True:
        heard.clear()
        await checkpoint()

longest = 0
await bus.subscribe("a", "c", print)
async with anyio.create_task_group() as group:
    group.start_soon(other)
    for number in range(61 * 3):
        heard.append(number)
        await bus.publish(EVENT, delivery=DELIVERY)
        longest = max(longest, len(heard))
    group.cancel_scope.cancel()
assert longest <= 61, f"{longest} publishes in a row, and another task had no turn"
"""
COUNTING: Final = """
async def other():
    while True:
        heard.clear()
        await checkpoint()

def fail(data):
    raise Boom

longest = 0
await bus.subscribe("a", "c", fail)
async with anyio.create_task_group() as group:
    group.start_soon(other)
    for number in range(61 * 2):
        heard.append(number)
        await bus.publish("a", delivery=DELIVERY, on_error="continue")
        longest = max(longest, len(heard))
    group.cancel_scope.cancel()
told = f"{longest} publishes in a row, with as many failures that are published too"
assert longest <= 31, f"{told}, and another task had no turn"
"""
MANY: Final = """
everyone, seen = anyio.Event(), set()

async def handler(number, data):
    heard.append(number)
    seen.add(mark.get())
    mark.set(number)
    if len(heard) == 40:
        everyone.set()
    await everyone.wait()

for number in range(40):
    await bus.subscribe("a", "c", partial(handler, number))
await bus.publish("a", delivery=DELIVERY, on_error=POLICY)
assert heard == [*range(40)], f"40 handlers were started in the order {heard}"
assert seen == {None}, f"40 handlers saw {seen} in a context variable that nobody had set"
"""
