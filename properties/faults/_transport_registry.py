"""The list of the faulty transports, and of what each of them breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from properties.faults.plain_transport import FaultyTransport

_T = TypeVar("_T", bound=type[FaultyTransport])


@dataclass(frozen=True)
class TransportFault:
    """A transport with one fault.

    Attributes:
        clauses: what it breaks, the one that it was made for first.
    """

    transport: type[FaultyTransport]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.transport.__name__


TRANSPORT_FAULTS: list[TransportFault] = []


def breaks(*clauses: str) -> Callable[[_T], _T]:
    """Enter a transport into the list."""

    def enter(transport: _T) -> _T:
        TRANSPORT_FAULTS.append(TransportFault(transport, clauses))
        return transport

    return enter
