"""Feeding the lines of the input to an engine, one after another (L2, L5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from flexiflow import TransitionRefused, UnknownComponent
from flexiflow._cancellation import cancel_requests, contexts
from flexiflow._cli.lines import LineSplitter, parse
from flexiflow._cli.problems import Rejected
from flexiflow._cli.text import show_exception, show_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from flexiflow import Engine, HandlerFailure
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow._cli.lines import EventLine, MessageLine
    from flexiflow._cli.source import Source
    from flexiflow._cli.tally import Tally


@final
class Replay:
    """Passes each line to the engine, and takes the next one when it has been handled.

    Args:
        engine: gets the messages and events of the lines.
        tally: counts them.
        report: called for each line that is rejected or fails, with a text, and the exception if
            the line failed.
        fail_message: called for each message that failed, with the component's name and the
            exception.
        delivery: how events are published (D5); None for the bus's own way.
        on_error: what their failures do (D5); None for the bus's own way.

    Attributes:
        number: the number of the line in hand, from 1; 0 before the first.
    """

    def __init__(
        self,
        engine: Engine,
        tally: Tally,
        report: Callable[[str, BaseException | None], object],
        fail_message: Callable[[str, Exception], object],
        *,
        delivery: DeliveryMode | None,
        on_error: ErrorPolicy | None,
    ) -> None:
        self._engine = engine
        self._tally = tally
        self._report = report
        self._fail_message = fail_message
        self._delivery: DeliveryMode | None = delivery
        self._on_error: ErrorPolicy | None = on_error
        self.number = 0

    async def run(self, source: Source, before_waiting: Callable[[], Awaitable[None]]) -> None:
        """Feed all lines of the source to the engine.

        Args:
            source: the input.
            before_waiting: awaited each time before more input is waited for.

        Raises:
            InputBroken: the source can't be read to its end.
        """
        splitter = LineSplitter()
        while True:
            await before_waiting()
            chunk = await source.read()
            if not chunk:
                break
            await self._take_all(splitter.feed(chunk))
        await self._take_all(splitter.finish())

    async def _take_all(self, lines: Iterable[bytes | None]) -> None:
        send, add = self._engine.send, self._tally.add
        for line in lines:
            self.number += 1
            order = None
            try:
                order = parse(line)
                if order is None:
                    continue
                if "component" in order:
                    add(await send(order["component"], order["message"]))
                else:
                    for failed in await self._publish(order):
                        _check_interrupt(failed.exception)
            except Rejected as exc:
                self._reject(exc.reason)
            except Exception as exc:  # noqa: BLE001  a handler or an action may raise anything
                self._judge(exc, order)
                _check_interrupt(exc)
                await _go_on_ending()
        # Neither a regular file nor a rejected line ever waits, so yield here.
        await checkpoint()

    # Not async, which would cost one more coroutine for each event.
    def _publish(self, order: EventLine) -> Awaitable[tuple[HandlerFailure, ...]]:
        self._tally.events += 1
        return self._engine.bus.publish(
            order["event"], order.get("data"), delivery=self._delivery, on_error=self._on_error
        )

    def _judge(self, exception: Exception, order: MessageLine | EventLine | None) -> None:
        if order and "component" in order:
            if _is_refusal(exception, order["component"]):
                self._reject(show_message(exception))
                return
            self._tally.failed += 1
            self._fail_message(order["component"], exception)
        self._tally.failures += 1
        self._report(f"failed: {show_exception(exception)}", exception)

    def _reject(self, reason: str) -> None:
        self._tally.rejected += 1
        self._report(f"rejected: {reason}", None)


def _check_interrupt(failure: Exception) -> None:
    """Raise Ctrl-C if a handler turned it into a failure; trio raises it once, in the handler."""
    if any(isinstance(each, KeyboardInterrupt) for each in contexts(failure)):
        raise KeyboardInterrupt


async def _go_on_ending() -> None:
    """Raise the cancellation of Ctrl-C if a handler replaced it; asyncio delivers it only once."""
    if cancel_requests():
        await checkpoint()
        raise get_cancelled_exc_class()


def _is_refusal(exception: Exception, component: str) -> bool:
    """Return whether the engine refused this line's message.

    The same exceptions may come from an action that sent a message to another component.
    """
    if isinstance(exception, UnknownComponent):
        return exception.name == component
    return isinstance(exception, TransitionRefused) and exception.component == component
