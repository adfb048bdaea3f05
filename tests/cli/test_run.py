"""What `flexiflow run` does with lines, events and failures (L2 to L5)."""

import json
import logging
import os
from pathlib import Path

import pytest

from flexiflow import EventBus, events
from flexiflow._cli.observing import observe
from flexiflow._cli.tally import Tally
from flexiflow.events import BUILT_IN, HANDLER_FAILED
from tests.cli.command_line import TARGET, run, send, write_target

TOLD = "which tell of what happened in it: publish an event of another name"

ALARM = '{"event": "alarm"}'

LISTENERS = """
async def wait(data):
    with anyio.fail_after(30):
        await COME.wait()
    print("one")

def come(data):
    COME.set()
    print("two")

async def engine():
    global COME
    COME = anyio.Event()
    engine = Engine(bus=EventBus(on_error="raise"))
    await engine.bus.subscribe("alarm", "none", fail)
    for event, first, second in [("meet", wait, come), ("*", come, wait)]:
        await engine.bus.subscribe(event, "first", first)
        await engine.bus.subscribe(event, "second", second)
    return engine
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Give a target with lamps, and with a handler of `alarm` that fails."""
    return write_target(tmp_path)


def test_messages_are_sent_and_events_shown_as_they_happen(target: str, backend_name: str) -> None:
    """L3: each built-in event is one line, in the order in which they happened."""
    ran = run("run", target, "--backend", backend_name, lines=[send("lamp-1", level=3)])
    message = {"type": "on", "level": 3}
    assert ran.status == 0
    assert [(event["event"], event["data"]) for event in ran.events] == [
        ("engine.component.registered", {"component": "lamp-1"}),
        ("component.message.received", {"component": "lamp-1", "message": message}),
        ("state.changed", {"component": "lamp-1", "from_state": "off", "to_state": "on"}),
    ]


def test_an_event_comes_before_what_it_leads_to(tmp_path: Path, backend_name: str) -> None:
    """L3: what the target's own observers make of an event is shown after it."""
    observer = """async def light_the_next(changed):
        if changed["component"] == "lamp":
            await engine.send("next lamp", {"type": "on"})
    await engine.bus.subscribe("state.changed", "tests", light_the_next)
    return engine"""
    target = write_target(tmp_path, TARGET.replace("return engine", observer))
    ran = run("run", target, "--backend", backend_name, lines=[send("lamp")])
    assert [event["data"]["component"] for event in ran.events] == ["lamp"] * 3 + ["next lamp"] * 3


def test_messages_are_counted_by_what_became_of_them(target: str, backend_name: str) -> None:
    """L4: the summary tells messages, transitions, ignored, failures and rejected lines."""
    kinds = ("on", "on", "off", "poke", "explode")
    lines = [*(send("lamp", kind) for kind in kinds), send("nobody"), ALARM]
    ran = run("run", target, "--backend", backend_name, lines=lines)
    assert ran.status == 1
    assert {name: count for name, count in ran.summary.items() if "second" not in name} == {
        "messages": 5,
        "events": 1,
        "transitions": 3,
        "ignored": 1,
        "failures": 2,
        "rejected lines": 1,
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), {"engine.component.registered", "component.message.received", "state.changed"}),
        (("--events", "state.*", "--events", "state.changed"), {"state.changed"}),
        (("--events", "order.*"), set[str]()),
        (("--quiet",), set[str]()),
        (("--quiet", "--events", "**"), set[str]()),
    ],
)
def test_the_events_that_are_shown_can_be_chosen(
    target: str, options: tuple[str, ...], names: set[str]
) -> None:
    """L3: `--events` shows what matches, each event once; `--quiet` shows none."""
    ran = run("run", target, *options, lines=[send("lamp")])
    assert sorted(ran.names) == sorted(names)


@pytest.mark.parametrize("options", [[], ["--trace"], ["--quiet"]], ids=str)
def test_what_nobody_heard_is_listed(tmp_path: Path, backend_name: str, options: list[str]) -> None:
    """L4, A2, B12: With `--unheard`, by name, the most frequent first.

    Answers do not count, nor do built-in events, or what the run itself hears.
    """
    source = """from flexiflow import Component, Engine, LimitDeadlock
async def engine():
    engine = Engine()
    async def hand_on(data):
        if not engine.components:
            await engine.register(Component("shelf"))
        await engine.bus.publish("order.stored", data)
    await engine.bus.subscribe("order.placed", "shop", hand_on)
    await engine.bus.answer("price", "shop", hand_on)
    async def ask(data):
        await engine.bus.ask("price", data)
    await engine.bus.subscribe("order.priced", "shop", ask)
    async def ask_itself(data):
        await engine.bus.ask("tax", data)
    await engine.bus.answer("tax", "shop", ask_itself, limit=1)
    async def fail(data):
        try:
            await engine.bus.ask("tax", data)
        except LimitDeadlock:
            await engine.bus.publish("tax.refused", data)
    await engine.bus.subscribe("order.taxed", "shop", fail)
    return engine
"""
    target = write_target(tmp_path, source)
    names = ["order.placed", "order.placd", "order.placd", "order.priced", "order.\x1b[31m"]
    names += ["price", "order.taxed"]
    lines = [json.dumps({"event": name}) for name in names]
    ran = run("run", target, "--backend", backend_name, "--unheard", *options, lines=lines)
    assert [line for line in ran.told.splitlines() if line.startswith("nobody")] == [
        "nobody heard order.stored (2 times)",
        "nobody heard order.placd (2 times)",
        r"nobody heard order.\x1b[31m (once)",
        "nobody heard price (once)",
        "nobody heard tax.refused (once)",
    ]
    assert "nobody" not in run("run", target, lines=lines).told


def test_the_memory_of_unheard_names_is_bounded(target: str) -> None:
    """L4, B10: Further names, and long ones, are counted together."""
    names = [f"n{number}" for number in range(1_001)] + ["n0", "n" * 1_000_000]
    ran = run("run", target, "--unheard", lines=[json.dumps({"event": name}) for name in names])
    listed = [line for line in ran.told.splitlines() if line.startswith("nobody")]
    assert len(listed) == 1_001
    assert listed[0] == "nobody heard n0 (2 times)"
    assert listed[-1] == "nobody heard events with other names (2 times)"


def test_a_failure_of_a_handler_is_an_event_and_a_report(target: str, backend_name: str) -> None:
    """L5: a handler's failure is told with its line, and shown with its exception's repr (L3)."""
    ran = run("run", target, "--backend", backend_name, lines=["", ALARM])
    (event,) = ran.events
    assert event["data"]["exception"] == "RuntimeError('this handler fails')"
    (report,) = ran.reports
    assert report.startswith("line 2: ")
    assert report.endswith(": RuntimeError: this handler fails")
    assert (ran.status, ran.summary["failures"]) == (1, 1)


def test_what_a_target_prints_is_no_output(tmp_path: Path, backend_name: str) -> None:
    """L3: standard output holds events alone, whatever a target prints there."""
    source = f"print('imported')\n{TARGET}\n    print('called')"
    source = source.replace("    return engine\n\n    print", "    print") + "\n    return engine"
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name)
    assert (ran.output, ran.reports) == ("", ["imported", "called"])


@pytest.mark.parametrize("delivery", ["concurrent", "tiered"])
def test_events_are_delivered_as_asked(tmp_path: Path, backend_name: str, delivery: str) -> None:
    """L2: with `--delivery`, handlers of an event in the input may wait for each other."""
    ran = run(
        *("run", write_target(tmp_path, TARGET + LISTENERS), "--backend", backend_name),
        *("--delivery", delivery),
        lines=['{"event": "meet"}'],
    )
    assert (ran.status, sorted(ran.reports)) == (0, ["one", "one", "two", "two"])


@pytest.mark.parametrize("options", [(), ("--delivery", "sequential")])
def test_events_are_delivered_in_the_bus_s_own_way(
    tmp_path: Path, backend_name: str, options: tuple[str, ...]
) -> None:
    """L2: without `--delivery` the bus's own way holds, and the data may be left out."""
    target = write_target(tmp_path, TARGET + LISTENERS)
    ran = run("run", target, "--backend", backend_name, *options, lines=['{"event": "note"}'])
    assert (ran.status, ran.reports) == (0, ["two", "one"])


@pytest.mark.parametrize(
    ("options", "told"),
    [((), []), (("--on-error", "raise"), []), (("--on-error", "continue"), ["two", "one"])],
    ids=["own way", "raise", "continue"],
)
def test_failures_of_events_are_handled_as_asked(
    tmp_path: Path, backend_name: str, options: tuple[str, ...], told: list[str]
) -> None:
    """L5: `--on-error` holds for the events of the input; either way a failure counts once."""
    target = write_target(tmp_path, TARGET + LISTENERS)
    ran = run("run", target, "--backend", backend_name, *options, lines=[ALARM])
    failure, *others = ran.reports
    assert "RuntimeError: this handler fails" in failure
    assert (others, ran.status, ran.summary["failures"], ran.summary["events"]) == (told, 1, 1, 1)


def test_what_the_engine_refuses_is_a_rejected_line(target: str, backend_name: str) -> None:
    """L5: a message that is refused, or is for nobody, is a rejected line."""
    lines = [send("strict-lamp"), send("strict-lamp"), send("strict-lump")]
    ran = run("run", target, "--backend", backend_name, lines=lines)
    refused, unknown = ran.reports
    assert refused.startswith("line 2: rejected: component 'strict-lamp' in state 'on' refuses")
    assert unknown.startswith("line 3: rejected: no component is named 'strict-lump'; did you mean")
    assert (ran.status, ran.summary["messages"], ran.summary["rejected lines"]) == (1, 1, 2)


def test_a_failing_action_is_a_failure_and_no_rejected_line(target: str, backend_name: str) -> None:
    """L5: what an action raises is told with its line, counts as a failure, and changes nothing."""
    ran = run("run", target, "--backend", backend_name, lines=[send("lamp", "explode")])
    assert ran.reports == ["line 1: failed: ValueError: no such luck"]
    assert (ran.summary["failures"], ran.summary["rejected lines"]) == (1, 0)
    assert "state.changed" not in ran.names


@pytest.mark.parametrize(
    ("to", "kind"), [("nobody", "on"), ("strict lamp", "off"), ("broken lamp", "on")]
)
def test_what_an_action_meets_elsewhere_is_a_failure(
    tmp_path: Path, backend_name: str, to: str, kind: str
) -> None:
    """L5: that another component is unknown or refuses is the failure of the action that sent."""
    source = TARGET.replace("    return engine", "    return THE_ENGINE.append(engine) or engine")
    source += """
THE_ENGINE = []

async def pass_on(message, component):
    await THE_ENGINE[0].send(message["to"], {"type": message["what"]})

TABLE.append(Transition("*", "pass on", "off", action=pass_on))
"""
    line = send("lamp", "pass on", to=to, what=kind)
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name, lines=[line])
    assert (ran.summary["failures"], ran.summary["rejected lines"]) == (1, 0)
    assert ran.reports[0].startswith("line 1: failed: ")


def test_a_failing_factory_is_a_failure(target: str, backend_name: str) -> None:
    """L5: what a factory raises is told with its line, and counts as a failure."""
    ran = run("run", target, "--backend", backend_name, lines=[send("broken lamp")])
    assert ran.reports == ["line 1: failed: OSError: the lamp factory is on fire"]
    assert (ran.status, ran.summary["failures"], ran.summary["messages"]) == (1, 1, 1)


def test_tracebacks_are_shown_on_demand(target: str) -> None:
    """L5: `--verbose` adds tracebacks to what failed, raised or logged; else there is none."""
    lines = [send("lamp", "explode"), ALARM]
    assert run("run", target, lines=lines).told.count("Traceback") == 0
    assert run("run", target, "--verbose", lines=lines).told.count("Traceback") == 2


def test_what_the_library_warns_of_is_told(tmp_path: Path) -> None:
    """L4: a record of the library's log is one line, with the input's line where there is one."""
    source = f"{TARGET}\nimport logging\nlogging.getLogger('flexiflow').warning('one\\ntwo')"
    ran = run("run", write_target(tmp_path, source))
    assert (ran.status, ran.reports) == (0, ["one two"])


@pytest.mark.parametrize(
    "addition",
    [
        'await engine.bus.subscribe("event.handler.failed", "tests", fail)',
        """await engine.bus.subscribe("alarm", "tests", lambda data: OTHER_BUS.publish("alarm"))
    await OTHER_BUS.subscribe("alarm", "tests", fail)""",
    ],
    ids=["while reporting", "on another bus"],
)
def test_failures_that_are_only_logged_count_too(
    tmp_path: Path, backend_name: str, addition: str
) -> None:
    """L5: what fails while a failure is reported, or on a bus of the target's own, counts."""
    source = TARGET.replace("    return engine", f"    {addition}\n    return engine")
    target = write_target(tmp_path, f"{source}\nOTHER_BUS = EventBus()")
    ran = run("run", target, "--backend", backend_name, lines=[ALARM])
    assert (ran.status, ran.summary["failures"]) == (1, 2)


def test_failures_count_where_a_target_has_silenced_the_log(
    tmp_path: Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: a target that silences the library's log does not hide its failures from the count."""
    monkeypatch.setattr(logging.getLogger("flexiflow"), "disabled", False)
    source = f"{TARGET}\nimport logging\nlogging.getLogger('flexiflow').disabled = True"
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name, lines=[ALARM])
    assert (ran.status, ran.reports, ran.summary["failures"]) == (1, [], 1)


ENDING = """
import signal

def interrupt(message, component):
    raise KeyboardInterrupt

async def strike(message, component):
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()

async def strike_in_vain(message, component):
    signal.raise_signal(signal.SIGINT)
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        raise ValueError("no time for that") from None

async def strike_and_fail(message, component):
    try:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()
    finally:
        raise ValueError("nothing to clean up with")

def leave(message, component):
    raise SystemExit(7)

TABLE += [
    Transition("*", action.__name__, "off", action=action)
    for action in (interrupt, strike, strike_in_vain, strike_and_fail, leave)
]

async def strike_and_fail_at_once(data):
    await strike_and_fail(data, None)

async def engine():
    engine = Engine(component_factory=lamp)
    await engine.bus.subscribe("strike", "tests", strike_and_fail_at_once)
    return engine
"""


@pytest.mark.measured
@pytest.mark.parametrize("how", ["interrupt", "strike", "strike_in_vain", "strike_and_fail"])
def test_an_interruption_ends_the_run(tmp_path: Path, backend_name: str, how: str) -> None:
    """L5: Ctrl-C ends with 130, after what has happened was written, and with the summary."""
    target = write_target(tmp_path, TARGET + ENDING)
    lines = [send("lamp"), send("lamp", how), send("lamp", "off")]
    ran = run("run", target, "--backend", backend_name, lines=lines)
    assert ran.status == 130
    assert ran.names.count("state.changed") == 1
    assert ran.names.count("component.message.received") == 2
    assert ran.summary["transitions"] == 1


def test_an_interrupted_event_whose_handler_fails_ends_the_run(
    tmp_path: Path, backend_name: str
) -> None:
    """L5: Ctrl-C ends it with 130 where a handler of an event makes of it a failure of its own."""
    target = write_target(tmp_path, TARGET + ENDING)
    lines = [send("lamp"), '{"event": "strike"}', send("lamp", "off")]
    ran = run("run", target, "--backend", backend_name, lines=lines)
    assert (ran.status, ran.summary["messages"]) == (130, 1)


def test_a_target_may_end_the_process(tmp_path: Path, backend_name: str) -> None:
    """L5: SystemExit from a handler ends the run with its status, and with the summary."""
    target = write_target(tmp_path, TARGET + ENDING)
    ran = run("run", target, "--backend", backend_name, lines=[send("lamp", "leave")])
    assert (ran.status, ran.summary["messages"]) == (7, 0)


def test_ctrl_c_while_a_target_is_imported_ends_with_130(tmp_path: Path) -> None:
    """L5: Ctrl-C before anything was run has the same status."""
    for command in ("run", "graph"):
        assert run(command, write_target(tmp_path, "raise KeyboardInterrupt")).status == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_can_not_be_written_ends_the_run(target: str, backend_name: str) -> None:
    """L5: a full disk is told on one line, the summary comes all the same, and the status is 1."""
    lines = [send(f"lamp-{number}") for number in range(3_000)]
    with Path("/dev/full").open("w", encoding="utf-8") as output:
        ran = run("run", target, "--backend", backend_name, lines=lines, output=output)
    (report,) = ran.reports
    assert "No space left on device" in report
    assert (ran.status, "messages" in ran.summary) == (1, True)


def test_a_reader_that_has_gone_ends_the_run_quietly(target: str, backend_name: str) -> None:
    """L5: a closed pipe ends the run with 0, whatever else there was, and with the summary."""
    lines = ["nonsense", *(send(f"lamp-{number}") for number in range(3_000))]
    reader, writing = os.pipe()
    os.close(reader)
    with os.fdopen(writing, "w") as output:
        ran = run("run", target, "--backend", backend_name, lines=lines, output=output)
    assert (ran.status, ran.summary["rejected lines"], len(ran.reports)) == (0, 1, 1)


def test_an_event_is_written_while_its_handler_goes_on(tmp_path: Path, backend_name: str) -> None:
    """L3: events go out soon, even if the line that they came from takes long."""
    reader, writing = os.pipe()
    source = f"""{TARGET}
async def wait_for_output(message, component):
    import os
    seen = b""
    with anyio.fail_after(30):
        while b"component.message.received" not in seen:
            await anyio.wait_readable({reader})
            seen += os.read({reader}, 1000)

TABLE.append(Transition("*", "wait", "on", action=wait_for_output))
"""
    with os.fdopen(reader), os.fdopen(writing, "w") as output:
        target = write_target(tmp_path, source)
        lines = [send("lamp"), send("lamp", "wait")]
        ran = run("run", target, "--backend", backend_name, lines=lines, output=output)
    assert (ran.status, ran.summary["transitions"]) == (0, 2)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_line_can_not_make_up_a_built_in_event(target: str, name: str) -> None:
    """L5: what only the engine can tell is rejected as input, and is not in the output."""
    line = json.dumps({"event": name, "data": {"component": "safe", "to_state": "open"}})
    ran = run("run", target, lines=["", line, json.dumps({"event": f"{name}.not"})])
    assert (ran.status, ran.output) == (1, "")
    assert ran.reports == [f"line 2: rejected: '{name}' is one of the engine's own events, {TOLD}"]
    assert (ran.summary["rejected lines"], ran.summary["events"]) == (1, 1)


async def test_failures_are_counted_beside_a_report() -> None:
    """L5, L7: both observe the same event, and a target may silence the log."""
    bus, tally, noted = EventBus(), Tally(), list[object]()
    payload = {"exception": KeyError("missing")}
    with await observe(bus, (), tally, lambda _: print, [(HANDLER_FAILED, noted.append)]):
        await bus.publish(HANDLER_FAILED, payload)
    await bus.publish(HANDLER_FAILED, payload)
    assert (tally.failures, noted) == (1, [payload])


def test_all_built_in_events_are_known() -> None:
    """L5: each name in `flexiflow.events` is the engine's own."""
    names = {each for name, each in vars(events).items() if name.isupper() and name != "BUILT_IN"}
    assert names == BUILT_IN


@pytest.mark.parametrize("data", [None, {"a": 1}, {"exception": 1}])
def test_a_target_may_publish_a_built_in_event(tmp_path: Path, data: object) -> None:
    """L4: whatever its data, such an event counts as no failure of a handler."""
    source = f"""{TARGET}
async def forge(data):
    await forging.publish("event.handler.failed", {data!r})

async def engine():
    global forging
    engine = Engine()
    forging = engine.bus
    await engine.bus.subscribe("forge", "tests", forge)
    return engine
"""
    ran = run("run", write_target(tmp_path, source), lines=['{"event": "forge"}'])
    assert (ran.status, ran.reports, ran.summary["failures"]) == (0, [], 0)
