"""`flexiflow run`: feed an input to a target's engine, show its events, and sum up (L1 to L5)."""

from __future__ import annotations

import gc
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import anyio

from flexiflow._cancellation import leaves
from flexiflow._cli.descriptors import open_streams
from flexiflow._cli.display import INTERRUPTED
from flexiflow._cli.hosting import beside_lines, find_store, finish, running
from flexiflow._cli.monitoring import MonitorServer
from flexiflow._cli.observing import Unheard, logging_to, observe
from flexiflow._cli.problems import CannotRun, InputBroken
from flexiflow._cli.replay import Replay
from flexiflow._cli.reporting import Report
from flexiflow._cli.source import open_source
from flexiflow._cli.tally import Tally
from flexiflow._cli.target import build, load
from flexiflow._cli.text import one_line
from flexiflow._cli.tracing import trace
from flexiflow._cli.writer import MOST_SECONDS, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow._cli.display import Display
    from flexiflow._cli.source import Source
    from flexiflow._stores import StateStore

_OBJECTS_BETWEEN_COLLECTIONS = 50_000

# Even if nobody reads the output, Ctrl-C ends the run after this time.
_GRACE_SECONDS = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `flexiflow run`.

    Attributes:
        target: names an engine, or a function that returns one.
        input: a file's name, or "-" for standard input.
        backend: "asyncio" or "trio".
        store: the URL of a store; None for where the engine keeps states itself, if anywhere.
        delivery: how lines publish events (D5); None for the bus's own way.
        on_error: what a failure of such an event does (D5); None for the bus's own way.
        shown: the built-in events that are written as JSON Lines.
        traced: patterns of the events that are written as a tree.
        unheard: whether the names that nobody hears are listed after the run.
        report: the file for a page about the run, or None.
        monitor: where a page shows the run while it lasts, or None.
        verbose: whether tracebacks are shown.
    """

    target: str
    input: str
    backend: str
    store: str | None
    delivery: DeliveryMode | None
    on_error: ErrorPolicy | None
    shown: tuple[str, ...]
    traced: tuple[str, ...]
    unheard: bool
    report: str | None
    monitor: str | None
    verbose: bool


def run(options: Options) -> int:
    """Feed the input to the target, sum up, and return the exit status.

    Raises:
        CannotRun: the target, the store or the input can't be used.
    """
    store = None if options.store is None else find_store(options.store)
    page = None if options.report is None else Report(options.report, options.target)
    server = None if options.monitor is None else MonitorServer(options.monitor, options.backend)
    with ExitStack() as stack:
        if server is not None:
            stack.callback(server.close)
        source = stack.enter_context(open_source(options.input))
        display, output = stack.enter_context(open_streams())
        session = _Session(options, store, page, server, display, output)
        stack.enter_context(logging_to(session.report, session.tally))
        stack.enter_context(_rare_collections())
        found = load(options.target)
        try:
            anyio.run(session.main, found, source, backend=options.backend)
        except BaseException as exc:  # noqa: BLE001  `check_interrupt` raises it, unless Ctrl-C
            check_interrupt(exc)
            session.end()
        finally:
            status = session.sum_up()
        return status


def report_writing_failure(failure: OSError, tell: Callable[[str], object]) -> int:
    """Show why output could not be written, unless its reader is gone; return the status (L5)."""
    if isinstance(failure, BrokenPipeError):
        return 0
    tell(f"flexiflow: standard output can't be written: {one_line(str(failure))}")
    return 1


def check_interrupt(exception: BaseException) -> None:
    """Return if Ctrl-C ended a run, and raise anything else that ended it."""
    # A task group wraps what leaves it in an exception group; on trio, Ctrl-C too.
    bare = next((leaf for leaf in leaves(exception) if not isinstance(leaf, Exception)), None)
    if not isinstance(bare, KeyboardInterrupt):
        raise bare or exception


@contextmanager
def _rare_collections() -> Generator[None]:
    """Run the garbage collector less often: messages make many objects, but no cycles."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@final
class _Session:
    """One run, from its start to its summary."""

    def __init__(
        self,
        options: Options,
        store: StateStore | None,
        page: Report | None,
        server: MonitorServer | None,
        display: Display,
        output: int,
    ) -> None:
        self._options = options
        self._store = store
        self._page = page
        self._server = server
        self._display = display
        self._output = output
        self._replay: Replay | None = None
        self._unheard: Unheard | None = None
        self._problem: CannotRun | None = None
        self._writing_failed: OSError | None = None
        self._reading_failed = False
        self._interrupted = False
        self.tally = Tally()

    async def main(self, found: object, source: Source) -> None:
        engine = await build(self._options.target, found)
        if self._options.unheard:
            self._unheard = Unheard(engine.bus)
            engine.bus.add_instrument(self._unheard)
        noting = () if self._page is None else self._page.watch(engine, self._place)
        self.tally.start()
        self._replay = Replay(
            engine,
            self.tally,
            self.report,
            self._fail_message,
            delivery=self._options.delivery,
            on_error=self._options.on_error,
        )
        async with anyio.create_task_group() as tasks:
            writer = Writer(
                self._output,
                before_writing=self._display.make_way,
                on_failure=tasks.cancel_scope.cancel,
            )
            tasks.start_soon(self._keep_up, writer)
            if self._server is not None:
                tasks.start_soon(self._server.serve, engine, self._display.tell)
            with (
                await observe(engine.bus, self._options.shown, self.tally, writer.show, noting),
                await self._trace(engine.bus, writer),
            ):
                try:
                    async with running(engine, self._options.target, self._store) as block:
                        await self._feed(self._replay, source, writer)
                        await finish(engine, block)
                        await writer.drain()
                except CannotRun as exc:
                    self._problem = exc
                finally:
                    tasks.cancel_scope.cancel()
                    with anyio.move_on_after(_GRACE_SECONDS, shield=True):
                        await writer.drain()
                    self._writing_failed = writer.failure

    def report(self, text: str, exception: BaseException | None) -> None:
        """Show a text, with the number of the input's line that led to it."""
        place = f"line {self._place()}: " if self._place() else ""
        self._display.tell(f"{place}{text}", exception if self._options.verbose else None)

    def _fail_message(self, component: str, exception: Exception) -> None:
        if self._page is not None:
            self._page.fail_message(component, exception)

    def end(self) -> None:
        """Note that Ctrl-C ended the run."""
        self._interrupted = True

    def sum_up(self) -> int:
        """Show the counts, and return the exit status (L5).

        Raises:
            CannotRun: the engine could not run, so nothing was fed to it.
        """
        self._display.make_way()
        if self._problem is not None:
            raise self._problem
        status = self._status()
        if self._replay is not None:
            counts = self.tally.counts()
            if self._page is not None and not self._page.save(counts, self._display.tell):
                status = status or 1
            told = ", ".join(f"{name}: {count}" for name, count in counts.items())
            self._display.sum_up(told, status)
        for line in () if self._unheard is None else self._unheard.lines():
            self._display.tell(line)
        return status

    def _status(self) -> int:
        if self._interrupted:
            return INTERRUPTED
        if self._writing_failed is not None:
            return report_writing_failure(self._writing_failed, self._display.tell)
        return 1 if self.tally.rejected or self.tally.failures or self._reading_failed else 0

    async def _trace(self, bus: EventBus, writer: Writer) -> AbstractContextManager[object]:
        if not self._options.traced:
            return nullcontext()
        return await trace(bus, self._options.traced, writer, self._place)

    def _place(self) -> int:
        """Return the number of the line in hand; 0 for none, and for timers and work."""
        return self._replay.number if self._replay and not beside_lines.get() else 0

    async def _feed(self, replay: Replay, source: Source, writer: Writer) -> None:
        try:
            await replay.run(source, writer.drain)
        except InputBroken as exc:
            self._reading_failed = True
            self._display.tell(
                f"flexiflow: the input can't be read on after line {replay.number}: {exc.reason}"
            )

    async def _keep_up(self, writer: Writer) -> None:
        while True:
            await anyio.sleep(MOST_SECONDS / 2)
            await writer.drain()
            self._display.update(self.tally.progress())
