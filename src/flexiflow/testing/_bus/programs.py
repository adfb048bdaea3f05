"""Programs that assert what the clauses B1, B2, B3, B6, B7 and B10 promise."""

from __future__ import annotations

from typing import Final

BOUND_TO_NO_LOOP: Final = (
    """
async def handler(data):
    heard.append(data)
    await checkpoint()

await bus.subscribe("a", "c", handler)
await bus.publish("a", 1, delivery=DELIVERY, on_error=POLICY)
""",
    """
await bus.publish("a", 2, delivery=DELIVERY, on_error=POLICY)
assert heard == [1, 2], f"heard in two runs: {heard}, not [1, 2]"
""",
)

SUBSCRIPTIONS: Final = (
    """
s = await bus.subscribe("a.*", "c", print, priority=2)
given = (s.event_name, s.component_name, s.priority, s.active)
assert given == ("a.*", "c", 2, True), f"the attributes of a new subscription are {given}"
bus.unsubscribe(s)
assert s.active is False, "active stays true after unsubscribe"
""",
    """
s = await bus.subscribe("a", "c", print)
bus.unsubscribe_all("c")
assert s.active is False, "active stays true after unsubscribe_all"
s = await bus.subscribe("a", "c", print, once=True)
await bus.publish("a", delivery=DELIVERY)
assert s.active is False, "active stays true after its one time"
with await bus.subscribe("a", "c", print) as s:
    assert s.active is True, "active is not true within its `with`"
assert s.active is False, "active stays true after its `with`"
""",
    """
s = await bus.subscribe("a", "c", print)
for name in ("event_name", "component_name", "priority", "active"):
    try:
        setattr(s, name, 1)
    except (AttributeError, TypeError):
        pass
    else:
        raise AssertionError(f"{name} can be set")
""",
    """
with await bus.subscribe("a", "c", heard.append) as s:
    await bus.publish("a", 1, delivery=DELIVERY)
await bus.publish("a", 2, delivery=DELIVERY)
assert heard == [1], f"heard {heard}, of which only 1 was published within the `with`"
try:
    with await bus.subscribe("a", "c", heard.append):
        raise Boom
except Boom:
    pass
else:
    raise AssertionError("the `with` swallowed an exception")
await bus.publish("a", 3, delivery=DELIVERY)
assert heard == [1], "the subscription went on after its `with` was left by an exception"
""",
    """
first = await bus.subscribe("a", "c", heard.append)
second = await bus.subscribe("a", "c", heard.append)
await bus.publish("a", 1, delivery=DELIVERY)
assert heard == [1, 1], f"a handler subscribed twice heard {heard}"
assert len({first, second}) == 2, "two subscriptions are equal, or have no hash"
bus.unsubscribe(first)
await bus.publish("a", 2, delivery=DELIVERY)
assert heard == [1, 1, 2], f"with one of two subscriptions ended, its handler heard {heard}"
""",
    """
with anyio.CancelScope() as scope:
    scope.cancel()
    await bus.subscribe("a", "c", heard.append)
assert scope.cancelled_caught, "subscribe is no checkpoint"
await bus.publish("a", 1)
assert heard == [], "a subscribe that was cancelled has subscribed"
""",
    """
for turns in range(5):
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel_after, scope, turns)
            await bus.subscribe("a", "c", heard.append)
        group.cancel_scope.cancel()
    if scope.cancelled_caught:
        assert bus.unsubscribe_all("c") == 0, "a subscribe that was cancelled has subscribed"
    bus.unsubscribe_all("c")
""",
    """
await bus.subscribe("a", "c", lambda data: heard.append(data))
gc.collect()
await bus.publish("a", 1)
assert heard == [1], "a handler that only the bus refers to is gone"
""",
)

_REFUSED: Final = """
await bus.subscribe("a", "c", heard.append)
try:
    CALL
except ERROR:
    pass
else:
    raise AssertionError("not refused with ERROR")
await bus.publish("a", 1)
assert heard == [1], f"what was refused changed something: heard {heard}, not [1]"
count = bus.unsubscribe_all("c")
assert count == 1, f"what was refused changed something: {count} subscriptions, not 1"
"""
_BAD_VALUES: Final = (
    *(
        f'await bus.subscribe("a", "c", heard.append, priority={bad})'
        for bad in (0, 6, True, 2.5, "'3'", None)
    ),
    *(
        f'await bus.subscribe({bad!r}, "c", heard.append)'
        for bad in ("", ".a", "a.", "a..b", "**.a", "a*")
    ),
    'await bus.subscribe("a", "", heard.append)',
    *(f"await bus.publish({bad!r}, 2)" for bad in ("", ".a", "a..b", "*", "a.**")),
    'await bus.publish("a", 2, delivery="parallel")',
    'await bus.publish("a", 2, on_error="ignore")',
)
_BAD_TYPES: Final = (
    'await bus.subscribe(1, "c", heard.append)',
    'await bus.subscribe("a", None, heard.append)',
    "await bus.publish(None, 2)",
    *(
        f'await bus.subscribe("a", "c", {bad})'
        for bad in ("None", "'c'", "lambda: 1", "lambda a, b: 1", "lambda a, *, b: 1")
    ),
    'await bus.subscribe("a", "c", early)',
    'await bus.subscribe("a", "c", generator)',
    'await bus.subscribe("a", "c", async_generator)',
    'await bus.subscribe("a", "c", partial(generator))',
    'await bus.subscribe("a", "c", heard.append, filter=1)',
    'await bus.subscribe("a", "c", heard.append, filter=lambda data: True)',
    'await bus.subscribe("a", "c", heard.append, filter=async_filter)',
)
REFUSALS: Final = tuple(
    _REFUSED.replace("CALL", call).replace("ERROR", error)
    for error, calls in (("ValueError", _BAD_VALUES), ("TypeError", _BAD_TYPES))
    for call in calls
)

_HELD: Final = """
class Held:
    def __call__(self, data):
        pass

held = Held()
alive = weakref.ref(held)
s = await bus.subscribe("a", "c", held)
await bus.publish("a", 1, delivery=DELIVERY)
END
del s, held
gc.collect()
assert alive() is None, "a handler that was unsubscribed stays in memory"
"""
REMOVALS: Final = (
    _HELD.replace("END", "bus.unsubscribe(s)"),
    _HELD.replace("END", 'bus.unsubscribe_all("c")'),
    _HELD.replace("END", "with s:\n    pass"),
    _HELD.replace("END\n", "").replace(", held)", ", held, once=True)"),
    """
s = await bus.subscribe("a", "c", heard.append)
other = NEW_BUS
assert other.unsubscribe(s) is False, "another bus unsubscribed it"
assert other.unsubscribe_all("c") == 0, "another bus unsubscribed its component"
await bus.publish("a", 1)
assert heard == [1], "another bus ended the subscription"
""",
)

_HANDLED: Final = """
DEFINITION
payload = ["a payload"]
await bus.subscribe("a", "c", HANDLER)
failures = await bus.publish("a", payload, delivery=DELIVERY, on_error="continue")
assert [*map(id, heard)] == [id(payload)], f"given {payload} it heard {heard}, or did not end"
assert not failures, f"its call was taken for the failure {failures[0].exception!r}"
"""
_HANDLERS: Final = {
    "heard.append": "",
    "lambda data: heard.append(data)": "",
    "handler": "async def handler(data):\n    await checkpoint()\n    heard.append(data)",
    "partial(handler, 1)": "async def handler(first, data):\n"
    "    await checkpoint()\n    heard.append(data)",
    "partial(sync, 1)": "def sync(first, data):\n    heard.append(data)",
    "Sync().method": "class Sync:\n    def method(self, data):\n        heard.append(data)",
    "Sync()": "class Sync:\n    def __call__(self, data):\n        heard.append(data)",
    "Object().method": "class Object:\n    async def method(self, data):\n"
    "        await checkpoint()\n        heard.append(data)",
    "Object()": "class Object:\n    async def __call__(self, data):\n"
    "        await checkpoint()\n        heard.append(data)",
    "lambda data: handler(data)": "async def handler(data):\n"
    "    await checkpoint()\n    heard.append(data)",
    "Awaitable": "class Awaitable(Later):\n    def __init__(self, data):\n"
    "        self.data = data\n\n    def __await__(self):\n"
    "        yield from super().__await__()\n        heard.append(self.data)",
}
_INLINE: Final = """
await bus.subscribe("a", "c", lambda data: heard.append(get_ident()))
await bus.publish("a", 1, delivery=DELIVERY)
assert heard == [get_ident()], "a sync handler ran in another thread, or not at all"
"""
CALLABLES: Final = (
    _INLINE,
    *(
        _HANDLED.replace("DEFINITION\n", definition and f"{definition}\n\n").replace(
            "HANDLER", handler
        )
        for handler, definition in _HANDLERS.items()
    ),
)

BUILT_IN: Final = """
def fail(data):
    raise Boom

await bus.subscribe("PATTERN", "c", heard.append)
await bus.subscribe("a", "c", fail)
await bus.publish("a", delivery=DELIVERY, on_error="continue")
await settle()
assert any(heard), "PATTERN did not hear event.handler.failed"
"""
