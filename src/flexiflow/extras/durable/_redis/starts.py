"""Where groups begin on Redis servers, and how they begin again (Y5)."""

from __future__ import annotations

import json
import re
import reprlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow.extras.durable._errors import StartTrimmed, no_group
from flexiflow.extras.durable._records import Replayed
from flexiflow.extras.durable._redis.scripts import DROP, REPLAY, START
from flexiflow.extras.durable._starts import check_start

if TYPE_CHECKING:
    from flexiflow.extras.durable._records import Start
    from flexiflow.extras.durable._redis.network import Network

_POSITION: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_GREATEST: Final = 2**64 - 1


class Beginning(NamedTuple):
    """Where a group begins.

    Attributes:
        kind: `oldest`, `new`, `time`, or `after` for positions.
        values: by partition, the time, or the position; else empty.
        epochs: by partition, the epoch of the position; else empty.
    """

    kind: str
    values: tuple[str, ...]
    epochs: tuple[str, ...]

    def in_partition(self, partition: int) -> tuple[str, str]:
        """Return where the group begins in a partition, as the scripts read it."""
        return self.kind, self.values[partition]


def parse(start: Start, partitions: int) -> Beginning:
    """Return a start as the scripts read it.

    Raises:
        ValueError: it is no start, or not a position for each partition.
    """
    check_start(start, partitions)
    blanks = ("",) * partitions
    if isinstance(start, str):
        return Beginning(start, blanks, blanks)
    if not isinstance(start, tuple):
        return Beginning("time", (str(float(start)),) * partitions, blanks)
    for partition, each in enumerate(start):
        if not _POSITION.fullmatch(each) or max(map(int, each.split("-"))) > _GREATEST:
            raise _no_position(partition, each)
    return Beginning("after", start, blanks)


def _no_position(partition: int, position: str, last: str = "") -> ValueError:
    most = f", which is {last} at most" if last else ""
    return ValueError(
        f"a position of partition {partition} must be one that tail() returned{most}, "
        f"not {reprlib.repr(position)}"
    )


def kept(beginning: Beginning) -> str:
    """Return a text by which other members find where the group begins; `restore` reads it."""
    return json.dumps(beginning)


def restore(text: bytes | None, made: bytes | None, partitions: int) -> Beginning:
    """Return where a group began that is there.

    Args:
        text: what `kept` returned; None if it was lost, or an earlier release has made the group.
        made: when the group was made, in microseconds.
        partitions: how many partitions there are.
    """
    kind, values, epochs = json.loads(text) if text is not None else parse("oldest", partitions)
    if kind == "new" and made is not None:
        # What was stored since then is new to the group.
        return parse(int(made) / 1_000_000, partitions)
    return Beginning(kind, tuple(values), tuple(epochs))


@final
class Starts:
    """Finds where groups begin, and makes them begin again.

    Args:
        network: the servers.
        partitions: how many partitions there are.
    """

    def __init__(self, network: Network, partitions: int) -> None:
        self._network = network
        self._partitions = partitions

    async def check(self, group: str, start: Start) -> Beginning:
        """Return where a new group begins, if it can begin there.

        Raises:
            ValueError: the start is not a position for each partition, or one is not there yet.
            StartTrimmed: records behind one of the positions were deleted.
        """
        found = parse(start, self._partitions)
        if found.kind == "new":
            # Scheduled records that are due by now get times before the group is made.
            calls = {each: ("", *found.in_partition(each)) for each in range(self._partitions)}
            await self._network.run_all(START, calls)
        if found.kind != "after":
            return found
        epochs: list[str] = []
        for partition in range(self._partitions):
            answer = await self._check(partition, "", found)
            if answer[0] == b"TRIMMED":
                oldest = answer[1].decode()
                raise StartTrimmed(group, partition, found.values[partition], oldest)
            epochs.append(self._network.epochs.of(partition).epoch.decode())
        return found._replace(epochs=tuple(epochs))

    async def _check(self, partition: int, group: str, beginning: Beginning) -> list[Any]:
        start = beginning.in_partition(partition)
        answer = await self._network.run(partition, START, group, *start)
        if answer[0] == b"AHEAD":
            raise _no_position(partition, start[1], answer[1].decode())
        if answer[0] == b"NONE":
            raise no_group(group)
        return answer

    async def replay(self, group: str, since: Start) -> Replayed:
        """Make a group begin again; see `Connection.replay`."""
        beginning = parse(since, self._partitions)
        await self._check(0, group, beginning)
        for partition in range(1, self._partitions if beginning.kind == "after" else 1):
            await self._check(partition, "", beginning)
        after: list[str] = []
        is_complete = True
        # The first partition chooses the number, so that it is the same in each.
        number = b""
        for partition in range(self._partitions):
            begin, is_all, number = await self._begin_again(partition, group, beginning, number)
            after.append(begin.decode())
            is_complete = is_complete and is_all == 1
        return Replayed(tuple(after), is_complete)

    async def _begin_again(
        self, partition: int, group: str, beginning: Beginning, number: bytes
    ) -> tuple[bytes, int, bytes]:
        start = beginning.in_partition(partition)
        status, *answer = await self._network.run(partition, REPLAY, group, *start, number)
        if status == b"AHEAD":
            # The log has lost something since the position was looked at.
            raise _no_position(partition, start[1], answer[0].decode())
        begin, is_complete, number, more = answer
        if more:
            await self._network.run(partition, DROP, group)
        return begin, is_complete, number
