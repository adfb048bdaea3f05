"""The options of `flexiflow verify`: for what kinds of checks they are, and what they become."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._cli.checks import CONTRACTS, check_factory
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.target import load
from flexiflow.testing._examiner.violation import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow._cli.checks import Target

HOOKS: Final = ("restart", "damage", "insert", "empty")
"""The names of the hooks that `check_transport` takes."""
_DRAWN: Final = (*CONTRACTS, "machine")
"""The kinds of checks whose programs are drawn from a seed."""
_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "engine": ("component",),
    **dict.fromkeys((*HOOKS, "lease", "scale"), ("transport",)),
    **dict.fromkeys(("clause", "strict"), CONTRACTS),
    **dict.fromkeys(("examples", "seed", "write"), _DRAWN),
    **dict.fromkeys(("most", "at"), ("crash",)),
}
"""For what kinds of checks an option is."""
_ALL: Final = {
    "bus": "buses",
    "component": "components",
    "transport": "transports",
    "store": "stores",
    "machine": "machines",
    "crash": "crashes",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `flexiflow verify`.

    Attributes:
        target: names what makes the object to verify, or a partial of a check.
        contract: what kind of object that is, if the user has said so.
        backend: the backend to verify on; None for that of the target, or else for all that are
            installed.
        given: the other options that were given, by their names.
    """

    target: str
    contract: str | None = None
    backend: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])


def check_fit(target: Target, options: Options) -> None:
    """Refuse an option that has no meaning for this kind of check.

    Raises:
        CannotRun: there is one.
    """
    for name in options.given:
        kinds = _FOR[name]
        if target.kind in kinds:
            continue
        *others, last = (_ALL[kind] for kind in kinds)
        those = f"{', '.join(others)} and {last}" if others else last
        subject = "a scenario of crashes" if target.kind == "crash" else f"a {target.kind}"
        refused = f"--{name} is for {those}, and {target.name!r} is verified as {subject}"
        if kinds == ("crash",):
            refused += ": the target of crashes is a functools.partial of crash_everywhere"
        elif len(kinds) == 1 and not target.is_check:
            refused += f": add --contract {kinds[0]}"
        raise CannotRun(refused)


def arguments_of(target: Target, options: Options) -> dict[str, Any]:
    """Return the arguments of the check, where an option goes before what the target holds.

    Raises:
        CannotRun: what an option names can't be used.
    """
    chosen = dict(options.given)
    chosen.pop("write", None)
    if "engine" in chosen:
        name = chosen["engine"]
        chosen["engine"] = load(name)
        check_factory(name, "engine", chosen["engine"])
    for hook in HOOKS:
        if hook in chosen:
            chosen[hook] = load(chosen[hook])
    if "clause" in chosen:
        chosen["clauses"] = chosen.pop("clause")
    if options.backend is not None:
        chosen["backend"] = options.backend
    given = {**target.given, **chosen}
    if target.kind in _DRAWN:
        given.setdefault("examples", EXAMPLES)
        if given.get("seed") is None:
            given["seed"] = secrets.randbits(32)
    return given
