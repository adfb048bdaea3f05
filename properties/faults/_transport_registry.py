"""The list of faulty transports, with the clauses that each breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from properties.reference.transport import PlainTransport

_T = TypeVar("_T", bound=type[PlainTransport])


@dataclass(frozen=True)
class TransportFault:
    """A transport with one fault.

    Attributes:
        clauses: the clauses that it breaks, the one that it is there for first.
    """

    transport: type[PlainTransport]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.transport.__name__


TRANSPORT_FAULTS: list[TransportFault] = []


def breaks(*clauses: str) -> Callable[[_T], _T]:
    """Add a transport to the list, with the clauses that it breaks."""

    def enter(transport: _T) -> _T:
        TRANSPORT_FAULTS.append(TransportFault(transport, clauses))
        return transport

    return enter
