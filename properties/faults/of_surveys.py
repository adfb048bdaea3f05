"""Faults of transports: surveys (Y6), discarding (X3), and lasting producers (X2)."""

from collections.abc import Sequence

from flexiflow.extras.durable import Batch, GroupSurvey, LogSurvey, Survey
from properties.faults._transport_registry import breaks
from properties.reference.transport import PlainTransport


class _Surveying(PlainTransport):
    """Surveys what there is, changed by `log` and `group`."""

    def log(self, log: LogSurvey) -> LogSurvey:
        """Change what is told of a partition."""
        return log

    def group(self, group: GroupSurvey) -> GroupSurvey:
        """Change what is told of a group."""
        return group

    async def survey(self) -> Survey:
        survey = await super().survey()
        logs, groups = map(self.log, survey.logs), map(self.group, survey.groups)
        return survey._replace(logs=tuple(logs), groups=tuple(groups))


@breaks("Y6")
class SurveysOneRecordMore(_Surveying):
    """Tells of one record more than there is."""

    def log(self, log: LogSurvey) -> LogSurvey:
        return log._replace(length=log.length + 1)


@breaks("Y6")
class SurveysAllSinceTheBeginning(_Surveying):
    """Tells of records that were deleted."""

    def log(self, log: LogSurvey) -> LogSurvey:
        return log._replace(length=self.memory._state.logs[0].last)


@breaks("Y6")
class SurveysNoTimes(_Surveying):
    """Does not tell when the oldest record was stored."""

    def log(self, log: LogSurvey) -> LogSurvey:
        return log._replace(oldest=None)


@breaks("Y6")
class SurveysNothingScheduled(_Surveying):
    """Tells that nothing is scheduled."""

    def log(self, log: LogSurvey) -> LogSurvey:
        return log._replace(scheduled=0)


@breaks("Y6")
class SurveysNoSize(_Surveying):
    """Tells that all records take no room."""

    def log(self, log: LogSurvey) -> LogSurvey:
        return log._replace(size=0)


@breaks("Y6")
class SurveysOnePartition(PlainTransport):
    """Tells of the first partition alone."""

    async def survey(self) -> Survey:
        survey = await super().survey()
        return survey._replace(logs=survey.logs[:1])


@breaks("Y6")
class SurveysGroupsBackwards(PlainTransport):
    """Tells of the groups in the reverse order."""

    async def survey(self) -> Survey:
        survey = await super().survey()
        return survey._replace(groups=survey.groups[::-1])


@breaks("Y6")
class SurveysNoMembers(_Surveying):
    """Does not tell which members are alive."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        return group._replace(members=())


@breaks("Y6")
class SurveysOtherPatterns(_Surveying):
    """Tells that each member takes everything."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        return group._replace(members=tuple(each._replace(patterns=("**",)) for each in group[1]))


@breaks("Y6")
class SurveysPastLives(_Surveying):
    """Tells that members have been alive, when they are."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        return group._replace(members=tuple(each._replace(until=-1e9) for each in group.members))


@breaks("Y6")
class SurveysNoLag(_Surveying):
    """Tells that each group was given everything."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        standings = tuple(each._replace(lag=0) for each in group.standings)
        return group._replace(standings=standings)


@breaks("Y6")
class SurveysNothingPending(_Surveying):
    """Tells that no group holds anything."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        standings = tuple(each._replace(pending=0) for each in group.standings)
        return group._replace(standings=standings)


@breaks("Y6")
class SurveysTheDeadTogether(_Surveying):
    """Counts all dead letters in the first partition."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        first, *others = group.standings
        first = first._replace(dead=sum(each.dead for each in group.standings))
        return group._replace(standings=(first, *(each._replace(dead=0) for each in others)))


@breaks("Y6")
class SurveysWhatIsNewest(_Surveying):
    """Tells when the newest record was stored for that of the oldest that is not settled."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        return group._replace(oldest=max(self.memory._state.logs[0].times.values(), default=None))


@breaks("Y6")
class SurveysNoReplays(_Surveying):
    """Tells that no group has begun again."""

    def group(self, group: GroupSurvey) -> GroupSurvey:
        return group._replace(replay=0)


@breaks("Y6")
class SurveysAnotherClock(PlainTransport):
    """Tells a time that stands still."""

    first: float | None = None

    async def survey(self) -> Survey:
        survey = await super().survey()
        self.first = survey.now if self.first is None else self.first
        return survey._replace(now=self.first)


@breaks("X2")
class ForgetsLastingProducers(PlainTransport):
    """Forgets any producer after the window."""

    async def store(self, batch: Batch) -> None:
        await super().store(batch._replace(is_lasting=False))


@breaks("X2")
class RemembersNoNumbers(PlainTransport):
    """Knows the number of no producer's last batch."""

    async def produced(self, producer: str) -> int:
        return 0


@breaks("X2")
class TellsTheNextNumber(PlainTransport):
    """Tells the number of a producer's next batch for that of its last one."""

    async def produced(self, producer: str) -> int:
        return await super().produced(producer) + 1


@breaks("X3")
class DiscardsNothing(PlainTransport):
    """Counts what it should discard, and keeps it."""

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        dead = self.memory._state.groups[group].dead
        return sum(int(each) in dead for each in ids)


@breaks("X3")
class DiscardsAll(PlainTransport):
    """Discards all dead letters."""

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        count = await super().discard(group, ids)
        self.memory._state.groups[group].dead.clear()
        return count


@breaks("X3")
class DiscardsByRedriving(PlainTransport):
    """Gives again what it should discard."""

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        return await self.redrive(group, ids)
