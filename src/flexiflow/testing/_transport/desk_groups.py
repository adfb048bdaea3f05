"""A desk's care of groups: dead letters, where they begin, and how far they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from flexiflow._text import safely
from flexiflow.extras.durable import Standing, StartTrimmed
from flexiflow.testing._transport.desk_calls import Broken
from flexiflow.testing._transport.desk_judgements import check_standing
from flexiflow.testing._transport.desk_schedule import Scheduling
from flexiflow.testing._transport.holds import Item, Letter
from flexiflow.testing._transport.model import is_late
from flexiflow.testing._transport.surveys import check_survey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable import DeadLetter, Replayed, Start
    from flexiflow.testing._transport.holds import Grave

_PAGE: Final = 2
_NEVER: Final = 1_000.0
"""In how many seconds nothing is stored any more."""


class Caring(Scheduling):
    """Redrives and discards, begins anew, and looks how far groups are."""

    async def redrive(self, group: str, *at: int) -> None:
        """Redrive some dead letters, and then the same ones again, which has no effect."""
        chosen = await self._choose(group, at)
        ids = [each.id for each in chosen]
        graves = self._exhume(group, chosen)
        for expected in (len(ids), 0) if ids else ():
            text, call = f"{group} redrives {', '.join(ids)}", self._calls.first.redrive
            count, came = await self._calls.timed(text, partial(call, group, ids))
            if count != expected:
                raise Broken("X3", f"redriving {expected} dead letters counts {count}")
            wanted = [Item(each.body, group) for each in chosen[:expected]]
            before = [len(each) for each in self._model.items]
            await self._see(dict.fromkeys(wanted), at=came)
            self._note_origins(before, graves)

    def _note_origins(self, before: list[int], graves: list[Grave]) -> None:
        """Note of which records those are copies that were stored since."""
        origins = {each.letter.body: each.origin for each in graves}
        for partition, first in enumerate(before):
            items = enumerate(self._model.items[partition])
            copies = {at: origins[each.body] for at, each in items if at >= first and each.group}
            self._model.origins[partition] |= copies

    async def discard(self, group: str, *at: int) -> None:
        """Discard some dead letters, and then the same ones again, which has no effect."""
        chosen = await self._choose(group, at)
        ids = [each.id for each in chosen]
        self._exhume(group, chosen)
        for expected in (len(ids), 0) if ids else ():
            text, call = f"{group} discards {', '.join(ids)}", self._calls.first.discard
            count = await self._calls.call(text, partial(call, group, ids))
            if count != expected:
                raise Broken("X3", f"discarding {expected} dead letters counts {count}")
        await self._see({}, "X3")
        await self._letters(group)

    async def _choose(self, group: str, at: tuple[int, ...]) -> list[DeadLetter]:
        letters = await self._letters(group)
        return [letters[i] for i in dict.fromkeys(at) if i < len(letters)]

    def _exhume(self, group: str, chosen: list[DeadLetter]) -> list[Grave]:
        """Remove dead letters from the model, and return where they came from."""
        if not chosen:
            return []
        gone = [Letter(each.body, each.failure, each.attempts, each.deliveries) for each in chosen]
        model = self._model.groups[group]
        graves = [each for each in model.graves if each.letter in gone]
        model.graves = [each for each in model.graves if each.letter not in gone]
        return graves

    async def _letters(self, group: str) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while True:
            after = letters[-1].id if letters else None
            page = await self._calls.call(
                f"{group} lists dead letters after {after}",
                partial(self._calls.first.dead_letters, group, after=after, limit=_PAGE),
            )
            letters += page
            if not page:
                break
            if len(page) > _PAGE or len({each.id for each in letters}) < len(letters):
                raise Broken("X3", f"a page of {_PAGE} dead letters holds others, or too many")
        self._check_letters(group, [Letter(*each[1:5]) for each in letters])
        return letters

    def _check_letters(self, name: str, found: list[Letter]) -> None:
        group = self._model.groups.get(name)
        dead, doubtful = (group.dead, group.doubtful) if group else ([], [])
        if [each for each in found if each not in doubtful] != [
            each for each in dead if each not in doubtful
        ]:
            expected = [(each.body.decode(), *each[2:]) for each in dead]
            listed = [(each.body.decode(), *each[2:]) for each in found]
            is_large = any(len(each.body) > self._calls.first.max_event_bytes for each in dead)
            told = f"the dead letters of {name} are {expected}, listed are {listed}"
            clause = "Y5" if group is not None and group.is_moved else "X3"
            raise Broken("X14" if is_large else clause, told)

    async def look(self, name: str, *, at_end: bool = False) -> None:
        """Check how far a group is, its dead letters, and what is told of the whole transport."""
        await self._catch_up()
        standing = await self._calls.call(
            f"{name} looks how far it is", lambda: self._calls.first.standing(name)
        )
        groups = await self._calls.call(
            "somebody looks which groups there are", self._calls.first.groups
        )
        # What is due meanwhile may be counted, or not.
        await self._stay()
        if [*groups] != sorted(self._model.groups):
            raise Broken("X1", f"there are the groups {sorted(self._model.groups)}, not {groups}")
        if name in self._model.groups:
            check_standing(self._model.groups[name], standing, at_end=at_end)
        elif standing != Standing(0, 0, 0, 0, 0):
            raise Broken("X1", f"a group that is not there stands at {standing}")
        await self._letters(name)

    async def survey(self) -> None:
        """Check what a person is told of all that there is."""
        await self._look_back()
        survey, at = await self._calls.timed("somebody surveys", self._calls.first.survey)
        await self._stay()
        members = {worker: self._calls.member(worker) for worker in self._calls.joined}
        check_survey(survey, self._model, self._all_plans, members, self._offset, at)

    def _start(self, how: str, number: int) -> tuple[Start, list[int] | None]:
        """Return a start, and the place where it is in each partition; None if it is wrong.

        Args:
            how: "oldest", "new", behind a "place", at a "time", or "wrong".
            number: chooses among the places, the times, or what is wrong.
        """
        model = self._model
        ends = [len(each) for each in model.items]
        if how == "new":
            return "new", ends
        if how == "place":
            places = [number % (end + 1) for end in ends]
            return tuple(self._position(*each) for each in enumerate(places)), places
        if how == "time":
            later = self._offset.most + self._calls.now().latest + _NEVER
            known = {each for part in model.times for each in part if each is not None}
            time = [*sorted(known), later][number % (len(known) + 1)]
            return time, model.places_at(time)
        if how == "wrong":
            wrong = ("no position",) * len(ends), (), cast("Start", "no word")
            return wrong[number % len(wrong)], None
        return "oldest", [*model.first]

    def _position(self, partition: int, place: int) -> str:
        """Return the position behind which a place is."""
        return self._model.positions[partition][place - 1] if place else self._origin[partition]

    @property
    def _is_damaged(self) -> bool:
        return any(self._model.gone)

    async def begin(self, worker: str, how: str, number: int) -> None:
        """Join with a start; if the group is there already, it goes on where it is."""
        if self._is_damaged:
            return
        await self._look_back()
        name = self._calls.member(worker).group
        self._calls.start, places = self._start(how, number)
        try:
            if name in self._model.groups:
                await self._join(worker)
                for part in self._model.groups[name].parts:
                    part.is_moved = True
            elif places is not None and not self._is_trimmed(places):
                try:
                    await self._create(worker, places, is_moved=True)
                except (StartTrimmed, ValueError) as exc:
                    told = f"{name} can't begin at {self._calls.start!r}: {safely(repr, exc)}"
                    raise Broken("Y5", told) from exc
            else:
                error, member = StartTrimmed if places else ValueError, self._calls.member(worker)
                text = f"{worker} joins {name} to begin at {self._calls.start!r}"
                await self._refused(error, text, lambda: self._calls.first.join(member), "Y5")
        finally:
            self._calls.start = "oldest"
        if name not in self._model.groups and name in await self._calls.first.groups():
            raise Broken("Y5", f"{name} was to begin where it can't, and is there")

    def _is_trimmed(self, places: list[int]) -> bool:
        return any(place < first for place, first in zip(places, self._model.first, strict=True))

    async def replay(self, name: str, how: str, number: int) -> None:
        """Make a group begin again; its leases end."""
        group = self._model.groups.get(name)
        if self._is_damaged or (group and any(part.is_doubtful for part in group.parts)):
            return
        await self._look_back()
        since, places = self._start(how, number)
        text, call = f"{name} begins again at {since!r}", self._calls.first.replay
        if group is None or places is None:
            await self._refused(ValueError, text, lambda: call(name, since), "Y5")
            return
        replayed, at = await self._calls.timed(text, lambda: call(name, since))
        await self._stay()
        self._check_is_complete(how, since, places, replayed)
        kept = [*map(max, places, self._model.first)]
        group.begin_again(kept, at)
        await self._check_behind(kept, replayed)
        for hand in [*self._calls.hands.values()]:
            if hand.tenure.is_void and self._group_of(hand.worker) is group:
                await self._haunt(hand, "Y5")

    def _check_is_complete(
        self, how: str, since: Start, places: list[int], replayed: Replayed
    ) -> None:
        """Check whether a replay tells that all is kept since then, as far as that is known."""
        right = {not self._is_trimmed(places)}
        if how == "time" and isinstance(since, float):
            parts = [*zip(places, self._model.first, self._model.times, strict=True)]
            at_front = [(first, times) for place, first, times in parts if 0 < first == place]
            late = [is_late(times[first - 1], since) for first, times in at_front]
            # A transport need not know when the records were stored that it has deleted.
            right = {not any(late), not late}
        if replayed.is_complete not in right:
            raise Broken("Y5", f"a replay from {since!r} tells is_complete={replayed.is_complete}")

    async def _check_behind(self, places: list[int], replayed: Replayed) -> None:
        """Check that a replay tells the positions behind which the group begins again."""
        found = list[tuple[int, str]]()
        after: Sequence[str] = replayed.after
        while True:
            seen, after = await self._calls.first.tail(after, _PAGE, 0)
            if not seen:
                break
            found += [each[:2] for each in seen]
        parts = enumerate(zip(self._model.positions, places, strict=True))
        expected = {(each, at) for each, (all_, place) in parts for at in all_[place:]}
        if {*found} != expected:
            told = f"a replay tells that it begins behind {replayed.after}"
            raise Broken("Y5", f"{told}, and not all that is given anew is behind that")
