"""What makes a program that is shown fail with an assertion (P5)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flexiflow._cancellation import leaves
from flexiflow.testing._examiner.clause import describe
from flexiflow.testing._examiner.subject import FactoryFailed, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.subject import Subject


@contextmanager
def asserting(clause: str) -> Generator[None]:
    """Run the block as the examiner does, and make an assertion of every exception that leaves it.

    Raises:
        AssertionError: anything but Ctrl-C left the block.
    """
    try:
        with Log():
            yield
    except BaseException as exc:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(exc)):
            raise
        raise AssertionError(f"{clause} does not hold: {describe(exc)}") from exc


def assert_kept(
    contract: Iterable[Clause],
    identifier: str,
    subject: Subject[Any],
    play: Callable[[Any, Log], None],
) -> None:
    """Run something, and assert that what happens keeps a clause.

    Raises:
        AssertionError: it breaks the clause.
        Exception: what a factory raises.
    """
    clause = next(each for each in contract if each.identifier == identifier)
    try:
        trace = subject.watch(play)
    except FactoryFailed as exc:
        raise exc.reason from None
    complaint = clause.judge(trace)
    if complaint is not None:
        told = f"{identifier} does not hold: {complaint}\n\nwhat happened:\n{trace.story()}"
        raise AssertionError(told) from trace.left
