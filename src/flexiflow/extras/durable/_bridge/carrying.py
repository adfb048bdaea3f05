"""What instruments want to know of an event's publisher travels with the stored event (Y2).

An instrument may have two more methods. `carry()` returns a mapping of attributes for an event that
is being stored. `resume(attributes)` returns a context manager, within which a worker publishes the
event; it is given all attributes of the event that are text and not empty.
"""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Any, Final

from flexiflow._instruments import leave, take_out
from flexiflow.extras.durable._bridge.cloudevents import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flexiflow._instruments import Entered, Installed
    from flexiflow.extras.durable._bridge.cloudevents import CloudEvent

_CARRY: Final = "carry"
RESUME: Final = "resume"

_NAME: Final = re.compile(r"[a-z0-9]{1,20}")  # so none is `data_base64`, which is taken, too


def carried(instruments: Iterable[Installed]) -> dict[str, str]:
    """Return the attributes that instruments give an event; one that fails is removed (I3)."""
    found: dict[str, str] = {}
    for each in instruments:
        carry: Any = getattr(each.instrument, _CARRY, None)
        if carry is not None:
            try:
                found.update(_checked(carry()))
            except BaseException as exc:  # noqa: BLE001  `take_out` logs it or raises it
                take_out(each, exc, _CARRY)
    return found


def resumed(instruments: Iterable[Installed], event: CloudEvent) -> Entered:
    """Enter the instruments' context managers around the handling of an event.

    Returns:
        What `flexiflow._instruments.leave` must exit.

    Raises:
        BaseException: an instrument raised KeyboardInterrupt or the like; all were exited.
    """
    entered: Entered = []
    for each in instruments:
        resume: Any = getattr(each.instrument, RESUME, None)
        if resume is not None:
            try:
                manager = resume(event.texts())
                manager.__enter__()
            except BaseException as exc:  # noqa: BLE001  as above
                try:
                    take_out(each, exc, RESUME)
                except BaseException as leaving:
                    leave(entered, leaving, RESUME)
                    raise
            else:
                entered.append((each, manager))
    return entered


def _checked(attributes: Mapping[Any, Any]) -> dict[str, str]:
    found = dict(attributes)
    for name, value in found.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name) and name not in ATTRIBUTES):
            raise ValueError(
                "carry() must return attributes of CloudEvents that are not taken, named by at "
                f"most 20 lower-case letters and digits, not {reprlib.repr(name)}"
            )
        if not (isinstance(value, str) and value):
            raise ValueError(
                f"{name} of carry() must be a non-empty str, not {reprlib.repr(value)}"
            )
    return found
