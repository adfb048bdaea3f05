"""Judgements on what a worker was given, and on what a transport says of a group.

Each raises `Broken` if that is not what the model says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow.testing._transport.desk_calls import Broken
from flexiflow.testing._transport.holds import Item, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable import Delivery, Room, Standing
    from flexiflow.testing._transport.holds import Hold, Offer
    from flexiflow.testing._transport.model import GroupModel
    from flexiflow.testing._transport.part import Part


def judge_order(part: Part, given: Sequence[Delivery], offer: Offer) -> list[int] | None:
    """Return the places of what was given, or None if other records come first."""
    places = _find(part, given, [*offer.left, *offer.new, *offer.due, *offer.maybe])
    if places is None or (offer.certain and not given):
        # A transport that gives nothing, even after a wait, has lost it.
        return None
    fresh = [each for each in (*offer.left, *offer.new) if not _has_waited(part, each)]
    came = [place for place in places if not _has_waited(part, place)]
    if came != fresh[: len(came)]:
        return None
    _check_due(part, [place for place in places if place in part.waiting], offer.due)
    return places


def _find(part: Part, given: Sequence[Delivery], places: Sequence[int]) -> list[int] | None:
    found: list[int] = []
    for each in given:
        is_it = (place for place in places if place not in found and _is(part.items[place], each))
        place = next(is_it, None)
        if place is None:
            return None
        found.append(place)
    return found


def _is(item: Item, given: Delivery) -> bool:
    body = item.body if not given.oversize else b""
    return (body, item.group) == (given.body, given.group)


def _has_waited(part: Part, place: int) -> bool:
    hold = part.pending.get(place) or part.waiting.get(place)
    return hold is not None and hold.has_waited


def _check_due(part: Part, came: Sequence[int], due: Sequence[int]) -> None:
    after = [place for place in due if place not in came]
    for at, place in enumerate(came):
        span = part.waiting[place].due
        for other in (*came[at + 1 :], *after):
            before = part.waiting[other].due
            if span is not None and before is not None and before.is_before(span):
                told = f"{part.items[place].name} was given before {part.items[other].name}"
                raise Broken("X12", f"{told}, which was due before it")


def check_room(
    part: Part, given: Sequence[Delivery], places: Sequence[int], offer: Offer, room: Room
) -> None:
    """Check that what was given fits into the room of a worker, and shares it as it should."""
    if len(given) > room.records:
        raise Broken("X5", f"{room.records} records were asked for, and {len(given)} given")
    size = sum(len(each.body) for each in given)
    if size > room.size:
        raise Broken("X14", f"{room.size} bytes were asked for, and {size} given")
    new = len({*places} & {*offer.new})
    waiting = len(part.waiting) - part.ghosts[1]
    if new and waiting >= room.waiting:
        raise Broken("X12", f"{new} new records were given, though {waiting} wait")
    # A `receive` that was cancelled may have taken a doubtful one, which then waits no longer.
    due = sum(place in part.waiting and not part.waiting[place].is_doubtful for place in places)
    if due > room.again:
        raise Broken("X12", f"{room.again} that have waited were asked for, and {due} given")
    missing = [place for place in offer.due[: room.again] if place not in places]
    before = sum(
        len(each.body) for each, at in zip(given, places, strict=True) if at not in offer.new
    )
    if new and missing and before + len(part.items[missing[0]].body) <= room.size:
        told = f"{new} new records were given, and {due} that have waited"
        raise Broken("X12", f"{told}, where {len(offer.due)} are due and come before them")


def complain_of_delivery(
    part: Part, worker: str, given: Sequence[Delivery], rest: Sequence[Delivery], offer: Offer
) -> Broken:
    """Return what is wrong with what was given, once all the rest was asked for after it."""
    # The rest was asked for without any bounds.
    offer = offer._replace(is_shut=False, again=len(offer.due))
    wanted = [part.items[place] for place in offer.certain]
    known = [*wanted, *(part.items[place] for place in offer.maybe)]
    came = [_named(each, known) for each in (*given, *rest)]
    for item in came:
        if item not in known or came.count(item) > known.count(item):
            return _complain_of_excess(part, worker, item, known=item in known)
    lost = [place for place in offer.certain if part.items[place] not in came]
    if lost:
        is_planned = part.items[lost[0]].body in part.planned
        otherwise = "Y3" if is_planned else "X1"
        clause = "X12" if _has_waited(part, lost[0]) else otherwise
        told = f"{worker} asked for all, and was never given {part.items[lost[0]].name}"
        return Broken(part.clause(clause), told)
    told = f"{names(given)}, then {names(rest)}, which are in the order {names(wanted)}"
    return Broken(part.clause("X4"), f"{worker} was given {told}")


def _named(given: Delivery, known: Iterable[Item]) -> Item:
    return next((item for item in known if _is(item, given)), Item(given.body, given.group))


def _complain_of_excess(part: Part, worker: str, item: Item, *, known: bool) -> Broken:
    told = f"{worker} was given {item.name}"
    if item.group is None and not any(each == item.body for each, _ in part.items):
        return Broken("X1", f"{told}, which nobody has stored")
    if item not in part.items:
        return Broken("X3", f"{told} for {item.group!r}")
    places = [place for place, each in enumerate(part.items) if each == item]
    waiting = [part.waiting[place] for place in places if place in part.waiting]
    held = [part.pending[place] for place in places if place in part.pending]
    if any(hold.is_done for hold in (*waiting, *held)):
        return Broken(
            part.clause("X11"), f"{told}, which a lease had acknowledged that had lost it"
        )
    if waiting:
        return Broken(part.clause("X12"), f"{told}, which {_why_it_waits(waiting[0])}")
    if held and held[0].holder is not None:
        return Broken(part.clause("X1"), f"{told}, which {held[0].holder.worker} holds")
    why = "again, though it is settled" if not part.is_moved else "which is not to be given"
    return Broken(part.clause("X1"), f"{told} {'twice' if known else why}")


def _why_it_waits(hold: Hold) -> str:
    if hold.due is None:
        return "waits for another of its key"
    owner = hold.holder.worker if hold.holder is not None else "nobody"
    return f"waits for its time, or is {owner}'s"


def check_counts(part: Part, before: Hold, given: Delivery) -> None:
    """Compare the counts of what was given with those in the model."""
    name, deliveries = names([given]), max(before.deliveries, 1)
    clause = part.clause("X11" if before.is_told else "X12" if before.has_waited else "X3")
    if (given.attempts, given.deliveries) not in (
        (before.attempts, deliveries),
        before.spare and (before.spare[0], max(before.spare[1], 1)),
    ):
        raise Broken(
            clause,
            f"{name} was given with {given.attempts} attempts and {given.deliveries} deliveries, "
            f"not {before.attempts} and {deliveries}",
        )
    if given.is_suspect != (before.deliveries > 0) and not before.is_doubtful:
        told = f"{name} was given with is_suspect={given.is_suspect}"
        raise Broken(part.clause("X3"), told)
    if given.has_waited != before.has_waited:
        raise Broken(part.clause("X12"), f"{name} was given with has_waited={given.has_waited}")


def check_oversize(item: Item, given: Delivery, most: int) -> None:
    """Check that a body is given unless it is too large, and only then."""
    oversize = len(item.body) if len(item.body) > most else 0
    if given.oversize != oversize:
        told = f"{item.name} of {len(item.body)} bytes was given with oversize={given.oversize}"
        raise Broken("X14", f"{told}, where {most} are allowed")


def check_standing(group: GroupModel, given: Standing, *, at_end: bool) -> None:
    """Compare how far a group is, by the transport, with how far it is in the model."""
    parts = group.parts
    if not any(part.gone for part in parts) or at_end:
        _check_counted(parts, given)
    least, most = (sum(part.missed[which] for part in parts) for which in (0, 1))
    if at_end and not least <= given.missed <= most:
        raise Broken(
            "Y5" if group.is_moved else "X6",
            f"{given.missed} count as missed, where {least} were deleted unsettled",
        )
    absent = len(group.dead) - given.dead
    if not 0 <= absent <= len(group.doubtful):
        raise Broken(
            "Y5" if group.is_moved else "X3",
            f"there are {len(group.dead)} dead letters, not {given.dead}",
        )
    if at_end and absent > given.missed - least:
        raise Broken("X6", f"{absent} of what was buried is neither a dead letter nor missed")


def _check_counted(parts: Sequence[Part], given: Standing) -> None:
    pending, lag = sum(len(part.pending) for part in parts), sum(part.lag for part in parts)
    waiting = sum(len(part.waiting) for part in parts)
    done, ghosts = (sum(part.ghosts[which] for part in parts) for which in (0, 1))
    if any(part.is_doubtful for part in parts):
        total, real = given.pending + given.lag + given.waiting, pending + lag + waiting
        is_right = real - done - ghosts <= total <= real
        clause = "X1"
    else:
        passed = sum(len(part.passed) for part in parts)
        is_right = pending - done <= given.pending <= pending
        is_right = is_right and lag <= given.lag <= lag + passed
        clause = "X1"
        if is_right and not waiting - ghosts <= given.waiting <= waiting:
            is_right, clause = False, "X12"
    if not is_right:
        told = f"{given.pending} pending, a lag of {given.lag}, and {given.waiting} that wait"
        counted = f"{pending} pending, a lag of {lag}, and {waiting} that wait"
        clause = next((part.clause(clause) for part in parts if part.is_moved), clause)
        raise Broken(clause, f"there are {counted}, not {told}")
