"""`check_transport` (P1): what it refuses, what it finds, and how it tells."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from itertools import count
from typing import Any

import anyio
import pytest

from flexiflow.extras.durable import (
    Batch,
    Delivery,
    Failure,
    Member,
    MemoryTransport,
    Record,
    Room,
    ScheduledRecord,
    Standing,
    Stored,
)
from flexiflow.testing import ContractViolation, check_transport, replay
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._transport import subject
from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT
from flexiflow.testing._transport.desk import open_desk
from flexiflow.testing._transport.desk_calls import Broken, Inconclusive, Means
from flexiflow.testing._transport.desk_judgements import check_standing, complain_of_delivery
from flexiflow.testing._transport.desk_log import LENGTH
from flexiflow.testing._transport.holds import Grave, Hold, Item, Letter, Span, Tenure
from flexiflow.testing._transport.model import GroupModel
from flexiflow.testing._transport.part import Part
from flexiflow.testing._transport.plans import Offset, Plan, check_listed, check_places
from flexiflow.testing._transport.subject import TransportSubject
from tests.durable.transports import Tried, damage_memory, each_transport, insert_memory
from tests.helpers import by_turns

QUICK: dict[str, Any] = {"lease": None, "examples": 1, "scale": 0.001, "seed": 1}
CLAUSES = {clause.identifier: clause for clause in TRANSPORT_CONTRACT}


# What differs between the backends, the tests of each transport try on both.
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("opened", "backend"), by_turns(each for each in each_transport() if each.id != "memory")
)
def test_a_transport_keeps_the_contract(
    backend: str, opened: Callable[[], AbstractContextManager[Tried]]
) -> None:
    """X1 to X8, X10 to X15: nothing is found wrong with ours; properties try the one in memory."""
    with opened() as tried:
        check_transport(tried.factory, backend=backend, seed=1, **tried.terms)


@asynccontextmanager
async def opened_memory() -> AsyncGenerator[MemoryTransport]:
    """Give a transport from within a block."""
    yield MemoryTransport()


@pytest.mark.measured
def test_a_task_that_is_left_behind_is_found() -> None:
    """P1: On asyncio, where anyone can leave one."""
    tasks: list[asyncio.Task[None]] = []
    opened = count()

    @asynccontextmanager
    async def factory() -> AsyncGenerator[MemoryTransport]:
        # The first one is only looked at.
        if next(opened):
            tasks.append(asyncio.create_task(anyio.sleep_forever()))
        yield MemoryTransport()

    [verdict] = examine(TransportSubject, [CLAUSES["X2"]], factory, backend="asyncio", **QUICK)
    assert tasks
    assert verdict.violation is not None
    assert "tasks are left behind" in verdict.violation.complaint


@pytest.mark.same_everywhere
def test_a_factory_may_be_a_context_manager(backend: str) -> None:
    """P1: a factory can clean up after its transport, and what that lacks is unchecked."""
    terms = {**QUICK, "examples": 10}
    verdicts = [
        *examine(TransportSubject, TRANSPORT_CONTRACT, opened_memory, backend=backend, **terms)
    ]
    assert [verdict.violation for verdict in verdicts] == [None] * len(TRANSPORT_CONTRACT)
    assert {verdict.clause.identifier: verdict.lacks for verdict in verdicts if verdict.lacks} == {
        "X5": ("max_length",),
        "X6": ("damage", "restart"),
        "X13": ("empty",),
        "X14": ("max_event_bytes",),
    }


def limited_memory(**options: Any) -> MemoryTransport:
    """Make a transport with any options."""
    return MemoryTransport(**options)


def test_a_factory_of_any_options_offers_all_of_them(backend: str) -> None:
    """P1: what it makes can be limited, so that the clauses on limits are checked."""
    [verdict] = examine(
        TransportSubject,
        [CLAUSES["X14"]],
        limited_memory,
        backend=backend,
        **QUICK,
    )
    assert (verdict.lacks, verdict.violation) == ((), None)


async def restart(_: object) -> None:
    """Restart nothing."""


class Plain:
    """Does what the transport in memory does; its own connection, too."""

    def __init__(self) -> None:
        self.memory = MemoryTransport()

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Open it."""
        async with self.memory.connect() as self.connection:
            yield self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


class Twice(Plain):
    """Stores each batch twice."""

    async def store(self, batch: Batch) -> None:
        """Store a batch."""
        await self.connection.store(batch)
        await self.connection.store(batch._replace(producer="else"))


class Never(Plain):
    """Stores nothing."""

    async def store(self, batch: Batch) -> None:
        """Leave a batch alone."""


class Backwards(Plain):
    """Stores the last record of a batch first."""

    async def store(self, batch: Batch) -> None:
        """Store a batch."""
        await self.connection.store(batch._replace(records=batch.records[::-1]))


class Dreaming(Plain):
    """Tells of a group that is not there."""

    async def standing(self, _: str) -> Standing:
        """Tell how far a group is."""
        return Standing(1, 0, 0, 0)


class Shy:
    """A lease that gives nothing unless it is waited for first."""

    def __init__(self, lease: Any) -> None:
        self.lease = lease
        self.has_waited = False

    async def wait(self, seconds: float) -> None:
        """Wait."""
        self.has_waited = True

    async def receive(self, room: Room) -> Sequence[Delivery]:
        """Be given records."""
        is_ready, self.has_waited = self.has_waited, False
        given: Sequence[Delivery] = await self.lease.receive(room) if is_ready else ()
        return given

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lease, name)


class Slow(Plain):
    """Has what was stored only a while after that, as a server may."""

    async def acquire(self, member: Member, partition: int) -> Any:
        """Lease a partition."""
        lease = await self.connection.acquire(member, partition)
        return None if lease is None else Shy(lease)


class Broke(Plain):
    """Fails by an exception that is no failure of a transport."""

    async def join(self, _: Member) -> None:
        """Fail."""
        raise ZeroDivisionError


class Stuck(Plain):
    """Never comes back."""

    async def join(self, _: Member) -> None:
        """Wait for ever."""
        await anyio.sleep_forever()


def run_shown(violation: ContractViolation) -> None:
    """Run the program that a violation shows."""
    assert "flexiflow.testing._" not in violation.counterexample
    program = compile(violation.counterexample, "shown", "exec")
    exec(program, {"__name__": "__main__"})  # noqa: S102 - that is its point


@pytest.mark.parametrize("lease", [None, 5.0])
def test_what_is_shown_of_a_script_can_be_run(backend: str, lease: float | None) -> None:
    """P1: the program fails by itself, in virtual time or in real."""
    terms: dict[str, Any] = {**QUICK, "lease": lease, "damage": damage_memory, "restart": restart}
    [verdict] = examine(TransportSubject, [CLAUSES["X2"]], Twice, backend=backend, **terms)
    violation = verdict.violation
    assert violation is not None
    assert (violation.clause, violation.operations) == ("X2", 1)
    assert violation.complaint == "record p1.0 was stored again"
    assert "p stores batch 1, p1.0: None" in violation.history
    for line in (
        "from tests.testing.test_transport import Twice as factory",
        "from tests.testing.test_transport import restart as restart",
        "from tests.durable.transports import damage_memory as damage",
        f"open_transport(Means(factory, {lease or 10.0}, restart=restart, damage=damage)",
    ):
        assert line in violation.counterexample
    with pytest.raises(AssertionError, match=r"X2 does not hold: .*p1\.0 was stored"):
        run_shown(violation)


def test_what_is_shown_of_a_scenario_can_be_run(backend: str) -> None:
    """P1: what the universal suite finds is told by its name, and the program fails by itself."""
    [verdict] = examine(TransportSubject, [CLAUSES["X8"]], Twice, backend=backend, **QUICK)
    violation = verdict.violation
    assert violation is not None
    assert violation.complaint.startswith("sends_nothing_back: stored were {'n.")
    assert (violation.operations, violation.history) == (1, "")
    assert 'play_scenario("sends_nothing_back", ' in violation.counterexample
    with pytest.raises(AssertionError, match="X8 does not hold: stored were"):
        run_shown(violation)


class Closed(Plain):
    """Can't be opened once it holds anything."""

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Open it."""
        if self.memory._state.logs[0].records:
            raise ZeroDivisionError
        async with super().connect():
            yield self


def test_a_transport_that_no_bridge_can_open_again_is_found(backend: str) -> None:
    """X10: what was refused could never be published again."""
    [verdict] = examine(TransportSubject, [CLAUSES["X10"]], Closed, backend=backend, **QUICK)
    assert verdict.violation is not None
    assert verdict.violation.complaint == (
        "refuses_until_it_is_open_again: the program was left by ZeroDivisionError: "
    )


@pytest.mark.unmeasured
def test_what_is_wrong_is_raised(backend: str) -> None:
    """P1: the first clause in order that does not hold."""
    with pytest.raises(ContractViolation) as caught:
        check_transport(Twice, backend=backend, **QUICK)
    assert caught.value.clause == "X2"


def test_a_transport_may_take_its_time(backend: str) -> None:
    """X1: a record need not be given at once to a worker that does not wait."""
    [verdict] = examine(TransportSubject, [CLAUSES["X2"]], Slow, backend=backend, **QUICK)
    assert verdict.violation is None


def test_whatever_leaves_a_scenario_is_told(backend: str) -> None:
    """P1: what a transport raises that no clause knows is a violation."""
    [verdict] = examine(TransportSubject, [CLAUSES["X8"]], Broke, backend=backend, **QUICK)
    assert verdict.violation is not None
    assert verdict.violation.complaint == (
        "sends_nothing_back: the program was left by ZeroDivisionError: "
    )


def test_what_does_not_end_is_told(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: a script that is stuck breaks the clause, in real time too."""
    monkeypatch.setattr(subject, "_PATIENCE", 0.2)
    terms: dict[str, Any] = {**QUICK, "lease": 60.0}
    [verdict] = examine(TransportSubject, [CLAUSES["X3"]], Stuck, backend=backend, **terms)
    assert verdict.violation is not None
    assert verdict.violation.complaint == "it had not ended after 0.2 seconds"


def test_a_machine_that_is_busy_breaks_nothing(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: where a lease may have run out by itself, nothing is concluded."""

    async def play(*_: object) -> None:
        raise Inconclusive

    monkeypatch.setattr(subject.TransportSubject, "_play", play)
    [verdict] = examine(TransportSubject, [CLAUSES["X2"]], Twice, backend=backend, **QUICK)
    assert verdict.violation is None


async def test_time_that_passes_is_noticed() -> None:
    """P1: after a call that took longer than a lease there is no telling whose fault it is."""
    async with open_desk(Means(MemoryTransport, 1e-9)) as desk:
        with pytest.raises(Inconclusive):
            await desk.receive("a", 1)


def test_time_that_passes_between_calls_is_noticed(backend: str) -> None:
    """P1: a lease that was not renewed for so long may have run out by itself."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.enter("a")
            await anyio.sleep(10.0)
            with pytest.raises(Inconclusive):
                await desk.receive("a", 1)

    replay(scenario, backend=backend, decisions=())


async def test_a_step_that_can_not_be_done_is_left_out() -> None:
    """P1: scripts are drawn without regard to what there is."""
    async with open_desk(Means(MemoryTransport, 60.0), partitions=1) as desk:
        await desk.receive("a", 1)
        await desk.cancel("b", 1, 1)
        await desk.clash("b")
        await desk.again("p")
        await desk.settle("b", "acknowledge", 0)
        await desk.repeat("b")
        await desk.renew("b")
        await desk.follow("b", "k")
        await desk.damage(0, 0)
        await desk.insert(0, 1)
        await desk.outlast()
        await desk.schedule_again(0)
        await desk.unschedule(0)
        await desk.discard("g", 0)
        await desk.finish()


async def test_each_step_can_be_done() -> None:
    """P1: whatever is done, the transport in memory holds."""
    async with open_desk(Means(MemoryTransport, 60.0, damage=damage_memory)) as desk:
        await desk.store("p", None, None, None, "k")
        await desk.receive("a", 3)
        await desk.settle("a", "bury", 0, 1)
        await desk.redrive("g", 1, 0)
        await desk.cancel("a", 0, 1)
        await desk.clash("a")
        await desk.cancel("a", 0, 1, "leave")
        await desk.look("g")
        for _ in range(2):
            await desk.damage(0, 5)
        # Where something is missing it is open where a group begins.
        await desk.begin("c", "oldest", 0)
        await desk.replay("g", "oldest", 0)
        await desk.look("g")
        await desk.survey()
        await desk._calls.keep_alive(age=1_000)
        await desk.finish()
        assert desk._calls.history[-1].startswith("g lists dead letters")


@pytest.mark.parametrize(
    ("faulty", "clause", "told"),
    [
        (Never, "X1", "p1.0, p1.1 was stored; an onlooker sees nothing"),
        (Backwards, "X4", "p1.0, p1.1 was stored in another order: p1.1, p1.0"),
        (Dreaming, "X1", "a group that is not there stands at Standing(pending=1,"),
        (Twice, "X2", "record p1.0 was stored again"),
    ],
)
async def test_a_fault_is_told(faulty: type[Plain], clause: str, told: str) -> None:
    """P1: the complaint says what was done, and what came of it."""
    async with open_desk(Means(faulty, 60.0)) as desk:
        with pytest.raises(Broken) as broken:
            await desk.look("g")
            await desk.store("p", None, None)
    assert broken.value.clause == clause
    assert broken.value.complaint.startswith(told)
    assert str(broken.value) == f"{clause}: {broken.value.complaint}"


def given(body: bytes, group: str | None = None) -> Delivery:
    """Make a delivery."""
    return Delivery("1", body, group, 0, 1, is_suspect=False)


@pytest.mark.parametrize(
    ("came", "clause", "told"),
    [
        ([given(b"held")], "X1", "b was given record held, which a holds"),
        ([given(b"done")], "X1", "b was given record done again, though it is settled"),
        ([given(b"new"), given(b"new")], "X1", "b was given record new twice"),
        ([given(b"new", "h")], "X3", "b was given record new, redriven to 'h' for 'h'"),
        ([given(b"what")], "X1", "b was given record what, which nobody has stored"),
        ([given(b"new")], "X1", "b asked for all, and was never given record last"),
        ([given(b"last"), given(b"new")], "X4", "b was given last, new, then nothing, which are"),
    ],
)
def test_what_a_worker_should_not_have_been_given(
    came: list[Delivery], clause: str, told: str
) -> None:
    """P1: the complaint tells what is wrong with it."""
    items = [Item(body, None) for body in (b"held", b"done", b"new", b"last")]
    part = Part(items, set(), begun=2, pending={0: Hold(holder=Tenure("a"))}, settled={1})
    offer = part.offer(Tenure("b"), Span(0, 0), Room(3))
    broken = complain_of_delivery(part, "b", came, [], offer)
    assert (broken.clause, broken.complaint[: len(told)]) == (clause, told)


@pytest.mark.parametrize(
    ("standing", "clause", "told"),
    [
        (
            Standing(1, 0, 1, 1),
            "X1",
            "there are 0 pending, a lag of 0, and 0 that wait, not 1 pending",
        ),
        (Standing(0, 0, 3, 1), "X6", "3 count as missed, where 1 were deleted unsettled"),
        (Standing(0, 0, 1, 3), "X3", "there are 1 dead letters, not 3"),
        (Standing(0, 0, 1, 0), "X6", "1 of what was buried is neither a dead letter nor missed"),
        (Standing(0, 0, 1, 1, 1), "X12", "there are 0 pending, a lag of 0, and 0 that wait, not"),
    ],
)
def test_how_far_a_group_should_not_be(standing: Standing, clause: str, told: str) -> None:
    """P1: the complaint tells what is wrong with it."""
    part = Part([Item(b"a", None), Item(b"b", None)], {0, 1}, begun=2, settled={0, 1})
    part.missed, group = [1, 2], GroupModel([part])
    letter = Letter(b"b", Failure("", "", ""), 1, 1)
    group.graves, group.doubtful = [Grave(letter, 0, 1)], [letter]
    with pytest.raises(Broken) as broken:
        check_standing(group, standing, at_end=True)
    assert (broken.value.clause, broken.value.complaint[: len(told)]) == (clause, told)
    # In between, what is gone may not have been noticed.
    check_standing(group, Standing(7, 7, 0, 1), at_end=False)
    check_standing(group, Standing(0, 0, 2, 0), at_end=True)


def test_what_has_waited_outlives_the_log(backend: str) -> None:
    """X12: What is deleted from the log is missed only if it has not waited by then."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0, damage=damage_memory)) as desk:
            await desk.store("p", None, None, None)
            await desk.receive("a", 2)
            await desk.settle("a", "postpone", 0)
            await desk.damage(0, 0)
            await desk.damage(0, 1)
            await desk.settle("a", "postpone", 0)
            await desk.finish()
            assert desk._calls.history[-3].endswith(
                "Standing(pending=0, lag=0, missed=1, dead=0, waiting=0)"
            )

    replay(scenario, backend=backend, decisions=())


def test_what_is_cancelled_may_have_taken_what_others_held(backend: str) -> None:
    """P1: nobody can tell what a worker that had overslept has still, so it is gone."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.store("p", None, None)
            await desk.receive("a", 2)
            await desk.oversleep("a")
            await desk.cancel("b", 0, 1, "leave")
            assert not desk._calls.hands
            await desk.finish()

    replay(scenario, backend=backend, decisions=())


def test_what_is_cancelled_may_have_taken_what_waited(backend: str) -> None:
    """P1, X12: a worker that asks for nothing that waits may be given it, since it may not wait."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.store("p", None, None, None)
            await desk.receive("a", 1)
            await desk.settle("a", "postpone", 0)
            await desk.cancel("a", 2, 2)
            assert desk._calls.history[-3] == "a receives, and is cancelled too late"
            await desk.receive("a", 1, 0, 1_000, 1_000, 0)
            await desk.finish()

    replay(scenario, backend=backend, decisions=())


def test_a_head_that_was_returned_leaves_open_what_is_behind_it(backend: str) -> None:
    """P1: whether it is a head still is nowhere said, so nothing is concluded."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.store("p", "k", "k")
            await desk.receive("a", 2)
            await desk.settle("a", "postpone", 0)
            await desk.receive("a", 1)
            await desk.settle("a", "return", 1)
            with pytest.raises(Inconclusive):
                await desk.settle("a", "queue", 0)

    replay(scenario, backend=backend, decisions=())


def test_what_never_comes_is_told(backend: str) -> None:
    """X12: In the end it is waited for what is delayed, and not for ever."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.store("p", "k")
            await desk.receive("a", 1)
            await desk.settle("a", "acknowledge", 0)
            desk._model.groups["g"].parts[0].waiting[0] = Hold(has_waited=True, key="k")
            with pytest.raises(Broken, match=r"X12: last-g was never given record p1\.0"):
                await desk._drain("last-g", 0)

    replay(scenario, backend=backend, decisions=())


@pytest.mark.parametrize("is_full", [False, True])
def test_the_next_in_line_may_come_only_after_what_is_done(*, is_full: bool) -> None:
    """X12: When a `receive` has settled it, the next is due, for every worker."""
    one, other, key = Tenure("a", is_live=False), Tenure("b"), "k"
    items = [Item(b"1", None), Item(b"2", None), Item(b"3", None)]
    part = Part(items, set(), begun=3)
    part.pending = {0: Hold(holder=one, key=key, has_waited=True, is_done=True)}
    part.waiting = {at: Hold(holder=one, key=key, has_waited=True) for at in (1, 2)}
    part.bury_ghosts(Span(5, 5), other, is_full=is_full)
    offer = part.offer(other, Span(6, 6), Room(3))
    # With the room full it is open whether it has come so far.
    assert (offer.due, offer.maybe) == (([], [1]) if is_full else ([1], []))
    assert (0 in part.pending) is is_full


def break_down() -> MemoryTransport:
    """Make none."""
    raise OSError("no transport today")


def test_what_a_factory_raises_is_all(backend: str) -> None:
    """P1: it breaks no clause, be it at once or later."""
    with pytest.raises(OSError, match="no transport today"):
        check_transport(break_down, backend=backend, **QUICK)
    for clause in ("X2", "X8"):
        # To see whether it makes transports takes two.
        left = [MemoryTransport(), MemoryTransport()]

        def sometimes(left: list[MemoryTransport] = left) -> MemoryTransport:
            return left.pop() if left else break_down()

        with pytest.raises(OSError, match="no transport today"):
            list(examine(TransportSubject, [CLAUSES[clause]], sometimes, backend=backend, **QUICK))


def interrupted() -> MemoryTransport:
    """Be ended by Ctrl-C."""
    raise KeyboardInterrupt


def test_ctrl_c_ends_it(backend: str) -> None:
    """P1: it is nobody's fault."""
    with pytest.raises(KeyboardInterrupt):
        check_transport(interrupted, backend=backend, **QUICK)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"factory": 7}, TypeError, "factory must be callable"),
        ({"factory": list}, TypeError, r"factory must make a transport, .* not \[\]"),
        ({"lease": 0}, ValueError, "lease must be a number above 0, not 0"),
        ({"lease": True}, ValueError, "lease must be a number above 0, not True"),
        ({"lease": "1"}, ValueError, "lease must be a number above 0, not '1'"),
        ({"scale": float("inf")}, ValueError, "scale must be a number above 0, not inf"),
        ({"scale": float("nan")}, ValueError, "scale must be a number above 0, not nan"),
        ({"restart": 7}, TypeError, "restart must be callable with 1 positional argument, not 7"),
        ({"restart": break_down}, TypeError, "restart is called with 1 positional argument"),
        ({"damage": print}, TypeError, "damage must be an async function, not <built-in"),
        ({"examples": 0}, ValueError, "examples must be an int, 1 or more, not 0"),
        ({"seed": -1}, ValueError, "seed must be an int, 0 or more, not -1"),
        ({"backend": "curio"}, ValueError, "backend must be 'asyncio' or 'trio', not 'curio'"),
    ],
)
def test_bad_arguments(wrong: dict[str, Any], error: type[Exception], told: str) -> None:
    """P1: they are refused before anything is tried, in words that tell what would be right."""
    terms: dict[str, Any] = {"factory": MemoryTransport, "backend": "asyncio", **QUICK, **wrong}
    with pytest.raises(error, match=told):
        check_transport(**terms)


async def test_it_can_not_be_called_from_async_code() -> None:
    """P1: it runs event loops of its own."""
    with pytest.raises(RuntimeError):
        check_transport(MemoryTransport, backend="asyncio", **QUICK)


def test_what_is_due_meanwhile_leaves_a_result_open(backend: str) -> None:
    """P1, Y3: whether it came before a call or after that is not known, so nothing is concluded."""

    async def scenario() -> None:
        async with open_desk(Means(MemoryTransport, 10.0)) as desk:
            await desk.schedule("delay", "soon", None)
            await desk.pass_time()
            with pytest.raises(Inconclusive):
                await desk._stay()
            await desk.finish()

    replay(scenario, backend=backend, decisions=())


async def test_a_record_of_unknown_time_is_not_skipped() -> None:
    """P1, Y5: an outsider's record counts as late; one that was deleted may be wanted, too."""
    means = Means(MemoryTransport, 60.0, insert=insert_memory)
    async with open_desk(means, max_length=LENGTH) as desk:
        await desk.store("p", None)
        await desk.insert(0, 10)
        await desk.begin("a", "time", 1)
        await desk.receive("a", 1)
        assert desk._calls.hands["a", 0].held[0][0] == 1
        await desk.settle("a", "acknowledge", 0)
        await desk.begin("c", "new", 0)
        await desk.store("p", *[None] * LENGTH)
        await desk.begin("d", "time", 9)
        await desk.replay("g", "time", 9)
        await desk.finish()


class Unnumbered(Shy):
    """A lease that knows nothing of replays."""

    replay = 0


class Repeating(Plain):
    """Numbers the replays of each group anew."""

    async def acquire(self, member: Member, partition: int) -> Any:
        """Lease a partition."""
        return Unnumbered(await self.connection.acquire(member, partition))


async def test_a_number_of_a_replay_that_comes_again_is_told() -> None:
    """P1, Y5: also where the group was forgotten in between."""
    async with open_desk(Means(Repeating, 60.0)) as desk:
        await desk.enter("a")
        await desk.enter("b")
        await desk.forget("g")
        with pytest.raises(Broken, match=r"^Y5: a is told of the replay 0, and its number is"):
            await desk.enter("a")


class Careless(Plain):
    """Says that it has cancelled what it has not."""

    async def cancel(self, _: str) -> bool:
        """Do nothing."""
        return True


def test_what_chance_seldom_brings_about_is_tried_first(backend: str) -> None:
    """P1: each scene of a clause is tried before scripts are drawn, and one that fails is told."""
    few: dict[str, Any] = {**QUICK, "examples": len(CLAUSES["Y3"].scenes)}
    for factory, is_found in ((MemoryTransport, False), (Careless, True)):
        [verdict] = examine(TransportSubject, [CLAUSES["Y3"]], factory, backend=backend, **few)
        assert (verdict.violation is not None) == is_found
        assert is_found == (verdict.examples < few["examples"])


@pytest.mark.parametrize(("stored", "is_right"), [(None, True), (5, True), (20, False)])
def test_what_is_due_comes_before_what_is_stored_later(
    stored: int | None, *, is_right: bool
) -> None:
    """P1, Y3: a record may come before a scheduled one, unless it was surely stored later."""
    plan = Plan("t", Record(b"s1"), Span(0, 0), Span(9, 9), None, 9.0)
    found = [Stored(0, "1", b"1", None), Stored(0, "2", b"s1", None)]
    with nullcontext() if is_right else pytest.raises(Broken, match=r"^Y3: record s1, .* after it"):
        check_places({b"s1": plan}, found, None if stored is None else Span(stored, stored))


def test_what_is_due_later_comes_later() -> None:
    """P1, Y3: what was scheduled is in the log in the order of the times at which it is due."""
    dues = {b"s1": Span(9, 9), b"s2": Span(5, 5)}
    plans = {each: Plan("t", Record(each), Span(0, 0), due, None, 9) for each, due in dues.items()}
    found = [Stored(0, str(at), body, None) for at, body in enumerate(plans, 1)]
    with pytest.raises(Broken, match=r"^Y3: record s2, .* is due before record s1, .* after it"):
        check_places(plans, found, None)


def test_what_is_scheduled_is_listed_in_order() -> None:
    """P1, Y3: by its time, and what has the same time by its ticket."""
    found = [ScheduledRecord(ticket, 0, 5.0, Record(b"s1")) for ticket in ("b", "a")]
    with pytest.raises(
        Broken, match=r"^Y3: what is scheduled is listed in the order \[\(5.0, 'b'\)"
    ):
        check_listed([], found, Offset(0.0, 0.0), Span(0, 0))


def test_what_waited_behind_a_dropped_record_is_due() -> None:
    """P1, Y5: else a copy that waits would never be given."""
    tenure, key, span = Tenure("a", is_live=False), "k", Span(5, 5)
    items = [Item(b"1", None), Item(b"2", None), Item(b"1", "g"), Item(b"1", "g")]
    part = Part(items, set(), begun=4, origins={2: 0, 3: 0})
    part.waiting = {at: Hold(holder=tenure, key=key, has_waited=True) for at in (1, 2, 3)}
    part.waiting[1].due = Span(900, 900)
    part.begin_again(1, span)
    assert {at: hold.due for at, hold in part.waiting.items()} == {2: span, 3: None}
    assert part.new() == [1]
