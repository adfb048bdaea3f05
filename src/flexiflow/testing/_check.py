"""`check_bus`, `check_component` and `check_transport`, and what they raise (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._errors import FlexiFlowError
from flexiflow.testing._checks import check_no_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.testing._transport_run import Terms

EXAMPLES: Final = 200
"""How many programs a clause is tried with where nothing is said."""


@final
class ContractViolation(FlexiFlowError, AssertionError):
    """A bus, an engine with its components, or a transport breaks a clause of the contract (P1).

    Args:
        clause: the clause's number, as "B4".
        sentence: what it promises.
        complaint: what happened instead.
        counterexample: the smallest program that was found to show it, as Python code.
        history: what happened while it ran, a line for each thing; empty where the program itself
            asserts what the clause promises.
        operations: in how many places that program calls one of the examined methods.
        backend: what it ran on.
        seed: what the same check finds it again with.
    """

    def __init__(
        self,
        *,
        clause: str,
        sentence: str,
        complaint: str,
        counterexample: str,
        history: str,
        operations: int,
        backend: str,
        seed: int,
    ) -> None:
        super().__init__(clause, complaint)
        self.clause = clause
        self.sentence = sentence
        self.complaint = complaint
        self.counterexample = counterexample
        self.history = history
        self.operations = operations
        self.backend = backend
        self.seed = seed

    def __str__(self) -> str:
        """Say what is promised and what happened, show the program, and tell the seed."""
        history = f"what happened:\n{self.history}\n\n" if self.history else ""
        return (
            f"{self.clause} does not hold on {self.backend}: {self.complaint}\n\n"
            f"{self.clause}: {self.sentence}\n\n"
            f"{self.counterexample}\n"
            f"{history}"
            f"found with seed={self.seed}"
        )


def check_bus(
    factory: Callable[[], Any],
    *,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
) -> None:
    """Try to break each clause of the bus, with small programs that are drawn at random (P1).

    Args:
        factory: makes a bus, or, if it is async, gives one; called for each program. A bus is
            whatever has the methods `subscribe`, `unsubscribe`, `unsubscribe_all` and `publish`;
            clauses that need more, like `stream` or `limit=`, are checked where it has that.
        backend: "asyncio" or "trio".
        examples: how many programs a clause is tried with, 1 or more; a clause that has fewer is
            tried with each of those.
        seed: an int of 0 or more, which draws the same programs again; None draws one, which a
            violation tells.

    Raises:
        ContractViolation: a clause doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` is not callable, or makes something that is no bus.
        ValueError: an unknown backend; `examples` or `seed` is no int, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.
    """
    check_no_loop("check_bus")
    # Exploring needs no Hypothesis, which takes longer to import than all the rest.
    from flexiflow.testing._examine import examine  # noqa: PLC0415

    for verdict in examine(factory, backend=backend, examples=examples, seed=seed):
        if verdict.violation is not None:
            raise verdict.violation


def check_component(
    factory: Callable[..., Any],
    *,
    engine: Callable[..., Any] | None = None,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
) -> None:
    """Try to break each clause of engines and components, with small programs (P1).

    They are drawn at random; each is run with an engine of its own, in virtual time, under a
    schedule that is drawn as well.

    Args:
        factory: called as `factory(name, machine=machine)`, where `machine` is a `StateMachine` or
            None, to make a component: a `Component`, or whatever `engine` hosts that has `name`,
            `machine`, `state` and `handle_message`.
        engine: called as `engine()` or `engine(component_factory=function)`, to make what has
            `bus`, `components`, `register`, `unregister` and `send`; None for `Engine`.
        backend: "asyncio" or "trio".
        examples: how many programs a clause is tried with, 1 or more; a clause that has fewer is
            tried with each of those.
        seed: an int of 0 or more, which draws the same programs again; None draws one, which a
            violation tells.

    Raises:
        ContractViolation: a clause doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` or `engine` is not callable, or makes what lacks something.
        ValueError: an unknown backend; `examples` or `seed` is no int, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.
    """
    check_no_loop("check_component")
    from flexiflow.testing._component_run import examine_component  # noqa: PLC0415  as above

    for verdict in examine_component(
        factory, engine=engine, backend=backend, examples=examples, seed=seed
    ):
        if verdict.violation is not None:
            raise verdict.violation


def check_transport(  # noqa: PLR0913  most are what there may be besides, and none has to be
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
) -> None:
    """Try to break each clause of durable delivery that a transport keeps (P1).

    First with small scripts of calls that are drawn at random, and compared with a model of what a
    transport has to remember; then through bridges, with the universal suite by which watermill
    judges its own: thousands of events, dozens of workers.

    Args:
        factory: called as `factory()` to make a `Transport`, new and empty, or an async context
            manager that gives one and cleans up. Where it takes `partitions=` it is also called
            with that, for a transport whose partitions are leased exclusively (X4); where it takes
            `max_length=`, for one whose log holds so many records (X5); and where it takes
            `max_event_bytes=`, for one whose records have so many bytes at most (X14).
        backend: "asyncio" or "trio".
        restart: an async function that is called with the transport, and restarts the server behind
            it, which loses nothing (X6).
        damage: an async function that is called with the transport, a partition, and the position
            of a record there, and deletes that record behind the transport's back (X6).
        insert: an async function that is called with the transport, a partition, and a body, and
            stores that there as an outsider would, however large it is (X14).
        empty: an async function that is called with the transport, and restarts the server behind
            it, which has lost all that was stored (X13).
        lease: of how many seconds a worker's lease is in the scripts, more than 0; a script in
            which a worker dies takes longer than that. None for a transport that waits for other
            tasks and for time alone, for no thread, socket or file: scripts run in virtual time.
        scale: the size of the universal suite, more than 0; 1 is that of watermill's.
        examples: how many scripts a clause is tried with, 1 or more.
        seed: an int of 0 or more, which draws the same scripts again; None draws one, which a
            violation tells.

    Raises:
        ContractViolation: a clause doesn't hold: the first such one, in the contract's order.
        TypeError: `factory` is not callable, or makes something that is no transport.
        ValueError: an unknown backend; a number that is none, or too small.
        ImportError: the backend, or Hypothesis, is not installed.
        RuntimeError: called from async code.
    """
    check_no_loop("check_transport")
    from flexiflow.testing._transport_run import examine_transport  # noqa: PLC0415  as above

    terms: Terms = {
        "restart": restart,
        "damage": damage,
        "insert": insert,
        "empty": empty,
        "lease": lease,
        "scale": scale,
    }
    for verdict in examine_transport(
        factory, backend=backend, examples=examples, seed=seed, **terms
    ):
        if verdict.violation is not None:
            raise verdict.violation
