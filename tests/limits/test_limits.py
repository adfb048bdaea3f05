"""How many calls of a handler run at once: V2, looked at from inside."""

from functools import partial
from itertools import pairwise
from typing import Any, final

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from flexiflow._errors import LimitDeadlock
from flexiflow._limits import LimitedTurn, Limiter
from flexiflow._mailbox import Mailbox
from flexiflow._turns import Turn
from tests.conftest import Backend
from tests.helpers import PATIENCE, run_at_once, settle
from tests.hosting import Victim, others_run, styles
from tests.turns import Task, has_come


def charge(data: object) -> None:
    """Be what is limited."""


def in_line(limiter: Limiter, *calls: Turn) -> list[Turn]:
    """Give those of the calls that come to run, in order, by ending each."""
    came: list[Turn] = []
    while limiter.holders:
        came += [call for call in calls if call in limiter.holders and call not in came]
        next(call for call in came if call in limiter.holders).end()
    return came


@final
class Crowd:
    """Calls of one handler, and how they overlap."""

    def __init__(self, limit: int) -> None:
        self.limiter = Limiter(limit)
        self.order: list[int] = []
        self.most = 0
        self._running = 0

    async def call(self, number: int) -> None:
        """Call the handler, which waits for some turns of the scheduler."""
        with await self.limiter.take(charge):
            self.order.append(number)
            self._running += 1
            self.most = max(self.most, self._running)
            try:
                for _ in range(20 + number % 3):
                    await checkpoint()
            finally:
                self._running -= 1


class TestLine:
    """First come, first served."""

    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_so_many_run_at_once_and_no_more(self, limit: int) -> None:
        """V2: At most so many calls run at once, and where it is one, in their order."""
        crowd = Crowd(limit)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for number in range(20):
                    group.start_soon(crowd.call, number)
                    await others_run()
        assert crowd.most == limit
        # Of those who get a slot in the same step, the scheduler chooses who starts first.
        assert (crowd.order if limit == 1 else sorted(crowd.order)) == list(range(20))
        assert not crowd.limiter.holders

    def test_a_call_that_finds_a_slot_does_not_wait(self) -> None:
        """V2: As long as there is a slot, a call takes it at once."""
        limiter = Limiter(2)
        for _ in range(2):
            run_at_once(limiter.take(charge))
        assert len(limiter.holders) == limiter.limit

    async def test_slot_passes_to_the_next_in_line(self) -> None:
        """V2: A later call waits behind, also when a slot gets free."""
        limiter = Limiter(2)
        first, second, third, fourth = (limiter.join() for _ in range(4))
        second.end()
        fifth = limiter.join()
        assert limiter.holders == {first, third}
        assert await has_come(third)
        assert in_line(limiter, first, third, fourth, fifth) == [first, third, fourth, fifth]

    async def test_slot_passes_on_when_the_handler_fails(self) -> None:
        """V2: However a call ends, the next one comes."""
        limiter, outsider = Limiter(1), Task()
        waiting: set[Turn] = set()
        with pytest.raises(ZeroDivisionError), await limiter.take(charge):
            waiting.add(outsider.join(limiter))
            raise ZeroDivisionError
        assert limiter.holders == waiting

    async def test_slot_that_nobody_waits_for_is_free(self) -> None:
        """V2: A call that has ended takes up no slot, and ends no other one."""
        limiter = Limiter(2)
        first, second = limiter.join(), limiter.join()
        first.end()
        first.end()
        assert limiter.holders == {second}

    async def test_one_who_is_cancelled_leaves_the_line(self, anyio_backend: Backend) -> None:
        """V2: A call cancelled in line is never served, and the next one is."""
        for style in styles(anyio_backend):
            limiter, victim = Limiter(1), Victim(style)
            first, second, third = (limiter.join() for _ in range(3))
            async with create_task_group() as group:
                group.start_soon(victim.run, second.wait_granted)
                await wait_all_tasks_blocked()
                victim.cancel()
            assert victim.was_cancelled
            assert in_line(limiter, first, second, third) == [first, third]

    async def test_one_who_is_cancelled_as_the_slot_comes_passes_it_on(
        self, anyio_backend: Backend
    ) -> None:
        """V2: A slot that comes in the same step as a cancellation is not lost."""
        for style in styles(anyio_backend):
            for cancel_first in (True, False):
                limiter, victim = Limiter(1), Victim(style)
                first, second, third = (limiter.join() for _ in range(3))
                async with create_task_group() as group:
                    group.start_soon(victim.run, second.wait_granted)
                    await wait_all_tasks_blocked()
                    steps = [first.end, victim.cancel]
                    for step in reversed(steps) if cancel_first else steps:
                        step()
                served = [third] if victim.was_cancelled else [second, third]
                assert in_line(limiter, second, third) == served

    async def test_no_slot_is_lost_wherever_a_call_is_cancelled(
        self, anyio_backend: Backend
    ) -> None:
        """V2: Cancelled at any of its waits, a call gives its slot or its place up."""
        for style in styles(anyio_backend):
            for place in range(1, 5):
                crowd, victim = Crowd(1), Victim(style, place)
                first = crowd.limiter.join()
                with fail_after(PATIENCE):
                    async with create_task_group() as group:
                        group.start_soon(crowd.call, 0)
                        await settle()
                        group.start_soon(victim.run, partial(crowd.call, 1))
                        await settle()
                        group.start_soon(crowd.call, 2)
                        await settle()
                        first.end()
                assert victim.was_cancelled
                assert crowd.order == ([0, 2] if place == 1 else [0, 1, 2])
                assert not crowd.limiter.holders


class TestWithin:
    """A call from within a call of the same handler."""

    @pytest.mark.parametrize("limit", [1, 2])
    async def test_call_from_within_the_same_handler_fails(self, limit: int) -> None:
        """V2: It fails at once, whether or not there is a slot, and says whose it was."""
        limiter = Limiter(limit)
        with await limiter.take(charge):
            with pytest.raises(LimitDeadlock) as caught:
                await limiter.take(charge)
            assert len(limiter.holders) == 1
        assert (caught.value.culprit, caught.value.limit) == ("charge", limit)

    async def test_call_from_a_child_task_fails(self) -> None:
        """V2: A child task of a call is within it too."""
        limiter, task = Limiter(2), Task()
        task.handle(limiter)
        assert Task(task).join(limiter).would_deadlock
        assert not Task().join(limiter).would_deadlock

    async def test_call_through_another_handler_fails(self) -> None:
        """V2: All calls and messages around count."""
        limiters, task = [Limiter(2), Limiter(2)], Task()
        for limiter in limiters:
            task.handle(limiter)
            task.handle(Mailbox())
        assert all(task.join(limiter).would_deadlock for limiter in limiters)

    async def test_call_that_is_over_counts_no_more(self) -> None:
        """V2: A task that a call left behind is an outsider to the next one."""
        limiter, task = Limiter(1), Task()
        task.handle(limiter)
        child = Task(task)
        task.finish()
        assert not child.join(limiter).would_deadlock


class TestRing:
    """Waiting for oneself through others."""

    @pytest.mark.parametrize("size", [2, 3, 5])
    async def test_ring_is_closed_by_the_last_only(self, size: int) -> None:
        """V2: Of those who would wait in a ring, only the one who closes it fails."""
        limiters, tasks = [Limiter(1) for _ in range(size)], [Task() for _ in range(size)]
        for task, limiter in zip(tasks, limiters, strict=True):
            task.handle(limiter)
        ring = pairwise([*limiters, limiters[0]])
        calls = [task.join(after) for task, (_, after) in zip(tasks, ring, strict=True)]
        assert [call.would_deadlock for call in calls] == [False] * (size - 1) + [True]
        assert await has_come(calls[-1]) is False

    async def test_one_who_fails_is_not_waited_for(self) -> None:
        """V2: A call that fails holds no place in line."""
        one, two, mine, yours = Task(), Task(), Limiter(1), Limiter(1)
        held = one.handle(mine)
        two.handle(yours)
        waiting = one.join(yours)
        assert two.join(mine).would_deadlock
        two.finish()
        assert yours.holders == {waiting}
        held.end()
        assert not mine.holders

    async def test_no_deadlock_as_long_as_one_slot_can_get_free(self) -> None:
        """V2: Only where all calls wait for the one that waits for them it fails."""
        wide, narrow = Limiter(2), Limiter(1)
        one, two, three = Task(), Task(), Task()
        one.handle(wide)
        two.handle(wide)
        three.handle(narrow)
        assert not one.join(narrow).would_deadlock
        assert not three.join(wide).would_deadlock
        assert two.join(narrow).would_deadlock

    async def test_slots_that_wait_for_others_that_are_free(self) -> None:
        """V2: Whether one may wait is followed through all that its holders wait for."""
        wide, first, second, third = Limiter(2), Limiter(1), Limiter(1), Limiter(1)
        one, two, three, four, asker = (Task() for _ in range(5))
        for task, limiter in ((one, wide), (two, wide), (three, first), (four, second)):
            task.handle(limiter)
        asker.handle(third)
        for task, limiter in ((one, third), (two, first), (three, second)):
            assert not task.join(limiter).would_deadlock
        assert not asker.join(wide).would_deadlock
        assert four.join(third).would_deadlock

    async def test_ways_that_meet_in_one_that_is_free(self) -> None:
        """V2: One who waits in several lines is free once all of them are, whatever their order."""
        mine, meeting, lines = Limiter(1), Limiter(1), [Limiter(1), Limiter(1), Limiter(1)]
        one, asker = Task(), Task()
        one.handle(mine)
        Task().handle(meeting)
        for limiter in lines:
            task = Task()
            task.handle(limiter)
            assert not task.join(meeting).would_deadlock
            assert not Task(one).join(limiter).would_deadlock
        asker.handle(Limiter(1))
        assert not asker.join(mine).would_deadlock

    async def test_call_waits_for_all_that_its_child_tasks_wait_for(self) -> None:
        """V2: A call in which one task waits for itself ends no sooner than that."""
        mine, yours, free = Limiter(1), Limiter(1), Limiter(1)
        one, two = Task(), Task()
        one.handle(mine)
        two.handle(yours)
        Task().handle(free)
        assert not Task(one).join(free).would_deadlock
        assert not Task(one).join(yours).would_deadlock
        assert two.join(mine).would_deadlock

    async def test_call_that_closes_a_ring_through_a_component_fails(self) -> None:
        """V2: A ring of calls and messages counts as one of calls."""
        limiter, mailbox, one, two = Limiter(1), Mailbox(), Task(), Task()
        one.handle(limiter)
        two.handle(mailbox)
        assert not one.join(mailbox).would_deadlock
        assert two.join(limiter).would_deadlock

    async def test_message_that_closes_a_ring_through_a_handler_does_not_wait(self) -> None:
        """C4: A message in a ring of calls and messages is deferred like any other."""
        limiter, mailbox, one, two = Limiter(1), Mailbox(), Task(), Task()
        one.handle(limiter)
        two.handle(mailbox)
        assert not two.join(limiter).would_deadlock
        assert one.join(mailbox).would_deadlock

    async def test_message_waits_while_one_slot_can_get_free(self) -> None:
        """C4: A message whose component waits for a handler that is not stuck may wait."""
        limiter, mailbox, one, two = Limiter(2), Mailbox(), Task(), Task()
        one.handle(limiter)
        outsider = Task().handle(limiter)
        two.handle(mailbox)
        assert not two.join(limiter).would_deadlock
        message = one.join(mailbox)
        assert not message.would_deadlock
        assert outsider in limiter.holders

    async def test_wait_that_ended_closes_no_ring(self, anyio_backend: Backend) -> None:
        """V2: A call that was cancelled in line waits no more."""
        for style in styles(anyio_backend):
            mine, yours, one, two = Limiter(1), Limiter(1), Task(), Task()
            victim = Victim(style)
            one.handle(mine)
            two.handle(yours)
            async with create_task_group() as group:
                group.start_soon(victim.run, one.join(yours).wait_granted)
                await wait_all_tasks_blocked()
                victim.cancel()
            assert not two.join(mine).would_deadlock

    async def test_calls_that_wait_for_each_other_do_not_hang(self) -> None:
        """V2: Two handlers that call each other: one call fails, and the other one goes on."""
        limiters = [Limiter(1), Limiter(1)]
        begun = [Event(), Event()]
        failures: list[Exception] = []
        ended: list[int] = []

        async def handle(place: int) -> None:
            with await limiters[place].take(charge):
                begun[place].set()
                await begun[1 - place].wait()
                try:
                    with await limiters[1 - place].take(charge):
                        await checkpoint()
                except LimitDeadlock as exc:
                    failures.append(exc)
            ended.append(place)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(handle, 0)
                group.start_soon(handle, 1)
        assert len(failures) == 1
        assert sorted(ended) == [0, 1]
        assert not any(limiter.holders for limiter in limiters)


def test_a_call_knows_its_limiter() -> None:
    """V2: A call leaves the line that it has joined."""
    limiter: Any = Limiter(1)
    call = limiter.join()
    assert type(call) is LimitedTurn
    assert call.line is limiter
