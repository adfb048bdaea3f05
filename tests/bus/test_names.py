"""Event names, patterns and component names: B3, B10."""

import enum

import pytest

from flexiflow._names import (
    check_component_name,
    check_event_name,
    check_subscribed_name,
    is_pattern,
)

NAMES = [
    "a",
    "order.placed",
    "order.item.added",
    "0",
    "Größe.ändern",
    "two words.x",
    "a-b.c_d",
    " ",
]
PATTERNS = ["*", "**", "order.*", "order.**", "*.placed", "order.*.added", "*.*", "*.**"]
MALFORMED = ["", ".", "..", ".a", "a.", "a..b", "a.b.", "a..*", ".*", "*."]
NO_STR: list[object] = [
    None,
    1,
    True,
    2.5,
    b"order.placed",
    ["order"],
    ("order",),
    {},
    object,
    Ellipsis,
]


class Plain(enum.StrEnum):
    """An event name of the kind that projects keep in one place."""

    PLACED = "order.placed"


class Older(str, enum.Enum):  # noqa: UP042  what was written before StrEnum
    """A member whose `str()` is not its value."""

    PLACED = "order.placed"


@pytest.mark.parametrize("name", NAMES)
def test_dot_separated_non_empty_segments_are_a_name(name: str) -> None:
    """B3: any segments will do, as long as none of them is empty."""
    assert check_event_name(name) == check_subscribed_name(name) == name


@pytest.mark.parametrize("member", [Plain.PLACED, Older.PLACED], ids=["StrEnum", "Enum"])
def test_a_member_of_an_enumeration_of_strings_is_a_name(member: str) -> None:
    """B3: a subclass of str is a str, and counts for its value."""
    for name in (check_event_name(member), check_subscribed_name(member)):
        assert (type(name), name) == (str, "order.placed")


@pytest.mark.parametrize("name", MALFORMED)
def test_an_empty_segment_is_malformed_and_shown(name: str) -> None:
    """B3: the message shows the name, and what one looks like."""
    for check in (check_event_name, check_subscribed_name):
        with pytest.raises(ValueError, match=r"'order\.placed'") as caught:
            check(name)
        assert str(caught.value).startswith(f"malformed event name {name!r}: ")


@pytest.mark.parametrize("name", NO_STR)
def test_a_name_that_is_no_str_is_a_type_error(name: object) -> None:
    """B3: the message shows what was given."""
    for check in (check_event_name, check_subscribed_name):
        with pytest.raises(TypeError) as caught:
            check(name)
        assert str(caught.value) == f"an event name must be a str, not {name!r}"


@pytest.mark.parametrize("pattern", [*PATTERNS, "a*", "*a", "***", "**.a", "a.**.b"])
def test_nothing_with_a_wildcard_can_be_published(pattern: str) -> None:
    """B3: a wildcard in `publish` is refused, well-formed or not."""
    with pytest.raises(ValueError, match="can't publish to the pattern") as caught:
        check_event_name(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_wildcards_may_be_subscribed_to(pattern: str) -> None:
    """B10: `*` may stand anywhere, `**` last."""
    assert check_subscribed_name(pattern) == pattern


@pytest.mark.parametrize(
    "pattern", ["a*", "*a", "order.pl*", "or*er.placed", "***", "a.***", "a**"]
)
def test_a_wildcard_within_a_segment_is_malformed(pattern: str) -> None:
    """B10: a wildcard is exactly a segment, never a part of one."""
    with pytest.raises(ValueError, match="a segment of its own") as caught:
        check_subscribed_name(pattern)
    assert str(caught.value).startswith(f"malformed pattern {pattern!r}: ")


@pytest.mark.parametrize("pattern", ["**.a", "a.**.b", "**.**", "**.*", "a.**.**"])
def test_a_double_wildcard_before_the_end_is_malformed(pattern: str) -> None:
    """B10: `**` stands last only."""
    with pytest.raises(ValueError, match="may only be the last segment") as caught:
        check_subscribed_name(pattern)
    assert str(caught.value).startswith(f"malformed pattern {pattern!r}: ")


def test_a_pattern_is_told_from_a_name_by_its_wildcards() -> None:
    """B10: what has no wildcard is an exact name."""
    assert all(map(is_pattern, PATTERNS))
    assert not any(map(is_pattern, NAMES))


@pytest.mark.parametrize("name", ["billing", " ", "a..b", "*", "order.*", "ß"])
def test_any_str_that_is_not_empty_names_a_component(name: str) -> None:
    """B3: a component's name has no form to keep."""
    assert check_component_name(name) == name


def test_an_empty_component_name_is_refused() -> None:
    """B3: an empty component is a ValueError."""
    with pytest.raises(ValueError, match=r"^a component's name must not be empty$"):
        check_component_name("")


@pytest.mark.parametrize("name", NO_STR)
def test_a_component_name_that_is_no_str_is_a_type_error(name: object) -> None:
    """B3: a component object instead of its name is refused, and shown."""
    with pytest.raises(TypeError) as caught:
        check_component_name(name)
    assert str(caught.value) == f"a component's name must be a str, not {name!r}"
