"""Programs that assert what the clauses C1 and C2 promise."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._component.programs import fill

_WHILE_IT_IS_REGISTERED: Final = """
machine = StateMachine("s0", [Transition("*", "go", "s1")])
engine = new_engine()
gate = anyio.Event()

async def observe(data):
    await gate.wait()

async def send():
    try:
        await engine.send("a", {"type": "go"})
        heard.append("sent")
    except UnknownComponent:
        heard.append("unknown")

await engine.bus.subscribe("engine.component.registered", "o", observe)
async with anyio.create_task_group() as group:
    group.start_soon(engine.register, factory("a", machine=machine))
    await settle()
    group.start_soon(send)
    group.start_soon(send)
    await settle()
    early = list(heard)
    MEANWHILE
    gate.set()
assert early == [], "a message was handled before its component was registered"
assert heard == ["EXPECTED"] * 2, f"two that waited for a registration, to be EXPECTED: {heard}"
"""

REGISTERING: Final = fill(
    """
engine = new_engine()
await engine.bus.subscribe("engine.component.registered", "o", heard.append)
component = factory("a")
await engine.register(component)
assert dict(engine.components) == {"a": component}, "what was registered is not in components"
assert heard == [{"component": "a"}], f"its registration was published as {heard}"
""",
    """
HOSTED
await engine.bus.subscribe("**", "a", heard.append)
duplicate = factory("a")
with refused(DuplicateComponent, "a second component of one name is not refused"):
    await engine.register(duplicate)
assert engine.components["a"] is component, "a component that was refused replaced another"
await engine.bus.publish("b", 1)
assert heard == [1], f"after a duplicate was refused, a handler of the other one heard {heard}"
elsewhere = new_engine()
await elsewhere.register(duplicate)
assert "a" in elsewhere.components, "what was refused as a duplicate belongs to an engine"
""",
    """
engine = new_engine()
await engine.bus.subscribe("engine.component.registered", "o", heard.append)

async def register():
    try:
        await engine.register(factory("a"))
    except DuplicateComponent:
        heard.append("refused")

async with anyio.create_task_group() as group:
    group.start_soon(register)
    group.start_soon(register)
expected = [{"component": "a"}, "refused"]
assert sorted(heard, key=str) == sorted(expected, key=str), f"two at once came to {heard}"
""",
    """
engine = new_engine()
with anyio.CancelScope() as scope:
    scope.cancel()
    await engine.register(factory("a"))
if scope.cancelled_caught:
    assert "a" not in engine.components, "a register that was cancelled has registered"
    await engine.register(factory("a"))
""",
    """
HOSTED
other = new_engine()
with refused(ComponentError, "a component was registered with two engines"):
    await other.register(component)
assert "a" not in other.components, "what was refused is among the components"
outcome = await engine.send("a", {"type": "go"})
assert outcome is Outcome.TRANSITIONED, f"refused elsewhere, it made of a message {outcome}"
""",
    """
HOSTED
with refused(TypeError, "components is not read-only"):
    engine.components["b"] = component
""",
    _WHILE_IT_IS_REGISTERED.replace("MEANWHILE", "pass").replace("EXPECTED", "sent"),
    _WHILE_IT_IS_REGISTERED.replace("MEANWHILE", 'await engine.unregister("a")').replace(
        "EXPECTED", "unknown"
    ),
    """
HOSTED
await engine.unregister("a")
await engine.register(component)
outcome = await engine.send("a", {"type": "go"})
assert outcome is Outcome.TRANSITIONED, f"registered again, it made of a message {outcome}"
""",
    """
HOSTED
await engine.bus.subscribe("b", "a", heard.append)
await engine.unregister("a")
await engine.bus.publish("b", 1)
assert heard == [], "a subscription is there after its component was unregistered"
assert "a" not in engine.components, "what was unregistered is in components"
""",
    """
engine = new_engine()
with refused(UnknownComponent, "an unknown component was unregistered"):
    await engine.unregister("a")
""",
    """
gate = anyio.Event()

async def wait(message, component):
    begun.append(message)
    await gate.wait()

begun = []
HOSTED

async def send():
    try:
        heard.append(await engine.send("a", {"type": "go"}))
    except UnknownComponent:
        heard.append("unknown")

with anyio.move_on_after(1):
    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await settle()
        group.start_soon(send)
        await settle()
        await engine.unregister("a")
        await settle()
        gate.set()
        await settle()
expected = ["unknown", Outcome.TRANSITIONED]
# Two at once break C3.
if len(begun) == 1:
    assert heard == expected, f"who waited, and who was in hand, got {heard}, not {expected}"
    assert component.state == "s1", f"unregistered, it did not finish: it is in {component.state}"
""",
    """
async def act(message, component):
    with anyio.move_on_after(1), suppress(Exception):
        for _ in range(2):
            outcomes.append(await engine.send("a", {"type": "note"}))
    outcomes.extend(heard)
    await engine.unregister("a")

outcomes = []
HOSTED
await engine.bus.subscribe("event.handler.failed", "o", heard.append)
with log_kept() as records:
    await engine.send("a", {"type": "go"})
told = [(each["event_name"], each["component_name"], each["exception"]) for each in heard
        if isinstance(each.get("exception"), UnknownComponent)]
# What else may go wrong with a message to oneself breaks C4.
if outcomes == [Outcome.DEFERRED] * 2:
    assert len(told) == 2, f"of 2 deferred messages of what left were {len(told)} published"
    names = {each[:2] for each in told}
    assert names == {("component.message.received", "a")}, f"published as {names}"
    logged = [each.levelname for each in records if each.exc_info]
    assert logged == ["ERROR"] * 2, f"2 deferred messages of what left were logged as {logged}"
""",
)

_MAKING: Final = """\
async def make(name):
    asked.append(name)
    await settle()
    RESULT

async def send():
    try:
        heard.append(await engine.send("a", {"type": "note"}))
    except Exception as error:
        heard.append(type(error))

asked = []
engine = new_engine(component_factory=make)
async with anyio.create_task_group() as group:
    for _ in range(3):
        group.start_soon(send)"""

_ASK: Final = """\
    with anyio.fail_after(1):
        await engine.send("a", {"type": "go"})"""

MAKING: Final = fill(
    f"""
{_MAKING.replace("RESULT", "return factory(name)")}
assert asked == ["a"], f"the factory was asked {{len(asked)}} times for a name"
assert heard == [Outcome.IGNORED] * 3, f"senders that ask at the same time got {{heard}}"
assert list(engine.components) == ["a"], "what the factory gave is not registered"
""",
    """
def make(name):
    heard.append(name)
    return factory(name)

engine = new_engine(component_factory=make)
await engine.bus.subscribe("engine.component.registered", "o", heard.append)
for _ in range(2):
    await engine.send("a", {"type": "go"})
assert heard == ["a", {"component": "a"}], f"asked for and registered as {heard}"
""",
    *(
        f"""
{_MAKING.replace("RESULT", result)}
assert heard == [{error}] * 3, f"with `{result}` in the factory, the senders got {{heard}}"
assert asked == ["a"], f"with `{result}` in it, a factory was asked {{len(asked)}} times"
await send()
assert asked == ["a", "a"], "a factory that gave nothing for a name is not asked again"
"""
        for result, error in (("raise Boom", "Boom"), ("return None", "UnknownComponent"))
    ),
    """
async def make(name):
    heard.append(name)
    if len(heard) == 1:
        await anyio.sleep_forever()
    return factory(name)

engine = new_engine(component_factory=make)

async def leave():
    with scope:
        await engine.send("a", {"type": "go"})

scope = anyio.CancelScope()
with anyio.move_on_after(1):
    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await settle()
        group.start_soon(engine.send, "a", {"type": "go"})
        await settle()
        scope.cancel()
told = f"after the asker was cancelled, the factory was asked {len(heard)} times"
assert heard == ["a", "a"], told
assert "a" in engine.components, "after the asker was cancelled, nothing was registered"
""",
    f"""
def make(name):
    return None

engine = new_engine(component_factory=make)
with refused(UnknownComponent, "a factory that gives None gives something") as errors:
{_ASK}
assert isinstance(errors[0], KeyError), "an unknown component is no KeyError"
""",
    f"""
async def make(name):
    await engine.send("a", {{"type": "go"}})

engine = new_engine(component_factory=make)
with refused(ComponentError, "a factory may ask for the very name") as errors:
{_ASK}
told = "a factory that asks for the very name is told that it is unknown"
assert not isinstance(errors[0], UnknownComponent), told
""",
    """
async def make(name):
    if name == "a":
        await engine.send("b", {"type": "go"})
    return factory(name)

engine = new_engine(component_factory=make)
await engine.send("a", {"type": "go"})
made = sorted(engine.components)
assert made == ["a", "b"], f"a factory that sends to another unknown name has made {made}"
""",
    f"""
def make(name):
    return factory("b")

engine = new_engine(component_factory=make)
with refused(ComponentError, "a factory may give a component of another name"):
{_ASK}
assert not engine.components, "a component of another name was registered"
""",
    """
engine = new_engine()
await engine.register(factory("order-1"))
with refused(UnknownComponent, "a message to nobody was taken") as errors:
    await engine.send("order-2", {"type": "go"})
assert "order-1" in str(errors[0]), f"{errors[0]!s} does not name the closest name"
""",
)
