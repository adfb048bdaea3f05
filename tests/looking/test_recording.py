"""What is added up for a report: L7."""

import math
from queue import Queue
from typing import Any

import pytest

from flexiflow import Component, Engine, StateMachine, Transition
from flexiflow.events import BUILT_IN, HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.extras._pictures import lives
from flexiflow.extras._pictures import recorder as module
from flexiflow.extras._pictures.lives import Life
from flexiflow.extras._pictures.tally import OTHER, Chain, Rate, Room
from tests.looking.shops import LAMP, Lamp, lamps, recording, switch

NOON = 1_262_347_200.0
"""2010-01-01T12:00:00Z."""


def fail(_: object) -> None:
    """Be a handler that fails."""
    raise KeyError("missing")


def steps(life: Life) -> dict[tuple[str, str], tuple[int, float | None, float]]:
    """Return the number of each kind of transition, and the mean and longest time before it."""
    return {states: (it.count, it.mean, it.longest) for states, it in life.steps.items()}


def failures(chain: Chain, *names: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Return how often what failed under a chain of events, and the line that it began with."""
    for name in names:
        chain = chain.effects[name]
    return {key: (it.count, it.place) for key, it in chain.failures.items()}


async def test_transitions_are_timed_by_the_log() -> None:
    """L7: how often, and how long the state before lasted, by what messages have in `at`."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at="2010-01-01T12:00:00Z")
    await switch(engine, "lamp", "off", at=NOON + 4)
    await switch(engine, "lamp", "on", at="2010-01-01T13:00:10+01:00")
    await switch(engine, "lamp", "off", at=NOON + 20)
    [life] = recorder.lives.kinds.values()
    assert steps(life) == {("off", "on"): (2, 6.0, 6.0), ("on", "off"): (2, 7.0, 10.0)}
    assert (life.components, recorder.is_of_log) == (["lamp"], True)
    assert sum(count for _, count in recorder.messages.periods()) == 4


async def test_without_times_those_of_the_run_count() -> None:
    """L7: the first message decides; what comes later in `at` is passed over."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    await switch(engine, "lamp", "off", at=NOON)
    await switch(engine, "lamp", "on")
    [life] = recorder.lives.kinds.values()
    assert recorder.is_of_log is False
    assert life.steps["on", "off"].timed == life.steps["off", "on"].timed == 1
    assert recorder.messages.periods()[-1][0] < NOON


@pytest.mark.parametrize(
    "at",
    [
        *(None, "soon", "", "0001-01-01T12:00:00Z", "2010" * 1_000, True, [], {}),
        *(math.nan, math.inf, 1e300, 10**400, -1e18, NOON * 1_000),
    ],
    ids=lambda at: repr(at)[:20],
)
async def test_what_is_no_time_is_unknown(at: Any) -> None:
    """L7: the message counts, and how long the state before it lasted is not known."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at=NOON)
    await switch(engine, "lamp", "off", at=at)
    await switch(engine, "lamp", "on", at=NOON + 1)
    [life] = recorder.lives.kinds.values()
    assert [(it.count, it.timed) for it in life.steps.values()] == [(2, 0), (1, 0)]


async def test_time_may_go_backwards() -> None:
    """L7: a message that was sent before the last one counts, and times nothing."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at=NOON)
    await switch(engine, "lamp", "off", at=NOON - 10)
    [life] = recorder.lives.kinds.values()
    assert life.steps["on", "off"].timed == 0
    assert [count for _, count in recorder.messages.periods() if count] == [1, 1]


async def test_components_with_the_same_states_stand_together() -> None:
    """L7: also if each has a machine of its own; the first few are named."""
    tables = [StateMachine("off", [Transition("off", "on", "on")]) for _ in range(6)]
    engine = Engine(component_factory=lambda name: Lamp(name, tables[int(name)]))
    recorder = await recording(engine)
    for number in range(6):
        await switch(engine, str(number), "on")
    [life] = recorder.lives.kinds.values()
    assert (steps(life)["off", "on"][0], life.components) == (6, ["0", "1", "2", "3"])


async def test_components_with_the_same_machine_are_named() -> None:
    """L7: each once, however often it changes its state."""
    engine = lamps()
    recorder = await recording(engine)
    for name in ("first", "second"):
        await switch(engine, name, "on", "off", "on")
    [life] = recorder.lives.kinds.values()
    assert (steps(life)["off", "on"][0], life.components) == (4, ["first", "second"])


async def test_the_transitions_of_a_component_that_is_gone_count() -> None:
    """L7: it may be unregistered before they are added up."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    await engine.unregister("lamp")
    [life] = recorder.lives.kinds.values()
    assert steps(life) == {("off", "on"): (1, None, 0.0)}


async def test_the_transition_in_which_a_component_leaves_counts() -> None:
    """L7: if it is not the first one: its machine was seen before."""
    engine = lamps()
    recorder = await recording(engine)

    async def leave(_: object, lamp: Component) -> None:
        await engine.unregister(lamp.name)

    rows = [Transition("off", "on", "on"), Transition("on", "off", "off", action=leave)]
    await engine.register(Component("lamp", machine=StateMachine("off", rows)))
    await switch(engine, "lamp", "on", "off")
    assert "lamp" not in engine.components
    [life] = recorder.lives.kinds.values()
    assert [it.count for it in life.steps.values()] == [1, 1]


async def test_another_component_may_take_a_name() -> None:
    """L7: its transitions are those of its own machine."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    await engine.unregister("lamp")
    other = StateMachine("off", [Transition("off", "on", "on"), Transition("on", "warn", "red")])
    await engine.register(Lamp("lamp", other))
    await switch(engine, "lamp", "on")
    assert [steps(it)["off", "on"][0] for it in recorder.lives.kinds.values()] == [1, 1]


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: of too many components, machines and kinds of machines some are left out."""
    for name in ("_MOST_COMPONENTS", "_MOST_MACHINES", "_MOST_KINDS"):
        monkeypatch.setattr(lives, name, 2)
    tables = [StateMachine("off", [Transition("off", "on", f"on{x}")]) for x in range(4)]
    engine = Engine(component_factory=lambda name: Lamp(name, tables[int(name)]))
    recorder = await recording(engine)
    for number in (0, 1, 2, 3, 3):
        await switch(engine, str(number), "on")
    assert [
        steps(it)["off", f"on{x}"][0] for x, it in enumerate(recorder.lives.kinds.values())
    ] == [1, 1]
    assert [*recorder.lives._stays] == ["2", "3"]
    assert len(recorder.lives._life_of) == 2


async def test_a_failure_has_the_time_of_the_last_message() -> None:
    """L7: that of the log, if messages tell it."""
    engine = lamps()
    await engine.bus.subscribe("alarm", "guard", fail)
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at=NOON)
    await switch(engine, "lamp", "off", at="soon")
    await engine.bus.publish("alarm")
    assert recorder.failures.periods() == [(NOON, 1)]


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        (MESSAGE_RECEIVED, {"component": "lamp", "message": {"at": NOON}}),
        (STATE_CHANGED, {"component": "lamp", "from_state": "off", "to_state": "on"}),
    ],
)
async def test_what_is_still_to_be_added_up_is_bounded(
    monkeypatch: pytest.MonkeyPatch, name: str, payload: dict[str, Any]
) -> None:
    """L7: also if nobody asks for the numbers before the run has ended."""
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    engine = lamps()
    await engine.register(Lamp("lamp"))
    recorder = await recording(engine)
    kept: list[int] = []
    for _ in range(4):
        await engine.bus.publish(name, payload)
        kept.append(len(recorder._heard))
    assert kept == [1, 2, 0, 1]


async def test_of_long_times_no_text_is_kept() -> None:
    """L7: many of them would take much memory until they are added up."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at=NOON)
    await switch(engine, "lamp", "off", at="2010" * 1_000)
    await switch(engine, "lamp", "on", at="2010-01-01T12:00:00Z")
    assert [type(at) for at in recorder._times] == [float, float, str]


async def test_a_time_that_no_chart_can_show_is_unknown() -> None:
    """L7: also among times that are all texts."""
    engine = lamps()
    recorder = await recording(engine)
    for at in ("2010-01-01T12:00:00Z", "0001-01-01T12:00:00Z"):
        await switch(engine, "lamp", "on", at=at)
    assert recorder.messages.periods() == [(NOON, 1)]


async def test_messages_are_counted_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: none is left out, whenever the numbers are asked for."""
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    engine = lamps()
    recorder = await recording(engine)
    for times in (1, 2):
        await switch(engine, "lamp", "on", "off", "on", at=NOON)
        assert sum(count for _, count in recorder.messages.periods()) == 3 * times


async def test_handlers_are_measured() -> None:
    """L7: calls, failures and time, by event and component, those of the run itself left out."""
    engine = lamps()
    await engine.bus.subscribe("alarm", "guard", fail)
    await engine.bus.subscribe("alarm", "siren", lambda _: None)
    recorder = await recording(engine)
    await engine.bus.publish("alarm")
    await engine.bus.publish("alarm")
    measured = {it.labels: (sum(it.counts), it.failures) for it in recorder.handlers.measured()}
    assert measured == {("alarm", "guard"): (2, 2), ("alarm", "siren"): (2, 0)}


async def test_a_failure_is_under_what_caused_it() -> None:
    """L7: under the event whose handler failed, and that one under the event that caused it."""
    engine = lamps()
    bus = engine.bus
    await bus.subscribe("order", "shop", lambda _: bus.publish("paid"))
    await bus.subscribe("paid", "store", fail)
    recorder = await recording(engine, place=lambda: 7)
    await bus.publish("order")
    await bus.publish("order")
    await bus.publish("paid")
    failed = ("store", "KeyError: 'missing'")
    assert failures(recorder.events, "order", "paid") == {failed: (2, 7)}
    assert failures(recorder.events, "paid") == {failed: (1, 7)}
    assert recorder.events.all_failures == 3
    assert sum(count for _, count in recorder.failures.periods()) == 3


async def test_a_subscription_that_comes_later_is_seen() -> None:
    """L7: at the next message; what led to its failures is known from the one after that on."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    await engine.bus.subscribe(STATE_CHANGED, "guard", fail)
    await switch(engine, "lamp", "off", "on")
    failed = {("guard", "KeyError: 'missing'"): (1, 0)}
    assert failures(recorder.events, STATE_CHANGED) == failed
    assert failures(recorder.events, MESSAGE_RECEIVED, STATE_CHANGED) == failed


async def test_a_failure_that_only_was_published_is_under_its_message() -> None:
    """L7: before anybody else subscribes, messages are all that can cause one."""
    engine = Engine()
    recorder = await recording(engine)

    async def tell(message: object, component: object) -> None:
        payload = {"event_name": "x", "component_name": "guard", "exception": KeyError("missing")}
        await engine.bus.publish(HANDLER_FAILED, payload)
        await engine.bus.publish(HANDLER_FAILED, payload)

    table = StateMachine("off", [Transition("off", "on", "on", action=tell)])
    await engine.register(Component("lamp", machine=table))
    await switch(engine, "lamp", "on")
    assert failures(recorder.events, MESSAGE_RECEIVED) == {("guard", "KeyError: 'missing'"): (1, 0)}


async def test_a_message_that_failed_counts_once() -> None:
    """L7: though both its sender and the report are told."""
    engine = lamps()
    recorder = await recording(engine)
    with pytest.raises(ValueError, match="no such luck") as caught:
        await switch(engine, "lamp", "break")
    recorder.fail_message("lamp", caught.value)
    recorder.fail_message("lamp", caught.value)
    assert failures(recorder.events, MESSAGE_RECEIVED) == {
        ("lamp", "ValueError: no such luck"): (1, 0)
    }


class Hostile(str):
    """A text that can't be looked up, nor compared with another one."""

    __slots__ = ()

    def __hash__(self) -> int:
        """Fail."""
        raise KeyError(len(self))

    def __eq__(self, other: object) -> bool:
        """Fail too."""
        raise KeyError(other)


ODD: list[Any] = [
    None,
    Queue(),
    {"component": "lamp", "message": Queue()},
    {"component": "lamp", "from_state": "off", "to_state": Hostile("blue")},
    {"component": Hostile("other"), "from_state": Hostile("off"), "to_state": "on"},
    {"component": Hostile("other"), "message": {"at": Hostile("never")}},
    7,
    [],
    {},
    {"component": 7, "message": {}},
    {"component": "lamp", "message": 7},
    {"component": "other", "message": {}},
    {"component": []},
    {"component": "lamp"},
    {"component": "lamp", "from_state": [], "to_state": {}},
    {"component": "lamp", "from_state": "off", "to_state": "blue"},
    {"component": "lamp", "from_state": "blue", "to_state": "off"},
    {"component": "plain", "from_state": "off", "to_state": "on"},
    {"exception": "no exception", "component_name": "lamp"},
    {"exception": KeyError("missing"), "component_name": 7},
]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
async def test_odd_payloads_are_passed_over(name: str) -> None:
    """L7: anybody may publish anything under a built-in name."""
    engine = lamps()
    await engine.register(Component("plain"))
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    for payload in ODD:
        assert await engine.bus.publish(name, payload) == ()
    [life] = recorder.lives.kinds.values()
    assert ([it.count for it in life.steps.values()], recorder.events.all_failures) == ([1], 0)


async def test_a_transition_that_no_message_led_to_counts() -> None:
    """L7: how long the state before it lasted is not known."""
    engine = lamps()
    await engine.register(Lamp("lamp"))
    recorder = await recording(engine)
    payload = {"component": "lamp", "from_state": "off", "to_state": "on"}
    await engine.bus.publish(STATE_CHANGED, payload)
    [life] = recorder.lives.kinds.values()
    assert steps(life) == {("off", "on"): (1, None, 0.0)}


def test_a_rate_has_so_many_periods_at_most() -> None:
    """L7: they become longer, whether moments come one by one or all at once, in any order."""
    whole, single = Rate(), Rate()
    moments = [NOON + (number * 7_919) % 5_000 for number in range(5_000)]
    whole.add(moments)
    for moment in moments:
        single.add([moment])
    assert whole.periods() == single.periods()
    assert 60 <= len(whole.periods()) <= 120
    assert sum(count for _, count in whole.periods()) == 5_000
    assert Rate().periods() == []


def test_a_rate_has_no_gaps() -> None:
    """L7: a period in which nothing happened is there too, even if most are."""
    rate = Rate()
    rate.add([])
    rate.add([0.0, 3.0e11])
    counts = [count for _, count in rate.periods()]
    assert (counts[0], sum(counts), counts[-1], len(counts) > 60) == (1, 2, 1, True)


def test_a_chain_is_so_deep_at_most() -> None:
    """L7: what is deeper counts as the deepest."""
    chain = Chain("", Room())
    for _ in range(10_000):
        chain = chain.effect("again")
    chain.fail("guard", "oh", 1)
    assert chain.effect("again") is chain


def test_so_many_chains_are_told_apart() -> None:
    """L7: further names, and further failures, count together."""
    root = Chain("", Room(2))
    assert root.effect("one") is root.effect("one")
    root.fail("guard", "oh", 3)
    root.fail("guard", "oh", 4)
    root.fail("guard", "ah", 5)
    root.fail("guard", "eh", 6)
    assert root.effect("two") is root.effect("three") is root.effects[OTHER]
    assert failures(root) == {("guard", "oh"): (2, 3), (OTHER, OTHER): (2, 5)}


def test_a_long_name_is_cut() -> None:
    """L7: names that strangers make up take little memory."""
    root = Chain("", Room())
    assert root.effect("x" * 10_000) is root.effect("x" * 10_000)
    assert len(root.effect("x" * 10_000).name) <= 200


def test_what_has_no_states_counts_nothing() -> None:
    """L7: this stands for what is left out."""
    assert Life("", ()).new_step(("off", "on")) is None
    assert Life(LAMP.initial, LAMP.states).new_step(("off", "on")) is not None
