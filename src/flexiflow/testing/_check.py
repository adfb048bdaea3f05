"""The public `check_bus`, `check_component`, `check_transport`, `check_store` and `check_machine`.

What is examined is a `Subject`, and a contract is a tuple of clauses (P1), or what a user claims
about a machine (P6). Both are imported when they are first needed, since they need Hypothesis. The
first violation is raised. What the subject lacks is logged as a warning, once (P5).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flexiflow.testing._examiner.violation import EXAMPLES
from flexiflow.testing._scheduling.checks import check_no_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
    from typing import TypeAlias

    from hypothesis.strategies import SearchStrategy

    from flexiflow._engine import Engine
    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._machine.report import MachineReport

    Condition: TypeAlias = str | Collection[str] | Callable[[Any], object]

_logger = logging.getLogger(__name__)


def check_bus(
    factory: Callable[[], Any],
    *,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
    clauses: Iterable[str] | None = None,
    strict: bool = False,
) -> None:
    """Try to break each clause of the bus, with small programs that are drawn at random (P1).

    Args:
        factory: called for each program, without arguments; makes a bus, or, if it is async,
            returns one. A bus is any object with the methods `subscribe`, `unsubscribe`,
            `unsubscribe_all` and `publish`; clauses that need more, like `stream` or `limit=`, are
            checked if it has that.
        backend: "asyncio" or "trio".
        examples: how many programs a clause is tried with, 1 or more; a clause that has fewer is
            tried with all of them.
        seed: an int of 0 or more, which draws the same programs again; if None, one is drawn, which
            a violation shows.
        clauses: the names of the clauses to try, as ("B4", "D1"); if None, all of them. What one of
            these needs must be offered (P5).
        strict: whether everything that a clause needs must be offered (P5).

    Raises:
        ContractViolation: a clause doesn't hold: the first such one. They are tried in the
            contract's order, but B10 before B8, and B5 after B12.
        TypeError: `factory` is not callable, or makes something that is no bus; `clauses` are
            not several names.
        ValueError: an unknown backend or clause; `examples` or `seed` is no int, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.

    Example:
        >>> from flexiflow import EventBus
        >>> from flexiflow.testing import check_bus
        >>> check_bus(EventBus, backend="asyncio", clauses=("B6",), examples=5)
        >>> print("B6 holds")
        B6 holds
    """
    check_no_loop("check_bus")
    # Exploring needs no Hypothesis, which takes longer to import than all the rest.
    from flexiflow.testing._bus.contract import TRIED  # noqa: PLC0415
    from flexiflow.testing._bus.subject import BusSubject  # noqa: PLC0415

    how: dict[str, Any] = {"backend": backend, "examples": examples, "seed": seed}
    how |= {"only": clauses, "strict": strict}
    _check(BusSubject, TRIED, factory, **how)


def check_component(
    factory: Callable[..., Any],
    *,
    engine: Callable[..., Any] | None = None,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
    clauses: Iterable[str] | None = None,
    strict: bool = False,
) -> None:
    """Try to break each clause of engines and components, with small programs (P1).

    The programs are drawn at random. Each runs with an engine of its own, in virtual time, under a
    schedule that is drawn as well.

    Args:
        factory: called as `factory(name, machine=machine)`, where `machine` is a `StateMachine` or
            None; makes a component: a `Component`, or any object that `engine` hosts and that has
            `name`, `machine`, `state` and `handle_message`.
        engine: called as `engine()` or `engine(component_factory=function)`; makes an object with
            `bus`, `components`, `register`, `unregister` and `send`. None stands for `Engine`.
            Clauses that need more, like `engine.running`, `engine(store=)` or `factory(state=)`,
            are checked if it is there.
        backend: "asyncio" or "trio".
        examples: how many programs a clause is tried with, 1 or more; a clause that has fewer is
            tried with all of them.
        seed: an int of 0 or more, which draws the same programs again; if None, one is drawn, which
            a violation shows.
        clauses: the names of the clauses to try, as ("C4",); if None, all of them. What one of
            these needs must be offered (P5).
        strict: whether everything that a clause needs must be offered (P5).

    Raises:
        ContractViolation: a clause doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` or `engine` is not callable, or what it makes lacks a method or
            attribute; `clauses` are not several names.
        ValueError: an unknown backend or clause; `examples` or `seed` is no int, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.

    Example:
        >>> from flexiflow import Component
        >>> from flexiflow.testing import check_component
        >>> check_component(Component, backend="asyncio", clauses=("C1",), examples=5)
        >>> print("C1 holds")
        C1 holds
    """
    check_no_loop("check_component")
    from flexiflow.testing._component.contract import COMPONENT_CONTRACT  # noqa: PLC0415  as above
    from flexiflow.testing._component.subject import ComponentSubject  # noqa: PLC0415

    how: dict[str, Any] = {"backend": backend, "examples": examples, "seed": seed}
    how |= {"only": clauses, "strict": strict}
    _check(ComponentSubject, COMPONENT_CONTRACT, factory, engine=engine, **how)


def check_transport(  # noqa: PLR0913  most of them are optional
    factory: Callable[..., Any],
    *,
    backend: str,
    restart: Callable[[Any], Awaitable[object]] | None = None,
    damage: Callable[[Any, int, str], Awaitable[object]] | None = None,
    insert: Callable[[Any, int, bytes], Awaitable[object]] | None = None,
    empty: Callable[[Any], Awaitable[object]] | None = None,
    lease: float | None = 1.0,
    scale: float = 1.0,
    examples: int = EXAMPLES,
    seed: int | None = None,
    clauses: Iterable[str] | None = None,
    strict: bool = False,
) -> None:
    """Try to break each clause of durable delivery that a transport keeps (P1).

    First with small scripts of calls, drawn at random, whose results are compared with a reference
    model; then through bridges, with a universal suite like the one by which watermill judges its
    own transports: thousands of events, dozens of workers.

    Args:
        factory: called as `factory()`; makes a `Transport`, new and empty, or an async context
            manager that yields one and cleans up. If it takes `partitions=`, it is also called with
            that, for a transport whose partitions are leased exclusively (X4); if it takes
            `max_length=`, for one whose log holds at most so many records (X5); if it takes
            `max_event_bytes=`, for one whose records have at most so many bytes (X14); if it takes
            `max_scheduled=`, for one that schedules at most so many at a time (Y3); if it takes
            `idempotency_window=`, for one that remembers producers for so many seconds (X2).
        backend: "asyncio" or "trio".
        restart: an async function, called with the transport; restarts the server behind it, which
            loses nothing (X6).
        damage: an async function, called with the transport, a partition, and the position of a
            record there; deletes that record behind the transport's back (X6).
        insert: an async function, called with the transport, a partition, and a body; stores the
            body there as an outsider would, however large it is (X14, Y5).
        empty: an async function, called with the transport; restarts the server behind it, which
            has lost all that was stored (X13).
        lease: the length of a worker's lease in the scripts, in seconds, more than 0; a script in
            which a worker dies takes longer than that. None for a transport that waits only for
            other tasks and for time, never for a thread, socket or file: scripts then run in
            virtual time.
        scale: the size of the universal suite, more than 0; 1 is the size of watermill's.
        examples: how many scripts a clause is tried with, 1 or more.
        seed: an int of 0 or more, which draws the same scripts again; if None, one is drawn, which
            a violation shows.
        clauses: the names of the clauses to try, as ("X2",); if None, all of them. What one of
            these needs must be offered (P5).
        strict: whether everything that a clause needs must be offered (P5).

    Raises:
        ContractViolation: a clause doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` is not callable, or makes something that is no transport; `clauses` are
            not several names.
        ValueError: an unknown backend or clause; an argument that should be a number is none, or
            too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.

    Example:
        >>> from flexiflow.extras.durable import MemoryTransport
        >>> from flexiflow.testing import check_transport
        >>> check_transport(
        ...     MemoryTransport, backend="asyncio", lease=None, clauses=("X4",), examples=1
        ... )
        >>> print("X4 holds")
        X4 holds
    """
    check_no_loop("check_transport")
    from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT  # noqa: PLC0415  as above
    from flexiflow.testing._transport.subject import TransportSubject  # noqa: PLC0415

    how: dict[str, Any] = {"backend": backend, "examples": examples, "seed": seed}
    how |= {"only": clauses, "strict": strict}
    how |= {"restart": restart, "damage": damage, "insert": insert, "empty": empty}
    _check(TransportSubject, TRANSPORT_CONTRACT, factory, lease=lease, scale=scale, **how)


def check_store(
    factory: Callable[..., Any],
    *,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
    clauses: Iterable[str] | None = None,
    strict: bool = False,
) -> None:
    """Try to break each part of clause K2, which a store keeps (P1).

    Small scripts of calls are drawn at random, and their results are compared with a model: saves
    with right and wrong versions, by several tasks at once, some of them cancelled; odd names and
    snapshots; components that are due.

    Args:
        factory: called as `factory()`; makes a `StateStore`, new and empty, or an async context
            manager that yields one and cleans up. A store that is an async context manager itself
            is entered. If the factory takes `beside=`, it is also called with a store that it has
            made, and makes another one with the same data, as a second process would; the scripts
            then use both. If stores have a method `versions`, that is checked, too.
        backend: "asyncio" or "trio".
        examples: how many scripts each part is tried with, 1 or more.
        seed: an int of 0 or more, which draws the same scripts again; if None, one is drawn, which
            a violation shows.
        clauses: None, or ("K2",), which is the one clause of stores.
        strict: whether everything that a part needs must be offered (P5).

    Raises:
        ContractViolation: a part doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` is not callable, or makes something that is no store; `clauses` are
            not several names.
        ValueError: an unknown backend or clause; `examples` or `seed` is no int, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.

    Example:
        >>> from flexiflow.extras.stores import MemoryStateStore
        >>> from flexiflow.testing import check_store
        >>> check_store(MemoryStateStore, backend="asyncio", examples=2)
        >>> print("K2 holds")
        K2 holds
    """
    check_no_loop("check_store")
    from flexiflow.testing._store.contract import STORE_CONTRACT  # noqa: PLC0415  as above
    from flexiflow.testing._store.subject import StoreSubject  # noqa: PLC0415

    how: dict[str, Any] = {"backend": backend, "examples": examples, "seed": seed}
    how |= {"only": clauses, "strict": strict}
    _check(StoreSubject, STORE_CONTRACT, factory, **how)


def check_machine(
    make: Callable[[], Engine | Awaitable[Engine]],
    *,
    backend: str,
    messages: Mapping[str, SearchStrategy[Any]],
    invariants: Iterable[Callable[[Any], object]] = (),
    never: Iterable[Condition] = (),
    leads_to: Iterable[tuple[Condition, Condition]] = (),
    fair: Iterable[str | Mapping[str, Any]] = (),
    examples: int = EXAMPLES,
    seed: int | None = None,
) -> MachineReport:
    """Try to break claims about components of your own, with small programs (P6).

    In each program up to three senders send messages to the components, all at the same time. Some
    sends are cancelled, and between others time passes. At the end, timers and work run out. The
    messages and the schedule of the tasks are drawn at random; time is virtual.

    A *condition* is the name of a state, several of these, or a function that is given a component
    and returns whether the component is in it.

    Args:
        make: called for each program, without arguments; makes a new `Engine`, with all that
            belongs to it, or, if it is async, returns one. Its `running()` is entered by the check.
        backend: "asyncio" or "trio".
        messages: by the name of a component, a Hypothesis strategy of the messages that it is sent.
            The claims are about these components. One that is not registered is made by the
            engine's `component_factory`, when its first message comes.
        invariants: functions that are given a component, when it is registered and after each of
            its messages. An invariant is broken if it returns something false, except for None, or
            raises `AssertionError`.
        never: conditions that no component may reach.
        leads_to: pairs of conditions. Once a component has reached the first one, it must reach the
            second one then or later: at the latest at the end of the program, when timers and work
            have run out, and the messages of `fair` were sent again until nothing changed.
        fair: the messages, or the names of triggers without data, that can be relied on to come.
        examples: how many programs are tried, 1 or more.
        seed: an int of 0 or more, which draws the same programs again; if None, one is drawn, which
            a violation and the report show.

    Returns:
        What was tried: which transitions were taken, what the guards have answered, and how often
        each claim of `leads_to` has held, or was inconclusive.

    Raises:
        ContractViolation: a claim does not hold; its `clause` is that claim in words. Or a program
            does not come to its end when it is cancelled.
        TypeError: an argument is of a wrong type, `make` makes no engine, or a strategy draws what
            is no message.
        ValueError: an unknown backend; `examples` or `seed` is no int, or too small; a component
            that is not there, or has no machine; a state, or a trigger in `fair`, that no machine
            has.
        Exception: what `make` raises, or a function of a claim.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.

    Example:
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> from flexiflow.testing import check_machine
        >>> from hypothesis import strategies as st
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> def make():
        ...     return Engine(component_factory=lambda name: Component(name, machine=MACHINE))
        >>> messages = {"A7": st.just({"type": "pay"})}
        >>> report = check_machine(make, backend="asyncio", messages=messages, examples=5, seed=1)
        >>> print(report.not_taken)
        ()
    """
    check_no_loop("check_machine")
    from flexiflow.testing._machine.examination import examine_machine  # noqa: PLC0415  as above

    return examine_machine(
        make,
        backend=backend,
        messages=messages,
        examples=examples,
        seed=seed,
        invariants=invariants,
        never=never,
        leads_to=leads_to,
        fair=fair,
    )


def _check(new: Callable[..., Any], contract: tuple[Clause, ...], *given: Any, **how: Any) -> None:
    """Make a subject, examine it, and raise the first violation; warn of what it lacks."""
    from flexiflow.testing._examiner.examine import examine  # noqa: PLC0415  as above

    lacking: list[str] = []
    try:
        for verdict in examine(new, contract, *given, **how):
            if verdict.violation is not None:
                raise verdict.violation
            if verdict.lacks:
                lacking.append(f"{verdict.clause.identifier} ({verdict.missing})")
    finally:
        if lacking:
            _logger.warning("not offered, and so not checked: %s", ", ".join(lacking))
