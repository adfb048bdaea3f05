"""Timers whose time is stored (M2)."""

import math
import time
from collections.abc import Callable

import pytest
from anyio import create_task_group, current_time, sleep

from flexiflow import Component, Engine, Outcome, State, StateMachine, Transition
from flexiflow import _clock as clock
from flexiflow import _running as running
from flexiflow.events import HANDLER_FAILED, STATE_CHANGED
from flexiflow.testing import cancel_everywhere, explore
from tests.accounting import Boom
from tests.hosting import GO, Diary, run_clocked
from tests.stores.keeping import DictStore, Down, Hang, Tally, count, down, hosting, once, tallies

# Few, since an engine looks into its store once a second.
SECONDS = 240.0
ROWS = (
    Transition("a", "go", "b", action=count),
    Transition("b", "late", "c", action=count),
    Transition("b", "stay", None, action=count),
    Transition("b", "go", "a", action=count),
    Transition("c", "go", "a", action=count),
)
TIMED = StateMachine("a", ROWS, states=[State("b", after=(SECONDS, "late"))])
PLAIN = StateMachine("a", ROWS)


def never_passes(message: object, component: object) -> bool:
    """Refuse, as a guard."""
    return False


async def note_times(engine: Engine, times: list[float]) -> None:
    """Note when states change, by the virtual clock."""
    await engine.bus.subscribe(STATE_CHANGED, "observer", lambda data: times.append(now()))


def now() -> float:
    """Return the virtual time of day, to the second."""
    return round(current_time())


class TestStored:
    """What is stored of a timer."""

    def test_due_time_is_kept_as_wall_clock_time(self, backend: str) -> None:
        """M2: The due time is the time of day at which the trigger is sent."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, TIMED)
            async with engine.running():
                await sleep(5.0)
                before = current_time()
                await engine.send("t", GO)
                due = store.kept["t"].due
                assert due is not None
                assert before + SECONDS <= due <= current_time() + SECONDS

        run_clocked(scenario, backend)

    async def test_clock_is_that_of_the_day(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """M2: Outside of explored schedules it is in seconds since 1970."""
        monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
        store = DictStore()
        engine = hosting(store, TIMED)
        async with engine.running():
            await engine.send("t", GO)
        assert store.kept["t"].due == 1_000_000.0 + SECONDS

    def test_state_without_a_timer_has_none(self, backend: str) -> None:
        """M2: A state without `after` has no due time; leaving a timed one takes it away."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, TIMED)
            async with engine.running():
                for due in (True, False):
                    await engine.send("t", GO)
                    assert (store.kept["t"].due is not None) is due

        run_clocked(scenario, backend)

    def test_internal_transition_keeps_it(self, backend: str) -> None:
        """M2: An internal transition does not put the timer off, in the store neither."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, TIMED)
            async with engine.running():
                await engine.send("t", GO)
                due = store.kept["t"].due
                await sleep(100.0)
                await engine.send("t", {"type": "stay"})
                assert store.saved == [("t", "b")] * 2
                assert store.kept["t"].due == pytest.approx(due)

        run_clocked(scenario, backend)

    def test_start_state_is_stored_as_its_timer_begins(self, backend: str) -> None:
        """M2: The due time of a start state is stored in `running()`, so it outlives a restart."""
        machine = StateMachine("b", ROWS, states=[State("b", after=(SECONDS, "late"))])

        async def scenario() -> None:
            store, times = DictStore(), list[float]()
            engine = Engine(store=store)
            await engine.register(Tally("t", machine=machine))
            assert store.kept == {}
            async with engine.running():
                await sleep(1.0)
                assert store.state("t") == "b"
                assert store.kept["t"].due == pytest.approx(SECONDS)
                await sleep(SECONDS / 2)
            again = hosting(store, machine)
            await note_times(again, times)
            async with again.running():
                await sleep(SECONDS)
            assert times == [pytest.approx(SECONDS, abs=2)]

        run_clocked(scenario, backend)

    @pytest.mark.unmeasured
    def test_trigger_that_changed_nothing_is_noted(self, backend: str) -> None:
        """M2: A trigger that was refused is stored as sent, so it is not sent after a restart."""
        rows = [ROWS[0], Transition("b", "late", "a", guard=never_passes)]
        machine = StateMachine("a", rows, states=[State("b", after=(SECONDS, "late"))])

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, machine)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await engine.send("t", GO)
                await sleep(2 * SECONDS)
                assert (store.state("t"), store.kept["t"].due) == ("b", math.inf)
            again = hosting(store, machine)
            await diary.keep(again.bus)
            async with again.running():
                await sleep(2 * SECONDS)
                await again.send("t", {"type": "other"})
                await sleep(2 * SECONDS)
            assert diary.lines.count("t late") == 1

        run_clocked(scenario, backend)


class TestRestart:
    """A second engine over the same store."""

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("way", ["running", "send", "register"])
    @pytest.mark.parametrize("downtime", [100.0, 2 * SECONDS], ids=["due", "overdue"])
    def test_trigger_is_sent_once(self, backend: str, way: str, downtime: float) -> None:
        """M2: A timer goes on over a restart; one that is overdue is sent at once, once."""

        async def scenario() -> None:
            store, times = DictStore(), list[float]()
            engine = hosting(store, TIMED)
            async with engine.running():
                await engine.send("t", GO)
                await sleep(100.0)
            await sleep(downtime)
            again = hosting(store, TIMED)
            await note_times(again, times)
            diary = await Diary().keep(again.bus)
            restarted = current_time()
            async with again.running():
                if way == "send":
                    await again.send("t", {"type": "other"})
                elif way == "register":
                    await again.register(Tally("t", machine=TIMED))
                await sleep(5 * SECONDS)
            assert diary.lines.count("t late") == 1
            assert diary.changes("t") == [("b", "c")]
            assert times == [pytest.approx(max(SECONDS, restarted), abs=2)]

        run_clocked(scenario, backend)

    def test_overdue_one_comes_before_the_message_that_loads(self, backend: str) -> None:
        """M2: The overdue trigger takes its place in line as the component is loaded."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=-5.0)
            engine = hosting(store, TIMED)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await engine.send("t", GO)
                assert diary.changes("t") == [("b", "c"), ("c", "a")]

        run_clocked(scenario, backend)

    @pytest.mark.unmeasured
    def test_state_that_was_left_sends_nothing(self, backend: str) -> None:
        """M2: The timer of a state that was left before the restart is gone."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, TIMED)
            async with engine.running():
                await engine.send("t", GO)
                await engine.send("t", GO)
            again = hosting(store, TIMED)
            diary = await Diary().keep(again.bus)
            async with again.running():
                await sleep(5 * SECONDS)
            assert (diary.lines, store.calls["load"]) == ([], 1)

        run_clocked(scenario, backend)

    @pytest.mark.unmeasured
    def test_clock_that_was_set_back(self, backend: str) -> None:
        """M2: Where the clock was set back, a loaded timer waits no longer than `after` says."""

        async def scenario() -> None:
            store, times = DictStore(), list[float]()
            store.put("t", "b", {"n": 1}, due=1_000_000.0)
            engine = hosting(store, TIMED)
            await note_times(engine, times)
            async with engine.running():
                await sleep(10.0)
                await engine.send("t", {"type": "other"})
                await sleep(5 * SECONDS)
            assert times == [pytest.approx(10.0 + SECONDS, abs=2)]

        run_clocked(scenario, backend)

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("is_same", [False, True], ids=["other engine", "same engine"])
    def test_trigger_in_hand_is_sent_again(self, backend: str, *, is_same: bool) -> None:
        """M2: A trigger whose handling ended with `running()` is sent as it is entered again."""

        async def scenario() -> None:
            store, hang = DictStore(), Hang()
            engine = hosting(store, TIMED)
            async with engine.running():
                await engine.send("t", GO)
                store.before["save"] = hang
                await hang.reached.wait()
                await sleep(1.0)
            store.before.clear()
            again = engine if is_same else hosting(store, TIMED)
            diary = await Diary().keep(again.bus)
            async with again.running():
                await sleep(5.0)
            assert diary.changes("t") == [("b", "c")]

        run_clocked(scenario, backend)

    def test_timer_that_the_machine_has_no_more(self, backend: str) -> None:
        """M2: A stored time for which the machine has no `after` any more is forgotten, once."""

        async def scenario() -> None:
            store = DictStore()
            for n in range(3):
                store.put(f"t{n}", "b", {"n": 1}, due=-5.0)
            engine = hosting(store, PLAIN, max_components=1)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await sleep(100.0)
            assert (diary.lines, store.calls["load"]) == ([], 3)
            assert [store.kept[f"t{n}"][1:] for n in range(3)] == [("b", {"n": 1}, None)] * 3

        run_clocked(scenario, backend)


def test_cancelled_anywhere(backend: str) -> None:
    """M2: Wherever a process ends, the next one sends what was due, and stores it once."""
    stores: list[DictStore] = []
    machine = StateMachine("a", ROWS, states=[State("b", after=(2.0, "late"))])

    async def scenario() -> None:
        store = DictStore()
        stores.append(store)
        engine = hosting(store, machine)
        async with engine.running():
            await engine.send("t", GO)
            await sleep(3.0)

    async def check() -> None:
        for store in stores:
            has_begun = "t" in store.kept
            async with hosting(store, machine).running():
                await sleep(5.0)
            assert store.state("t") == ("c" if has_begun else None)
            assert store.saved.count(("t", "c")) == has_begun
        stores.clear()

    assert cancel_everywhere(scenario, backend=backend, check=check) > 10


class TestLoading:
    """Components that `running()` loads, since their stored time has come."""

    @pytest.mark.unmeasured
    def test_loads_what_is_due_and_nothing_else(self, backend: str) -> None:
        """M2: A component stays out of memory until its time comes; then it is loaded."""

        async def scenario() -> None:
            store = DictStore()
            for n in range(5):
                store.put(f"t{n}", "b", {"n": 1}, due=100.0 * n)
            store.put("u", "b", {"n": 1}, due=math.inf)
            store.put("v", "b", {"n": 1})
            engine = hosting(store, TIMED)
            async with engine.running():
                for n in range(5):
                    await sleep(2.0)
                    assert [*engine.components] == [f"t{each}" for each in range(n + 1)]
                    await sleep(98.0)
            assert [store.state(f"t{n}") for n in range(5)] == ["c"] * 5

        run_clocked(scenario, backend)

    def test_announces_no_message_for_it(self, backend: str) -> None:
        """M2: Loading sends nothing but the trigger."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=0.0)
            engine = hosting(store, TIMED)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await sleep(10.0)
            assert diary.lines == ["t registered", "t late", "t b c"]
            assert store.kept["t"][1:] == ("c", {"n": 2}, None)

        run_clocked(scenario, backend)

    def test_more_than_a_page(self, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """M2: However many are due, all are loaded, without a second's wait for each page."""
        monkeypatch.setattr(running, "_PAGE", 4)

        async def scenario() -> None:
            store = DictStore()
            for n in range(30):
                store.put(f"t{n}", "b", {"n": 1}, due=0.0)
            engine = hosting(store, TIMED)
            async with engine.running():
                await sleep(1.5)
                assert {kept.state for kept in store.kept.values()} == {"c"}
            assert store.calls["load"] == 30

        run_clocked(scenario, backend)

    def test_page_of_what_can_not_be_loaded(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M2: A page of components that can't be loaded does not keep others from being loaded."""
        monkeypatch.setattr(running, "_PAGE", 4)

        async def scenario() -> None:
            store = DictStore()
            for n in range(20):
                store.put(f"bad{n}", "b", {"n": 1}, due=0.0)
            store.put("t", "b", {"n": 1}, due=1.0)
            engine = Engine(component_factory=fail_for("bad"), store=store)
            async with engine.running():
                await sleep(2.5)
                assert store.state("t") == "c"

        run_clocked(scenario, backend)

    def test_one_that_hangs_does_not_keep_others(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M2: A component whose loading hangs does not keep others from being loaded."""
        monkeypatch.setattr(running, "_PAGE", 4)

        async def scenario() -> None:
            store, hang, asked = DictStore(), Hang(), list[str]()
            for n in range(20):
                store.put(f"t{n}", "b", {"n": 1}, due=0.0)
            store.put("u", "b", {"n": 1}, due=50.0)
            store.put("slow", "b", {"n": 1}, due=0.0)

            async def make(name: str) -> Component:
                asked.append(name)
                if name == "slow":
                    await hang()
                return Tally(name, machine=TIMED)

            engine = Engine(component_factory=make, store=store)
            async with engine.running():
                await sleep(60.0)
                assert [store.state(f"t{n}") for n in range(20)] == ["c"] * 20
                assert store.state("u") == "c"
            assert asked.count("slow") == 1

        run_clocked(scenario, backend)

    def test_without_a_factory_the_store_is_not_asked(self, backend: str) -> None:
        """M2: An engine that can't make components asks for none."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=0.0)
            async with Engine(store=store).running():
                await sleep(10.0)
            assert store.calls["due"] == store.calls["load"] == 0

        run_clocked(scenario, backend)

    def test_outside_of_running_nothing_is_loaded(self, backend: str) -> None:
        """M2: It is `running()` that loads; before and after it nothing does."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=10.0)
            engine = hosting(store, TIMED)
            async with engine.running():
                await sleep(5.0)
            calls = store.calls["due"]
            await sleep(100.0)
            assert (store.calls["due"], dict(engine.components)) == (calls, {})

        run_clocked(scenario, backend)

    def test_two_engines_over_one_store(self, backend: str) -> None:
        """M2: Two running engines may both load what is due; one transition is stored."""

        async def scenario() -> None:
            store = DictStore()
            for n in range(3):
                store.put(f"t{n}", "b", {"n": 1}, due=2.0)
            engines = [hosting(store, TIMED), hosting(store, TIMED)]
            diaries = [await Diary().keep(engine.bus) for engine in engines]
            async with engines[0].running(), engines[1].running():
                await sleep(100.0)
            for n in range(3):
                changes = [change for diary in diaries for change in diary.changes(f"t{n}")]
                assert changes == [("b", "c")]
                assert store.kept[f"t{n}"][1:] == ("c", {"n": 2}, None)
                states = {engine.components[f"t{n}"].state for engine in engines}
                assert states == {"c"}

        run_clocked(scenario, backend)

    @pytest.mark.unmeasured
    def test_under_every_schedule(self, backend: str) -> None:
        """M2: Whatever the order, an overdue trigger and messages are each handled once."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 0}, due=0.0)
            engine = hosting(store, TIMED)
            async with engine.running():
                async with create_task_group() as group:
                    for _ in range(2):
                        group.start_soon(engine.send, "t", {"type": "other"})
                    group.start_soon(engine.send, "t", GO)
                await sleep(3.0)
                # The trigger is first in line, no matter which task loads.
                assert store.kept["t"][1:] == ("a", {"n": 2}, None)

        explore(scenario, backend=backend, schedules=60, seed=2)


def fail_for(prefix: str, made: list[str] | None = None) -> Callable[[str], Component]:
    """Make a factory that fails for some names, and notes for which it was asked."""

    def make(name: str) -> Component:
        if made is not None:
            made.append(name)
        if name.startswith(prefix):
            raise Boom(name)
        return Tally(name, machine=TIMED)

    return make


class TestFailing:
    """Loading what is due, with a factory or a store that fails."""

    def test_factory_is_reported_and_asked_again_later(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2: A factory that fails is logged and announced, and asked again after a minute."""
        asked: list[str] = []

        async def scenario() -> None:
            store = DictStore()
            store.put("bad", "b", {"n": 1}, due=0.0)
            engine = Engine(component_factory=fail_for("bad", asked), store=store)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await sleep(59.0)
                assert len(asked) == 1
                await sleep(2.0)
                assert len(asked) == 2
                await sleep(59.0)
                assert len(asked) == 2
            assert [type(each) for each in diary.failures] == [Boom] * 2
            assert diary.lines[0].startswith("bad failed")

        run_clocked(scenario, backend)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Boom] * 2
        assert all("loading" in record.getMessage() for record in caplog.records)

    def test_one_that_comes_right_is_loaded(self, backend: str) -> None:
        """M2: What could not be loaded is loaded at the next try, and sent its trigger once."""
        failures = [Boom()]

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=0.0)

            def make(name: str) -> Component:
                if failures:
                    raise failures.pop()
                return Tally(name, machine=TIMED)

            engine = Engine(component_factory=make, store=store)
            async with engine.running():
                await sleep(200.0)
            assert store.kept["t"][1:] == ("c", {"n": 2}, None)

        run_clocked(scenario, backend)

    def test_one_that_is_sent_a_message_is_tried_at_once(self, backend: str) -> None:
        """M2: The pause is for `running()` alone: a send loads at once."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=0.0)
            store.before["load"] = once(down)
            engine = hosting(store, TIMED)
            async with engine.running():
                await sleep(5.0)
                assert dict(engine.components) == {}
                assert await engine.send("t", {"type": "other"}) is Outcome.IGNORED
                await sleep(1.0)
                assert store.state("t") == "c"

        run_clocked(scenario, backend)

    def test_store_that_can_not_say_what_is_due_is_logged_once(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2: A store whose `due` fails is asked again every second, and logged once a time."""

        async def scenario() -> None:
            store = DictStore()
            store.put("t", "b", {"n": 1}, due=0.0)
            store.before["due"] = down
            engine = hosting(store, TIMED)
            async with engine.running():
                await sleep(20.0)
                assert 18 <= store.calls["due"] <= 22
                assert len(caplog.records) == 1
                store.before.clear()
                await sleep(2.0)
                assert store.state("t") == "c"
                store.before["due"] = down
                await sleep(20.0)

        run_clocked(scenario, backend)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Down] * 2
        assert len(caplog.records) == 2

    def test_very_many_that_fail(self, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """M2: More failing ones than are remembered are no reason to try them all the time."""
        monkeypatch.setattr(running, "_PAGE", 4)
        monkeypatch.setattr(running, "_MOST_FAILED", 10)
        asked: list[str] = []

        async def scenario() -> None:
            store = DictStore()
            for n in range(50):
                store.put(f"bad{n}", "b", {"n": 1}, due=0.0)
            engine = Engine(component_factory=fail_for("bad", asked), store=store)
            await engine.bus.subscribe(HANDLER_FAILED, "observer", lambda data: None)
            async with engine.running():
                await sleep(50.0)

        run_clocked(scenario, backend)
        assert len(asked) == 10

    def test_store_that_is_down_at_a_trigger(self, backend: str) -> None:
        """M2, K3: A trigger that could not be saved is sent again, not oftener than each second."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, TIMED)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await engine.send("t", GO)
                store.before["save"] = down
                await sleep(SECONDS + 5.5)
                tries = diary.lines.count("t late")
                assert 2 <= tries <= 7
                assert [type(each) for each in diary.failures] == [Down] * tries
                assert (store.state("t"), store.kept["t"].due) == ("b", SECONDS)
                store.before.clear()
                await sleep(2.0)
                assert store.state("t") == "c"
                assert diary.lines.count("t late") == tries + 1

        run_clocked(scenario, backend)

    def test_store_that_is_down_as_work_ends(self, backend: str) -> None:
        """M3, K3: Work whose end could not be saved begins anew."""
        runs: list[float] = []

        async def work(component: object) -> None:
            runs.append(now())
            await sleep(10.0)

        rows = (*ROWS[:1], Transition("b", "done", "c"))
        machine = StateMachine("a", rows, states=[State("b", during=work, done="done")])

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store, machine)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await engine.send("t", GO)
                store.before["save"] = down
                await sleep(15.0)
                store.before.clear()
                await sleep(10.0)
                assert store.state("t") == "c"
                assert [type(each) for each in diary.failures] == [Down]
            assert len(runs) == 2

        run_clocked(scenario, backend)


def test_time_is_virtual_while_schedules_are_explored(backend: str) -> None:
    """M2: The time of day goes with the virtual clock then, and else with the system's."""

    async def scenario() -> None:
        assert clock.time_of_day() == current_time()

    run_clocked(scenario, backend)
    assert abs(clock.time_of_day() - time.time()) < 60


def test_factory_of_the_helpers() -> None:
    """M2: The factory of these tests makes components of the machine that it is given."""
    assert tallies(TIMED)("t").machine is TIMED
