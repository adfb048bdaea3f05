"""What commands share of their arguments, and checks, made before a command begins."""

from __future__ import annotations

import math
import re
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import click
from click.shell_completion import CompletionItem

from flexiflow._names import check_subscribed_name

if TYPE_CHECKING:
    from collections.abc import Callable

transport_option: Callable[[Any], Any] = click.option(
    "--transport",
    "url",
    required=True,
    metavar="URL",
    help="Where events are kept: sqlite:events.db, or redis://host:port.",
)
_ENDLESS: Final = {"inf", "infinity"}
_POSITION: Final = re.compile(r"[0-9]+(-[0-9]+)?")

Place: TypeAlias = Literal["oldest", "new"] | datetime | tuple[str, ...]
"""Where a group begins, as a user gives it (Y5)."""


@final
class FiniteRange(click.FloatRange):
    """A finite number within a range; an error shows the argument as it was given.

    So NaN is refused, and a number too large for a float, which would be read as infinite.

    Args:
        may_be_endless: whether the word `inf` or `infinity` is accepted.
        options: the options of `click.FloatRange`.
    """

    def __init__(self, *, may_be_endless: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._may_be_endless = may_be_endless

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or raise click's `BadParameter`."""
        number: float = super().convert(value, param, ctx)
        is_endless = self._may_be_endless and str(value).strip(" +").lower() in _ENDLESS
        if not (math.isfinite(number) or is_endless):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def complete_file(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Tell the shell to complete the name of a file, as a path to a target begins with one."""
    return [CompletionItem(typed, type="file")]


def check_backend(
    _context: click.Context, _parameter: click.Parameter, backend: str | None
) -> str | None:
    """Return the backend, or raise click's `BadParameter` if it is not installed."""
    if backend is not None and find_spec(backend) is None:
        raise click.BadParameter(f"{backend} is not installed: pip install flexiflow[{backend}]")
    return backend


def check_patterns(
    _context: click.Context, _parameter: click.Parameter, patterns: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the event names or patterns, or raise click's `BadParameter` if one is malformed."""
    try:
        return tuple(map(check_subscribed_name, patterns))
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def check_place(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> Place:
    """Return where a group is to begin, or raise click's `BadParameter`.

    If nothing is given, it is to begin with the oldest event.
    """
    if given in {(), ("oldest",)}:
        return "oldest"
    if given == ("new",):
        return "new"
    if all(map(_POSITION.fullmatch, given)):
        return given
    try:
        [time] = given
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise click.BadParameter(
            "it must be oldest, new, a time like 2026-11-30T12:00:00Z, or a position for each "
            f"partition, not {' '.join(given)!r}"
        ) from None
    if moment.utcoffset() is None:
        raise click.BadParameter(
            f"{time!r} has no time zone; {moment.isoformat()}Z is a time in UTC"
        )
    return moment
