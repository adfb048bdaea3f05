"""A bus as a subject: its recorder, what it offers, and how its cases run and are shown."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.fitting import Guarded, fit
from flexiflow.testing._bus.offers import METHODS, PRIORITY, USES, options_of
from flexiflow.testing._bus.script import Script
from flexiflow.testing._bus.trace import AWAITABLE, BusTrace, Publication, Seat
from flexiflow.testing._examiner.examine import FactoryFailed, Log, Subject, out_of_factory
from flexiflow.testing._examiner.kit import mark
from flexiflow.testing._examiner.program import (
    Program,
    defined,
    name_factory,
    show_program,
    show_script,
)
from flexiflow.testing._examiner.trace import NOBODY, Recorder, disguise, observing
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Handed

MOST_STARTS: Final = 30
"""Once so many handlers have started, later ones do nothing, so that a recursion ends."""


class BusRecorder(Recorder):
    """Stands in for the bus.

    Args:
        bus: any object with the methods of a bus.
        trace: where to note what happens.
        offers: what the bus offers.
    """

    def __init__(
        self, bus: Any, trace: BusTrace, offers: frozenset[str] = frozenset({*USES})
    ) -> None:
        super().__init__(trace)
        self._first = {"priority": 1} if PRIORITY in offers else {}
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
            await self._bus.subscribe(HANDLER_FAILED, "recorder", self._observe, **self._first)
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
        self._trace.subscriptions.append((subscription, seat.number))
        self.note("subscribed", seat=seat.number)
        return subscription

    def unsubscribe(self, subscription: object) -> object:
        """Unsubscribe, and note what that returned."""
        removed = self._bus.unsubscribe(subscription)
        self.note("unsubscribed", removed, seat=self._trace.number_of(subscription))
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


_JUDGE: Final = "flexiflow.testing._bus.judging"
_METHODS: Final = ("subscribe", "unsubscribe", "unsubscribe_all", "publish")


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

    kind = "bus"

    def __init__(self, factory: Callable[[], Any], backend: str) -> None:
        super().__init__(backend, BusTrace)
        if not callable(factory):
            raise TypeError(f"factory must be callable without arguments, not {factory!r}")
        self._factory = factory
        with Log():
            bus, self._is_async = run_scheduled(self._probe, backend=backend)
            parts = {name for name, use in USES.items() if self._offers(use)}
        methods = {name for name in METHODS if callable(getattr(bus, name, None))}
        self.offers = frozenset(methods | parts | options_of(parts))
        self._lacks_parts = parts < USES.keys()

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

    def _offers(self, use: Callable[[Any], Awaitable[bool]]) -> bool:
        """Return whether a new bus has a part, which is used."""
        answers: list[bool] = []

        async def main() -> None:
            answers.append(await use(await self._make()))

        # A signature does not show it: a wrapper may take any option and hand it on in vain.
        try:
            run_scheduled(main, backend=self.backend)
        except FactoryFailed as exc:
            raise exc.reason from None
        except TypeError:
            return False
        except TasksLeft:
            # A clause will report that. The bus has answered.
            pass
        except Exception:  # noqa: BLE001  a failure that some clause will report
            return True
        return all(answers)

    def fit(self, case: Case, needs: tuple[str, ...]) -> Case:
        """Return a script without the options and patterns that the bus does not offer."""
        if self._lacks_parts and isinstance(case, Script):
            return fit(case, self.offers, needs)
        return case

    async def _make(self) -> Any:
        with out_of_factory():
            made = self._factory()
            return await made if self._is_async else made

    def play(self, case: Case, trace: BusTrace, log: Log) -> None:
        """Run a case to its end, on a new bus; a script has a recorder in its place."""
        if isinstance(case, Program):
            self._play_program(case, trace)
            return
        self.play_main(defined("bus", case.main()), case.decisions, trace, log)

    def play_main(
        self,
        main: Callable[[Any], Awaitable[None]],
        decisions: tuple[int, ...],
        trace: BusTrace,
        log: Log,
    ) -> None:
        """Call an async function with the recorder of a new bus."""

        async def call() -> None:
            made = await self._make()
            await main(log.enter(BusRecorder(made, trace, self.offers)))

        self.run(call, decisions, trace)

    def _play_program(self, program: Program, trace: BusTrace) -> None:
        buses: list[Any] = []
        if program.runs > 1:
            # A sync factory is called outside of any loop. What it raises there breaks the clause.
            is_async, backend = self._is_async, self.backend
            buses += [run_scheduled(self._make, backend=backend) if is_async else self._factory()]

        async def main(run: int) -> None:
            made = buses or [await self._make() for _ in range(program.takes)]
            if self._lacks_parts:
                made = [Guarded(each, self.offers) for each in made]
            await program.start(*made, run=run)

        for run in range(1, program.runs + 1):
            self.run(partial(main, run), program.decisions, trace)

    def imports(self) -> list[str]:
        """Return the line that imports the factory."""
        return [name_factory(self._factory)]

    def show(self, case: Case, clause: str) -> str:
        """Return a case as a program that fails with an assertion if it breaks the clause."""
        factory, backend = name_factory(self._factory), self.backend
        if not isinstance(case, Program):
            return show_script(case, clause, {"factory": factory}, backend, "bus", _JUDGE)
        new = "await factory()" if self._is_async else "factory()"
        made: list[str] = []
        if case.runs == 1:
            mains = [[case.call(*[new] * case.takes)]]
        else:
            if self._is_async:
                # The factory itself need not be an async function, which `replay` asks for.
                made = ["async def make():\n    return await factory()"]
                new = f'replay(make, backend="{self.backend}", decisions=())'
            made.append(f"bus = {new}")
            mains = [[case.call("bus", run=run)] for run in range(1, case.runs + 1)]
        return show_program(case, clause, [factory], backend, *made, mains=mains)
