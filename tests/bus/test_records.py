"""Records, such as the statistics of a stream: S2, B15."""

import copy
import pickle
from typing import Any

import pytest

from flexiflow import BackgroundStatistics, StreamStatistics

STREAM = {
    "received": 6,
    "delivered": 3,
    "dropped": 2,
    "buffered": 1,
    "blocked_publishers": 4,
    "waiting_readers": 5,
}
BACKGROUND = {
    "ended": 1,
    "running": 2,
    "waiting": 3,
    "dropped": 4,
    "cancelled": 5,
    "abandoned": 6,
    "blocked_publishers": 7,
}

each_kind = pytest.mark.parametrize(
    ("kind", "facts"), [(StreamStatistics, STREAM), (BackgroundStatistics, BACKGROUND)]
)


@each_kind
def test_a_record_is_its_attributes(kind: Any, facts: dict[str, int]) -> None:
    """S2, B15: Two records are equal if all their attributes are; copies are equal, too."""
    record = kind(**facts)
    assert {name: getattr(record, name) for name in facts} == facts
    pickled = pickle.dumps(record)
    for same in (kind(**facts), copy.copy(record), pickle.loads(pickled)):  # noqa: S301  made here
        assert same == record
        assert hash(same) == hash(record)
    for name in facts:
        assert kind(**{**facts, name: 9}) != record
    assert record != tuple(facts.values())
    shown = ", ".join(f"{name}={fact}" for name, fact in facts.items())
    assert repr(record) == f"{kind.__name__}({shown})"


@each_kind
def test_a_record_is_not_changed(kind: Any, facts: dict[str, int]) -> None:
    """S2, B15: Its attributes are read-only, and none is missing or unknown."""
    record = kind(**facts)
    for name in facts:
        with pytest.raises(AttributeError, match="cannot assign to field"):
            setattr(record, name, 0)
    with pytest.raises(TypeError, match=r"takes the keyword arguments .*, not dropped"):
        kind(dropped=1)
    with pytest.raises(TypeError, match="takes the keyword arguments"):
        kind(**facts, other=1)
