"""Choosing as many records for a `receive` as there is room for (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from flexiflow.extras.durable._records import Delivery

if TYPE_CHECKING:
    from flexiflow.extras.durable._records import Room


@final
class Filling:
    """The deliveries of one `receive`, as far as there is room for them.

    Args:
        room: the room.
        most: how many bytes a body may have; of a larger one only the size is given.

    Attributes:
        given: the deliveries.
        left: how many more records there is room for.
        size: how many more bytes there is room for.
        is_full: whether a record did not fit; then no later one may be added, to keep the order.
        most: how many bytes a body may have.
    """

    __slots__ = ("given", "is_full", "left", "most", "size")

    def __init__(self, room: Room, most: int) -> None:
        self.given: list[Delivery] = []
        self.left = room.records
        self.size = room.size
        self.is_full = False
        self.most = most

    def add(
        self,
        position: int,
        body: bytes,
        group: str | None,
        attempts: int,
        deliveries: int,
        *,
        has_waited: bool,
        oversize: int,
    ) -> bool:
        """Add a record, as an attempt that begins, if there is room; return whether there was."""
        size = self.size - len(body)
        if self.is_full or not self.left or size < 0:
            self.is_full = True
            return False
        self.left -= 1
        self.size = size
        self.given.append(
            Delivery(
                str(position),
                body,
                group,
                attempts,
                deliveries or 1,
                deliveries > 0,
                has_waited,
                oversize,
            )
        )
        return True
