"""Stories: a schedule that fails tells whose turn each one was, and where it stopped."""

import asyncio
import copy
import gc
import io
import pickle
import re
import runpy
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import coroutine
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group, sleep
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.testing import (
    Place,
    ScenarioStuck,
    ScheduleFailure,
    Story,
    TasksLeft,
    Turn,
    explore,
    replay,
)
from flexiflow.testing._scheduling.drawing import page
from flexiflow.testing._scheduling.recording import RecordedRun

HERE = Path(__file__)
LINES = HERE.read_text(encoding="utf-8").splitlines()

Scenario = Callable[[], Awaitable[object]]


def failure_of(scenario: Scenario, backend: str, **options: Any) -> ScheduleFailure:
    """Explore a scenario that fails."""
    with pytest.raises(ScheduleFailure) as caught:
        explore(scenario, backend=backend, seed=1, **options)
    return caught.value


def story_of(scenario: Scenario, backend: str) -> Story:
    """Explore a scenario that fails, and return its story."""
    story = failure_of(scenario, backend).story
    assert story is not None
    return story


def told(story: Story) -> list[tuple[str, str, str]]:
    """Return what each task did, without whom it woke: some tasks are woken by the loop."""
    return [
        (step.task, replace(step, acts=without_waking(step)).did, code_at(step.place))
        for step in story.steps()
    ]


def without_waking(step: Turn) -> tuple[tuple[str, str], ...]:
    """Return what a task did to others, but for waking."""
    return tuple(act for act in step.acts if act[0] != "wakes")


def code_at(place: Place | None) -> str:
    """Return the code of a place."""
    return "" if place is None else place.code


async def lost_update() -> None:
    """Read, wait, and write, in two tasks at once."""
    total = 0

    async def add() -> None:
        nonlocal total
        before = total
        if before:
            await checkpoint()
        total = before + 1

    async def reset() -> None:
        nonlocal total
        total = 0

    async with create_task_group() as group:
        group.start_soon(reset)
        group.start_soon(add)
    if total != 1:
        raise ValueError


def test_each_turn_is_told(backend: str) -> None:
    """P8: each task by name, what it did, whom it overtook, and the line at which it stopped."""
    story = story_of(lost_update, backend)
    group = "async with create_task_group() as group:"
    assert told(story) == [
        ("scenario", "begins, starts reset and add", group),
        ("add", "begins ahead of reset, returns", "async def add() -> None:"),
        ("reset", "begins, returns", "async def reset() -> None:"),
        ("scenario", "raises ValueError", "raise ValueError"),
    ]
    for turn in story.turns:
        assert turn.place is not None
        shown = HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE
        assert turn.place.file == shown.as_posix()
        assert LINES[turn.place.line - 1].strip() == turn.place.code
    assert story.waiting == ()


def test_the_message_has_the_story(backend: str) -> None:
    """P8: it stands between what failed and how to replay it."""
    failure = failure_of(lost_update, backend)
    first, _, rest = str(failure).partition("\n")
    assert first.endswith("ValueError")
    story, _, how = rest.rpartition("\n\n")
    assert story == f"\nwhat happened, turn by turn:\n{failure.story}"
    assert how.endswith(f"replay it: replay(lost_update, backend={backend!r}, decisions=(1,))")
    assert failure.summary == f"{first}\n{how}"


def test_the_page_shows_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: the example of the documentation, but for the numbers of FlexiFlow's own lines."""
    text = Path("docs/verifying.md").read_text(encoding="utf-8")
    code = text.partition("```{testcode}\n")[2].partition("```")[0]
    shown = text.partition("```text\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(code, encoding="utf-8")
    scenario = runpy.run_path(str(tmp_path / "shop.py"))["nobody_pays_for_a_cancelled_order"]
    told = f"what happened, turn by turn:\n{story_of(scenario, 'asyncio')}\n"
    numbers = re.compile(r"(?<=flexiflow/)(\w+\.py):\d+")
    assert numbers.sub(r"\1", told) == numbers.sub(r"\1", shown)


def test_to_explore_records_nothing_unless_a_schedule_fails(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: the story is that of one more run, so that the others are as fast as ever."""
    recorded: list[object] = []
    begin = RecordedRun.__init__

    def count(run: Any, *arguments: Any, **options: Any) -> None:
        recorded.append(run)
        begin(run, *arguments, **options)

    monkeypatch.setattr(RecordedRun, "__init__", count)
    explore(partial(sleep, 1), backend=backend)
    assert recorded == []
    failure_of(lost_update, backend)
    assert len(recorded) == 1


def test_a_run_that_does_not_fail_once_more_has_no_story(backend: str, tmp_path: Path) -> None:
    """P8: a scenario that depends on something else is told to, and nothing is drawn."""
    runs: list[int] = []

    async def scenario() -> None:
        runs.append(1)
        await checkpoint()
        # The first run fails, and so does the second, but not the one that is recorded.
        assert len(runs) > 2

    failure = failure_of(scenario, backend, trace=tmp_path / "run.html")
    assert (failure.story, failure.replays) == (None, False)
    assert "it did not fail when that schedule was run again" in str(failure)
    assert "turn by turn" not in str(failure)
    assert list(tmp_path.iterdir()) == []


async def many_names() -> None:
    """Start tasks in several ways, and fail when they have gone."""

    async def walk(_: int = 0) -> None:
        await checkpoint()

    class Walker:
        async def stroll(self) -> None:
            await checkpoint()

        async def __call__(self) -> None:
            await checkpoint()

    async with create_task_group() as group:
        group.start_soon(walk, name="till")
        group.start_soon(partial(walk, 1))
        group.start_soon(walk, 2)
        group.start_soon(Walker().stroll)
        group.start_soon(Walker())
        group.start_soon(EventBus().publish, "a")
        group.start_soon(walk, name="json.loads")
        group.start_soon(walk, name="ju\x1bst")
    raise LookupError


def test_tasks_have_names_that_can_be_read(backend: str) -> None:
    """P8: a name that was given, or that of the function; with numbers if there are several."""
    assert story_of(many_names, backend).tasks() == (
        "scenario",
        "till",
        "walk 1",
        "walk 2",
        "Walker.stroll",
        "Walker.__call__",
        "EventBus.publish",
        "loads",
        "ju\\x1bst",
    )


def test_a_task_of_asyncio_is_named_after_its_function() -> None:
    """P8: asyncio only counts its tasks, in each process anew, or calls each one "None"."""

    async def walk() -> None:
        await checkpoint()

    async def run() -> None:
        await checkpoint()

    async def scenario() -> None:
        walks = [asyncio.create_task(walk()), asyncio.create_task(walk(), name="till")]
        await asyncio.gather(*walks, asyncio.create_task(run(), name="None"))
        raise LookupError

    assert story_of(scenario, "asyncio").tasks() == ("scenario", "walk", "till", "run")


def test_a_native_cancel_is_told() -> None:
    """P8: also that of a task which has not begun, or is ready to go on."""

    async def walk() -> None:
        await checkpoint()

    async def scenario() -> None:
        tasks = [asyncio.create_task(walk(), name=name) for name in "ab"]
        tasks[0].cancel()
        await checkpoint()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise LookupError

    turns = story_of(scenario, "asyncio").turns
    assert [turn.did for turn in turns if turn.task == "a"] == ["begins, ends cancelled"]
    assert [turn.did for turn in turns if turn.task == "b"] == ["begins", "ends cancelled"]
    assert [turn.cancelled for turn in turns if turn.task in {"a", "b"}] == [True, False, True]


def test_trios_own_tasks_are_not_told() -> None:
    """P8: only the scenario's tasks have a part in the story."""
    lowlevel = pytest.importorskip("trio").lowlevel

    async def scenario() -> None:
        called = Event()
        lowlevel.current_trio_token().run_sync_soon(called.set)
        # Not `wait`: that a call is on its way is no reason for virtual time to stand still.
        for _ in range(3):
            await sleep(1)
        if called.is_set():
            raise LookupError

    assert story_of(scenario, "trio").tasks() == ("scenario",)


def test_a_failure_in_a_task_is_told_where_it_was_raised(backend: str) -> None:
    """P8: by its line, and by the line that let it out of the scenario."""

    async def fail(number: int) -> None:
        await sleep(number)
        raise LookupError("she\x1blf\n2")

    async def scenario() -> None:
        async with create_task_group() as group:
            for number in range(2):
                group.start_soon(fail, number)

    story = story_of(scenario, backend)
    ends = [(step.task, step.end, code_at(step.place)) for step in story.steps() if step.end]
    raised = 'raise LookupError("she\\x1blf\\n2")'
    assert ends == [
        ("fail 1", "raises LookupError: she\\x1blf", raised),
        ("fail 2", "ends cancelled", "await sleep(number)"),
        ("scenario", "raises LookupError: she\\x1blf", "async with create_task_group() as group:"),
    ]


async def cancelling() -> None:
    """Cancel a task that cleans up, one that does not, and one that has not begun."""

    async def clean() -> None:
        try:
            await Event().wait()
        finally:
            with CancelScope(shield=True):
                await sleep(1)

    async with create_task_group() as group:
        group.start_soon(clean)
        group.start_soon(anyio.sleep_forever)
        await sleep(1)
        group.start_soon(sleep, 3)
        group.cancel_scope.cancel()
    raise LookupError


def test_a_cancellation_is_told(backend: str) -> None:
    """P8: who cancels whom, whom it strikes and whom it ends; the end of a sleep is none."""
    turns = story_of(cancelling, backend).turns
    assert {name for turn in turns for verb, name in turn.acts if verb == "cancels"} == {
        "clean",
        "sleep_forever",
    }
    cleaned = [turn for turn in turns if turn.task == "clean"]
    assert [(turn.at, turn.cancelled) for turn in cleaned if turn.cancelled] == [(1, True)]
    assert (cleaned[-1].at, cleaned[-1].end) == (2, "ends cancelled")
    ended = {turn.task: code_at(turn.place) for turn in turns if turn.end == "ends cancelled"}
    # On asyncio nothing is left of a cancellation but that it was one.
    assert ended.pop("clean") in {"await Event().wait()", "await sleep(1)"}
    assert ended == {
        "sleep_forever": "await sleep(math.inf)",
        "sleep": "return await get_async_backend().sleep(delay)",
    }


async def locked() -> None:
    """Wait for what never comes, in two tasks."""

    async def wait() -> None:
        await Event().wait()

    async with create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)


def test_a_deadlock_is_told_with_all_who_wait(backend: str) -> None:
    """P8: the story ends where nothing goes on, with each task that waits, and where."""
    failure = failure_of(locked, backend)
    assert isinstance(failure.exception, ScenarioStuck)
    story = failure.story
    assert story is not None
    assert [turn.task for turn in story.turns] == ["scenario", "wait 1", "wait 2"]
    assert [(name, code_at(place)) for name, place in story.waiting] == [
        ("scenario", "async with create_task_group() as group:"),
        ("wait 1", "await Event().wait()"),
        ("wait 2", "await Event().wait()"),
    ]
    assert str(story).splitlines()[-2].split() == ["wait", "2", "still", "waits", "here"]


def test_a_task_that_is_left_behind_is_told() -> None:
    """P8: also one that has not begun."""
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        await anyio.sleep_forever()

    async def scenario() -> None:
        tasks.append(asyncio.create_task(linger()))

    failure = failure_of(scenario, "asyncio")
    assert isinstance(failure.exception, TasksLeft)
    assert failure.story is not None
    assert failure.story.waiting == (("linger", None),)
    assert str(failure.story).endswith("  linger    has not begun")


async def reach(ready: Callable[[], Awaitable[object]]) -> None:
    """Wait for something as the second of two steps of a task, and fail."""
    await checkpoint()
    await ready()
    raise LookupError


@coroutine
def generated() -> Any:
    """Wait as a generator."""
    yield from checkpoint().__await__()


class Awaited:
    """Waits as an object."""

    def __await__(self) -> Any:
        yield from checkpoint().__await__()


async def numbers() -> AsyncGenerator[int]:
    """Wait as an async generator."""
    for number in range(2):
        await checkpoint()
        yield number


class Wrapped:
    """Waits as a coroutine."""

    def __await__(self) -> Any:
        return wait_in_handler(0).__await__()


async def through_wrapper() -> None:
    """Wait for an object that hands out a coroutine."""
    await Wrapped()


async def through_object() -> None:
    """Wait for an object."""
    await Awaited()


async def through_step() -> None:
    """Wait for a step of an async generator, with a default."""
    async with aclosing(numbers()) as kept:
        await anext(kept, 0)


async def through_handler() -> None:
    """Wait in a handler of a bus."""
    bus = EventBus()
    await bus.subscribe("a", "b", wait_in_handler)
    await bus.publish("a", 1)


async def wait_in_handler(_: object) -> None:
    """Wait."""
    await checkpoint()


@pytest.mark.parametrize(
    ("ready", "function"),
    [
        (generated, "generated"),
        (through_object, "Awaited.__await__"),
        (through_wrapper, "wait_in_handler"),
        (through_step, "numbers"),
        (through_handler, "wait_in_handler"),
        (partial(sleep, 1), "reach"),
    ],
)
def test_the_place_is_the_innermost_line_of_the_users_code(
    backend: str, ready: Callable[[], Awaitable[object]], function: str
) -> None:
    """P8: through generators, awaitable objects and the bus, but not into libraries."""
    story = story_of(partial(reach, ready), backend)
    places = [turn.place for turn in story.turns if turn.place is not None]
    assert function in [place.function for place in places[1:-1]]
    assert {place.file.rpartition("/")[2] for place in places} == {HERE.name}


async def only_others() -> None:
    """Run tasks without a line of the user's own."""
    bus = EventBus()
    async with create_task_group() as group:
        group.start_soon(bus.publish, "a")
        group.start_soon(sleep, 1)
    raise LookupError


def test_code_of_libraries_is_told_where_there_is_no_other(backend: str) -> None:
    """P8: FlexiFlow's own line, or the outermost one, by a path that begins with the package."""
    places = {
        turn.task: turn.place for turn in story_of(only_others, backend).turns if not turn.end
    }
    publish, slept = places["EventBus.publish"], places["sleep"]
    assert publish is not None
    assert slept is not None
    assert (publish.file, publish.code) == ("flexiflow/_dispatcher.py", "await checkpoint()")
    assert slept.file == "anyio/_core/_eventloop.py"


def test_a_generator_that_is_closed_has_a_name() -> None:
    """P8: asyncio closes an async generator that is left in a task, which no one has named."""

    async def scenario() -> None:
        kept = numbers()
        await anext(kept)
        del kept
        gc.collect()
        await checkpoint()
        raise LookupError

    assert story_of(scenario, "asyncio").tasks() == ("scenario", "numbers")


def test_a_replay_adds_the_story_to_what_is_raised(backend: str, tmp_path: Path) -> None:
    """P8: as a note, which is the only one, however often the same exception is raised."""
    error = LookupError("the shelf is empty")
    error.add_note("look again")

    async def scenario() -> None:
        await checkpoint()
        raise error

    for _ in range(2):
        with pytest.raises(LookupError):
            replay(scenario, backend=backend, decisions=(), trace=tmp_path / "run.html")
    assert len(error.__notes__) == 4
    assert error.__notes__[-2].startswith("\nwhat happened, turn by turn:\n")
    assert "raises LookupError: the shelf is empty" in error.__notes__[-2]
    drawn = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert f"<h1>scenario fails on {backend}: LookupError: the shelf is empty</h1>" in drawn


def test_to_be_watched_prolongs_no_life(backend: str) -> None:
    """P8: a run that is recorded keeps no task, no exception and nothing that they hold."""

    class Basket:
        pass

    async def shop(fails: bool) -> None:
        baskets.append(ref(basket := Basket()))
        await checkpoint()
        if fails:
            raise LookupError(basket)

    baskets: list[ref[Basket]] = []

    async def scenario() -> list[Basket | None]:
        for fails in (False, True):
            with suppress(ExceptionGroup):
                async with create_task_group() as group:
                    group.start_soon(shop, fails)
        await checkpoint()
        gc.collect()
        return [basket() for basket in baskets]

    assert replay(scenario, backend=backend, decisions=()) == [None, None]


def test_what_ends_the_program_gets_no_story(backend: str, tmp_path: Path) -> None:
    """P8: an exit is no failure."""

    async def scenario() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        replay(scenario, backend=backend, decisions=(), trace=str(tmp_path / "run.html"))
    assert not hasattr(caught.value, "__notes__")
    assert list(tmp_path.iterdir()) == []


def turn(number: int, task: str, **options: Any) -> Turn:
    """Make a turn in which nothing happens."""
    facts: dict[str, Any] = {"at": 0.0, "begins": False, "cancelled": False, "end": ""}
    facts |= {"ahead_of": (), "acts": (), "place": None} | options
    return Turn(number=number, last=number, task=task, **facts)


SHOP = Place("shop.py", 7, "Shop.pay", 'await bus.publish("<b>")')
TOLD = Story(
    (
        turn(1, "scenario", begins=True, acts=(("starts", "a"), ("wakes", "b"), ("starts", "c"))),
        turn(2, "scenario", acts=(("starts", "d"), ("starts", "a")), place=SHOP),
        turn(3, "a", begins=True, ahead_of=("b", "c", "d", "e"), place=SHOP),
        turn(4, "a", ahead_of=("b",), cancelled=True, acts=(("cancels", "c"),)),
        turn(5, "a", at=60.0),
        turn(6, "a", at=60.0, cancelled=True, end="ends cancelled"),
        turn(7, "scenario", at=60.0, end="raises LookupError: shelf 2", place=SHOP),
    ),
    (("b", SHOP), ("c", None)),
)


def test_a_story_is_told_in_columns() -> None:
    """P8: turns, task, what it did; and below that the place, jumps of time, and who waits."""
    assert TOLD.render() == (
        "  1-2  scenario  begins, starts a, c and d, wakes b\n"
        '                 shop.py:7  await bus.publish("<b>")\n'
        "    3  a         begins ahead of b, c and 2 more\n"
        '                 shop.py:7  await bus.publish("<b>")\n'
        "    4  a         is cancelled ahead of b, cancels c\n"
        "                 (the time jumps to 60 s)\n"
        "  5-6  a         ends cancelled\n"
        "    7  scenario  raises LookupError: shelf 2\n"
        '                 shop.py:7  await bus.publish("<b>")\n'
        "       b         still waits here\n"
        '                 shop.py:7  await bus.publish("<b>")\n'
        "       c         has not begun"
    )


def test_turns_in_a_row_are_one_step() -> None:
    """P8: it tells what happened in any of them."""
    story = Story((turn(8, "a"), turn(9, "a"), turn(10, "a", cancelled=True), turn(11, "b")), ())
    assert str(story) == "  8-10  a  is cancelled\n    11  b  goes on"


def test_the_middle_of_a_long_story_is_left_out() -> None:
    """P8: it is told how many turns that are, and how to see all."""
    story = Story(tuple(turn(number, "ab"[number % 2]) for number in range(1, 1001)), ())
    lines = str(story).splitlines()
    assert len(lines) == 41
    assert lines[19:22] == [
        "    20  a  goes on",
        "           (960 turns left out here; `story.render(limit=None)` tells all)",
        "   981  b  goes on",
    ]
    assert len(story.render(limit=None).splitlines()) == 1000
    assert "(2 turns left out" in Story(story.turns[:5], ()).render(limit=3)
    assert page(story, "").count("goes on</span>") == 1000


def test_of_many_who_wait_some_are_told() -> None:
    """P8: it is told how many more there are; a drawing has no lanes for those left out."""
    turns = tuple(turn(number, f"t{number}") for number in range(1, 3001))
    story = Story(turns, tuple((each.task, SHOP) for each in turns))
    more = "2960 more tasks had not ended; `story.render(limit=None)` tells all"
    assert str(story).splitlines()[-1].strip() == f"({more})"
    assert len(str(story).splitlines()) == 40 + 1 + 2 * 40 + 1
    assert len(story.render(limit=None).splitlines()) == 3000 + 2 * 3000
    read = Reader(page(story, "it fails"))
    assert more in read.texts
    heads = [attributes["scope"] for tag, attributes in read.tags if tag == "th"]
    assert heads.count("col") == 1 + 20 + 20 + 20
    assert len(read.tags) < 10_000


@pytest.mark.parametrize("limit", [0, -1, True, "3"])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    """P8: a story of no steps is none."""
    with pytest.raises(ValueError, match="limit must be an int, 1 or more, not"):
        TOLD.render(limit=limit)


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_story_is_in_color_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """P8: elsewhere, and with `NO_COLOR` or a dumb terminal, it is plain."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    TOLD.show(terminal)
    colored = terminal.getvalue()
    assert "\x1b[0;36mscenario\x1b[0m" in colored
    assert "\x1b[0;1;31mraises LookupError: shelf 2\x1b[0m" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == f"{TOLD}\n"
    TOLD.show()
    assert capsys.readouterr().out == f"{TOLD}\n"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            terminal = Terminal()
            TOLD.show(terminal)
            assert terminal.getvalue() == f"{TOLD}\n"


def test_a_story_that_nobody_can_see_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a program without standard output goes on."""
    monkeypatch.setattr(sys, "stdout", None)
    TOLD.show()


class Reader(HTMLParser):
    """Reads a page: its tags, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_drawing_has_a_lane_for_each_task(backend: str, tmp_path: Path) -> None:
    """P8: `trace` names the HTML file in which the failure tells where it is."""
    failure = failure_of(lost_update, backend, trace=str(tmp_path / "run.html"))
    assert failure.__notes__ == [f"its story is drawn in {tmp_path / 'run.html'}"]
    read = Reader((tmp_path / "run.html").read_text(encoding="utf-8"))
    heads = [attributes["scope"] for tag, attributes in read.tags if tag == "th"]
    assert heads == ["col"] * 4 + ["row"] * 4
    assert {"scenario", "reset", "add", "begins ahead of reset, returns"} <= set(read.texts)
    assert str(failure).partition("\n")[0] in read.texts
    assert any(text == str(failure.story) for text in read.texts)


def test_a_drawing_is_one_file_in_which_all_is_escaped() -> None:
    """P8: what others wrote is text, nothing is loaded from elsewhere, and no script runs."""
    evil = "</title><script>alert(1)</script>\x1b"
    place = Place(f"{evil}.py", 1, f"f{evil}", f'"{evil}')
    story = Story((turn(1, evil, place=place, end=f"raises {evil}"),), ((evil, place),))
    text = page(story, f"{evil}\n{evil}")
    read = Reader(text)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not {"src", "href", "onclick"} & {name for _, found in read.tags for name in found}
    assert "url(" not in text
    assert "http" not in text


def test_a_drawing_shows_jumps_gaps_and_who_waits() -> None:
    """P8: the same as the text does, and the text too."""
    read = Reader(page(TOLD, "it fails"))
    texts = "\n".join(read.texts)
    assert "at 60 s" in read.texts
    assert {"still waits here", "has not begun"} <= set(read.texts)
    assert str(TOLD) in texts
    many = Story(tuple(turn(number, "ab"[number % 2]) for number in range(1, 3001)), ())
    drawn = page(many, "it fails")
    assert drawn.count("goes on</span>") == 2000
    assert drawn.count("1000 turns left out here") == 2


@pytest.mark.parametrize("ask", [explore, partial(replay, decisions=())])
def test_a_trace_that_cannot_be_written_is_refused(backend: str, ask: Any, tmp_path: Path) -> None:
    """P8: before anything runs: no path, a folder, or a folder that does not exist."""
    runs: list[int] = []

    async def scenario() -> None:
        runs.append(1)

    for wrong in (True, b"run.html", 3):
        with pytest.raises(TypeError, match="trace must be the path of a file to write, not"):
            ask(scenario, backend=backend, trace=wrong)
    with pytest.raises(ValueError, match=r"a file to write, but .* is a folder"):
        ask(scenario, backend=backend, trace=tmp_path)
    with pytest.raises(ValueError, match="trace must be in a folder that exists"):
        ask(scenario, backend=backend, trace=str(tmp_path / "none" / "run.html"))
    assert runs == []


def test_nothing_is_drawn_of_what_does_not_fail(backend: str, tmp_path: Path) -> None:
    """P8: a file is written for a failure only."""
    explore(checkpoint, backend=backend, trace=tmp_path / "run.html")
    replay(checkpoint, backend=backend, decisions=(), trace=tmp_path / "run.html")
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_that_fails_hides_no_failure(backend: str, tmp_path: Path) -> None:
    """P8: that it can't be written is noted on what the scenario raised."""
    folder = tmp_path / "gone"
    folder.mkdir()

    async def scenario() -> None:
        if folder.exists():
            folder.rmdir()
        raise LookupError

    failure = failure_of(scenario, backend, trace=folder / "run.html")
    assert failure.__notes__[0].startswith("its story could not be drawn: ")


def pickled(failure: ScheduleFailure) -> ScheduleFailure:
    """Make a copy as another process gets it."""
    given: ScheduleFailure = pickle.loads(pickle.dumps(failure))  # noqa: S301  our own bytes
    return given


class Refusing(Exception):
    """Takes no notes, and has one of a strange kind."""

    def __init__(self, *notes: object) -> None:
        super().__init__()
        self.__notes__: Any = list(notes) or "none"


@pytest.mark.parametrize("notes", [(), (1, "mine")])
def test_notes_that_are_refused_hide_no_failure(
    notes: tuple[object, ...], backend: str, tmp_path: Path
) -> None:
    """P8: what the scenario raised is raised; a note of another kind stays as it is."""
    raised = Refusing(*notes)

    async def scenario() -> None:
        raise raised

    for _ in range(2):
        with pytest.raises(Refusing) as found:
            replay(scenario, backend=backend, decisions=(), trace=tmp_path / "run.html")
        assert found.value is raised
    assert list(raised.__notes__)[: len(notes)] == list(notes)
    assert (tmp_path / "run.html").exists()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_failure_survives_copying(
    copied: Callable[[ScheduleFailure], ScheduleFailure], backend: str
) -> None:
    """P8: with its story, and through pickling, so that processes can explore."""
    failure = failure_of(lost_update, backend)
    other = copied(failure)
    assert other is not failure
    assert (str(other), other.story, other.args[:4]) == (
        str(failure),
        failure.story,
        failure.args[:4],
    )


def test_a_folder_that_is_gone_hides_no_failure(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: where there is no working directory, paths are told whole."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    failure = failure_of(lost_update, backend)
    assert failure.story is not None
    assert f"  {__file__}:" in str(failure.story)
