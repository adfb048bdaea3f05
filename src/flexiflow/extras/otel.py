"""OpenTelemetry spans for publishes and handlers (I5); needs the extra `otel`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import SpanKind, Status, StatusCode, get_tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flexiflow._callables import describe
from flexiflow._text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from flexiflow._names import Event
    from flexiflow._subscription import Subscription

__all__ = ["OpenTelemetry"]

# By contract, and not what the program has set as the global one: workers must read it.
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@final
class OpenTelemetry:
    """An instrument that makes a span for each publish, and one for each handler (I5).

    The span of a handler is a child of its publish's span, which is a child of the current span. So
    a publish within a handler is a child of that handler's span. A failure is recorded on the span
    that it leaves, and sets the span's status; a cancellation is not a failure.

    Args:
        tracer_provider: provides the tracer; None for the global provider.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.otel import OpenTelemetry
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> provider, exporter = TracerProvider(), InMemorySpanExporter()
        >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
        >>> async def main():
        ...     await EventBus(instruments=[OpenTelemetry(provider)]).publish("order.placed", "A7")
        >>> anyio.run(main)
        >>> print([span.name for span in exporter.get_finished_spans()])
        ['publish order.placed']
    """

    __slots__ = ("_tracer",)

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("flexiflow", tracer_provider=tracer_provider)

    def publishing(self, event: Event[Any], /) -> _Watched:
        """Return a context manager that makes the span of a publish."""
        return _Watched(self._tracer, "publish", "send", SpanKind.PRODUCER, event.name, {})

    def handling(self, event: Event[Any], subscription: Subscription, /) -> _Watched:
        """Return a context manager that makes the span of a handler."""
        details: dict[str, str | int] = {
            "flexiflow.component": shorten(subscription.component_name),
            "flexiflow.handler": describe(subscription.handler),
            "flexiflow.priority": subscription.priority,
        }
        return _Watched(self._tracer, "process", "process", SpanKind.CONSUMER, event.name, details)

    def carry(self) -> dict[str, str]:
        """Return what a stored event takes along: `traceparent`, and `tracestate` if any (Y2)."""
        carried: dict[str, str] = {}
        _PROPAGATOR.inject(carried)
        return carried

    def resume(self, attributes: Mapping[str, str], /) -> _Resumed:
        """Return a context manager within which spans continue the publisher's trace (Y2).

        Args:
            attributes: the attributes of the stored event.
        """
        return _Resumed(attributes)


class _Resumed:
    """A context manager: within it the current span is the one that stored the event."""

    __slots__ = ("_attributes", "_token")

    _token: Token[Context]

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def __enter__(self) -> None:
        self._token = attach(_PROPAGATOR.extract(self._attributes, get_current()))

    def __exit__(self, *_: object) -> None:
        detach(self._token)


class _Watched:
    """A context manager that makes a span, and ends it on exit.

    A class, since a generator of contextlib writes to the exception that passes through, which may
    be frozen.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_span", "_token", "_tracer")

    _span: Span
    _token: Token[Context]

    def __init__(
        self,
        tracer: Tracer,
        operation: str,
        operation_type: str,
        kind: SpanKind,
        destination: str,
        details: Mapping[str, str | int],
    ) -> None:
        # Exporters keep many spans, and a name may be of any length.
        destination = shorten(destination)
        # The conventions' form of a span's name: "{operation name} {destination}".
        self._name = f"{operation} {destination}"
        self._kind = kind
        self._tracer = tracer
        self._attributes = {
            "messaging.system": "flexiflow",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation_type,
            "messaging.destination.name": destination,
            **details,
        }

    def __enter__(self) -> None:
        self._span = self._tracer.start_span(
            self._name, kind=self._kind, attributes=self._attributes
        )
        self._token = attach(set_span_in_context(self._span))

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        detach(self._token)
        if isinstance(exception, Exception):
            _mark(self._span, exception)
        self._span.end()


def _mark(span: Span, failure: Exception) -> None:
    kind = f"{type(failure).__module__}.{type(failure).__qualname__}".removeprefix("builtins.")
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))
    # Both calls ask the exception for its message, which may raise; the type is set by then.
    with suppress(Exception):
        span.set_status(Status(StatusCode.ERROR, f"{kind}: {failure}"))
        span.record_exception(failure)
