"""The SQLite transport: where a group begins, and begins again (Y5)."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    Connection,
    GroupSurvey,
    LeaseLost,
    LogFull,
    LogSurvey,
    MemberSurvey,
    Noted,
    Postponed,
    Record,
    Replayed,
    Room,
    SqliteTransport,
    Standing,
    Start,
    StartTrimmed,
)
from flexiflow.extras.durable._sqlite import connection as connection_module
from flexiflow.extras.durable._sqlite import groups, starts
from flexiflow.extras.durable._sqlite import schedule as schedule_module
from tests.durable.sqlite.files import (
    FAILURE,
    Clock,
    batch,
    leased,
    one_lease,
    run_sql,
    runner_of,
    worker,
)
from tests.durable.sqlite.former import write_former

pytestmark = pytest.mark.same_everywhere


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file."""
    return tmp_path / "events.db"


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay read the logs in small pages."""
    monkeypatch.setattr(starts, "_PAGE", 3)
    monkeypatch.setattr(starts, "_LOG", 1)


async def given(connection: Connection, start: Start, group: str = "g") -> str:
    """Begin where it is said, and return the bodies that are given there."""
    lease = await leased(connection, worker()._replace(group=group, start=start))
    return "".join(each.body.decode() for each in await lease.receive(Room(99)))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("oldest", "bcde"),
        ("new", ""),
        (("2",), "cde"),
        (("5",), ""),
        (0.0, "bcde"),
        (1_000_020.0, "de"),
        (1_000_021, "e"),
        (2e9, ""),
    ],
)
async def test_a_group_begins_where_its_first_member_says(
    path: Path, clock: Clock, start: Start, expected: str
) -> None:
    """Y5: at a place of the log, or a time; what later members say is ignored."""
    async with SqliteTransport(path, max_length=4).connect() as connection:
        for number, bodies in enumerate(("abc", "d", "e"), 1):
            await connection.store(batch(number, *bodies))
            clock.now += 20
        assert await given(connection, start) == expected
        other = worker("b")._replace(start="oldest")
        lease = await leased(connection, other)
        assert await lease.receive(Room(9)) == []


@pytest.mark.parametrize(
    ("start", "expected"), [(1_000_000.0, "bcd"), (1_000_011.0, "bcd"), (1_000_041.0, "d")]
)
async def test_a_time_passes_nothing_over_after_the_clock_was_set_back(
    path: Path, clock: Clock, start: float, expected: str
) -> None:
    """Y5: the first one in the log is found that is as late; some after it may be earlier."""
    async with SqliteTransport(path).connect() as connection:
        for number, (body, now) in enumerate(zip("abcd", (-9, 40, 10, 50), strict=True), 1):
            clock.now = 1_000_000.0 + now
            await connection.store(batch(number, body))
        assert await given(connection, start) == expected


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (("1",), r"a position for each of the 2 partitions, not \('1',\)"),
        (("0", "x"), "position of partition 1 must be a number of at most 2, as .* not 'x'"),
        (("3", "0"), "position of partition 0 must be a number of at most 2, as .* not '3'"),
        (("9" * 19, "0"), "position of partition 0 must be a number of at most 2"),
        ("newest", "must be 'oldest', 'new', a time, or a position .*, not 'newest'"),
    ],
)
async def test_a_position_must_be_one(path: Path, start: Any, told: str) -> None:
    """Y5: of each partition, and there; the group is not made, and one that is there goes on."""
    async with SqliteTransport(path, partitions=2).connect() as connection:
        for number, key in enumerate("kl", 1):
            await connection.store(batch(number, "a", "b", key=key))
        with pytest.raises(ValueError, match=told):
            await connection.join(worker()._replace(start=start))
        assert await connection.groups() == []
        lease = await leased(connection, worker())
        with pytest.raises(ValueError, match=told):
            await connection.replay("g", start)
        assert len(await lease.receive(Room(9))) == 2
        with pytest.raises(ValueError, match="there is no group 'h'"):
            await connection.replay("h", "oldest")


async def test_a_start_that_was_trimmed_is_refused(path: Path) -> None:
    """Y5: where records behind a position were deleted no group begins; one begins again there."""
    async with SqliteTransport(path, max_length=2).connect() as connection:
        await connection.store(batch(1, "a", "b"))
        await connection.store(batch(2, "c", "d"))
        with pytest.raises(StartTrimmed, match="can't begin behind position 1 of partition 0: ev"):
            await connection.join(worker()._replace(start=("1",)))
        assert await connection.groups() == []
        lease = await leased(connection, worker()._replace(start="new"))
        assert await connection.replay("g", ("1",)) == Replayed(("2",), is_complete=False)
        with pytest.raises(LeaseLost):
            await lease.receive(Room(1))
        assert await given(connection, "new") == "cd"
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


@pytest.mark.parametrize(
    ("since", "is_complete"),
    [("oldest", True), (("1",), False), (0.0, False), (1_000_001.0, True), (1_000_011.0, True)],
)
async def test_it_tells_whether_all_is_kept(
    path: Path, clock: Clock, since: Start, *, is_complete: bool
) -> None:
    """Y5: of all records since then, as far as the transport can know."""
    async with SqliteTransport(path, max_length=2).connect() as connection:
        for number, bodies in enumerate(("ab", "c", "d"), 1):
            await connection.store(batch(number, *bodies))
            clock.now += 10
        await connection.join(worker()._replace(start="new"))
        replayed = await connection.replay("g", since)
        assert replayed.is_complete is is_complete


async def test_what_has_no_time_was_stored_before_it_was_deleted(path: Path, clock: Clock) -> None:
    """X16, Y5: that is all that is known; to set the clock back makes nothing of it earlier."""
    write_former(path, 2)
    async with SqliteTransport(path, max_length=6).connect() as connection:
        told = list[bool]()
        for number in (8, 9):
            await connection.forget("g")
            await connection.store(batch(number, "a"))
            await connection.join(worker()._replace(start="new"))
            told += [(await connection.replay("g", 1e6 + later)).is_complete for later in (0, 1)]
            clock.now -= 50
    assert told == [False, True, False, True]


async def test_a_number_of_a_replay_never_comes_again(path: Path, clock: Clock) -> None:
    """Y5: it grows with each replay, and with each new group of the name, whatever the clock is."""
    numbers = list[int]()
    async with SqliteTransport(path).connect() as connection:
        for later in (0, 0, 1, -1, -2):
            clock.now += later
            for act in (connection.forget("g"), connection.replay("g", "oldest")):
                await act
                lease = await leased(connection, worker())
                [group] = (await connection.survey()).groups
                assert group[-1] == lease.replay
                numbers.append(lease.replay)
    assert numbers[0] == 10**12
    assert numbers == sorted(set(numbers))


async def test_what_is_deleted_later_is_missed(path: Path) -> None:
    """Y5, X6: what is deleted before a group begins again is no miss, what is deleted after is."""
    async with one_lease(path, *"abcdef") as (connection, lease):
        await lease.receive(Room(9))
        run_sql(path, "DELETE FROM records WHERE id IN (2, 3, 6)")
        assert await connection.replay("g", "oldest") == Replayed(("0",), is_complete=False)
        assert await connection.standing("g") == Standing(0, 3, 0, 0)
        run_sql(path, "DELETE FROM records WHERE id = 5")
        assert await given(connection, "new") == "ad"
        assert await connection.standing("g") == Standing(2, 0, 1, 0)
        assert run_sql(path, "SELECT * FROM passed") == []


@pytest.mark.parametrize("is_new", [True, False])
async def test_the_file_is_locked_as_long_for_a_long_log_as_for_a_short_one(
    path: Path, *, is_new: bool
) -> None:
    """Y5, X9: other processes can write while a group that begins at a time looks for its place."""
    files = [(path.with_name(f"{length}.db"), length) for length in (3, 300)]
    short, long = [await steps_of_a_start(*each, is_new=is_new) for each in files]
    assert 0 < short == long


async def steps_of_a_start(path: Path, length: int, *, is_new: bool) -> int:
    """Return how many steps SQLite takes while the file is locked."""
    steps = list[bool]()
    is_writing = False

    def note(statement: str) -> None:
        nonlocal is_writing
        is_writing = statement == "BEGIN IMMEDIATE" or (is_writing and statement != "COMMIT")

    async with one_lease(path, *map(str, range(length))) as (connection, _):
        database = await runner_of(connection).read(lambda db: db)
        database.set_trace_callback(note)
        database.set_progress_handler(lambda: steps.append(is_writing), 1)
        if is_new:
            await connection.join(worker("a", "h")._replace(start=9e9))
        else:
            await connection.replay("g", 9e9)
        database.set_progress_handler(None, 0)
    return sum(steps)


@pytest.mark.parametrize(("start", "expected"), [(0.0, "cdef"), (1e6 + 5, "ef"), (1e6 + 9, "")])
async def test_what_happens_while_a_new_group_looks_at_the_log(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, start: float, expected: str
) -> None:
    """Y5: no record is passed over that is stored meanwhile; what is deleted is not missed."""
    async with SqliteTransport(path, max_length=4).connect() as connection:
        for number, body in enumerate("abcd", 1):
            await connection.store(batch(number, body))
        clock.now += 5
        acts: list[Any] = [
            lambda: connection.store(batch(5, "e")),
            lambda: connection.store(batch(6, "f")),
        ]

        async def look_for(jobs: JobRunner, time: float) -> Any:
            found = await starts.look_for(jobs, time)
            while acts:
                await acts.pop(0)()
            return found

        monkeypatch.setattr(connection_module, "look_for", look_for)
        assert await given(connection, start) == expected
        assert await connection.standing("g") == Standing(len(expected), 0, 0, 0)


async def test_a_group_that_is_forgotten_as_one_joins_is_made_anew(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: at the time that its member says."""
    async with one_lease(path, "a", "b") as (connection, _):
        clock.now += 1
        await connection.store(batch(2, "c"))
        join = groups.join

        def forget(db: sqlite3.Connection, *arguments: Any) -> Any:
            monkeypatch.undo()
            groups.forget(db, "g")
            return join(db, *arguments)

        monkeypatch.setattr(groups, "join", forget)
        lease = await leased(connection, worker("b")._replace(start=1e6 + 1))
        assert [each.body for each in await lease.receive(Room(9))] == [b"c"]


@pytest.mark.parametrize(
    ("since", "after", "is_complete", "expected"),
    [
        ("oldest", "1", True, "bcdefgah"),
        (("0",), "1", False, "bcdefgah"),
        (("5",), "5", True, "fgabh"),
    ],
)
async def test_what_happens_while_a_replay_looks_at_the_log(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    since: Start,
    after: str,
    *,
    is_complete: bool,
    expected: str,
) -> None:
    """Y5: records are deleted to make room, redriven, and due; then the group is forgotten."""
    monkeypatch.setattr(schedule_module, "_MOST", 1)
    async with one_lease(path, *"abcde", max_length=6) as (connection, lease):
        await lease.receive(Room(9))
        await lease.settle([Buried(each, 1, 1, FAILURE) for each in "12"])
        await lease.settle(list(map(Acknowledged, "345")))
        acts: list[Any] = [
            lambda: connection.store(batch(2, "f", "g")),
            lambda: connection.redrive("g", ["1", "2"]),
            lambda: connection.schedule(connection.new_ticket(None), Record(b"h"), at=1.0),
        ]

        async def scan(jobs: JobRunner, since: Start) -> starts.Scan:
            found = await starts.scan(jobs, since)
            while acts:
                await acts.pop(0)()
            return found

        monkeypatch.setattr(connection_module, "scan", scan)
        replayed = await connection.replay("g", since)
        assert replayed == Replayed((after,), is_complete=is_complete)
        assert await given(connection, "new") == expected
        acts.append(lambda: connection.forget("g"))
        with pytest.raises(ValueError, match="there is no group 'g'"):
            await connection.replay("g", since)


async def test_a_stale_lease_settles_nothing_of_what_is_given_anew(path: Path) -> None:
    """Y5: what a worker was given before the group began again is not what another has now."""
    async with one_lease(path, "a") as (connection, stale):
        await stale.receive(Room(1))
        await connection.replay("g", "oldest")
        lease = await leased(connection, worker("b"))
        await lease.receive(Room(1))
        for outcome in (Acknowledged("1"), Noted("1", 7, 0)):
            with pytest.raises(LeaseLost):
                await stale.settle([outcome])
        await lease.release()
        later = await leased(connection, worker("b"))
        [again] = await later.receive(Room(1))
        assert (again.attempts, again.deliveries) == (0, 1)
        assert later.replay > stale.replay


async def test_what_is_redriven_keeps_its_place_through_all(path: Path) -> None:
    """Y5: a copy that has waited and was buried again is still one of the first record."""
    async with one_lease(path, "a", "b") as (connection, lease):
        for position in ("1", "3", "4"):
            held = [each.position for each in await lease.receive(Room(9))]
            assert position in held
            await lease.settle([Acknowledged(each) for each in held if each != position])
            if position == "3":
                await lease.settle([Postponed("3", 1, 0, 0.0, None)])
                await lease.receive(Room(9))
            await lease.settle([Buried(position, 1, 1, FAILURE)])
            [letter] = await connection.dead_letters("g")
            await connection.redrive("g", [letter.id])
        assert run_sql(path, "SELECT id, origin FROM records WHERE id > 2") == [
            (3, 1),
            (4, 1),
            (5, 1),
        ]
        await connection.replay("g", ("1",))
        assert await connection.standing("g") == Standing(0, 2, 0, 0)
        await connection.replay("g", "oldest")
        assert await connection.standing("g") == Standing(0, 2, 0, 0)
        assert await given(connection, "new") == "ab"


async def test_a_copy_that_is_pending_behind_makes_no_room(path: Path) -> None:
    """Y5, X5: what is given anew is not deleted."""
    async with one_lease(path, "a", "b", max_length=3) as (connection, lease):
        await lease.receive(Room(2))
        await lease.settle([Buried("1", 1, 1, FAILURE), Acknowledged("2")])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        await lease.receive(Room(1))
        await connection.replay("g", ("1",))
        await connection.store(batch(2, "c"))
        with pytest.raises(LogFull):
            await connection.store(batch(3, "d"))
        assert await given(connection, "new") == "abc"


@pytest.mark.parametrize("partitions", [None, 1])
async def test_a_line_goes_on_whose_first_is_given_anew(path: Path, partitions: int | None) -> None:
    """Y5: a copy that waits behind what is given anew is due at once; it would wait for ever."""
    async with one_lease(path, "a", "b", partitions=partitions) as (connection, lease):
        await lease.receive(Room(2))
        await lease.settle([Buried("1", 1, 1, FAILURE)])
        await connection.redrive("g", ["1"])
        await lease.receive(Room(1))
        await lease.settle([Postponed("2", 1, 0, 5.0, "k"), Postponed("3", 1, 0, None, "k")])
        await connection.replay("g", ("1",))
        assert sorted(await given(connection, "new")) == ["a", "b"]
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


async def test_dead_letters_are_discarded(path: Path) -> None:
    """Y6: for good, those of the group alone; ids of none are ignored."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(2))
        await lease.settle([Buried(each, 1, 1, FAILURE) for each in "12"])
        assert await connection.discard("h", ["1"]) == 0
        assert [await connection.discard("g", ["1", "77", "no id"]) for _ in "ab"] == [1, 0]
        assert [each.id for each in await connection.dead_letters("g")] == ["2"]


async def test_a_survey_tells_all_that_there_is(path: Path, clock: Clock) -> None:
    """Y6: logs, groups with their members, how far they are, and how old what they have left is."""
    async with SqliteTransport(path).connect() as connection:
        nothing = await connection.survey()
        assert nothing[:3] == (clock.now, (LogSurvey(0, None, 0, None),), ())
        await connection.store(batch(1, "a", "b", "c"))
        lease = await leased(connection, worker())
        await lease.receive(Room(2))
        clock.now += 2
        await connection.schedule(connection.new_ticket(None), batch(1, "d").records[0], delay=9)
        await connection.store(batch(2, "e"))
        await connection.join(worker("0"))
        await connection.join(worker("a", "e")._replace(start="new"))
        await lease.settle([Buried("1", 1, 1, FAILURE), Postponed("2", 1, 0, 5.0, None)])
        clock.now += 9
        survey = await connection.survey()
        now = 1_000_000.0
        assert survey.size is not None
        assert survey.size > (nothing.size or 0) / 2 > 0
        assert survey[:3] == (
            now + 11,
            (LogSurvey(5, now, 0, None),),
            (
                GroupSurvey(
                    "e",
                    (MemberSurvey("a", ("*",), now + 12),),
                    (Standing(0, 1, 0, 0),),
                    now + 11,
                    1_000_002_000_000,
                ),
                GroupSurvey(
                    "g",
                    (MemberSurvey("0", ("*",), now + 12),),
                    (Standing(0, 3, 0, 1, 1),),
                    now,
                    1_000_000_000_000,
                ),
            ),
        )


@pytest.mark.parametrize("version", [1, 2])
async def test_what_former_releases_wrote_has_no_time_nor_origin(path: Path, version: int) -> None:
    """X16, Y5: it counts as later than any time; what they have redriven is not passed over."""
    write_former(path, version)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE records SET only_group = 'g' WHERE id = 6")
    async with SqliteTransport(path).connect() as connection:
        found, _ = await connection.tail(["0"], 9, 0)
        assert {each.time for each in found} == {None}
        await connection.store(batch(8, "new"))
        at_a_time = await given(connection, 1e12, "h")
        assert at_a_time == await given(connection, "oldest", "i") != "new"
        [letter] = await connection.dead_letters("g")
        await connection.replay("g", ("1",))
        assert await connection.standing("g") == Standing(0, 6, 2, 1)
        assert "body6" in await given(connection, "new")
        assert await connection.redrive("g", [letter.id]) == 1
        survey = await connection.survey()
        assert (survey.logs[0].oldest, survey.groups[0].oldest) == (None, None)
