"""Maps, charts and the page of a report: L7."""

import re
import sys
from html import unescape
from types import ModuleType
from typing import Any

import pytest

from flexiflow import Engine, StateMachine, Transition
from flexiflow._text import printable
from flexiflow.extras._pictures.charts import draw_rate
from flexiflow.extras._pictures.maps import Place, Way, draw_map
from flexiflow.extras._pictures.page import duration, make_page
from flexiflow.extras._pictures.tally import Rate
from tests.looking.shops import NASTY, Lamp, lamps, recording, switch

NOON = 1_262_347_200.0


def texts(svg: str) -> list[str]:
    """Return what is written in a drawing."""
    return [unescape(each) for each in re.findall(r"<text [^>]*>([^<]*)</text>", svg)]


def labels(svg: str) -> list[str]:
    """Return the labels of a chart's axis of time."""
    axis = svg.partition('class="axis x')[2].partition('class="axis y')[0]
    return texts(axis)


def test_a_map_shows_any_name() -> None:
    """L7: a name is plain text: neither HTML nor an escape of Graphviz, nor does it end a line."""
    places = [Place(name, "1") for name in NASTY]
    ways = [Way(name, NASTY[0], "2\n3 s", hint=name) for name in NASTY]
    svg = draw_map(places, ways, title='"title" & <more>')
    for name in NASTY:
        assert printable(name).replace(" ", "") in "".join(texts(svg)).replace("\xa0", "").replace(
            " ", ""
        )
    assert svg.startswith('<svg role="img" aria-label="&quot;title&quot; &amp; &lt;more&gt;"')
    assert "<script" not in svg
    assert " id=" not in svg


def test_a_long_name_is_on_several_lines() -> None:
    """L7: a box stays narrow."""
    svg = draw_map([Place("waiting for a customer who has to answer")], [], title="x")
    assert [each.strip() for each in texts(svg)] == ["waiting for a customer", "who has to answer"]


@pytest.mark.parametrize(("count", "is_straight"), [(100, False), (101, True)])
def test_a_map_with_many_ways_has_straight_lines(count: int, is_straight: bool) -> None:
    """L7: bent ones among hundreds of states would take Graphviz minutes."""
    names = [f"s{number}" for number in range(count)]
    ways = [Way(name, names[number - 1], "") for number, name in enumerate(names)]
    svg = draw_map(map(Place, names), iter(ways), title="x")
    points = [each.count(",") for each in re.findall(r'<path fill="none"[^>]* d="([^"]*)"', svg)]
    assert len(points) == count
    assert (max(points) == 4) is is_straight


@pytest.mark.parametrize(
    ("seconds", "is_of_log", "first"),
    [
        (86_400 * 1_000, True, "2010-01-01"),
        (7_200 * 60, True, "2010-01-01 12:00"),
        (600, True, "12:00:00"),
        (5, True, "12:00:00.000"),
        (600, False, "0 s"),
        (5, False, "0.000 s"),
    ],
)
def test_a_chart_tells_when(seconds: int, is_of_log: bool, first: str) -> None:
    """L7: in the times of the log or of the run, with no more digits than are needed."""
    rate = Rate()
    start = NOON if is_of_log else 0.0
    rate.add([start, start + seconds])
    svg = draw_rate(rate, what="Messages", is_of_log=is_of_log, color="red")
    assert svg.startswith("<svg ")
    assert first in labels(svg)


def test_a_chart_may_begin_at_the_beginning_of_time() -> None:
    """L7: its first period begins before the first message."""
    rate = Rate()
    rate.add([NOON * 100, -62_100_000_000.0])
    assert "<svg " in draw_rate(rate, what="Messages", is_of_log=True, color="red")


class Finder:
    """As pygal leaves one for its plug-ins."""

    __module__ = "pygal"

    def find_spec(self, *_: object) -> None:
        """Find nothing."""


def draw_a_rate() -> None:
    """Draw a chart."""
    rate = Rate()
    rate.add([0.0])
    draw_rate(rate, what="Messages", is_of_log=False, color="red")


def plain_metadata() -> ModuleType:
    """Make a module that finds no plug-ins."""
    made = ModuleType("importlib_metadata")
    made.__dict__["entry_points"] = lambda **_: ()
    return made


@pytest.mark.parametrize("before", [None, plain_metadata()], ids=["not there", "there"])
def test_drawing_leaves_imports_as_they_are(
    monkeypatch: pytest.MonkeyPatch, before: ModuleType | None
) -> None:
    """L7: the library for charts would look for plug-ins of its own in each of them."""
    for each in [name for name in sys.modules if name.partition(".")[0] == "pygal"]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.delitem(sys.modules, "importlib_metadata", raising=False)
    if before is not None:
        monkeypatch.setitem(sys.modules, "importlib_metadata", before)
    draw_a_rate()
    assert [each for each in sys.meta_path if type(each).__module__ == "pygal"] == []
    assert sys.modules.get("importlib_metadata") is before


def test_drawing_leaves_the_plug_ins_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: a target may draw by the same library."""
    draw_a_rate()
    finder: Any = Finder()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    draw_a_rate()
    assert finder in sys.meta_path


async def test_a_page_shows_all_of_it() -> None:
    """L7: numbers, rates, maps with tables, handlers, and causes of failures."""
    engine = lamps()
    await engine.bus.subscribe("alarm", "guard", [].index)
    recorder = await recording(engine)
    await switch(engine, "lamp", "on", at=NOON)
    await switch(engine, "lamp", "off", at=NOON + 60)
    await engine.bus.publish("alarm", 7)
    page = make_page(recorder, title="shop.py", summary={"messages": "2"})
    for part in (
        "<h1>shop.py</h1>",
        "<dt>messages</dt><dd>2</dd>",
        "Times are those of the messages, in UTC",
        "Messages in each ",
        "Failures in each ",
        'aria-label="The states of lamp"',
        "<td>on</td><td>off</td><td>1</td><td>1 min</td><td>1 min</td>",
        "<td>off</td><td>on</td><td>1</td><td></td><td></td>",
        '<td>alarm</td><td>guard</td><td>1</td><td class="bad">1</td>',
        '<summary>alarm <span class="faint">1 failed</span></summary>',
        '<span class="bad">guard</span> ValueError: ',
        '<span class="faint">1 time</span>',
    ):
        assert part in page


async def test_a_page_asks_nobody_for_anything() -> None:
    """L7: no script, and nothing that a browser would have to fetch."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", "on")
    page = make_page(recorder, title="shop.py", summary={})
    assert not re.findall(r"<script|<link|<img|@import|url\(|src=|href=\"(?!#)", page)


async def test_a_page_of_nothing() -> None:
    """L7: says that nothing failed, and is a page."""
    page = make_page(await recording(Engine()), title="shop.py", summary={})
    assert "<h2>Failures</h2>\n<p>None.</p>" in page
    assert "<h2>States</h2>" not in page
    assert "<h2>When</h2>" not in page
    assert "<h2>Handlers</h2>" not in page


@pytest.mark.parametrize("name", NASTY)
async def test_a_page_shows_any_name(name: str) -> None:
    """L7: names of components, states and events, and texts of exceptions, are escaped."""
    table = StateMachine("off", [Transition("off", "on", name)])
    engine = Engine(component_factory=lambda called: Lamp(called, table))

    def fail(_: object) -> None:
        raise LookupError(name)

    await engine.bus.subscribe("alarm", name, fail)
    recorder = await recording(engine)
    await switch(engine, name, "on")
    await engine.bus.publish("alarm")
    page = make_page(recorder, title=name, summary={name: name})
    page.encode()
    assert not re.findall(r"<b>|<script|\x1b", page)
    plain = unescape(re.sub(r"<[^<>]*>", " ", page))
    assert plain.count(printable(name)) >= 7


async def test_so_many_kinds_of_components_are_drawn() -> None:
    """L7: of others the page says how many there are."""
    tables = [StateMachine("off", [Transition("off", "on", f"on{x}")]) for x in range(10)]
    engine = Engine(component_factory=lambda name: Lamp(name, tables[int(name)]))
    recorder = await recording(engine)
    for number in range(10):
        await switch(engine, str(number), "on")
    page = make_page(recorder, title="shop.py", summary={})
    assert page.count('aria-label="The states of ') == 2 * 8
    assert "the states of 2 other kinds of components" in page


async def test_the_rarest_transitions_are_only_in_the_table() -> None:
    """L7: those that are a twentieth of all, so that the map can be read."""
    engine = lamps()
    recorder = await recording(engine)
    await switch(engine, "lamp", *["on", "off"] * 30)
    [life] = recorder.lives.kinds.values()
    rare = life.new_step(("on", "on"))
    assert rare is not None
    rare.count += 1
    page = make_page(recorder, title="shop.py", summary={})
    drawing = page.partition("<svg role")[2].partition("</svg>")[0]
    assert "<td>on</td><td>on</td><td>1</td>" in page
    assert "on to on" not in unescape(drawing)
    assert "on to off" in unescape(drawing)


async def test_more_than_a_few_components_are_not_named() -> None:
    """L7: three of them, and that there are more."""
    engine = lamps()
    recorder = await recording(engine)
    for name in "abcde":
        await switch(engine, name, "on")
    assert "<h3>a, b, c and more</h3>" in make_page(recorder, title="shop.py", summary={})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.000002, "2 us"),
        (0.0009996, "1 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (90, "1.5 min"),
        (5_400, "1.5 h"),
        (864_000, "10 d"),
        (86_374_080, "1,000 d"),
        (106_617_600, "1,234 d"),
    ],
)
def test_a_duration_has_a_unit(seconds: float, text: str) -> None:
    """L7: one with which the number is short."""
    assert duration(seconds) == text
