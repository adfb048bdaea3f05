"""What the errors of durable delivery and of stores say, and that they survive copying: X6, K2."""

import copy
import pickle
from typing import Any

import pytest

from flexiflow import FlexiFlowError
from flexiflow.extras import durable, stores
from flexiflow.extras.durable import (
    BridgeClosed,
    ConsumerInUse,
    EventTooLarge,
    GroupMismatch,
    LeaseLost,
    LogFull,
    NewerVersion,
    NotDecodable,
    NotEncodable,
    NotReplicated,
    ScheduleFull,
    StartTrimmed,
    TooDeep,
    TransportUnavailable,
    TransportUnusable,
    WorkersDied,
)
from flexiflow.extras.stores import StoreUnavailable, StoreUnusable

pytestmark = pytest.mark.same_everywhere

ERRORS: list[tuple[type[FlexiFlowError], tuple[Any, ...], str]] = [
    (TransportUnavailable, ("a.db", "no answer"), "a.db is not available: no answer"),
    (
        NotReplicated,
        ("redis", 1, 2),
        "redis is not available: 1 of 2 replicas confirmed a write in time",
    ),
    (
        LogFull,
        ("a.db", 3),
        (
            "a.db is not available: its log is full: of 3 events the oldest is not yet settled by "
            "every group"
        ),
    ),
    (
        ScheduleFull,
        ("a.db", 3),
        (
            "a.db is not available: 3 events are scheduled, as many as may be; wait until one is "
            "due, or give the transport a higher max_scheduled"
        ),
    ),
    (
        BridgeClosed,
        ("a.db", "OSError"),
        (
            "a.db is not available: its bridge was left by OSError; open one of the same bus, "
            "transport and outgoing events, or call forget() of the one that was left"
        ),
    ),
    (TransportUnusable, ("a.db", "it is a folder"), "a.db can't be used: it is a folder"),
    (
        StartTrimmed,
        ("g", 0, "1-0", "2-0"),
        (
            "the group 'g' can't begin behind position 1-0 of partition 0: events behind it were "
            "deleted; 2-0 is the earliest position, and 'oldest' is always right"
        ),
    ),
    (LeaseLost, ("w", "g", 1), "'w' of the group 'g' lost its lease of partition 1"),
    (
        ConsumerInUse,
        ("w", "g"),
        (
            "the group 'g' has a worker named 'w' already, or had one within its lease; names must "
            "differ, and without one a worker gets a name of its own"
        ),
    ),
    (
        GroupMismatch,
        ("g", ("a.*", "b"), ("c", "d")),
        (
            "a worker of the group 'g' takes a.*, b, and this one would take c, d: of two workers "
            "of a group one must take all that the other takes"
        ),
    ),
    (NotEncodable, ("a", "it is a set"), "the payload of 'a' can't be stored: it is a set"),
    (NotDecodable, ("a", "it is a list"), "the payload of 'a' can't be read: it is a list"),
    (
        NewerVersion,
        ("a", 3, 2),
        (
            "the payload of 'a' is of version 3, and this worker's schema reads up to version 2: a "
            "worker with the newer schema must be given it before all retries are over, by default "
            "after eleven minutes"
        ),
    ),
    (
        TooDeep,
        ("a", 9, 8),
        (
            "'a' is event 9 of a chain in which each was published while the one before was "
            "handled, and max_depth is 8: end the loop, or redrive it with a higher max_depth"
        ),
    ),
    (
        EventTooLarge,
        ("a", 9, 8),
        (
            "'a' has 9 bytes as it is stored, and the transport takes 8; max_event_bytes= of the "
            "transport allows more, or store where the payload is"
        ),
    ),
    (
        WorkersDied,
        ("a", 5),
        (
            "5 attempts to handle 'a' have begun since one last ended: the workers died, or were "
            "silent and lost it to others"
        ),
    ),
    (StoreUnavailable, ("a.db", "it is full"), "a.db is not available: it is full"),
    (StoreUnusable, ("a.db", "no file"), "a.db can't be used: no file"),
]
BASES = {"TransportError", "StoreError"}


@pytest.mark.parametrize(("kind", "arguments", "message"), ERRORS)
def test_an_error_of_our_own(
    kind: type[FlexiFlowError], arguments: tuple[Any, ...], message: str
) -> None:
    """X6, K2: It writes its message from what it was given, and survives copying and pickling."""
    error = kind(*arguments)
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    for each in (error, copy.copy(error), pickled):
        assert type(each) is kind
        assert each.args == arguments
        assert vars(each) == vars(error)
        assert str(each) == message


def test_none_is_left_out() -> None:
    """X6, K2: Each error that these packages show is tried."""
    public = {
        name
        for package in (durable, stores)
        for name in package.__all__
        if isinstance(kind := getattr(package, name), type) and issubclass(kind, FlexiFlowError)
    }
    assert public - BASES == {kind.__name__ for kind, _, _ in ERRORS}
