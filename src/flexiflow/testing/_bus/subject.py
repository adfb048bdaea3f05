"""A bus as a subject: its recorder, what it offers, and how its cases run and are shown."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.trace import AWAITABLE, BusTrace, Publication, Seat
from flexiflow.testing._examiner.examine import FactoryFailed, Log, Subject, out_of_factory
from flexiflow.testing._examiner.kit import mark
from flexiflow.testing._examiner.program import Program, defined, name_factory, show
from flexiflow.testing._examiner.trace import NOBODY, Recorder, disguise, observing
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Handed

MOST_STARTS: Final = 30
"""Once so many handlers have started, later ones do nothing, so that a recursion ends."""


class BusRecorder(Recorder):
    """Stands in for the bus.

    Args:
        bus: any object with the methods of a bus.
        trace: where to note what happens.
    """

    def __init__(self, bus: Any, trace: BusTrace) -> None:
        super().__init__(trace)
        self._bus = bus
        self._trace = trace
        self._observes = False
        self._starts = 0

    def who(self, seat: int, act: int, component: str) -> str:
        """Return the name of a handler, and its publish."""
        who = [self._trace.seats[seat].name] if seat >= 0 else []
        if act >= 0:
            who.append(f"publish {act} of {self._trace.publications[act].event!r}")
        return " in ".join(who)

    def seen(self, component: str) -> object:
        """Return the value of the context variable that scripts set."""
        return mark.get()

    async def subscribe(
        self, event: str, component: str, handler: Callable[[Any], Any], **options: Any
    ) -> object:
        """Subscribe the handler, wrapped so that its starts and ends are noted."""
        if not self._observes:
            self._observes = True
            await self._bus.subscribe(HANDLER_FAILED, "recorder", self._observe, priority=1)
        seat = Seat(
            number=len(self._trace.seats),
            event=event,
            component=component,
            name=handler.__name__,
            priority=options.get("priority", 3),
            once=options.get("once", False),
        )
        self._trace.seats.append(seat)
        if "filter" in options:
            options["filter"] = disguise(options["filter"], self._asked(seat))
        disguised = disguise(handler, self._handled(seat))
        subscription = await self._bus.subscribe(event, component, disguised, **options)
        self._trace.subscriptions[subscription] = seat.number
        self.note("subscribed", seat=seat.number)
        return subscription

    def unsubscribe(self, subscription: object) -> object:
        """Unsubscribe, and note what that returned."""
        removed = self._bus.unsubscribe(subscription)
        self.note("unsubscribed", removed, seat=self._trace.subscriptions[subscription])
        return removed

    def unsubscribe_all(self, component: str) -> object:
        """Unsubscribe a component, and note what that returned."""
        count = self._bus.unsubscribe_all(component)
        self.note("emptied", (component, count))
        return count

    async def publish(self, event: str, data: object = None, **options: Any) -> object:
        """Publish, and note what that returned or raised."""
        number = len(self._trace.publications)
        delivery, on_error = options.get("delivery"), options.get("on_error")
        publication = Publication(number, event, data, delivery, on_error)
        self._trace.publications.append(publication)
        with self.noted("published", "returned", fails="raised", act=number) as answers:
            failures = await self._bus.publish(event, publication, **options)
            answers.append(failures)
        return failures

    def _observe(self, payload: object) -> None:
        self.note("announced", payload)

    def _handled(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(data: object) -> Generator[Handed]:
            number, given = _opened(data)
            with (
                _observation(data),
                self.noted("started", "ended", seat=seat.number, act=number) as answers,
            ):
                self._starts += 1
                yield None if self._starts >= MOST_STARTS else (given,), answers

        return around

    def _asked(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(event: str, data: object) -> Generator[Handed]:
            number, given = _opened(data)
            with self.noted("asked", "answered", event, seat=seat.number, act=number) as answers:
                yield (event, given), answers
                answers[:] = [AWAITABLE if isawaitable(each) else each for each in answers]

        return around


@contextmanager
def _observation(data: object) -> Generator[None]:
    """Mark what a handler of `event.handler.failed` does, and whatever that calls (E7)."""
    is_failure = (
        data.event == HANDLER_FAILED
        if isinstance(data, Publication)
        # The bus's own event; a bus may publish others too, which handlers of `**` get.
        else isinstance(data, dict) and "exception" in data
    )
    # Only then: a bus need not keep a context that was changed.
    token = observing.set(True) if is_failure else None
    try:
        yield
    finally:
        if token is not None:
            observing.reset(token)


def _opened(data: object) -> tuple[int, object]:
    if isinstance(data, Publication):
        return data.number, data.data
    return NOBODY, data


_METHODS: Final = ("subscribe", "unsubscribe", "unsubscribe_all", "publish")
_MORE_METHODS: Final = (
    "stream",
    "expect",
    "wait_for",
    "add_instrument",
    "remove_instrument",
    "subscriptions",
    "answer",
    "ask",
    "background",
)
_OPTIONS: Final[Mapping[str, object]] = {"limit": 1, "time_limit": 1, "around": ()}


@final
class BusSubject(Subject[BusTrace]):
    """A bus.

    Args:
        factory: makes one, or returns one when it is awaited.
        backend: the backend on which it runs.

    Raises:
        TypeError: the factory isn't callable, or what it makes lacks one of the methods of a bus,
            or is the same bus again.
    """

    def __init__(self, factory: Callable[[], Any], backend: str) -> None:
        super().__init__(backend, BusTrace)
        if not callable(factory):
            raise TypeError(f"factory must be callable without arguments, not {factory!r}")
        self._factory = factory
        with Log():
            bus, self._is_async = run_scheduled(self._probe, backend=backend)
            options = [name for name, value in _OPTIONS.items() if self._takes(name, value)]
        taken = {f"subscribe({name}=)" for name in options}
        methods = {name for name in _MORE_METHODS if callable(getattr(bus, name, None))}
        self.offers = frozenset(methods | taken)

    async def _probe(self) -> tuple[Any, bool]:
        """Return a bus, and whether the factory's result has to be awaited."""
        made, again = self._factory(), self._factory()
        is_async = isawaitable(made)
        if is_async:
            made, again = await made, await again
        missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
        if missing:
            raise TypeError(
                f"factory must make a bus, with the methods {', '.join(_METHODS)}, "
                f"not {made!r}, which lacks {', '.join(missing)}"
            )
        if again is made:
            raise TypeError(f"factory must make a new bus each time, not {made!r} again")
        return made, is_async

    def _takes(self, option: str, value: object) -> bool:
        async def subscribe() -> None:
            bus = await self._make()
            await bus.subscribe("a", "c", print, **{option: value})

        # A signature does not show it: a wrapper may take any option and hand it on in vain.
        try:
            run_scheduled(subscribe, backend=self.backend)
        except FactoryFailed as exc:
            raise exc.reason from None
        except TypeError:
            return False
        except Exception:  # noqa: BLE001  a failure that some clause will report
            return True
        return True

    async def _make(self) -> Any:
        with out_of_factory():
            made = self._factory()
            return await made if self._is_async else made

    def play(self, case: Case, trace: BusTrace, log: Log) -> None:
        """Run a case to its end, on a new bus; a script has a recorder in its place."""
        if isinstance(case, Program):
            self._play_program(case, trace)
            return
        lines = case.main()

        async def main() -> None:
            bus = log.enter(BusRecorder(await self._make(), trace))
            await defined(lines, bus=bus)()

        self.run(main, case, trace)

    def _play_program(self, program: Program, trace: BusTrace) -> None:
        buses: list[Any] = []
        if program.runs > 1:
            # A sync factory is called outside of any loop. What it raises there breaks the clause.
            is_async, backend = self._is_async, self.backend
            buses += [run_scheduled(self._make, backend=backend) if is_async else self._factory()]

        async def main(run: int) -> None:
            made = buses or [await self._make() for _ in range(program.takes)]
            await program.start(*made, run=run)

        for run in range(1, program.runs + 1):
            self.run(partial(main, run), program, trace)

    def show(self, case: Case) -> str:
        """Return a case as a program that anyone can run."""
        new = "await factory()" if self._is_async else "factory()"
        made: list[str] = []
        if not isinstance(case, Program):
            mains = [[f"bus = {new}", *case.main()]]
        elif case.runs == 1:
            mains = [[case.call(*[new] * case.takes)]]
        else:
            if self._is_async:
                # The factory itself need not be an async function, which `replay` asks for.
                made = ["async def make():\n    return await factory()"]
                new = f'replay(make, backend="{self.backend}", decisions=())'
            made.append(f"bus = {new}")
            mains = [[case.call("bus", run=run)] for run in range(1, case.runs + 1)]
        return show(case, [name_factory(self._factory)], self.backend, *made, mains=mains)
