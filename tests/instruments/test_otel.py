"""Spans of OpenTelemetry: I5."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from flexiflow import EventBus, HandlerCancelled, events
from flexiflow._bus import DeliveryMode
from flexiflow.extras.otel import OpenTelemetry
from tests.helpers import MODES, PATIENCE, settle

each_mode = pytest.mark.parametrize("mode", MODES)


class Mute(Exception):
    """Has no message to tell."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


def context_of(span: ReadableSpan) -> SpanContext:
    """Give the context of a span, which each has that was made by a tracer."""
    context = span.get_span_context()
    assert context is not None
    return context


class Traced:
    """A bus whose spans are kept.

    Attributes:
        bus: the bus.
        tracer: makes spans of the test's own.
    """

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.bus = EventBus(instruments=[OpenTelemetry(provider)], **options)
        self.tracer = provider.get_tracer("tests")

    def spans(self) -> list[ReadableSpan]:
        """Give the spans that have ended, by their beginning."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def parents(self) -> dict[str, str | None]:
        """Say for each span whose child it is."""
        names = {context_of(span).span_id: span.name for span in self.spans()}
        return {
            span.name: names[span.parent.span_id] if span.parent else None for span in self.spans()
        }

    def status(self, name: str) -> tuple[StatusCode, str | None]:
        """Tell the status of the span of that name."""
        (span,) = (span for span in self.spans() if span.name == name)
        return span.status.status_code, span.status.description

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Tell the attributes of the span of that name."""
        (span,) = (span for span in self.spans() if span.name == name)
        return span.attributes or {}


def missing(data: object) -> None:
    """Be a handler that fails."""
    raise KeyError("missing")


async def pass_by(data: object) -> None:
    """Be a handler that yields."""
    await checkpoint()


@each_mode
async def test_publish_and_handlers_have_spans(mode: DeliveryMode) -> None:
    """I5: each publish is a span, each handler a child of it, named and kept as is the custom."""
    traced = Traced(delivery=mode)
    await traced.bus.subscribe("order.*", "billing", pass_by, priority=2)
    await traced.bus.publish("order.placed")
    publish, handler = traced.spans()
    assert traced.parents() == {
        "publish order.placed": None,
        "process order.placed": "publish order.placed",
    }
    assert (publish.kind, handler.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {"messaging.system": "flexiflow", "messaging.destination.name": "order.placed"}
    assert traced.attributes("publish order.placed") == {
        **common,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    assert traced.attributes("process order.placed") == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "flexiflow.component": "billing",
        "flexiflow.handler": "pass_by",
        "flexiflow.priority": 2,
    }
    assert {span.status.status_code for span in traced.spans()} == {StatusCode.UNSET}


@each_mode
async def test_a_nested_publish_is_a_child_of_the_handler(mode: DeliveryMode) -> None:
    """I5: what a handler publishes, and the spans that it makes, are children of the handler's."""
    traced = Traced(delivery=mode)

    async def handler(data: object) -> None:
        with traced.tracer.start_as_current_span("charge"):
            await traced.bus.publish("b")

    await traced.bus.subscribe("a", "c", handler)
    await traced.bus.subscribe("b", "c", pass_by)
    with traced.tracer.start_as_current_span("request"):
        await traced.bus.publish("a")
    assert traced.parents() == {
        "request": None,
        "publish a": "request",
        "process a": "publish a",
        "charge": "process a",
        "publish b": "charge",
        "process b": "publish b",
    }
    assert len({context_of(span).trace_id for span in traced.spans()}) == 1


@each_mode
async def test_spans_of_handlers_do_not_mix(mode: DeliveryMode) -> None:
    """I5, D2: handlers at the same time each have their own current span."""
    traced = Traced(delivery=mode)
    current: list[tuple[Any, Any]] = []

    async def handler(data: object) -> None:
        before = trace.get_current_span()
        await settle_briefly()
        current.append((before, trace.get_current_span()))

    for _ in range(10):
        await traced.bus.subscribe("a", "c", handler)
    await traced.bus.publish("a")
    assert all(before is after for before, after in current)
    assert len({id(before) for before, _ in current}) == 10
    assert trace.get_current_span() is trace.INVALID_SPAN


async def settle_briefly() -> None:
    """Let the other handlers run for some turns."""
    for _ in range(5):
        await checkpoint()


@each_mode
async def test_a_failure_is_the_status_of_what_it_leaves(mode: DeliveryMode) -> None:
    """I5: under `continue` it is the handler's, recorded there, and not the publish's."""
    traced = Traced(delivery=mode)
    await traced.bus.subscribe("a", "c", missing)
    await traced.bus.publish("a")
    assert traced.status("process a") == (StatusCode.ERROR, "KeyError: 'missing'")
    assert traced.attributes("process a")["error.type"] == "KeyError"
    assert traced.status("publish a") == (StatusCode.UNSET, None)
    assert "error.type" not in traced.attributes("publish a")
    (recorded,) = next(span for span in traced.spans() if span.name == "process a").events
    assert recorded.name == "exception"
    # It is reported by the runner or by publish, when the handler's span has ended.
    assert traced.parents()[f"publish {events.HANDLER_FAILED}"] == "publish a"


@each_mode
async def test_a_failure_that_leaves_publish_is_its_status_too(mode: DeliveryMode) -> None:
    """I5: under `raise` both spans have failed."""
    traced = Traced(delivery=mode, on_error="raise")
    await traced.bus.subscribe("a", "c", missing)
    with pytest.raises(KeyError):
        await traced.bus.publish("a")
    for name in ("publish a", "process a"):
        assert traced.status(name) == (StatusCode.ERROR, "KeyError: 'missing'")


@each_mode
async def test_a_failure_of_the_library_has_its_full_name(mode: DeliveryMode) -> None:
    """I5: `error.type` names the module of an exception that is not built in."""
    traced = Traced(delivery=mode)
    kept: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as exc:
            kept.append(exc)
            raise

    def stray(data: object) -> None:
        raise kept[0]

    await traced.bus.subscribe("a", "c", stray)
    (failed,) = await traced.bus.publish("a")
    assert isinstance(failed.exception, HandlerCancelled)
    error = traced.attributes("process a")["error.type"]
    assert error == f"{HandlerCancelled.__module__}.HandlerCancelled"


@each_mode
async def test_a_cancellation_is_no_failure(mode: DeliveryMode) -> None:
    """I5: a cancelled publish has a span that has ended, and no error."""
    traced = Traced(delivery=mode)

    async def wait(data: object) -> None:
        await anyio.sleep_forever()

    await traced.bus.subscribe("a", "c", wait)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(traced.bus.publish, "a")
            await settle()
            group.cancel_scope.cancel()
    assert [traced.status(name) for name in ("publish a", "process a")] == [
        (StatusCode.UNSET, None)
    ] * 2


async def test_a_failure_without_a_message_is_one() -> None:
    """I5: an exception that can't show itself is a status all the same, and harms no instrument."""
    traced = Traced()

    def fail(data: object) -> None:
        raise Mute

    await traced.bus.subscribe("a", "c", fail)
    await traced.bus.publish("a")
    assert traced.status("process a") == (StatusCode.ERROR, f"{__name__}.Mute")
    await traced.bus.publish("b")
    assert traced.spans()[-1].name == "publish b"


async def test_without_a_provider_the_global_one_makes_the_spans() -> None:
    """I5: where no SDK is set up, nothing is recorded, and all goes on."""
    bus, heard = EventBus(instruments=[OpenTelemetry()]), list[object]()
    await bus.subscribe("a", "c", heard.append)
    assert await bus.publish("a", 1) == ()
    assert heard == [1]


async def test_spans_of_long_names_are_short() -> None:
    """B10: exporters keep many spans, and names in them are shortened."""
    traced = Traced()
    await traced.bus.subscribe("*", "c" * 100_000, lambda _: None)
    await traced.bus.publish("n" * 100_000)
    spans = traced.spans()
    assert len(spans) == 2
    for span in spans:
        texts = [span.name, *map(str, (span.attributes or {}).values())]
        assert max(map(len, texts)) < 300
