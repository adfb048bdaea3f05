"""What instruments send along with stored events: Y2."""

import json
import logging
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span, get_tracer

from flexiflow import EventBus
from flexiflow.extras.causality import CausalEvent, Causality, correlation, current_event
from flexiflow.extras.durable import MemoryTransport, open_bridge
from flexiflow.extras.otel import OpenTelemetry
from tests.durable.bridge import tracing
from tests.durable.bridge.helpers import GROUP, NAME, Handler, put, put_bodies, until
from tests.durable.bridge.tracing import ROLES

EVENT = {"specversion": "1.0", "id": "1", "source": "shop", "type": NAME}

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Tenant:
    """An instrument that sends a context variable along."""

    @contextmanager
    def publishing(self, event: object) -> Generator[None]:
        """Watch nothing."""
        yield

    def carry(self) -> dict[str, str]:
        """Send the tenant along."""
        return {"tenant": tenant.get()}

    @contextmanager
    def resume(self, attributes: Mapping[str, str]) -> Generator[None]:
        """Set the tenant that was sent along."""
        token = tenant.set(attributes.get("tenant", "unknown"))
        yield
        tenant.reset(token)


def stored(transport: MemoryTransport) -> list[dict[str, Any]]:
    """Return the stored events, by their attributes."""
    return [json.loads(record.body) for record in transport._state.logs[0].records.values()]


async def publish(transport: MemoryTransport, *instruments: Any) -> None:
    """Publish an event as another process with these instruments would."""
    bus = EventBus(on_error="raise", instruments=instruments)
    async with open_bridge(bus, transport, outgoing=[NAME]):
        await bus.publish(NAME, 1)


async def receive(transport: MemoryTransport, function: Any, *instruments: Any) -> list[Any]:
    """Return what a function returns in the handler of each stored event, of another process."""
    bus, found = EventBus(instruments=instruments), list[Any]()
    await bus.subscribe(NAME, "c", lambda data: found.append(function()))
    async with open_bridge(bus, transport, incoming=[NAME], group=GROUP) as bridge:
        count = len(transport._state.logs[0].records)
        await until(lambda: bridge.statistics().acknowledged == count)
    return found


async def test_what_an_instrument_carries_is_resumed_around_the_handlers() -> None:
    """Y2: As attributes of CloudEvents; each event with its own."""
    transport = MemoryTransport()
    for name in ("alice", 'b"ö'):
        tenant.set(name)
        await publish(transport, Tenant())
    tenant.set("nobody")
    await put(transport, 1)
    assert [event.get("tenant") for event in stored(transport)] == ["alice", 'b"ö', None]
    assert await receive(transport, tenant.get, Tenant()) == ["alice", 'b"ö', "unknown"]


async def test_an_instrument_without_the_methods_sends_nothing() -> None:
    """Y2: They are optional."""
    transport = MemoryTransport()

    class Silent:
        @contextmanager
        def publishing(self, event: object) -> Generator[None]:
            yield

    await publish(transport, Silent())
    (event,) = stored(transport)
    assert {*event} == {
        *("specversion", "id", "source", "type", "time", "datacontenttype", "depth", "data")
    }
    assert await receive(transport, tenant.get, Silent(), Tenant()) == ["unknown"]


class Watching(Tenant):
    """An instrument whose methods do as they are told."""

    def __init__(self, carried: Any = None, resumed: Any = None) -> None:
        self._carried = carried
        self._resumed = resumed

    def carry(self) -> Any:
        """Do as told."""
        return self._carried() if callable(self._carried) else self._carried

    def resume(self, attributes: Mapping[str, str]) -> Any:
        """Do as told."""
        return self._resumed()


def _fail() -> Any:
    raise LookupError("no")


@pytest.mark.parametrize(
    ("carried", "reason"),
    [
        (_fail, "LookupError: no"),
        ("ab", "ValueError"),
        (None, "TypeError"),
        ({"a_b": "c"}, "at most 20 lower-case letters and digits, not 'a_b'"),
        ({"A": "c"}, "not 'A'"),
        ({"a" * 21: "c"}, "not 'aaaaa"),
        ({3: "c"}, "not 3"),
        ({"id": "c"}, "not 'id'"),
        ({"depth": "3"}, "not 'depth'"),
        ({"partitionkey": "3"}, "not 'partitionkey'"),
        ({"a": ""}, "a of carry() must be a non-empty str, not ''"),
        ({"a": 3}, "a of carry() must be a non-empty str, not 3"),
    ],
)
async def test_one_that_fails_to_carry_is_taken_out(
    carried: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Y2, I3: It is logged, and the event is stored all the same, with what others send along."""
    transport = MemoryTransport()
    bus = EventBus(on_error="raise", instruments=[Watching(carried), Tenant()])
    async with open_bridge(bus, transport, outgoing=[NAME]):
        await bus.publish(NAME, 1)
        await bus.publish(NAME, 2)
    assert [event["tenant"] for event in stored(transport)] == ["nobody", "nobody"]
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "failed in carry and was taken out" in record.getMessage()
    assert caplog.text.count("Traceback") == 1
    assert reason in caplog.text


@contextmanager
def _failing_in_the_end() -> Generator[None]:
    yield
    raise LookupError("no")


@pytest.mark.parametrize("resumed", [_fail, object, _failing_in_the_end])
async def test_one_that_fails_to_resume_is_taken_out(
    resumed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Y2, I3: It is logged, and the event is handled all the same, within the others."""
    transport = MemoryTransport()
    await publish(transport, Tenant())
    await publish(transport, Tenant())
    found = await receive(transport, tenant.get, Tenant(), Watching({}, resumed), Tenant())
    assert found == ["nobody", "nobody"]
    assert caplog.text.count("failed in resume and was taken out") == 1
    assert tenant.get() == "nobody"


def _interrupt() -> Any:
    raise KeyboardInterrupt


async def test_an_interrupt_in_resume_leaves_the_bridge() -> None:
    """Y2, I3: What others have set is reset."""
    transport, left = MemoryTransport(), list[str]()

    @contextmanager
    def note() -> Generator[None]:
        try:
            yield
        finally:
            left.append("left")

    await publish(transport)
    with pytest.raises(KeyboardInterrupt):
        await receive(transport, tenant.get, Watching({}, note), Watching({}, _interrupt))
    assert left == ["left"]


async def test_the_failure_of_the_handlers_is_shown_to_those_that_resume() -> None:
    """Y2, I3: They can neither swallow nor replace it."""
    transport, shown = MemoryTransport(), list[BaseException | None]()

    class Manager:
        def __enter__(self) -> None: ...

        def __exit__(
            self, kind: object, exception: BaseException | None, traceback: object
        ) -> bool:
            shown.append(exception)
            return True

    problem = LookupError("no")

    def fail(data: object) -> None:
        raise problem

    await publish(transport)
    bus = EventBus(on_error="raise", instruments=[Watching({}, Manager)])
    await bus.subscribe(NAME, "c", fail)
    ways: dict[str, Any] = {"incoming": [NAME], "group": GROUP, "max_attempts": 1}
    async with open_bridge(bus, transport, **ways) as bridge:
        await until(lambda: bridge.statistics().dead)
        (letter,) = await bridge.dead_letters()
    assert shown == [problem]
    assert letter.failure.type == "builtins.LookupError"


def event_here() -> CausalEvent | None:
    """Return the current event."""
    return current_event()


async def test_causality_goes_on_in_another_process() -> None:
    """Y2: The worker's event has the publisher's as parent, and its correlation id."""
    transport, seen = MemoryTransport(), list[CausalEvent | None]()
    bus = EventBus(on_error="raise", instruments=[Causality()])
    await bus.subscribe(NAME, "c", lambda data: seen.append(current_event()))
    async with open_bridge(bus, transport, outgoing=[NAME]):
        with correlation("request-1"):
            await bus.publish(NAME, 1)
        await bus.publish(NAME, 2)
    found = await receive(transport, event_here, Causality())
    for before, after in zip(seen, found, strict=True):
        assert before is not None
        assert (after.parent_id, after.correlation_id) == (before.id, before.correlation_id)
        assert (after.name, after.depth) == (NAME, 2)
    assert found[0].correlation_id == "request-1"
    attributes = [(event["causationid"], event["correlationid"]) for event in stored(transport)]
    assert attributes == [(each and each.id, each and each.correlation_id) for each in seen]


async def test_without_causality_in_the_worker_nothing_is_set() -> None:
    """Y2: Nor does a publisher without it send any."""
    transport = MemoryTransport()
    await publish(transport, Causality())
    assert await receive(transport, event_here) == [None]
    transport = MemoryTransport()
    await publish(transport)
    assert not {"causationid", "correlationid"} & {*stored(transport)[0]}
    (event,) = await receive(transport, event_here, Causality())
    assert (event.parent_id, event.depth) == (None, 1)


@pytest.mark.parametrize(
    ("attributes", "parent", "common"),
    [
        ({"correlationid": "c"}, None, "c"),
        ({"causationid": "p"}, "p", "p"),
        ({"causationid": "p", "correlationid": "c"}, "p", "c"),
        ({"causationid": "", "correlationid": ""}, None, None),
        ({"causationid": 3, "correlationid": ["c"]}, None, None),
    ],
)
async def test_what_other_software_sends_along_is_taken(
    attributes: dict[str, Any], parent: str | None, common: str | None
) -> None:
    """Y2: One of both alone, too; an empty one, or one that is no text, counts as absent."""
    transport = MemoryTransport()
    await put_bodies(transport, json.dumps(EVENT | attributes).encode())
    (event,) = await receive(transport, event_here, Causality())
    assert event.parent_id == parent
    assert event.correlation_id == (common or event.id)
    assert current_event() is None


async def test_the_correlation_of_a_worker_ends_with_its_event() -> None:
    """Y2: The next event that the same task handles has its own."""
    transport = MemoryTransport()
    bodies = [EVENT | {"id": each, "correlationid": each} for each in ("a", "b")]
    await put_bodies(transport, *(json.dumps(each).encode() for each in (*bodies, EVENT)))
    first, second, third = await receive(transport, event_here, Causality())
    assert (first.correlation_id, second.correlation_id) == ("a", "b")
    assert third.correlation_id == third.id


def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """Make a provider as each process has one."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[Any]:
    """Return the spans of a name, in the order of their ends."""
    return [span for span in spans if span.name == name]


async def test_spans_go_on_in_another_process() -> None:
    """Y2: A worker's spans are of the publisher's trace, below the span that stored the event."""
    transport, exporter = MemoryTransport(), InMemorySpanExporter()
    tracer = get_tracer("test", tracer_provider=provider(exporter))
    with tracer.start_as_current_span("request") as request:
        await publish(transport, OpenTelemetry(provider(exporter)))
    (event,) = stored(transport)
    trace = f"{request.get_span_context().trace_id:032x}"
    assert event["traceparent"].split("-")[1] == trace
    (_, *sending), there = event["traceparent"].split("-"), exporter.get_finished_spans()
    exporter.clear()
    await receive(transport, get_current_span, OpenTelemetry(provider(exporter)))
    (worker,) = named(exporter.get_finished_spans(), f"publish {NAME}")
    assert f"{worker.context.trace_id:032x}" == trace
    assert f"{worker.parent.span_id:016x}" == sending[1]
    assert sending[1] in {f"{span.context.span_id:016x}" for span in there if span.context}


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-x-01", 3])
async def test_a_trace_that_makes_no_sense_is_not_continued(traceparent: object) -> None:
    """Y2: The worker's span is what it would be without; the instrument stays."""
    transport, exporter = MemoryTransport(), InMemorySpanExporter()
    body = json.dumps(EVENT | {"traceparent": traceparent}).encode()
    await put_bodies(transport, body, body)
    tracer = get_tracer("test", tracer_provider=provider(exporter))
    with tracer.start_as_current_span("worker") as worker:
        await receive(transport, Handler, OpenTelemetry(provider(exporter)))
    spans = named(exporter.get_finished_spans(), f"publish {NAME}")
    assert [span.parent.span_id for span in spans] == [worker.get_span_context().span_id] * 2


async def test_the_state_of_a_trace_travels_too() -> None:
    """Y2: `tracestate`, if there is one."""
    transport, exporter = MemoryTransport(), InMemorySpanExporter()
    given = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", "tracestate": "a=b"}
    await put_bodies(transport, json.dumps(EVENT | given).encode())
    (span,) = await receive(transport, get_current_span, OpenTelemetry(provider(exporter)))
    assert span.get_span_context().trace_state.to_header() == "a=b"
    assert f"{span.get_span_context().trace_id:032x}" == "ab" * 16
    bus = EventBus(on_error="raise", instruments=[OpenTelemetry(provider(exporter))])
    onward = MemoryTransport()

    async def hand_on(data: object) -> None:
        await bus.publish("paid")

    await bus.subscribe(NAME, "c", hand_on)
    async with (
        open_bridge(bus, onward, outgoing=["paid"]),
        open_bridge(bus, transport, incoming=[NAME], group="other") as bridge,
    ):
        await until(lambda: bridge.statistics().acknowledged)
    (event,) = stored(onward)
    assert event["tracestate"] == "a=b"
    assert event["traceparent"].split("-")[1] == "ab" * 16


async def test_three_processes_make_one_trace() -> None:
    """Y2: Each with a bus, instruments and a provider of its own, over one transport."""
    transport, exporter = MemoryTransport(), InMemorySpanExporter()

    def bus() -> EventBus:
        return EventBus(
            on_error="raise", instruments=[OpenTelemetry(provider(exporter)), Causality()]
        )

    shop, payments, warehouse, seen = bus(), bus(), bus(), list[CausalEvent | None]()

    async def charge(order: object) -> None:
        await payments.publish("order.paid", order)

    await payments.subscribe(NAME, "payments", charge)
    await warehouse.subscribe("order.paid", "warehouse", lambda _: seen.append(current_event()))
    paid = ["order.paid"]
    async with (
        open_bridge(shop, transport, outgoing=[NAME]),
        open_bridge(payments, transport, incoming=[NAME], outgoing=paid, group="payments"),
        open_bridge(warehouse, transport, incoming=paid, group="warehouse") as last,
    ):
        with correlation("request-1"):
            await shop.publish(NAME, 1)
        await until(lambda: last.statistics().acknowledged)
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    ids = {span.context.span_id for span in spans if span.context}
    roots = [span for span in spans if span.parent is None]
    assert [span.name for span in roots] == [f"publish {NAME}"]
    assert all(span.parent.span_id in ids for span in spans if span.parent)
    (event,) = seen
    assert event is not None
    assert event.correlation_id == "request-1"


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_three_processes_over_a_file_make_one_trace(backend: str, tmp_path: Path) -> None:
    """Y2: Each of its own, one after the other; seen in an exporter in the memory of each."""
    url, told = f"sqlite:{tmp_path / 'events.db'}", list[Any]()
    for role in ROLES:
        command = [sys.executable, "-m", tracing.__name__, backend, url, role]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        told.append(json.loads(ran.stdout))
    spans = [tuple(span) for each in told for span in each["spans"]]
    ids = {own for _, own, _ in spans}
    assert len({trace for trace, _, _ in spans}) == 1
    assert [parent in ids for _, _, parent in spans].count(False) == 1
    assert [len(each["spans"]) > 1 for each in told] == [True] * 3
    assert {each["common"] for each in told} == {"request-1"}
