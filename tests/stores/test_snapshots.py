"""What stores keep of a component: what is refused, and how the message names it."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from flexiflow.extras.stores import _snapshots as module
from flexiflow.extras.stores._arguments import (
    LONGEST_NAME,
    check_due,
    check_expected,
    check_name,
    check_until,
)
from flexiflow.extras.stores._snapshots import DEEPEST, decode, encode

NAN = float("nan")


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Colour(StrEnum):
    """A text with a name."""

    RED = "red"


class Size(IntEnum):
    """A number with a name."""

    SMALL = 1


def nested(depth: int) -> Any:
    """Return lists inside each other."""
    inner: Any = []
    for _ in range(depth - 1):
        inner = [inner]
    return inner


@pytest.fixture(params=["in C", "in Python"])
def encoded_everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return `encode`, also as it is where json has no encoder in C."""
    if request.param != "in C":
        encoder: Any = json.encoder
        monkeypatch.setattr(encoder, "c_make_encoder", None)
    monkeypatch.setattr(module, "_encode", module._make_encoder())
    return module.encode


ROUND: list[Any] = [
    {},
    {"a": 1, "b": 1.5, "c": True, "d": None, "e": "é\0\ud800"},
    {"": {"": [[], {}]}, "large": 10**300, "small": 5e-324, "z": -0.0},
    {"deep": nested(DEEPEST - 1)},
]


@pytest.mark.parametrize("data", ROUND)
def test_what_json_holds_comes_back(encoded_everywhere: Any, data: dict[str, Any]) -> None:
    """K2: a snapshot is loaded as it was saved."""
    text = encoded_everywhere(data)
    assert text.isascii()
    assert (decode(text), decode(text.encode())) == (data, data)


def test_nothing_is_no_snapshot() -> None:
    """K2: a component may have nothing besides its state."""
    assert (encode(None), decode(None)) == (None, None)


def test_other_kinds_come_back_as_plain_ones(encoded_everywhere: Any) -> None:
    """K2: tuples become lists, and what is derived from a plain kind becomes that."""
    data: Any = MappingProxyType(
        {"t": (1, (2,)), "p": Point(1, 2), Colour.RED: [Colour.RED, Size.SMALL]}
    )
    found = decode(encoded_everywhere(data))
    assert found == {"t": [1, [2]], "p": [1, 2], "red": ["red", 1]}
    inner = OrderedDict[str, Any](b=1)
    assert decode(encoded_everywhere(OrderedDict[str, Any](a=inner))) == {"a": {"b": 1}}


def circle() -> Any:
    """Return a list that is inside itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        ([1], TypeError, r"data must be a mapping or None, not \[1\]"),
        ({"a": {1}}, TypeError, r"data\['a'\] is \{1\} of type set, which JSON has no form for"),
        ({"orders": [0, 1, 2, b"x"]}, TypeError, r"data\['orders'\]\[3\] is b'x' of type bytes"),
        ({1: 1}, TypeError, r"a key of data must be a str, not 1 of type int"),
        (
            {"a": [({None: 1},)]},
            TypeError,
            r"a key of data\['a'\]\[0\]\[0\] must be a str",
        ),
        (
            {"s": "x", "a": [0, NAN]},
            ValueError,
            r"data\['a'\]\[1\] is nan, and JSON has only finite",
        ),
        ({"a": {"b": float("-inf")}}, ValueError, r"data\['a'\]\['b'\] is -inf, and JSON"),
        ({"x" * 1000: NAN}, ValueError, r"^data\['x{98}\.\.\.x{98}'\] is nan"),
        ({"a": [1, 10**5000]}, ValueError, r"data\['a'\]\[1\] is an int of too many digits"),
        ({"a": circle()}, ValueError, r"data\['a'\]\[0\] is inside itself"),
        (
            {"a": nested(DEEPEST)},
            ValueError,
            r"data\['a'\](\[0\]){20}.*more than 200 containers",
        ),
        ({"a": nested(100_000)}, ValueError, r"has more than 200 containers inside each other"),
    ],
    ids=lambda value: "" if isinstance(value, dict | list | type) else None,
)
def test_what_json_does_not_hold_is_named(
    encoded_everywhere: Any, data: Any, kind: type[Exception], said: str
) -> None:
    """K2: the message names the place, and what is there."""
    with pytest.raises(kind, match=said) as info:
        encoded_everywhere(data)
    assert type(info.value) is kind


def test_what_fails_only_where_little_room_is_left_is_raised_as_it_is() -> None:
    """K2: a snapshot is not blamed for a stack that is full."""
    data = {"deep": nested(150)}

    def descend(left: int) -> Any:
        return descend(left - 1) if left else encode(data)

    problems: set[type[Exception]] = set()
    for depth in range(1, sys.getrecursionlimit(), 20):
        try:
            descend(depth)
        except RecursionError as problem:
            problems.add(type(problem))
    assert problems == {RecursionError}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", r"it must be a JSON object, not \[1\]"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("{", "Expecting property name"),
        (b"\xff", "can't decode"),
        ('{"a":' * 100_000, "too many containers inside each other"),
    ],
    ids=["a list", "NaN", "half", "no UTF-8", "deep"],
)
def test_what_others_wrote_is_refused(text: str | bytes, said: str) -> None:
    """K2: other text is not taken for a snapshot."""
    with pytest.raises(ValueError, match=said):
        decode(text)


AT_THE_EDGE = [
    *("x" * LONGEST_NAME, "é" * (LONGEST_NAME // 2), "😀" * (LONGEST_NAME // 4)),
    *("a\0b", "\n", "", "\u202e"),
]


@pytest.mark.parametrize("name", AT_THE_EDGE, ids=range(7))
def test_odd_names_are_names(name: str) -> None:
    """K2: null characters, line ends and such make no difference."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        (3, TypeError, "a component's name must be a str, not 3"),
        ("x" * (LONGEST_NAME + 1), ValueError, "at most 65,536 bytes in UTF-8"),
        ("é" * (LONGEST_NAME // 2 + 1), ValueError, "at most 65,536 bytes in UTF-8"),
        ("x" * 10_000_000, ValueError, "of 10,000,000 characters has not"),
        ("a\ud800", ValueError, r"UTF-8 can encode, which it can't at index 1 of 'a\\ud800'"),
    ],
    ids=["no text", "one too many", "one of two bytes too many", "10 MB", "a surrogate"],
)
def test_a_name_that_no_store_takes_is_shown_in_short(
    name: Any, kind: type[Exception], said: str
) -> None:
    """K2: the message has no 10 MB."""
    with pytest.raises(kind, match=said) as info:
        check_name(name)
    assert len(str(info.value)) < 500


@pytest.mark.parametrize("due", [NAN, -float("inf"), True, "1", 10**400])
def test_a_time_that_is_none_is_refused(due: Any) -> None:
    """K2: when a component is due is a number, or infinity."""
    with pytest.raises(ValueError, match=r"due must be a number of seconds since 1970, not"):
        check_due(due)


def test_times_are_floats() -> None:
    """K2: a time is a number, and what is asked for may be without end."""
    assert (check_due(None), check_due(3), check_until(float("inf"))) == (None, 3.0, float("inf"))
    with pytest.raises(ValueError, match=r"until must be a number of seconds since 1970, not nan"):
        check_until(NAN)


@pytest.mark.parametrize("expected", [-1, True, 1.0, None, 2**53 + 1])
def test_a_version_that_is_none_is_refused(expected: Any) -> None:
    """K2: what is expected is a version, or 0."""
    with pytest.raises(ValueError, match=r"expected must be an int, 0 to 2\*\*53, not"):
        check_expected(expected)


def test_a_version_may_be_of_a_kind_of_int() -> None:
    """K2: as everywhere, an int is what is derived from int, but for bool."""
    assert (check_expected(Size.SMALL), check_expected(0), check_expected(2**53)) == (1, 0, 2**53)
