"""What a transport's survey looks like, as an object for machines and as lines for people (Y6)."""

from __future__ import annotations

from heapq import nlargest
from operator import ge
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flexiflow._cli.columns import as_cell, columns
from flexiflow._cli.moments import age, as_time, show_duration, show_size, show_time
from flexiflow._cli.text import show_text
from flexiflow._text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable import GroupSurvey, Standing, Survey

_COUNTS: Final = ("lag", "pending", "waiting", "dead", "missed")

_LONGEST_TITLE: Final = 500

_GROUP_HEADING: Final = (
    "group",
    "lag",
    "oldest",
    "pending",
    "waiting",
    "dead",
    "members",
    "missed",
)

_AROUND: Final = 2
"""How many lines a table takes beside its rows: an empty one, and the heading."""


class Line(NamedTuple):
    """A line for people.

    Attributes:
        text: what it says, without anything that a terminal would obey.
        style: how rich shows it.
    """

    text: str
    style: str = ""


class _Table(NamedTuple):
    """A table of which only some rows may fit.

    Attributes:
        what: names a row, for the line that tells how many are left out.
        weight: how much of the height it is worth.
        heading: the columns' names.
        rows: the rows, each with a number: rows with the greatest ones are shown if not all fit.
    """

    what: str
    weight: int
    heading: tuple[str, ...]
    rows: list[tuple[float, tuple[str, ...]]]


def total(standings: Iterable[Standing]) -> dict[str, int]:
    """Return the sums of what a group's standings count, by name."""
    kept = tuple(standings)
    return {name: sum(getattr(each, name) for each in kept) for name in _COUNTS}


def group_as_json(group: GroupSurvey, now: float) -> dict[str, Any]:
    """Return a group as an object that `encode` takes."""
    return {
        "name": group.name,
        "members": [
            each._asdict() | {"until": as_time(each.until) or each.until} for each in group.members
        ],
        **total(group.standings),
        **_oldest(group.oldest, now),
        "replay": group.replay,
        "partitions": [
            {"partition": number} | total([standing])
            for number, standing in enumerate(group.standings)
        ],
    }


def as_json(survey: Survey, address: str) -> dict[str, Any]:
    """Return all that a survey tells as an object that `encode` takes."""
    return {
        "transport": address,
        "time": as_time(survey.now) or survey.now,
        "size": survey.size,
        "partitions": [
            {
                "partition": number,
                "length": log.length,
                "scheduled": log.scheduled,
                "size": log.size,
                **_oldest(log.oldest, survey.now),
            }
            for number, log in enumerate(survey.logs)
        ],
        "groups": [group_as_json(each, survey.now) for each in survey.groups],
    }


def as_lines(
    survey: Survey, address: str, *, width: int | None = None, height: int | None = None
) -> list[Line]:
    """Return what a survey tells as lines for people.

    If not all rows fit, those with the most events that are not settled are shown.

    Args:
        survey: the survey.
        address: where the transport is.
        width: how many characters a line may have; None for any number.
        height: how many lines there may be; None for any number.
    """
    lines = [Line(_title(survey, address)[:width], "bold")]
    tables = [_groups(survey), _members(survey), _logs(survey)]
    most = [None] * len(tables) if height is None else _share(tables, height - 1)
    for table, rows in zip(tables, most, strict=True):
        lines += _show(table, width, rows)
    return lines


def _title(survey: Survey, address: str) -> str:
    stored = sum(log.length for log in survey.logs)
    scheduled = sum(log.scheduled for log in survey.logs)
    return as_cell(
        f"{_counted(stored, 'event')}, {scheduled:,} scheduled, {show_size(survey.size)} in "
        f"{address} at {show_time(survey.now)}",
        _LONGEST_TITLE,
    )


def _counted(number: int, noun: str) -> str:
    """Return how many things there are, as in "1 event" and "12,000 events"."""
    return counted(number, noun).replace(str(number), f"{number:,}", 1)


def _show(table: _Table, width: int | None, most: int | None) -> list[Line]:
    """Return a table's lines, with so many rows at most; None for all, 0 for no table at all."""
    rows = table.rows
    if most == 0 or not rows:
        return []
    if most is not None and most < len(rows):
        # The last line tells that there are more.
        rows = nlargest(most - 1, rows, key=lambda row: row[0])
    heading, *others = columns(table.heading, [row for _, row in rows], width)
    lines = [Line(""), Line(heading, "bold"), *map(Line, others)]
    if left_out := len(table.rows) - len(rows):
        lines.append(Line(f"... and {_counted(left_out, f'more {table.what}')}"[:width]))
    return lines


def _share(tables: Sequence[_Table], height: int) -> list[int]:
    """Share lines among tables; the last tables are left out if they would have no row.

    Args:
        tables: the tables.
        height: how many lines there are.

    Returns:
        For each table how many lines its rows have; 0 if the table is left out.
    """
    for number in range(len(tables), 0, -1):
        shares = _fill(tables[:number], height)
        if all(map(ge, shares, (min(len(table.rows), 2) for table in tables))):
            return [*shares, *[0] * (len(tables) - number)]
    return [0] * len(tables)


def _fill(tables: Sequence[_Table], height: int) -> list[int]:
    """Share lines by weight; tables that need less than their share leave the rest to others."""
    given: dict[str, int] = {}
    whole = sum(table.weight for table in tables)
    for table in sorted(tables, key=lambda table: len(table.rows) / table.weight):
        rows = min(len(table.rows), height * table.weight // whole - _AROUND)
        given[table.what] = rows
        height -= rows + _AROUND if rows else 0
        whole -= table.weight
    return [given[table.what] for table in tables]


def _groups(survey: Survey) -> _Table:
    has_partitions = len(survey.logs) > 1
    heading = (*_GROUP_HEADING, *(["most in"] if has_partitions else []))
    rows: list[tuple[float, tuple[str, ...]]] = []
    for group in survey.groups:
        counts = total(group.standings)
        cells = (
            group.name,
            f"{counts['lag']:,}",
            show_duration(age(group.oldest, survey.now)),
            *(f"{counts[name]:,}" for name in ("pending", "waiting", "dead")),
            f"{len(group.members):,}",
            f"{counts['missed']:,}",
            *([_most_in(group.standings)] if has_partitions else []),
        )
        rows.append((_open(counts), cells))
    return _Table("group", 2, heading, rows)


def _open(counts: dict[str, int]) -> int:
    """Return how many events are not settled, dead letters included."""
    return counts["lag"] + counts["pending"] + counts["waiting"] + counts["dead"]


def _most_in(standings: Sequence[Standing]) -> str:
    """Name the partition with the most events that are not settled, and how many they are."""
    numbers = [_open(total([each])) for each in standings]
    most = max(numbers, default=0)
    return f"partition {numbers.index(most)}: {most:,}" if most else "-"


def _members(survey: Survey) -> _Table:
    rows: list[tuple[float, tuple[str, ...]]] = [
        (
            -(age(survey.now, each.until) or 0.0),
            (
                each.consumer,
                group.name,
                show_duration(age(survey.now, each.until)),
                " ".join(map(show_text, each.patterns)),
            ),
        )
        for group in survey.groups
        for each in group.members
    ]
    return _Table("member", 1, ("member", "group", "dead in", "takes"), rows)


def _logs(survey: Survey) -> _Table:
    rows: list[tuple[float, tuple[str, ...]]] = [
        (
            log.length,
            (
                f"{number}",
                f"{log.length:,}",
                show_duration(age(log.oldest, survey.now)),
                f"{log.scheduled:,}",
                show_size(log.size),
            ),
        )
        for number, log in enumerate(survey.logs)
    ]
    return _Table("partition", 1, ("partition", "events", "oldest", "scheduled", "size"), rows)


def _oldest(oldest: float | None, now: float) -> dict[str, Any]:
    time = None if oldest is None else as_time(oldest) or oldest
    return {"oldest": time, "age": age(oldest, now)}
