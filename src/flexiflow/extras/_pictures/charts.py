"""Charts, drawn by pygal as SVG that takes its colours from the page around it.

`pygal` draws without a browser and without a script, so that a page needs nothing but itself.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras._pictures.tally import Rate

_LABELS: Final = 5
_DAY: Final = 86_400.0
_MINUTE: Final = 60.0
_EARLIEST: Final = datetime(2, 1, 1, tzinfo=UTC).timestamp()
"""The first period may begin before the first message."""
_NEEDLESS: Final = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)
"""What pygal writes even for a chart without scripts: its own settings, and where it comes from."""
_COLORS: Final = {
    "background": "transparent",
    "plot_background": "transparent",
    "foreground": "var(--ink)",
    "foreground_strong": "var(--ink)",
    "foreground_subtle": "var(--line)",
    "guide_stroke_color": "var(--line)",
    "major_guide_stroke_color": "var(--line)",
    "opacity": "0.85",
    "opacity_hover": "1",
    "transition": "0s",
    "font_family": "inherit",
    "tooltip_font_size": 12,
    "label_font_size": 11,
    "major_label_font_size": 11,
    "value_font_size": 11,
}


def draw_rate(rate: Rate, *, what: str, is_of_log: bool, color: str) -> str:
    """Draw how much happened when, as an `svg` element.

    Args:
        rate: what happened.
        what: a word for it.
        is_of_log: whether its times are seconds since 1970; else they are those of the run.
        color: the colour of the bars, in CSS.

    Raises:
        ModuleNotFoundError: `pygal` is not installed.
    """
    periods = rate.periods()
    labels = [_time(moment, rate.width, is_of_log=is_of_log) for moment, _ in periods]
    every = max(len(periods) // _LABELS, 1)
    return _bars(labels, [count for _, count in periods], what, color, labels[::every])


def _bars(
    labels: Sequence[str], values: Sequence[int], what: str, color: str, major: Sequence[str]
) -> str:
    pygal = _import_pygal()
    chart = pygal.Bar(
        style=pygal.style.Style(colors=(color,), **_COLORS),
        width=900,
        height=220,
        margin=8,
        js=(),
        show_legend=False,
        disable_xml_declaration=True,
        show_minor_x_labels=False,
        truncate_label=-1,
        x_labels=labels,
        x_labels_major=major,
        x_label_rotation=0,
        y_labels=sorted({0, max(values) // 2, max(values)}),
        value_formatter="{:,.0f}".format,
        include_x_axis=True,
        spacing=2,
    )
    chart.add(what, values)
    drawn: str = chart.render(is_unicode=True)
    return _NEEDLESS.sub("", drawn[drawn.index("<svg ") :])


def _import_pygal() -> Any:
    """Return pygal without its plug-ins, which are maps of the world.

    Its import would search all installed packages for them, which takes half of its time: so for
    that long there is a module in place that finds none. And its import leaves a finder of them,
    which each later import would ask too. A target that has imported pygal itself keeps both.
    """
    if "pygal" in sys.modules:
        return import_module("pygal")
    name = "importlib_metadata"
    searching = ModuleType(name)
    searching.__dict__["entry_points"] = _find_none
    used = sys.modules.setdefault(name, searching)
    try:
        pygal: Any = import_module("pygal")
    finally:
        if used is searching:
            del sys.modules[name]
    sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != "pygal"]
    return pygal


def _find_none(**_: str) -> tuple[()]:
    return ()


def _time(moment: float, width: float, *, is_of_log: bool) -> str:
    """Return the label of a period, which no other one has: pygal tells labels by their texts."""
    if not is_of_log:
        return f"{moment:.0f} s" if width >= 1 else f"{moment:.3f} s"
    time = datetime.fromtimestamp(max(moment, _EARLIEST), UTC)
    if width >= _DAY:
        return f"{time:%Y-%m-%d}"
    if width >= _MINUTE:
        return f"{time:%Y-%m-%d %H:%M}"
    return f"{time:%H:%M:%S}" if width >= 1 else f"{time:%H:%M:%S.%f}"[:-3]
