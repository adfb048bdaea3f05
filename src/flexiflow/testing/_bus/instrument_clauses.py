"""The checkers of the clauses of instruments, with their programs (I1 to I3)."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._examiner.checker import Checker, programs

CHANGES: Final = (
    """
watch = Watch("w")
await bus.publish("a")
bus.add_instrument(watch)
await bus.publish("a", 1, delivery=DELIVERY)
removed = [bus.remove_instrument(watch) for _ in range(2)]
await bus.publish("a", 2, delivery=DELIVERY)
assert heard == ["w enters a", "w leaves a"], f"added for one publish of three, it saw {heard}"
assert removed == [True, False], f"removing it twice returned {removed}"
""",
    """
async def handler(data):
    if data == 1:
        bus.add_instrument(Watch("w"))

for _ in range(2):
    await bus.subscribe("a", "c", handler)
await bus.publish("a", 1, delivery="sequential")
assert heard == [], f"added while a publish went on, it saw of that {heard}"
await bus.publish("a", 2, delivery="sequential")
assert "w enters a" in heard, f"added while a publish went on, it saw of the next {heard}"
""",
)

_ENTERED: Final = '"1 enters a", "2 enters a", "1 enters h", "2 enters h"'
_EXITED: Final = '"2 leaves h", "1 leaves h", "2 leaves a", "1 leaves a"'
VIEWS: Final = (
    f"""
for name in "12":
    bus.add_instrument(Watch(name))
await bus.subscribe("a", "h", heard.append)
await bus.publish("a", "called", delivery=DELIVERY)
expected = [{_ENTERED}, "called", {_EXITED}]
assert heard == expected, f"two that watch, and a handler: {{heard}}, not {{expected}}"
""",
    """
async def handler(data):
    await checkpoint()
    tasks["handler"] = anyio.get_current_task().id

class Tasks(Watch):
    def note(self, what, exception=None):
        tasks[what] = anyio.get_current_task().id

tasks = {}
bus.add_instrument(Tasks("w"))
await bus.subscribe("a", "h", handler)
await bus.publish("a", delivery=DELIVERY)
here = anyio.get_current_task().id
assert tasks["enters a"] == tasks["leaves a"] == here, "a publish is watched in another task"
expected = tasks["enters h"], tasks["leaves h"]
assert expected == (tasks["handler"],) * 2, "a handler is watched in another task than it runs in"
""",
    """
async def handler(data):
    await checkpoint()
    heard.append(mark.get())

class Marks(Watch):
    def note(self, what, exception=None):
        mark.set((mark.get() or "") + what[0] + what[-1])

bus.add_instrument(Marks("w"))
await bus.subscribe("a", "h", handler)
await bus.publish("a", delivery=DELIVERY)
told = "set around a publish and around a handler"
assert heard == ["eaeh"], f"{told}, a context variable was seen there as {heard}"
""",
    """
async def handler(data):
    raise await kept_cancellation()

class Failures(Watch):
    def note(self, what, exception=None):
        heard.extend([what, type(exception)] if exception else [])

bus.add_instrument(Failures("w"))
await bus.subscribe("a", "h", handler)
await bus.publish("a", delivery=DELIVERY, on_error="continue")
assert heard == ["leaves h", HandlerCancelled], f"of a stray cancellation it was shown {heard}"
""",
    """
def handler(data):
    raise error

class Swallows(Watch):
    def note(self, what, exception=None):
        heard.extend([what, exception] if exception else [])
        return True

error = Boom()
bus.add_instrument(Swallows("w"))
await bus.subscribe("a", "h", handler)
failures = await bus.publish("a", delivery=DELIVERY, on_error="continue")
assert [each.exception for each in failures] == [error], f"a failure became {failures}"
assert heard == ["leaves h", error], f"under `continue` it was shown {heard}"
with refused(Boom, "an instrument swallowed what leaves publish"):
    await bus.publish("a", delivery=DELIVERY, on_error="raise")
assert heard[2:] == ["leaves h", error, "leaves a", error], f"under `raise` it saw {heard[2:]}"
""",
)

_FAILS: Final = """
class Fails(Watch):
    def note(self, what, exception=None):
        super().note(what)
        if what == "WHEN":
            raise Boom

def handler(data):
    heard.append(data)

bus.add_instrument(Watch("1"))
bus.add_instrument(Fails("x"))
for _ in range(2):
    await bus.subscribe("a", "h", handler)
with log_kept() as records:
    for number in range(2):
        await bus.publish("a", number, delivery=DELIVERY, on_error=POLICY)
calls = [it for it in heard if it in (0, 1)]
assert calls == [0, 0, 1, 1], f"with an instrument that fails, two handlers heard {calls}"
logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
assert len(logged) == 1, f"of an instrument that fails was logged {logged}"
kept = [(heard.count(f"{x} enters {it}"), heard.count(f"{x} leaves {it}")) for PAIRS]
assert KEPT, f"entered and exited were, for another instrument, then for it, {kept}"
late = [it for it in heard[heard.index(1) :] if str(it).startswith("x enters")]
assert not late, f"an instrument that has failed still watches: {late}"
"""
FAILURES: Final = tuple(
    _FAILS.replace("WHEN", when)
    .replace("PAIRS", 'x, it in (("1", "a"), ("1", "h"), ("x", "a"), ("x", "h"))')
    .replace("KEPT", kept)
    for when, kept in (
        ("enters a", "kept == [(2, 2), (4, 4), (1, 0), (0, 0)]"),
        ("leaves a", "kept == [(2, 2), (4, 4), (1, 1), (2, 2)]"),
        ("enters h", "kept[:3] == [(2, 2), (4, 4), (1, 1)]"),
        ("leaves h", "kept[:3] == [(2, 2), (4, 4), (1, 1)]"),
    )
)
REFUSALS: Final = (
    """
class Refuses(Watch):
    def note(self, what, exception=None):
        super().note(what)
        if what == "enters a":
            raise PublishRefused

bus.add_instrument(Watch("1"))
bus.add_instrument(Refuses("2"))
await bus.subscribe("a", "h", heard.append)
for _ in range(2):
    with refused(PublishRefused, "a publish that an instrument refuses goes on"):
        await bus.publish("a", "called", delivery=DELIVERY, on_error=POLICY)
assert "called" not in heard, "a publish was refused, and its handler called"
expected = ["1 enters a", "2 enters a", "1 leaves a"] * 2
assert heard == expected, f"of two publishes that are refused they saw {heard}, not {expected}"
""",
    """
class Refuses(Watch):
    def publishing(self, event):
        if event.name == "event.handler.failed":
            raise PublishRefused
        return super().publishing(event)

def handler(data):
    raise Boom

bus.add_instrument(Refuses("w"))
await bus.subscribe("event.handler.failed", "c", lambda data: told.append(data["event_name"]))
await bus.subscribe("a", "h", handler)
told = []
for _ in range(2):
    await bus.publish("a", delivery=DELIVERY, on_error="continue")
assert told == ["a", "a"], f"of two failures, whose publishing is refused, were told {told}"
""",
)

I1 = Checker(programs(*CHANGES))
I2 = Checker(programs(*VIEWS))
I3 = Checker(programs(*FAILURES, *REFUSALS))
