"""`flexiflow bridge`: run an engine as a worker of a group, until a signal (L1 to L5, X5)."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._cli.connecting import find_transport
from flexiflow._cli.descriptors import open_streams
from flexiflow._cli.display import INTERRUPTED
from flexiflow._cli.hosting import running
from flexiflow._cli.observing import logging_to, observe
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import check_interrupt, report_writing_failure
from flexiflow._cli.tally import Tally
from flexiflow._cli.target import build, load
from flexiflow._cli.text import show_message
from flexiflow._cli.writer import MOST_SECONDS, Writer
from flexiflow.extras.durable import TransportError, open_bridge
from flexiflow.extras.durable._bridge.held import handing_on

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from signal import Signals

    from anyio.abc import TaskGroup

    from flexiflow import EventBus
    from flexiflow._cli.arguments import Place
    from flexiflow._cli.display import Display
    from flexiflow.extras.durable import Bridge, Transport

_OF_OUTBOXES: Final = ("relayed", "outbox_trouble")

# Even if nobody reads the output, a signal ends the worker after this time.
_GRACE_SECONDS: Final = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `flexiflow bridge`.

    Attributes:
        target: names an engine, or a function that returns one.
        transport: the URL of a transport.
        group: the worker's group; None if it takes no events.
        start: where the group begins if this is its first worker.
        consumer: the worker's name in the group; None to make one up.
        incoming: patterns of the events that it takes.
        outgoing: patterns of the events that it stores.
        limit: how many events it handles at once.
        max_attempts: after how many failed attempts an event is given up.
        max_depth: how deep a chain of events that cause each other may be.
        lease: after how many seconds of silence its events are given to others.
        grace: how many seconds it may take to finish what it has in hand when it is to end.
        backend: "asyncio" or "trio".
        shown: the built-in events that are written as JSON Lines.
        verbose: whether tracebacks are shown.
    """

    target: str
    transport: str
    group: str | None
    start: Place
    consumer: str | None
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    limit: int
    max_attempts: int
    max_depth: int
    lease: float
    grace: float
    backend: str
    shown: tuple[str, ...]
    verbose: bool


def work(options: Options) -> int:
    """Work until a signal comes, sum up, and return the exit status.

    Raises:
        CannotRun: the target or the transport can't be used.
    """
    transport = find_transport(options.transport)
    with ExitStack() as stack:
        display, output = stack.enter_context(open_streams())
        shift = _Shift(options, transport, display, output)
        stack.enter_context(logging_to(shift.report, shift.tally))
        found = load(options.target)
        try:
            anyio.run(shift.main, found, backend=options.backend)
        except BaseException as exc:  # noqa: BLE001  `check_interrupt` raises it, unless Ctrl-C
            check_interrupt(exc)
            return INTERRUPTED
        return shift.sum_up()


@final
class _Shift:
    """One worker's run, from making its engine to the summary."""

    def __init__(
        self, options: Options, transport: Transport, display: Display, output: int
    ) -> None:
        self._options = options
        self._transport = transport
        self._display = display
        self._end = anyio.Event()
        self._writer = Writer(output, before_writing=display.make_way, on_failure=self._end.set)
        self._bridge: Bridge | None = None
        self._problem: CannotRun | TransportError | None = None
        self._interrupted = False
        self.tally = Tally()

    async def main(self, found: object) -> None:
        with anyio.open_signal_receiver(SIGINT, SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, signals, tasks.cancel_scope)
                try:
                    await self._work(found, tasks)
                except (CannotRun, TransportError) as exc:
                    self._problem = exc
                tasks.cancel_scope.cancel()
            with anyio.move_on_after(_GRACE_SECONDS):
                await self._writer.drain()

    def report(self, text: str, exception: BaseException | None) -> None:
        """Show a text, and with `--verbose` the exception."""
        self._display.tell(text, exception if self._options.verbose else None)

    def sum_up(self) -> int:
        """Show the counts, and return the exit status (L5).

        Raises:
            CannotRun: the target or the transport could not be used, so nothing was done.
        """
        self._display.make_way()
        if isinstance(self._problem, CannotRun):
            raise self._problem
        status = self._status()
        if self._bridge is not None:
            self._display.tell(self._summary(self._bridge))
        return status

    def _status(self) -> int:
        if self._problem is not None:
            self._display.tell(f"flexiflow: {show_message(self._problem)}")
            return 1
        if self._interrupted:
            return INTERRUPTED
        if self._writer.failure is not None:
            return report_writing_failure(self._writer.failure, self._display.tell)
        return 0

    async def _work(self, found: object, tasks: TaskGroup) -> None:
        engine = await build(self._options.target, found)
        with await observe(engine.bus, self._options.shown, self.tally, self._show):
            async with (
                running(engine, self._options.target, None),
                self._open(engine.bus) as bridge,
            ):
                self._bridge = bridge
                tasks.start_soon(self._keep_up, bridge)
                self._display.tell(_ready(self._options))
                await self._end.wait()

    @asynccontextmanager
    async def _open(self, bus: EventBus) -> AsyncGenerator[Bridge]:
        options = self._options
        if not (options.outgoing or options.incoming):
            raise CannotRun("a worker needs patterns: --incoming, --outgoing, or both")
        async with AsyncExitStack() as stack:
            try:
                opening = open_bridge(
                    bus,
                    self._transport,
                    outgoing=options.outgoing,
                    incoming=options.incoming,
                    group=options.group,
                    start=options.start,
                    consumer=options.consumer,
                    limit=options.limit,
                    max_attempts=options.max_attempts,
                    max_depth=options.max_depth,
                    lease=options.lease,
                    grace=options.grace,
                )
                bridge = await stack.enter_async_context(opening)
            except (TransportError, ValueError, ModuleNotFoundError) as exc:
                raise CannotRun(show_message(exc)) from exc
            yield bridge

    def _show(self, event: str) -> Callable[[Any], Awaitable[None] | None]:
        """Return a handler that shows this engine's own events, not incoming ones of that name."""
        show = self._writer.show(event)

        def show_own(payload: Any) -> Awaitable[None] | None:
            held = handing_on.get()
            return None if held is not None and held.data is payload else show(payload)

        return show_own

    async def _listen(self, signals: AsyncIterator[Signals], scope: anyio.CancelScope) -> None:
        """At the first signal, end when the events in hand are done; at the second, end at once."""
        while True:
            signal = await anext(signals)
            self._interrupted = self._interrupted or signal == SIGINT
            if self._bridge is None or self._end.is_set():
                scope.cancel()
            self._end.set()

    async def _keep_up(self, bridge: Bridge) -> None:
        while True:
            await self._writer.drain()
            self._display.update(self._summary(bridge))
            await anyio.sleep(MOST_SECONDS / 2)

    def _summary(self, bridge: Bridge) -> str:
        counts = asdict(bridge.statistics()) | {"failures": self.tally.failures}
        return ", ".join(
            f"{name}: {count}" for name, count in counts.items() if name not in _OF_OUTBOXES
        )


def _ready(options: Options) -> str:
    parts: list[str] = []
    if options.incoming:
        parts.append(f"group {options.group} takes {', '.join(options.incoming)}")
    if options.outgoing:
        parts.append(f"stores {', '.join(options.outgoing)}")
    return f"ready: {'; '.join(parts)}"
