"""A bus as a subject: its recorder, what it offers, and how its cases run and are shown."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction, unwrap
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, final

from hypothesis import strategies as st

from flexiflow._errors import PublishRefused
from flexiflow._text import safely
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.crossed import blame, complaint_of
from flexiflow.testing._bus.crossing import Crossing, cross
from flexiflow.testing._bus.fitting import Guarded, fit
from flexiflow.testing._bus.offers import METHODS, PRIORITY, USES, options_of
from flexiflow.testing._bus.script import Script
from flexiflow.testing._bus.trace import AWAITABLE, BusTrace, Call, Publication, Seat, Watcher
from flexiflow.testing._examiner.examine import (
    FactoryFailed,
    Log,
    Subject,
    out_of_factory,
    search,
)
from flexiflow.testing._examiner.kit import awaitable, mark
from flexiflow.testing._examiner.program import (
    Program,
    defined,
    name_factory,
    show_program,
    show_script,
)
from flexiflow.testing._examiner.trace import NOBODY, Recorder, disguise, is_a, observing
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractContextManager

    from flexiflow.testing._examiner.examine import Verdict
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Handed

_within: ContextVar[tuple[Call, ...]] = ContextVar("within", default=())
CROSSINGS: Final = 5
"""How many crossings are tried for each example of a clause."""

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
        """Return the name of an instrument, a handler, and its publish."""
        who = [component] if component else []
        if seat >= 0:
            who.append(self._trace.seats[seat].name)
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
            options=frozenset(options),
        )
        self._trace.seats.append(seat)
        if "filter" in options:
            options["filter"] = disguise(options["filter"], self._asked(seat))
        if "around" in options:
            options["around"] = [
                disguise(each, self._surrounded(seat)) for each in options["around"]
            ]
        disguised = self._disguised(handler, seat)
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
        publication = Publication(number, event, data, delivery, on_error, _within.get())
        self._trace.publications.append(publication)
        with self.noted("published", "returned", fails="raised", act=number) as answers:
            failures = await self._bus.publish(event, publication, **options)
            answers.append(failures)
        return failures

    def add_instrument(self, instrument: Any) -> None:
        """Add an instrument, wrapped so that what it sees is noted."""
        methods = {each for each in ("publishing", "handling") if hasattr(instrument, each)}
        name = f"instrument {len(self._trace.watchers)}"
        watched = {each: self._watching(name, getattr(instrument, each)) for each in methods}
        self._bus.add_instrument(SimpleNamespace(**watched))
        self._trace.watchers.append(Watcher(name, frozenset(methods), len(self._trace.entries)))

    def _watching(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def watch(event: Any, *handled: Any) -> AbstractContextManager[object]:
            seat = self._trace.number_of(handled[0]) if handled else NOBODY
            if handled and seat == NOBODY:
                # The recorder's own handler is nobody's business.
                return nullcontext()
            act = _opened(event.data)[0]
            note = partial(self.note, component=name, act=act, seat=seat)
            with _breaking(note):
                return _Manager(method(event, *handled), method.__name__, note)

        def publishing(event: Any) -> AbstractContextManager[object]:
            return watch(event)

        def handling(event: Any, subscription: object) -> AbstractContextManager[object]:
            return watch(event, subscription)

        return publishing if method.__name__ == "publishing" else handling

    def _disguised(self, handler: Callable[[Any], Any], seat: Seat) -> Callable[[Any], Any]:
        returned = unwrap(handler)
        if not iscoroutinefunction(returned) or returned is handler:
            return disguise(handler, self._handled(seat))
        disguised = awaitable(disguise(returned, self._handled(seat)))

        @wraps(handler)
        def call(data: object) -> Awaitable[object]:
            self.note("called", seat=seat.number, act=_opened(data)[0])
            return disguised(data)

        return call

    def _surrounded(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(event: Any, *given: object) -> Generator[Handed]:
            self.note("surrounded", seat=seat.number, act=_opened(event.data)[0])
            yield (event, *given), []

        return around

    def _observe(self, payload: object) -> None:
        self.note("announced", payload)

    def _handled(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(data: object) -> Generator[Handed]:
            number, given = _opened(data)
            payload: Any = data
            told: object = payload.get("exception") if is_a(data, dict) else None
            where: dict[str, Any] = {"seat": seat.number, "act": number}
            with _observation(data):
                call = Call(seat.number, number, told)
                try:
                    with self.noted("started", "ended", told, **where) as answers:
                        self._trace.calls.append(call)
                        call.start = self._trace.entries[-1]
                        self._starts += 1
                        is_endless = self._starts >= MOST_STARTS
                        with _inside(call):
                            yield None if is_endless else (given,), answers
                finally:
                    call.end = self._trace.entries[-1]

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


@contextmanager
def _inside(call: Call) -> Generator[None]:
    """Mark what is done as within a call."""
    token = _within.set((*_within.get(), call))
    try:
        yield
    finally:
        # Again what it was: a bus need not keep a context that was changed.
        _within.reset(token)


class _Manager:
    """Stands in for the context manager of an instrument.

    Args:
        manager: the real one.
        method: the method that has returned it.
        note: notes what happens.
    """

    def __init__(self, manager: Any, method: str, note: Callable[..., None]) -> None:
        self._manager = manager
        self._method = method
        self._note = note

    def __enter__(self) -> None:
        with _breaking(self._note):
            self._manager.__enter__()
        self._note(f"enters {self._method}")

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        self._note(f"leaves {self._method}", exception)
        with _breaking(self._note):
            self._manager.__exit__(kind, exception, traceback)


@contextmanager
def _breaking(note: Callable[..., None]) -> Generator[None]:
    """Note that an instrument fails, or refuses a publish."""
    try:
        yield
    except Exception as exc:
        note("refuses" if isinstance(exc, PublishRefused) else "breaks", exc)
        raise


def _opened(data: object) -> tuple[int, object]:
    if isinstance(data, Publication):
        return data.number, data.data
    return NOBODY, data


_JUDGE: Final = "flexiflow.testing._bus.judging"
_JUDGE_OF_CROSSINGS: Final = "flexiflow.testing._bus.judging_crossings"
_OPTIONAL: Final = {f"subscribe({each}=)" for each in ("limit", "time_limit", "around")}
_CROSSED: Final = USES.keys() - _OPTIONAL
"""What a bus must offer for crossings to be tried."""
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
            raise TypeError(
                f"factory must be callable without arguments, not {safely(repr, factory)}"
            )
        self._factory = factory
        self._blamed: tuple[str, Case] | None = None
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
                f"not {safely(repr, made)}, which lacks {', '.join(missing)}"
            )
        if again is made:
            raise TypeError(
                f"factory must make a new bus each time, not {safely(repr, made)} again"
            )
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
        except (TypeError, NotImplementedError):
            return False
        except TasksLeft:
            # A clause will report that. The bus has answered.
            pass
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  a failure, or an exit, that some clause will report
            return True
        return all(answers)

    def fit(self, case: Case, needs: tuple[str, ...]) -> Case:
        """Return a script without the options and patterns that the bus does not offer."""
        if self._lacks_parts and isinstance(case, Script):
            return fit(case, self.offers, needs)
        return case

    def examine_further(self, verdict: Verdict, examples: int, seed: int) -> Verdict:
        """Look for a crossing that breaks the clause; all clauses have the same ones."""
        if verdict.violation is not None or verdict.lacks:
            return verdict
        if self._blamed is None and self.offers >= _CROSSED:
            self._blamed = self._cross(CROSSINGS * examples, seed)
        identifier, case = self._blamed or ("", Crossing((), ()))
        if identifier != verdict.clause.identifier:
            return verdict
        clause = replace(
            verdict.clause,
            cases=st.just(case),
            complain=partial(complaint_of, identifier),
            scenes=(case,),
        )
        return replace(verdict, violation=search(clause, self, 1, seed).violation)

    def _cross(self, number: int, seed: int) -> tuple[str, Case]:
        """Try so many crossings; return the clause that most of them break, with the first one."""
        found: dict[str, list[Case]] = {}
        for case in cross(Random(seed), self.offers, number):  # noqa: S311  to be drawn again
            blamed = blame(self.attempt(case))
            if blamed is not None:
                found.setdefault(blamed[0], []).append(case)
        if not found:
            return "", Crossing((), ())
        # Other clauses are mostly broken in consequence.
        most = max(found, key=lambda identifier: len(found[identifier]))
        return most, found[most][0]

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
            judge = _JUDGE_OF_CROSSINGS if isinstance(case, Crossing) else _JUDGE
            return show_script(case, clause, {"factory": factory}, backend, "bus", judge)
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
