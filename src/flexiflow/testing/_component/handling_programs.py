"""Programs that assert what the clauses C5 to C10 promise, beyond what scripts show."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._component.programs import fill

_REFUSED_MESSAGE: Final = """
HOSTED
await engine.bus.subscribe("**", "o", heard.append)
with refused(ERROR, "GIVEN is not refused with ERROR"):
    await CALL(GIVEN)
assert heard == [], f"of what is no message was published {heard}"
"""
_CHANGED_AS_IT_WAITS: Final = """
HOSTED
sent = {"type": "note", "value": 1}
gate = anyio.Event()

async def observe(data):
    await gate.wait()

await engine.bus.subscribe("component.message.received", "o", observe)
async with anyio.create_task_group() as group:
    group.start_soon(engine.send, "a", {"type": "note", "value": 0})
    await settle()
    group.start_soon(GIVE, MappingProxyType(sent))
    await settle()
    sent["value"] = 2
    gate.set()
assert heard[1:] == [{"type": "note", "value": 1}], f"sent as 1, it was handled as {heard[1:]}"
"""
STEPS: Final = fill(
    *(
        _REFUSED_MESSAGE.replace("CALL(GIVEN)", call)
        .replace("GIVEN", given)
        .replace("ERROR", error)
        for given, error in (
            ("None", "TypeError"),
            ("'go'", "TypeError"),
            ("{}", "ValueError"),
            ("{'type': 1}", "ValueError"),
        )
        for call in (f'engine.send("a", {given})', f"component.handle_message({given})")
    ),
    """
HOSTED
sent = {"type": "note", "value": 1}
await engine.bus.subscribe("component.message.received", "o", lambda data: sent.update(value=2))
await engine.send("a", MappingProxyType(sent))
assert heard == [{"type": "note", "value": 1}], f"it was handled as it was changed: {heard}"
""",
    *(
        _CHANGED_AS_IT_WAITS.replace("GIVE", give)
        for give in ('engine.send, "a"', "component.handle_message")
    ),
    """
HOSTED

def fail(data):
    raise Boom

await engine.bus.subscribe("component.message.received", "o", fail)
await engine.bus.subscribe("state.changed", "o", fail)
outcome = await engine.send("a", {"type": "go"})
assert outcome is Outcome.TRANSITIONED, f"with observers that fail, the outcome is {outcome}"
assert component.state == "s1", f"with observers that fail, the state is {component.state}"
""",
    """
HOSTED
assert (await component.handle_message({"type": "note"})) is Outcome.TRANSITIONED
component = factory("b", machine=StateMachine("s0", machine.transitions))
outcome = await component.handle_message({"type": "go"})
assert outcome is Outcome.TRANSITIONED, f"without an engine, the outcome is {outcome}"
assert component.state == "s1", f"without an engine, the state is {component.state}"
""",
)

_STRAY: Final = """
async def stray(*_):
    raise await kept_cancellation()

machine = StateMachine("s0", [Transition("*", "go", "s1", ROLE=stray)])
engine = new_engine()
component = factory("a", machine=machine)
await engine.register(component)
with refused(HandlerCancelled, "a stray cancellation of a ROLE is lost") as errors:
    await engine.send("a", {"type": "go"})
assert component.state == "s0", f"after a stray cancellation the state is {component.state}"
"""
_CAUSE: Final = """\
cause = errors[0].__cause__
assert isinstance(cause, anyio.get_cancelled_exc_class()), f"HandlerCancelled is from {cause!r}"
"""
STRAYS: Final = fill(
    _STRAY.replace("ROLE", "guard") + _CAUSE,
    _STRAY.replace("ROLE", "action") + _CAUSE,
    """
async def make(name):
    raise await kept_cancellation()

engine = new_engine(component_factory=make)
with refused(HandlerCancelled, "a stray cancellation of a factory is lost") as errors:
    await engine.send("a", {"type": "go"})
"""
    + _CAUSE,
)

INTERNAL: Final = fill(
    """
def is_new(message, component):
    return message not in heard

rows = [Transition("s0", "note", None, guard=is_new, action=noted)]
component = factory("a", machine=StateMachine("s0", rows))
engine = new_engine()
await engine.register(component)
await engine.bus.subscribe("state.changed", "o", heard.append)
outcome = await engine.send("a", {"type": "note"})
assert heard == [{"type": "note"}], f"of an internal transition was heard {heard}"
assert component.state == "s0", f"an internal transition led to {component.state}"
assert outcome is Outcome.TRANSITIONED, f"the outcome of an internal transition is {outcome}"
# What becomes of a message that nothing matches is a matter of C8.
with suppress(TransitionRefused):
    await engine.send("a", {"type": "note"})
assert heard == [{"type": "note"}], f"of an internal transition that a guard refuses: {heard}"
""",
    """
machine = StateMachine("s0", [Transition("s0", "go", "s0")])
engine = new_engine()
await engine.register(factory("a", machine=machine))
await engine.bus.subscribe("state.changed", "o", heard.append)
outcome = await engine.send("a", {"type": "go"})
expected = [{"component": "a", "from_state": "s0", "to_state": "s0"}]
assert heard == expected, f"of a transition to its own source was published {heard}"
assert outcome is Outcome.TRANSITIONED, f"the outcome of one to its own source is {outcome}"
""",
)

UNMATCHED: Final = fill(
    """
HOSTED
await engine.bus.subscribe("state.changed", "o", heard.append)
outcome = await engine.send("a", {"type": "other"})
assert outcome is Outcome.IGNORED, f"of a message that nothing matches came {outcome}"
assert (heard, component.state) == ([], "s0"), "a message that nothing matches changed something"
""",
    """
engine = new_engine()
await engine.register(factory("a"))
outcome = await engine.send("a", {"type": "other"})
assert outcome is Outcome.IGNORED, f"of a message to a component without a machine came {outcome}"
""",
    """
def refuse(message, component):
    return False

rows = [Transition("s0", "go", "s1"), Transition("s0", "wait", "s1", guard=refuse)]
component = factory("a", machine=StateMachine("s0", rows, strict=True))
engine = new_engine()
await engine.register(component)
for sent in ("other", "wait"):
    with refused(TransitionRefused, f"a strict machine ignores {sent!r}") as errors:
        await engine.send("a", {"type": sent})
    unnamed = [word for word in ("s0", sent, "go") if word not in str(errors[0])]
    assert not unnamed, f"{errors[0]!s} does not name {unnamed}"
assert component.state == "s0", f"a message that was refused led to {component.state}"
""",
)

SHARED: Final = fill(
    """
HOSTED
rows = machine.transitions
other = factory("b", machine=machine)
await engine.register(other)
await engine.send("a", {"type": "go"})
states = component.state, other.state
assert states == ("s1", "s0"), f"of two with one machine, one was sent a message: {states}"
assert component.machine is machine, "machine is not what was given"
assert machine.transitions is rows, "the machine has changed"
""",
    """
HOSTED
await engine.send("a", {"type": "go"})
late = factory("b", machine=machine)
assert late.state == "s0", f"made after another one has moved, it begins in {late.state}"
""",
    """
component = factory("a")
for name in ("name", "machine", "state"):
    with refused(AttributeError, f"{name} can be set"):
        setattr(component, name, None)
""",
)

COPIES: Final = fill(
    """
HOSTED
await engine.bus.subscribe(
    "component.message.received", "o", lambda data: data["message"].update(value=2)
)
await engine.send("a", {"type": "note", "value": 1})
assert heard == [{"type": "note", "value": 1}], f"an observer's change reached it: {heard}"
""",
    """
HOSTED
nested = []
await engine.bus.subscribe(
    "component.message.received", "o", lambda data: data["message"]["value"].append(2)
)
await engine.send("a", {"type": "note", "value": nested})
assert heard[0]["value"] is nested, "nested values are not shared"
assert nested == [2], "an observer has other nested values"
""",
    """
HOSTED
sent = {"type": "note", "value": 1}
await engine.bus.subscribe(
    "component.message.received", "o", lambda data: data["message"].clear()
)
await engine.send("a", sent)
assert sent == {"type": "note", "value": 1}, f"an observer's change reached the sender: {sent}"
""",
)
