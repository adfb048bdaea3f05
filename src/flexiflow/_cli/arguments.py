"""What arguments are checked by, before a command begins."""

from __future__ import annotations

from importlib.util import find_spec

import click

from flexiflow._names import check_subscribed_name


def check_backend(
    _context: click.Context, _parameter: click.Parameter, backend: str | None
) -> str | None:
    """Return the backend, if it is installed."""
    if backend is not None and find_spec(backend) is None:
        raise click.BadParameter(f"{backend} is not installed: pip install flexiflow[{backend}]")
    return backend


def check_patterns(
    _context: click.Context, _parameter: click.Parameter, patterns: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names or patterns of events, if all are well-formed."""
    try:
        return tuple(map(check_subscribed_name, patterns))
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None
