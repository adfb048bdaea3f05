"""A process of three that hand an order on, and shows the spans that it made."""

import json
import sys

import anyio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flexiflow import EventBus
from flexiflow.extras.causality import Causality, correlation, current_event
from flexiflow.extras.durable import open_bridge, transport_from_url
from flexiflow.extras.otel import OpenTelemetry
from tests.durable.bridge.helpers import until

ROLES = {
    "shop": (None, "order.placed"),
    "payments": ("order.placed", "order.paid"),
    "warehouse": ("order.paid", "order.sent"),
}
"""What each process takes and what it stores."""


async def work(url: str, role: str, exporter: InMemorySpanExporter) -> str:
    """Publish the first event, or the next one for the one that is taken."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    bus = EventBus(on_error="raise", instruments=[OpenTelemetry(provider), Causality()])
    taken, stored = ROLES[role]
    common = list[str]()

    async def hand_on(data: object) -> None:
        event = current_event()
        assert event is not None
        common.append(event.correlation_id)
        await bus.publish(stored, data)

    transport = transport_from_url(url)
    if taken is None:
        async with open_bridge(bus, transport, outgoing=[stored]):
            with correlation("request-1"):
                await bus.publish(stored, "A7")
        return "request-1"
    await bus.subscribe(taken, role, hand_on)
    async with open_bridge(
        bus, transport, incoming=[taken], outgoing=[stored], group=role
    ) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
    return common[0]


def main(backend: str, url: str, role: str) -> None:
    """Work, and print the spans, as their trace, their id and that of their parent."""
    exporter = InMemorySpanExporter()
    common = anyio.run(work, url, role, exporter, backend=backend)
    spans = [
        (
            f"{span.context.trace_id:x}" if span.context else "",
            f"{span.context.span_id:x}" if span.context else "",
            f"{span.parent.span_id:x}" if span.parent else "",
        )
        for span in exporter.get_finished_spans()
    ]
    sys.stdout.write(json.dumps({"common": common, "spans": spans}))


if __name__ == "__main__":
    main(*sys.argv[1:])
