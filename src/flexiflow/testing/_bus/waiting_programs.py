"""Programs that assert what the clauses S4 and T1 promise."""

from __future__ import annotations

from typing import Final

ORDER: Final = tuple(
    """
def note(event, data):
    reached.append(data)
    return True

async def publish(name):
    for number in range(3):
        await bus.publish("a", f"{name}{number}", delivery=DELIVERY)

reached = []
async with anyio.create_task_group() as group:
    async with bus.stream("a", buffer=BUFFER, filter=note) as events:
        for name in "xyz":
            group.start_soon(publish, name)
        async for event in events:
            heard.append(event.data)
            if len(heard) == 9:
                break
            await checkpoint()
assert heard == reached, f"publishes reached it as {reached}, but it gave {heard}"
""".replace("BUFFER", buffer)
    for buffer in ("1", "0", "2")
)
WAITING: Final = (
    """
async with bus.expect("a", filter=lambda event, data: data > 1) as expected:
    for number in range(4):
        await bus.publish("a", number, delivery=DELIVERY)
    event = await expected
assert event.data == 2, f"the first of 0 to 3 that is more than 1 was {event.data}"
""",
    """
async def wait():
    with anyio.move_on_after(9):
        heard.append((await bus.wait_for("a", filter=lambda event, data: data > 1)).data)

async with anyio.create_task_group() as group:
    group.start_soon(wait)
    await anyio.sleep(1)
    for number in range(4):
        await bus.publish("a", number, delivery=DELIVERY)
assert heard == [2], f"waiting for the first of 0 to 3 that is more than 1 gave {heard}"
""",
    """
def fail(event, data):
    raise Boom

async with bus.expect("a", filter=fail) as expected:
    failures = await bus.publish("a", delivery=DELIVERY, on_error=POLICY)
    with refused(Boom, "what the filter raised does not raise at the waiter"):
        await expected
assert not failures, f"what the filter of a waiter raised is a failure of publish: {failures}"
""",
    """
def note(event, data):
    heard.append(data)
    return False

with anyio.move_on_after(1):
    await bus.wait_for("a", filter=note)
await bus.publish("a", 0)
assert heard == [], "one who has given up waiting left its subscription"
""",
    """
def note(event, data):
    heard.append(data)
    return True

async with bus.expect("a", filter=note) as expected:
    for number in range(3):
        await bus.publish("a", number)
    event = await expected
assert heard == [0], f"it had its event, and the filter was asked for {heard}"
""",
)

TOPICS: Final = (
    """
topic = Topic("a.b")
assert isinstance(topic, str), "a topic is no str"
s = await bus.subscribe(topic, "c", heard.append)
await bus.subscribe(Topic("a.*"), "c", heard.append)
assert s.event_name == "a.b", f"subscribed to the topic a.b, it is to {s.event_name!r}"
await bus.publish("a.b", 1, delivery=DELIVERY)
await bus.publish(topic, 2, delivery=DELIVERY)
assert heard == [1, 1, 2, 2], f"a topic and a pattern, of 1 and 2 each, heard {heard}"
""",
    """
def note(event, data):
    heard.append(event)
    return False

await bus.subscribe("a", "c", print, filter=note)
await bus.publish(Topic("a"), delivery=DELIVERY)
assert heard == ["a"], f"of what was published to the topic a, the filter was told {heard}"
""",
    """
if hasattr(bus, "stream"):
    async with bus.stream(Topic("a")) as events:
        await bus.publish(Topic("a"), 1, delivery=DELIVERY)
        heard.append(await anext(events))
    assert [*map(tuple, heard)] == [("a", 1)], f"the stream of a topic gave {heard}"
""",
    """
if hasattr(bus, "expect"):
    async with bus.expect(Topic("a")) as expected:
        await bus.publish(Topic("a"), 1, delivery=DELIVERY)
        heard.append(await expected)
    assert [*map(tuple, heard)] == [("a", 1)], f"expecting a topic gave {heard}"
""",
)
