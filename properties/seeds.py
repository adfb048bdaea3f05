"""Seeds by which a fault is found at once, where its test's usual one takes up to a second."""

from properties.profile import IS_LONG

_SOON = {
    1: (
        "LosesAFailureBesideACancellation AsksTheRemoved UnsubscribesElsewhere "
        "AwaitsOnlyCoroutinesInTime UnsubscribeAllRemembers"
    ),
    2: (
        "OwnInnermost CallsAtAnyTime AsksPatterns AnswersPatterns AsksTopics SubscribesToQueries "
        "YieldsBeforeItsSnapshot RunsInItsOwnContext TellsObserversThatAreGone "
        "StaysWithinAFailure ConcurrentObserversPublish TakesItsPlaceLate DeferredLast "
        "DeferredNewestFirst TakesBackWhatIsAnothers GivesAllThatIsDue KeepsWhatItRedrives "
        "MissesNothing MissesTwice"
    ),
    3: (
        "DropsWhenItIsBusy LogsNoDeferredFailures ReadsTheStateWhenSent TakesATimeForADelay "
        "LosesWhatACancelledReceiveTook"
    ),
    4: (
        "AnswersWithoutEnd StaysInItsAnnouncement StaysInItsAnnouncementForEver "
        "LosesAFailureBehindTheDeferred DiscardsAll GivesNewThoughTooManyWait "
        "ForgetsWhatWaitsWhenItIsOpened"
    ),
    5: "TellsOfNothingThatWaits",
    6: "TimeRunsInLine IgnoresSizes",
    8: "CountsCallsThatAreOver",
    12: "DropsWhatIsReturnedTwice",
}
_SEEDS = {name: seed for seed, names in _SOON.items() for name in names.split()}


def seed_for(fault: str, usual: int) -> int:
    """Return the seed by which a fault is searched for; in the long run it is the usual one."""
    return usual if IS_LONG else _SEEDS.get(fault, usual)
