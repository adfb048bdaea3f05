"""Sets of patterns: which overlap, include others, or match a name: B10, X8, X15."""

import re
from collections.abc import Callable
from functools import cache, partial
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexiflow.extras.durable._patterns import Patterns, canonical, includes, overlapping
from tests.helpers import tracing

# More letters than the patterns have, so that no set of them matches all names for want of others.
NAMES = [".".join(segments) for length in range(1, 5) for segments in product("abc", repeat=length)]

beginnings = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(".".join)
patterns = beginnings | beginnings.map("{}.**".format) | st.just("**")
some_patterns = st.lists(patterns, max_size=6)
exhaustively = settings(deadline=None, derandomize=True, max_examples=200)


@cache
def matched(pattern: str) -> frozenset[str]:
    """List the short names that a pattern matches, in the words of the contract."""
    escaped = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^.]+")
    return frozenset(name for name in NAMES if re.fullmatch(escaped, name))


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@given(some_patterns, some_patterns)
@exhaustively
def test_the_first_two_that_match_the_same_name_overlap(some: list[str], others: list[str]) -> None:
    """X8: the pair is that of the first of the one kind, with the first of the other."""
    pairs = ((one, two) for one, two in product(some, others) if matched(one) & matched(two))
    assert overlapping(some, others) == next(pairs, None)


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@given(some_patterns, some_patterns)
@exhaustively
def test_a_pattern_is_included_that_matches_no_other_names(
    some: list[str], others: list[str]
) -> None:
    """X15: each of the others is included in one of some, not only in all of them together."""
    included = all(any(matched(two) <= matched(one) for one in some) for two in others)
    assert includes(some, others) is included


@pytest.mark.parametrize(
    ("some", "others", "included"),
    [
        (["a.*"], ["a.b"], True),
        (["a.b"], ["a.*"], False),
        (["**"], ["*", "**", "a.**"], True),
        (["*"], ["**"], False),
        (["a.**"], ["a.*.c", "a.b", "a.*.**"], True),
        (["a.*.**"], ["a.**"], False),
        (["a.**"], ["a"], False),
        (["a.*"], ["a.*"], True),
        (["a", "b"], ["b", "a", "c"], False),
        (["*", "*.**"], ["**"], False),
        ([], [], True),
        ([], ["a"], False),
    ],
)
def test_inclusion_is_that_of_the_names(
    some: list[str], others: list[str], *, included: bool
) -> None:
    """X15: `**` is one segment or more, `*` exactly one."""
    assert includes(some, others) is included


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@given(some_patterns)
@exhaustively
def test_what_another_one_includes_is_left_out(given_patterns: list[str]) -> None:
    """X15: sorted, each once, and without those that another one includes."""
    distinct = sorted(set(given_patterns))
    kept = (
        each
        for each in distinct
        if not any(matched(each) < matched(other) for other in distinct if other != each)
    )
    assert canonical(given_patterns) == tuple(kept)


def test_the_canonical_form_is_the_same_however_patterns_are_written() -> None:
    """X15: order, repetition and what is included in others don't matter."""
    assert canonical(["b.c", "a.*.c", "a.**", "b.c", "a.b"]) == ("a.**", "b.c")
    assert canonical(iter(["b.c", "a.**"])) == ("a.**", "b.c")
    assert canonical([]) == ()


def test_of_equal_patterns_the_first_counts() -> None:
    """X8: A name has the place of the first pattern that matches."""
    assert Patterns(["a.*", "a.*"]).index("a.b") == 0
    assert Patterns(["a.b", "a.b"]).index("a.b") == 0


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@given(some_patterns, st.sampled_from(NAMES))
@exhaustively
def test_a_name_has_the_place_of_the_first_pattern_that_matches(
    given_patterns: list[str], name: str
) -> None:
    """X8: an event of two patterns is sent out by the first one alone, asked twice or once."""
    places = (place for place, each in enumerate(given_patterns) if name in matched(each))
    expected = next(places, None)
    asked = Patterns(given_patterns)
    assert [asked.index(name), asked.index(name)] == [expected, expected]


def lines_of(call: Callable[[], object]) -> int:
    """Count the lines that a call runs."""
    with tracing() as trace:
        call()
    return trace.lines


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("out{}.*", "in{}.*"),
        ("*.out{}", "*.in{}"),
        ("shop.out{}.placed", "shop.in{}.**"),
        ("a{}.*.x", "*.b{}.y"),
        ("out{}.**", "in{}.**"),
    ],
)
def test_looking_for_an_overlap_costs_about_as_much_as_there_are_patterns(
    one: str, two: str
) -> None:
    """X8: ten times as many patterns take about ten times the work, not a hundred times."""
    costs: list[int] = []
    for number in (30, 300):
        some = [one.format(place) for place in range(number)]
        others = [two.format(place) for place in range(number)]
        assert overlapping(some, others) is None
        costs.append(lines_of(partial(overlapping, some, others)))
    assert costs[1] < 15 * costs[0]


@pytest.mark.parametrize("pattern", ["n{}.*", "order.n{}.**", "order.n{}", "*.n{}"])
def test_a_new_name_costs_the_same_however_many_patterns_do_not_match(pattern: str) -> None:
    """B10: a bridge of many patterns finds the place of a name as fast as one of few."""
    costs: list[int] = []
    for number in (1, 1_000):
        asked = Patterns([*(pattern.format(place) for place in range(number)), "**"])
        costs.append(lines_of(partial(asked.index, "order.placed")))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("pattern", ["n{}.*", "order.n{}.**", "order.n{}", "*.n{}"])
def test_inclusion_costs_about_as_much_as_there_are_patterns(pattern: str) -> None:
    """X15: ten times as many patterns take about ten times the work."""
    costs: list[int] = []
    for number in (30, 300):
        given_patterns = [pattern.format(place) for place in range(number)]
        costs.append(
            lines_of(partial(includes, given_patterns, given_patterns))
            + lines_of(partial(canonical, given_patterns))
        )
    assert costs[1] < 15 * costs[0]


def test_the_names_that_are_kept_are_bounded_in_number() -> None:
    """B10: a bridge may be asked about any number of names."""
    asked = Patterns(["a.*", "**"])
    for _ in range(2):
        assert {asked.index(f"a.{number}") for number in range(10_000)} == {0}
        assert asked.index("b") == 1
    assert len(asked._indexes) < 5_000


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@pytest.mark.parametrize("length", [100, 10_000, 5_000_000])
def test_the_names_that_are_kept_are_bounded_in_characters(length: int) -> None:
    """B10: a bridge may be asked about names of any length, and keeps less than a few MB."""
    asked = Patterns(["a.*", "**"])
    for number in range(3_000_000 // length + 3):
        assert asked.index(f"{number}." + "y" * length) == 1
    assert sum(map(len, asked._indexes)) < 200_000


def test_a_name_that_is_too_long_to_keep_drives_out_no_other() -> None:
    """B10: those that were seen are still known."""
    asked = Patterns(["a.*", "**"])
    asked.index("a.b")
    assert asked.index("y" * 5_000_000) == 1
    assert list(asked._indexes) == ["a.b"]


def test_names_are_kept_again_after_too_many_were_seen() -> None:
    """B10: what was forgotten at once makes room for those that come later."""
    asked = Patterns(["a.*", "**"])
    for number in range(5_000):
        asked.index(f"a.{number}")
    for name in ("a.b", "b"):
        asked.index(name)
    assert list(asked._indexes)[-2:] == ["a.b", "b"]


def test_a_name_costs_no_more_than_the_segments_that_patterns_have() -> None:
    """B10: what is longer than all patterns is not gone through to its end."""
    costs: list[int] = []
    for number in (10, 10_000):
        asked = Patterns(["a.*", "a.b.c"])
        costs.append(lines_of(partial(asked.index, "a.b.c" + ".c" * number)))
    assert costs[0] == costs[1]


def test_inclusion_of_many_wildcards_is_found_once() -> None:
    """X15: `*` is not looked for twice, or each more would double the work."""
    costs = [lines_of(partial(includes, ["*." * n + "a"], ["*." * n + "b"])) for n in (5, 10)]
    assert costs[1] < 3 * costs[0]


@pytest.mark.parametrize("name", ["", "a..b", "a.*", "**"])
def test_what_is_no_events_name_has_no_place(name: str) -> None:
    """B3: a stored event may have any name, and a bad one is refused each time."""
    asked = Patterns(["**"])
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(repr(name))):
            asked.index(name)
