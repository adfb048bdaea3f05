"""Find out which optional parts of the contract a bus offers.

Every bus must have four methods. A clause that needs more is checked only if the bus offers that.
"""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from flexiflow.testing._examiner.execute import Log
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS: Final = ("stream", "expect", "wait_for", "add_instrument", "remove_instrument")
_OPTIONS: Final = ("limit", "time_limit")


def offers(factory: Callable[[], Any], backend: str) -> frozenset[str]:
    """Return the names of a bus's optional methods, and options, as "subscribe(limit=)"."""
    with Log():
        bus = run_scheduled(partial(_make, factory), backend=backend)
        named = {name for name in _METHODS if callable(getattr(bus, name, None))}
        taken = {name for name in _OPTIONS if _takes(factory, name, backend)}
    return frozenset(named | {f"subscribe({name}=)" for name in taken})


def _takes(factory: Callable[[], Any], option: str, backend: str) -> bool:
    async def subscribe() -> None:
        bus = await _make(factory)
        await bus.subscribe("a", "c", print, **{option: 1})

    # A signature does not show it: a wrapper may take any option and hand it on in vain.
    try:
        run_scheduled(subscribe, backend=backend)
    except TypeError:
        return False
    except Exception:  # noqa: BLE001  a failure that some clause will report
        return True
    return True


async def _make(factory: Callable[[], Any]) -> Any:
    made = factory()
    return await made if isawaitable(made) else made
