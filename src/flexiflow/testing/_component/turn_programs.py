"""Programs that assert what the clauses C3 and C4 promise, beyond what scripts show."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._component.programs import fill

TURNS: Final = fill(
    """
met = anyio.Event()

async def wait(message, component):
    if component.name == "a":
        with anyio.move_on_after(1):
            await met.wait()
            heard.append("met")
    else:
        met.set()

HOSTED
await engine.register(factory("b", machine=machine))
async with anyio.create_task_group() as group:
    group.start_soon(engine.send, "a", {"type": "go"})
    await settle()
    group.start_soon(engine.send, "b", {"type": "go"})
assert heard == ["met"], "a component waited for another one's message to be handled"
""",
    """
async def wait(message, component):
    heard.append("begins")
    await settle()
    heard.append("ends")

HOSTED
async with anyio.create_task_group() as group:
    group.start_soon(engine.send, "a", {"type": "go"})
    group.start_soon(component.handle_message, {"type": "go"})
assert heard == ["begins", "ends"] * 2, f"send and handle_message at once: {heard}"
""",
    """
def make(name):
    return factory(name, machine=machine)

async def wait(message, component):
    served[component.name].append(message["number"])

async def tell(data):
    await gate.wait()

async def send(name, number):
    sent[name].append(number)
    await engine.send(name, {"type": "go", "number": number})

gate = anyio.Event()
sent, served = {"a": [], "b": []}, {"a": [], "b": []}
machine = StateMachine("s0", [Transition("*", "go", "s1", action=wait)])
engine = new_engine(component_factory=make)
await engine.bus.subscribe("engine.component.registered", "o", tell)
async with anyio.create_task_group() as group:
    group.start_soon(engine.register, make("a"))
    await settle()
    for number in range(4):
        group.start_soon(send, "a", number)
        group.start_soon(send, "b", number)
    await settle()
    gate.set()
told = "those who waited for it to be registered were served as"
assert served["a"] == sent["a"], f"{told} {served['a']}, not {sent['a']}"
told = "those who waited for it to be made were served as"
assert served["b"] == sent["b"], f"{told} {served['b']}, not {sent['b']}"
""",
)

_CYCLE: Final = """
async def act(message, component):
    await settle()
    outcomes.append(await engine.send(following[component.name], {"type": "note"}))

following = NEXT
outcomes = []
HOSTED
for name in "bc":
    await engine.register(factory(name, machine=machine))
with anyio.move_on_after(1):
    async with anyio.create_task_group() as group:
        for name in following:
            group.start_soon(engine.send, name, {"type": "go"})
assert len(outcomes) == len(heard) == len(following), "some that send in a cycle wait for ever"
told = f"of messages that are sent in a cycle, {outcomes.count(Outcome.DEFERRED)} were deferred"
assert outcomes.count(Outcome.DEFERRED) == 1, told
"""
_CYCLES: Final = ('{"a": "b", "b": "a"}', '{"a": "b", "b": "c", "c": "a"}')
COMPLETION: Final = fill(
    """
async def act(message, component):
    if message.get("left", 0):
        await engine.send("a", {"type": "go", "left": message["left"] - 1})
    else:
        heard.append(message)

HOSTED
with anyio.move_on_after(1e3):
    await engine.send("a", {"type": "go", "left": 2_000})
assert len(heard) == 1, "a chain of 2,000 deferred messages did not come to its end"
""",
    """
async def act(message, component):
    with anyio.move_on_after(1):
        outcomes.append(await component.handle_message({"type": "note"}))
    outcomes.extend(heard)

outcomes = []
HOSTED
await engine.send("a", {"type": "go"})
told = f"handed to a component from within its own handling, a message came to {outcomes}"
assert outcomes == [Outcome.DEFERRED], told
assert heard == [{"type": "note"}], f"of what was handed to it from within, it handled {heard}"
""",
    """
async def act(message, component):
    await engine.send("a", {"type": "note", "sent": 1})
    await anyio.sleep_forever()

HOSTED
with anyio.move_on_after(1):
    await engine.send("a", {"type": "go"})
with anyio.move_on_after(1):
    await engine.send("a", {"type": "note", "sent": 2})
handled = [message["sent"] for message in heard]
assert handled == [1, 2], f"1 deferred by a send that is cancelled, then 2: it handled {handled}"
""",
    """
async def later():
    await gate.wait()
    outcomes.append(await engine.send("a", {"type": "note"}))

async def act(message, component):
    group.start_soon(later)

gate = anyio.Event()
outcomes = []
HOSTED
async with anyio.create_task_group() as group:
    await engine.send("a", {"type": "go"})
    gate.set()
told = f"a task that a handling has left behind got {outcomes}"
assert outcomes == [Outcome.TRANSITIONED], told
""",
    """
async def act(message, component):
    if component.name == "a":
        outcomes.append(await engine.send("b", {"type": "go"}))
    else:
        await settle()

outcomes = []
HOSTED
await engine.register(factory("b", machine=machine))
async with anyio.create_task_group() as group:
    group.start_soon(engine.send, "b", {"type": "go"})
    await checkpoint()
    group.start_soon(engine.send, "a", {"type": "go"})
told = f"sent to one that is busy, but waits for nobody: {outcomes}"
assert outcomes == [Outcome.TRANSITIONED], told
""",
    *(_CYCLE.replace("NEXT", following) for following in _CYCLES),
)
