"""What is wrong with what a worker was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow.testing._desk_calls import Broken
from flexiflow.testing._transport_model import Item, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable import Delivery, Standing
    from flexiflow.testing._transport_model import GroupModel, Hold, Part


def item_of(each: Delivery) -> Item:
    """Tell which record was given."""
    return Item(each.body, each.group)


def judge_order(part: Part, given: Sequence[Delivery], expected: list[int]) -> list[int] | None:
    """Give the places of what was given, where it is the first of what was expected, or None."""
    places = expected[: len(given)]
    is_right = [part.items[place] for place in places] == [item_of(each) for each in given]
    # To give nothing at all, not even to one who waits, is to have lost it.
    return places if is_right and bool(given) == bool(expected) else None


def complain_of_delivery(
    part: Part, worker: str, given: Sequence[Delivery], rest: Sequence[Delivery]
) -> Broken:
    """Say what is wrong with what was given, if all the rest was asked for after it."""
    expected = part.next()
    wanted = [part.items[place] for place in expected]
    came = [item_of(each) for each in (*given, *rest)]
    for item in came:
        if item not in wanted or came.count(item) > wanted.count(item):
            return _complain_of_excess(part, worker, item, known=item in wanted)
    lost = [item for item in wanted if item not in came]
    if lost:
        return Broken("X1", f"{worker} asked for all, and was never given {lost[0].name}")
    told = f"{names(given)}, then {names(rest)}, which are in the order {names(wanted)}"
    return Broken("X4", f"{worker} was given {told}")


def _complain_of_excess(part: Part, worker: str, item: Item, *, known: bool) -> Broken:
    if item.group is not None or any(each == item.body for each, _ in part.items):
        holders = [hold.holder for place, hold in part.pending.items() if part.items[place] == item]
        if any(holders):
            return Broken("X1", f"{worker} was given {item.name}, which {holders[0]} holds")
        if item in part.items:
            how = "twice" if known else "again, though it is settled"
            return Broken("X1", f"{worker} was given {item.name} {how}")
        return Broken("X3", f"{worker} was given {item.name} for {item.group!r}")
    return Broken("X1", f"{worker} was given {item.name}, which nobody has stored")


def check_counts(before: Hold, given: Delivery) -> None:
    """Compare the counts of what was given with those that were written down.

    Raises:
        Broken: they differ.
    """
    name, deliveries = names([given]), max(before.deliveries, 1)
    if (given.attempts, given.deliveries) != (before.attempts, deliveries):
        raise Broken(
            "X3",
            f"{name} was given with {given.attempts} attempts and {given.deliveries} deliveries, "
            f"not {before.attempts} and {deliveries}",
        )
    if given.is_suspect != (before.deliveries > 0) and not before.is_doubtful:
        raise Broken("X3", f"{name} was given with is_suspect={given.is_suspect}")


def check_standing(group: GroupModel, given: Standing, *, at_end: bool) -> None:
    """Compare how far a group is said to be with how far it is.

    Raises:
        Broken: they differ.
    """
    parts = group.parts
    if not any(part.gone for part in parts) or at_end:
        pending, lag = sum(len(part.pending) for part in parts), sum(part.lag for part in parts)
        is_right = (given.pending, given.lag) == (pending, lag)
        if any(part.is_doubtful for part in parts):
            is_right = given.pending + given.lag == pending + lag
        if not is_right:
            told = f"{given.pending} pending and a lag of {given.lag}"
            raise Broken("X1", f"there are {pending} pending and a lag of {lag}, not {told}")
    least, most = (sum(part.missed[which] for part in parts) for which in (0, 1))
    if at_end and not least <= given.missed <= most:
        raise Broken("X6", f"{given.missed} count as missed, where {least} were deleted unsettled")
    absent = len(group.dead) - given.dead
    if not 0 <= absent <= len(group.doubtful):
        raise Broken("X3", f"there are {len(group.dead)} dead letters, not {given.dead}")
    if at_end and absent > given.missed - least:
        raise Broken("X6", f"{absent} of what was buried is neither a dead letter nor missed")
