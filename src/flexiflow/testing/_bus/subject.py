"""A bus, as it is examined (P1)."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, cast, final

from flexiflow.testing._bus.recorder import BusRecorder
from flexiflow.testing._bus.trace import BusTrace
from flexiflow.testing._examiner.examine import Subject
from flexiflow.testing._examiner.execute import Log, out_of_factory
from flexiflow.testing._examiner.listing import name_factory
from flexiflow.testing._examiner.program import Program, defined, show
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._examiner.program import Case, Written

_METHODS: Final = ("subscribe", "unsubscribe", "unsubscribe_all", "publish")
_MORE_METHODS: Final = ("stream", "expect", "wait_for", "add_instrument", "remove_instrument")
_OPTIONS: Final = ("limit", "time_limit")


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
            taken = {f"subscribe({name}=)" for name in _OPTIONS if self._takes(name)}
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

    def _takes(self, option: str) -> bool:
        async def subscribe() -> None:
            bus = await self._make()
            await bus.subscribe("a", "c", print, **{option: 1})

        # A signature does not show it: a wrapper may take any option and hand it on in vain.
        try:
            run_scheduled(subscribe, backend=self.backend)
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
        lines = cast("Written", case).main()

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
            mains = [[f"bus = {new}", *cast("Written", case).main()]]
        elif case.runs == 1:
            mains = [[case.call(*[new] * case.takes)]]
        else:
            replayed = f'replay(factory, backend="{self.backend}", decisions=())'
            made = [f"bus = {replayed if self._is_async else 'factory()'}"]
            mains = [[case.call("bus", run=run)] for run in range(1, case.runs + 1)]
        return show(case, [name_factory(self._factory)], self.backend, *made, mains=mains)
