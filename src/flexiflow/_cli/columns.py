"""Tables of plain text that fit a width; what strangers wrote is escaped in them (L3)."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from flexiflow._cli.output import as_ascii
from flexiflow._cli.text import one_line, show_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP: Final = "  "
_MORE: Final = "..."
_LONGEST_CELL: Final = 60
_SHORTEST_CELL: Final = 12


def columns(heading: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> list[str]:
    """Return the lines of a table, of which the first is its heading.

    Columns of numbers are aligned to the right, others to the left. Long cells are cut. If there is
    no room for all columns, the last ones are left out, and the heading ends with "...".

    Args:
        heading: the columns' names, in the order of their importance.
        rows: the other lines, with a cell for each column.
        width: how many characters a line may have; None for any number.
    """
    longest = _LONGEST_CELL if width is None else max(_SHORTEST_CELL, width // 3)
    lines = [heading, *([as_cell(cell, longest) for cell in row] for row in rows)]
    parts = list(zip(*lines, strict=True))
    sizes = [max(map(len, part)) for part in parts]
    aligned = [_align(part, size) for part, size in zip(parts, sizes, strict=True)]
    fitting = _fitting(sizes, width)
    shown = [_GAP.join(cells).rstrip() for cells in zip(*aligned[:fitting], strict=True)]
    if fitting < len(sizes):
        shown[0] += _GAP + _MORE
    return [line[:width] for line in shown]


def as_cell(text: str, longest: int = _LONGEST_CELL) -> str:
    """Return a text on one line, escaped, and then cut to a length."""
    shown = as_ascii(one_line(show_text(text)))
    return shown if len(shown) <= longest else f"{shown[: longest - len(_MORE)]}{_MORE}"


def _align(part: Sequence[str], size: int) -> list[str]:
    """Return a column's cells, all of one size."""
    is_number = all(cell[:1].isdigit() or cell == "-" for cell in part[1:])
    return [cell.rjust(size) if is_number else cell.ljust(size) for cell in part]


def _fitting(sizes: Sequence[int], width: int | None) -> int:
    """Return how many columns fit; 1 or more."""
    ends = list(accumulate(size + len(_GAP) for size in sizes))
    if width is None or ends[-1] - len(_GAP) <= width:
        return len(sizes)
    return max(1, bisect_right(ends, width - len(_MORE)))
