"""What is known of the logs on Redis servers, by which losses are noticed (X13); without I/O.

A server may lose what it had confirmed: it restarts with an old file, or a replica takes over. A
log has an *epoch*, a random text that is part of each lease. On each new connection the script
`check.lua` is run with the epoch and some records that are known (`Epochs.question`). If they don't
match the log, the script begins a new epoch, which ends all leases, and each group counts what it
missed; `Epochs.learn` logs the loss. Guarded scripts compare epochs, and refuse another one.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._reporting import logger
from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable._errors import TransportUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LAYOUT: Final = 3
_LAID_OUT: Final = re.compile(r"(None|\d+)(?:; layout (\d+)\b.*)?")

# How many bytes from the beginning of an event are compared.
_HEAD: Final = 1024


class _Sample(NamedTuple):
    """A record that is known to be in a log.

    Attributes:
        number: the first part of its position.
        position: its position.
        head: the beginning of its event; None if that is not known.
    """

    number: int
    position: bytes
    head: bytes | None


@final
class Known:
    """What is known of one partition.

    A few records are remembered, fewer the further back. So after a loss it can be found out about
    where the log differs from what was known.

    Attributes:
        epoch: the epoch that all this belongs to; empty before the server was asked.
        settled: how many records each group with members in this process had settled.
        stir: the number of the last stir at which the server reported on all groups; empty before.
    """

    __slots__ = ("_begins", "_count", "_heard", "_last", "_samples", "epoch", "settled", "stir")

    def __init__(self) -> None:
        self.epoch = b""
        self.settled: dict[str, int] = {}
        self.stir = b""
        self._heard: dict[str, int] = {}
        self._begins: dict[str, bytes] = {}
        self._samples: defaultdict[int, deque[_Sample]] = defaultdict(lambda: deque(maxlen=2))
        self._count = self._last = 0

    def begin(self, epoch: bytes) -> None:
        """Begin an epoch: if it is another one than before, forget what was known."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.settled = dict.fromkeys(self.settled, 0)
            self.stir = b""
            self._heard.clear()
            self._begins.clear()
            self._samples.clear()
            self._count = self._last = 0

    def note(self, epoch: bytes, position: bytes, body: bytes | None = None) -> None:
        """Remember that a record is in the log.

        Args:
            epoch: the epoch in which it was seen.
            position: its position.
            body: its event, if that was seen.
        """
        number = int(position.partition(b"-")[0])
        if number > self._last and epoch == self.epoch:
            self._last = number
            self._count += 1
            # Every second record goes to the first list, every fourth to the next, and so on; each
            # list keeps the last two.
            level = self._count & -self._count
            head = body[:_HEAD] if body is not None else None
            self._samples[level].append(_Sample(number, position, head))

    def note_settled(self, epoch: bytes, group: str, count: int) -> None:
        """Remember how many records a group has settled."""
        if epoch == self.epoch and group in self.settled:
            self.settled[group] = max(self.settled[group], count)

    def hear(self, epoch: bytes, stir: bytes, groups: Iterable[tuple[bytes, int]]) -> None:
        """Remember how many records each group has settled, as the server reports it."""
        if epoch == self.epoch:
            self.stir = stir
            self._heard = {name.decode(): count for name, count in groups}

    def note_begin(self, lease: bytes, group: str, begin: bytes) -> None:
        """Remember the position behind which a group began (Y5).

        Args:
            lease: the name of a lease that it had after that: its token and the epoch.
            group: the group.
            begin: the position; empty if it is not known.
        """
        token, _, epoch = lease.partition(b"-")
        if begin and epoch == self.epoch:
            self._begins[group] = begin + b" " + token

    def groups(self) -> dict[str, tuple[int, bytes]]:
        """Return what is known of groups.

        Returns:
            By name, how many records the group had settled, at least, and the position behind which
            it began with the token of a lease after that; empty if that is not known.
        """
        found = dict(self._heard)
        for name, count in self.settled.items():
            found[name] = max(count, found.get(name, 0))
        return {name: (count, self._begins.get(name, b"")) for name, count in found.items()}

    def samples(self) -> Iterator[bytes]:
        """Yield the positions that are known, in order, each followed by a digest of its event."""
        for _, position, head in sorted(each for level in self._samples.values() for each in level):
            yield position
            yield b"" if head is None else digest_of(head).encode()


@final
class Epochs:
    """What is known of all partitions.

    Args:
        address: the address of the server, for messages.
        prefix: what all keys begin with.
        partitions: how many partitions there are; None for one that all workers share.

    Attributes:
        losses: how many losses were seen.
    """

    __slots__ = ("_address", "_known", "_partitions", "_prefix", "losses")

    def __init__(self, address: str, prefix: str, partitions: int | None) -> None:
        self._address = address
        self._prefix = prefix
        self._partitions = partitions
        self._known: defaultdict[int, Known] = defaultdict(Known)
        self.losses = 0

    def of(self, partition: int) -> Known:
        """Return what is known of a partition."""
        return self._known[partition]

    def enter(self, group: str) -> None:
        """Note that a group has a member in this process."""
        for partition in range(self._partitions or 1):
            self._known[partition].settled.setdefault(group, 0)

    def leave(self, group: str) -> None:
        """Note that a group has no member in this process any more."""
        for known in self._known.values():
            known.settled.pop(group, None)

    def question(self, partition: int) -> list[bytes | int]:
        """Return the arguments of `check.lua`, which is run first on each new connection."""
        known, former = self._known[partition], str(self._partitions)
        # An older release refuses such a layout, and shows the text.
        layouts = (
            f"{former}; layout {_LAYOUT}, of a newer flexiflow",
            f"{former}; layout 2, of a newer flexiflow",
            former,
        )
        groups = known.groups()
        return [
            known.epoch,
            token_hex(8).encode(),
            *(each.encode() if partition == 0 else b"" for each in layouts),
            len(groups),
            *(each for name, facts in groups.items() for each in (name.encode(), *facts)),
            *known.samples(),
        ]

    def learn(self, partition: int, answer: list[Any]) -> bool:
        """Take the answer of `check.lua`, and log what was lost.

        Returns:
            Whether the partition had the layout of an earlier release until now (X16).

        Raises:
            TransportUnusable: it has another layout, or another number of partitions.
        """
        if answer[0] == b"LAYOUT":
            raise TransportUnusable(self._address, self._explain(answer[1].decode()))
        epoch, is_former, lost, is_first = answer[1:]
        known = self._known[partition]
        if known.epoch not in (b"", epoch):
            self.losses += 1
            self._tell(partition, lost, is_first=bool(is_first))
        known.begin(epoch)
        return bool(is_former)

    def _tell(self, partition: int, lost: int, *, is_first: bool) -> None:
        if lost:
            logger.error(
                "the log %s:%d at %s has lost %d events that were stored; each group counts those "
                "as missed that it had not settled, and all leases have ended",
                self._prefix,
                partition,
                self._address,
                lost,
            )
        elif is_first:
            logger.warning(
                "the log %s:%d at %s is not the one that it was; no event is known to be lost, and "
                "all leases have ended",
                self._prefix,
                partition,
                self._address,
            )

    def _explain(self, found: str) -> str:
        match = _LAID_OUT.fullmatch(found)
        layout = int(match[2] or 1) if match is not None else None
        if layout is not None and layout > _LAYOUT:
            return (
                f"its keys have the layout {layout} of a newer flexiflow, and this one knows "
                f"{_LAYOUT} at most: upgrade it, or give another prefix"
            )
        partitions = match[1] if match is not None else repr(found)
        return (
            f"its log was laid out with partitions={partitions}, not {self._partitions}: "
            "give the same number, or another prefix"
        )
