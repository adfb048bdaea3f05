"""Which clauses of a contract are tried (P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexiflow._text import closest, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.testing._examiner.clause import Clause


def select(contract: Iterable[Clause], names: Iterable[str] | None) -> tuple[Clause, ...]:
    """Return the clauses of a contract that are named, in its order; all of them if None.

    Raises:
        TypeError: `names` is a single str, or something else than several strs.
        ValueError: `names` is empty, or names a clause that is not in the contract.
    """
    clauses = tuple(contract)
    if names is None:
        return clauses
    given: Any = names
    wanted: list[str] = [*given] if hasattr(given, "__iter__") else [given]
    if isinstance(names, str) or not all(isinstance(each, str) for each in wanted):
        raise TypeError(f'clauses must be several names, as in ("B4", "D1"), not {names!r}')
    known = dict.fromkeys(clause.identifier for clause in clauses)
    unknown = [each for each in wanted if each not in known]
    if unknown or not wanted:
        raise ValueError(_unknown(unknown, tuple(known)))
    return tuple(clause for clause in clauses if clause.identifier in wanted)


def _unknown(unknown: list[str], known: tuple[str, ...]) -> str:
    those = f"the clauses are {', '.join(known)}"
    if not unknown:
        return f"clauses must name at least one clause: {those}"
    # A lower case letter is the commonest mistake, and not alike at all.
    near = closest(unknown[0].upper(), known)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"clauses must name clauses of this contract, not {show(unknown[0])}: {hint}{those}"
