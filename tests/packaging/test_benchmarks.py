"""The benchmark program: what it makes of what it measures, and how it tells it."""

import gc
import json
from collections.abc import Callable
from functools import partial
from itertools import count, islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from benchmarks import apart, bare_sqlite, catalogue, chart, durable_parts, lasting, program, report
from benchmarks.measuring import (
    FULL,
    QUICK,
    Effort,
    LeftOut,
    Measure,
    Result,
    Round,
    choose,
    summarise,
)
from benchmarks.timing import Pair, alternate, calibrated, load, paired
from flexiflow.extras.stores import SqliteStateStore
from tools.redis_server import MISSING

pytestmark = pytest.mark.unmeasured

THREE = [Round(2.0, 1.0), Round(6.0, 2.0), Round(9.0, 3.0)]


@pytest.fixture(autouse=True)
def _stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no program thaw at its end what lives all along: each collection would look at it."""
    monkeypatch.setattr(gc, "unfreeze", lambda: None)


def measure(figure: str = "publish", rounds: list[Round] = THREE, **changes: Any) -> Measure:
    """Make a measure whose rounds are known."""

    def run(effort: Effort) -> list[Round]:
        return rounds

    terms: dict[str, Any] = {"against": "a loop", "backend": "asyncio", "run": run}
    return Measure(figure=figure, **(terms | changes))


def result(figure: str = "publish", rounds: list[Round] = THREE, **changes: Any) -> Result:
    """Make what such a measure amounts to."""
    return summarise(measure(figure, rounds, **changes), rounds)


def session(*results: Result, python: str = "CPython 3.11") -> report.Session:
    """Make a session that had these results."""
    return report.Session(
        python=python,
        machine="a machine",
        date="2026-11-24",
        quick=False,
        versions={"anyio": "4.16"},
        results=[*results],
        left_out=[],
    )


def left_out(effort: Effort) -> list[Round]:
    """Be a run that lacks something."""
    raise LeftOut("no such peer")


class Clock:
    """Goes on by what is done, so that times are known."""

    def __init__(self, a_call: float) -> None:
        self.time = 0.0
        self.a_call = a_call
        self.done: list[int] = []

    def __call__(self) -> float:
        """Tell the time."""
        return self.time

    async def side(self, calls: int) -> None:
        """Do something so many times."""
        self.done.append(calls)
        self.time += calls * self.a_call


def quiet(text: str) -> None:
    """Show nothing."""


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put measures in the place of the program's own."""
    monkeypatch.setattr(program, "say", quiet)

    def replace(*given: Measure) -> None:
        def measures(backends: list[str]) -> list[Measure]:
            return [*given]

        monkeypatch.setattr(catalogue, "measures", measures)

    return replace


def test_a_ratio_is_best_to_best_and_the_median_of_the_rounds() -> None:
    """Benchmarks: one slow round spoils neither."""
    found = result()
    assert (found.best, found.median, found.lowest, found.highest) == (2.0, 3.0, 2.0, 3.0)
    assert (found.ours, found.theirs, found.rounds) == (2.0, 1.0, 3)


@pytest.mark.parametrize(("unit", "median"), [("turns more", 4.0), ("bytes", 6.0)])
def test_what_is_no_ratio_is_a_difference_or_stands_alone(unit: Any, median: float) -> None:
    """Benchmarks: turns are held against turns, bytes against nothing."""
    assert result(unit=unit).median == median


def test_without_rounds_there_is_no_figure() -> None:
    """Benchmarks: a measure that took none is a defect, and is named."""
    with pytest.raises(ValueError, match="'publish against a loop on asyncio'"):
        summarise(measure(), [])


@pytest.mark.parametrize(
    ("at_most", "verdict"), [(3.0, "ok"), (2.5, "near"), (1.9, "over"), (None, "")]
)
def test_a_target_is_met_by_best_and_median(at_most: float | None, verdict: str) -> None:
    """Benchmarks: where only one of them meets it, that is said."""
    assert result(at_most=at_most).verdict == verdict


@pytest.mark.parametrize(
    ("pattern", "titles"),
    [("", "abc"), ("PUBLISH a", "a"), ("publish ? against", "abc"), ("*on trio", ""), ("z", "")],
)
def test_figures_are_chosen_by_their_titles(pattern: str, titles: str) -> None:
    """Benchmarks: by a part of the title, in any case, with wildcards."""
    found = choose([measure(f"publish {name}") for name in "abc"], pattern)
    assert [each.figure for each in found] == [f"publish {name}" for name in titles]


def test_titles_are_unique_and_no_figure_is_torn_apart() -> None:
    """Benchmarks: only the chosen one runs, and a figure's rows stand together."""
    found = catalogue.measures(["asyncio", "trio"])
    assert len({each.title for each in found}) == len(found) > 0
    figures = [each.figure for each in found]
    changes = 1 + sum(one != other for one, other in pairwise(figures))
    assert changes == len(set(figures))


def test_each_figure_has_at_least_seven_rounds() -> None:
    """Benchmarks: only a quick run may have fewer, of what takes long."""
    assert min(FULL.rounds, FULL.heavy_rounds, QUICK.rounds) >= 7


def test_rounds_take_turns() -> None:
    """Benchmarks: what disturbs the machine disturbs ours and theirs."""
    places = count()

    async def probe() -> float:
        return next(places)

    rounds = anyio.run(alternate, 3, probe, probe)
    assert rounds == [Round(0, 1), Round(2, 3), Round(4, 5)]


@pytest.mark.parametrize(("a_call", "calls"), [(0.001, 100), (0.03, 3), (5.0, 1)])
def test_a_round_has_as_many_calls_as_fill_it(a_call: float, calls: int) -> None:
    """Benchmarks: the time of a call is that of a full round, divided."""
    clock = Clock(a_call)
    probe = anyio.run(partial(calibrated, clock.side, 0.1, clock))
    clock.done.clear()
    assert anyio.run(probe) == pytest.approx(a_call)
    assert clock.done == [calls]


def test_the_sides_are_closed_also_when_one_fails() -> None:
    """Benchmarks: nothing is left running for the next measure."""
    ended: list[str] = []

    async def fail(calls: int) -> None:
        raise RuntimeError(calls)

    async def close() -> None:
        ended.append("closed")

    async def prepare() -> Pair:
        return Pair(fail, fail, close)

    with pytest.raises(RuntimeError):
        paired("asyncio", prepare)(QUICK)
    assert ended == ["closed"]


@pytest.mark.same_everywhere
def test_both_sides_are_measured_in_turn() -> None:
    """Benchmarks: after each has shown how many calls fill a round."""
    done: list[str] = []

    async def do(name: str, calls: int) -> None:
        done.extend([name] * (calls > 0))

    async def prepare() -> Pair:
        return Pair(partial(do, "ours"), partial(do, "theirs"))

    effort = Effort(rounds=7, heavy_rounds=1, seconds=0.0, quick=True)
    assert len(paired("asyncio", prepare)(effort)) == 7
    assert done[-14:] == ["ours", "theirs"] * 7


def test_what_is_not_installed_is_left_out() -> None:
    """Benchmarks: a missing peer is told by its name."""
    with pytest.raises(LeftOut, match="a_peer_that_is_not_there can't be imported"):
        load("a_peer_that_is_not_there")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (123.4, "times", "123"),
        (12.34, "times", "12.3"),
        (1.234, "times", "1.23"),
        (0.0123, "times", "0.012"),
        (0.00123, "times", "0.0012"),
        (1234.5, "times", "1,234"),
        (226.4, "bytes", "226"),
        (7.0, "turns more", "7"),
    ],
)
def test_an_amount_has_the_digits_that_it_deserves(value: float, unit: Any, shown: str) -> None:
    """Benchmarks: some three for a ratio, whole ones for what is counted."""
    assert report.amount(value, unit) == shown


def test_a_line_tells_all_of_a_result() -> None:
    """Benchmarks: best, median, spread, target, verdict and the time of a call."""
    line = report.line(result(at_most=2.5)).split()
    assert line == ["a", "loop", "asyncio", "2.00", "3.00", "2.00-3.00", "2.5", "near", "2.00", "s"]
    alone = report.line(result(against="", backend="", unit="bytes")).split()
    assert alone == ["(by", "itself)", "any", "2", "6", "2-9"]


def test_what_is_stored_comes_back() -> None:
    """Benchmarks: JSON holds all that the table is made of."""
    stored = {"3.11": session(result(at_most=3.0), result("send"))}
    assert report.from_json(report.to_json(stored)) == stored


def test_the_table_has_interpreters_side_by_side() -> None:
    """Benchmarks: one over its target is bold, or italic if only by its best or its median."""
    over, near = result(at_most=1.0), result("near", at_most=2.0)
    once = result("once", [Round(2.0, 1.0)])
    table = report.markdown(
        {"3.11": session(over, once, near), "3.13": session(over, python="CPython 3.13")}
    )
    lines = table.splitlines()
    assert lines[0] == "| figure | against | backend | at most | CPython 3.11 | CPython 3.13 |"
    cell = "**2.00, 3.00 (2.00 to 3.00)**"
    assert lines[2] == f"| publish | a loop | asyncio | 1 | {cell} | {cell} |"
    assert lines[3] == "| once | a loop | asyncio |  | 2.00 | not measured |"
    assert lines[4] == (
        "| near | a loop | asyncio | 2 | _2.00, 3.00 (2.00 to 3.00)_ | not measured |"
    )
    assert "Measured on 2026-11-24 with CPython 3.13 on a machine: anyio 4.16." in table


def test_the_chart_shows_ratios_with_a_target() -> None:
    """Benchmarks: backends share a row, and what has no target has none."""
    both = [result(at_most=3.0), result(at_most=1.0, backend="trio")]
    nothing = result("nothing", [Round(0.0, 1.0)], at_most=1.0)
    memory = result("memory", at_most=300.0, unit="bytes")
    found = chart.shown([*both, result("free"), memory, nothing])
    assert found == both
    drawn = chart.draw(found, "a <title>")
    assert "<figcaption>a &lt;title&gt;</figcaption>" in drawn
    assert drawn.count('class="row"') == drawn.count('class="figure"') == 1
    assert "<span>3.00 of 3, <strong>3.00</strong> of 1</span>" in drawn
    # From 1 to 10: the median of 3, and the targets of 3 and 1.
    assert drawn.count('<i class="trio" style="left: 47.71%"></i>') == 1
    for place in ("47.71", "0.0"):
        assert f'<b class="target" style="left: {place}%"></b>' in drawn


def test_the_chart_is_that_of_the_stored_figures() -> None:
    """Benchmarks: the documentation's chart shows the figures of `docs/benchmarks.json`."""
    sessions = report.from_json(Path("docs/benchmarks.json").read_text("utf-8")).values()
    drawn = [chart.draw(chart.shown(each.results), program.title(each)) for each in sessions]
    assert Path("docs/chart.inc").read_text("utf-8") in drawn


@pytest.mark.parametrize("quick", [True, False])
def test_the_effort_is_chosen(quick: bool, measures: Any, tmp_path: Path) -> None:
    """Benchmarks: `--quick` asks every measure for less."""
    efforts: list[Effort] = []

    def run(effort: Effort) -> list[Round]:
        efforts.append(effort)
        return THREE

    measures(measure(run=run))
    assert program.main(["--output", str(tmp_path), *["--quick"] * quick]) == 0
    assert efforts == [QUICK if quick else FULL]


@pytest.mark.same_everywhere
@pytest.mark.parametrize(("at_most", "status"), [(1.0, 1), (2.5, 0), (3.0, 0), (None, 0)])
def test_check_fails_where_a_target_is_missed(
    at_most: float | None, status: int, measures: Any, tmp_path: Path
) -> None:
    """Benchmarks: by best and median; without `--check` it is told and no more."""
    measures(measure(at_most=at_most))
    assert program.main(["--output", str(tmp_path), "--check"]) == status
    assert program.main(["--output", str(tmp_path)]) == 0


@pytest.mark.same_everywhere
def test_what_other_interpreters_measured_stays(measures: Any, tmp_path: Path) -> None:
    """Benchmarks: each one replaces its own session, and only that."""
    other = {"3.9": session(result("old"), python="CPython 3.9")}
    (tmp_path / "benchmarks.json").write_text(report.to_json(other), "utf-8")
    for figure in ("first", "second"):
        measures(measure(figure))
        program.main(["--output", str(tmp_path)])
    stored = json.loads((tmp_path / "benchmarks.json").read_text("utf-8"))
    figures = [[each["figure"] for each in kept["results"]] for kept in stored.values()]
    assert figures == [["old"], ["second"]]
    assert "CPython 3.9" in (tmp_path / "benchmarks.inc").read_text("utf-8")


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ([], ["build"]),
        (["--only", "publish"], []),
        (["--backend", "asyncio"], []),
        (["--only", "publish", "--output", "here"], ["here"]),
    ],
)
def test_some_figures_do_not_replace_all(
    arguments: list[str],
    written: list[str],
    measures: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Benchmarks: a few figures are written only where that is asked for."""
    monkeypatch.chdir(tmp_path)
    measures(measure())
    assert program.main(arguments) == 0
    assert [path.name for path in tmp_path.iterdir()] == written


def test_what_is_left_out_is_told(measures: Any, tmp_path: Path) -> None:
    """Benchmarks: with its reason, in the table's foot, while the rest goes on."""
    measures(measure("peer", run=left_out), measure())
    assert program.main(["--output", str(tmp_path), "--check"]) == 0
    table = (tmp_path / "benchmarks.inc").read_text("utf-8")
    assert "Left out: peer against a loop on asyncio (no such peer)." in table
    assert "| publish |" in table


def test_without_a_redis_server_its_measures_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks: those of durable delivery on Redis, and it is said why."""
    monkeypatch.setattr(durable_parts, "load", str)
    monkeypatch.setattr(durable_parts, "find_server", lambda: None)
    chosen = choose(catalogue.measures(["asyncio"]), "redis")
    monkeypatch.setattr(program, "say", quiet)
    session = program.measure_all(chosen, QUICK)
    assert session.left_out == [f"{each.title} ({MISSING})" for each in chosen] != []


@pytest.mark.parametrize("number", [lasting.STORED, lasting.QUICK_STORED])
def test_each_stored_component_is_sent_a_message_before_one_is_sent_two(number: int) -> None:
    """Benchmarks: so that each message must load its component."""
    assert len(set(islice(lasting.names(number), number))) == number


async def test_stored_components_are_loaded_and_stay_as_they_are(tmp_path: Path) -> None:
    """Benchmarks: by the engine and by the bare thread, from the file that was made for both."""
    path = tmp_path / "states.db"
    await lasting.store(path, 3)
    async with (
        lasting.visiting(path, 3) as ours,
        bare_sqlite.loading(path, lasting.names(3)) as theirs,
        SqliteStateStore(path) as store,
    ):
        before = [await store.load(name) for name in islice(lasting.names(3), 3)]
        await ours(6)
        await theirs(6)
        after = [await store.load(name) for name in islice(lasting.names(3), 3)]
    assert None not in before
    assert after == before


def test_a_process_grows_by_what_its_peak_rises_after_the_first_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Benchmarks: what is needed once, at the beginning, does not count."""
    peak = 0

    async def act(number: int) -> None:
        nonlocal peak
        peak += number

    def usage(_who: object) -> object:
        return SimpleNamespace(ru_maxrss=peak)

    def resource(_name: object) -> object:
        return SimpleNamespace(RUSAGE_SELF=0, getrusage=usage)

    monkeypatch.setattr(apart, "load", resource)
    monkeypatch.setattr("sys.platform", "darwin")
    assert anyio.run(apart.growth, act, 100, 7) == 7


def test_listing_measures_nothing(measures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks: `--list` shows the titles that `--only` leaves."""
    said: list[str] = []
    monkeypatch.setattr(program, "say", said.append)
    measures(measure("send", run=left_out), measure(run=left_out))
    assert program.main(["--list", "--only", "send"]) == 0
    assert said == ["send against a loop on asyncio"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "nothing such"], "no figure has 'nothing such' in its title; --list shows"),
        (["--backend", "curio"], "invalid choice: 'curio'"),
    ],
)
def test_what_can_not_be_measured_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Benchmarks: before anything is measured, with what would be right."""
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
