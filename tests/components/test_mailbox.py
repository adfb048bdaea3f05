"""Whose turn it is: C3 and C4, looked at from inside."""

import gc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from flexiflow import Component
from flexiflow._mailbox import Mailbox
from flexiflow._turns import Turn
from tests.conftest import Backend
from tests.helpers import PATIENCE
from tests.hosting import GO, Victim, styles, switch
from tests.turns import Task, has_come


def in_line(mailbox: Mailbox) -> Iterator[Turn]:
    """Give the turns in their order, by ending each."""
    while mailbox.holder is not None:
        yield mailbox.holder
        mailbox.pass_on()


class TestLine:
    """First come, first served."""

    async def test_first_to_come_need_not_wait(self) -> None:
        """C3: A component that handles nothing takes a message at once."""
        mailbox = Mailbox()
        turn = mailbox.join()
        assert mailbox.holder is turn
        assert await has_come(turn)

    async def test_turns_come_in_the_order_of_joining(self) -> None:
        """C3: First come, first served."""
        mailbox = Mailbox()
        turns = [mailbox.join() for _ in range(5)]
        assert list(in_line(mailbox)) == turns

    async def test_next_turn_comes_when_the_one_in_hand_ends(self) -> None:
        """C3: One message at a time."""
        mailbox = Mailbox()
        first, second, third = (mailbox.join() for _ in range(3))
        seen: list[str] = []

        async def wait(name: str, turn: Turn) -> None:
            assert await turn.wait_granted()
            seen.append(name)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(wait, "third", third)
                group.start_soon(wait, "second", second)
                await wait_all_tasks_blocked()
                assert seen == []
                first.end()
                await wait_all_tasks_blocked()
                assert seen == ["second"]
                second.end()
        assert seen == ["second", "third"]

    async def test_place_in_line_can_be_given_up(self) -> None:
        """C3: One who goes away holds nobody up."""
        mailbox = Mailbox()
        first, second, third = (mailbox.join() for _ in range(3))
        second.end()
        assert list(in_line(mailbox)) == [first, third]

    async def test_ended_turn_ends_no_other(self) -> None:
        """C3: A turn that is over passes nothing on a second time."""
        mailbox = Mailbox()
        first, second, third = (mailbox.join() for _ in range(3))
        first.end()
        first.end()
        assert list(in_line(mailbox)) == [second, third]

    async def test_turn_of_an_empty_mailbox_can_be_ended_twice(self) -> None:
        """C3: Ending is harmless where nobody ever waited."""
        mailbox = Mailbox()
        turn = mailbox.join()
        turn.end()
        turn.end()
        assert mailbox.holder is None

    async def test_one_who_is_cancelled_leaves_the_line(self, anyio_backend: Backend) -> None:
        """C3: A sender cancelled in line is never served, and the next one is."""
        for style in styles(anyio_backend):
            mailbox, victim = Mailbox(), Victim(style)
            first, second, third = (mailbox.join() for _ in range(3))
            async with create_task_group() as group:
                group.start_soon(victim.run, second.wait_granted)
                await wait_all_tasks_blocked()
                victim.cancel()
            assert victim.was_cancelled
            assert list(in_line(mailbox)) == [first, third]

    async def test_one_who_is_cancelled_as_the_turn_comes_passes_it_on(
        self, anyio_backend: Backend
    ) -> None:
        """C3: A turn that comes in the same step as a cancellation is not lost."""
        for style in styles(anyio_backend):
            for cancel_first in (True, False):
                mailbox, victim = Mailbox(), Victim(style)
                first, second, third = (mailbox.join() for _ in range(3))
                async with create_task_group() as group:
                    group.start_soon(victim.run, second.wait_granted)
                    await wait_all_tasks_blocked()
                    steps = [first.end, victim.cancel]
                    for step in reversed(steps) if cancel_first else steps:
                        step()
                if victim.was_cancelled:
                    assert list(in_line(mailbox)) == [third]
                else:
                    assert list(in_line(mailbox)) == [second, third]

    async def test_all_who_wait_can_be_refused(self) -> None:
        """C1: Each waiting task gets an exception of its own, and the turn in hand goes on."""
        mailbox = Mailbox()
        first, second, third = (mailbox.join() for _ in range(3))
        mailbox.refuse(ZeroDivisionError)
        errors: list[BaseException] = []
        for turn in (second, third):
            with pytest.raises(ZeroDivisionError) as caught:
                await turn.wait_granted()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert list(in_line(mailbox)) == [first]

    async def test_refusing_nobody_changes_nothing(self) -> None:
        """C1: An empty line can be refused."""
        mailbox = Mailbox()
        turn = mailbox.join()
        mailbox.refuse(ZeroDivisionError)
        assert await has_come(turn)


class TestAdoption:
    """Those who waited for a component to be made wait for the component."""

    async def test_keeps_the_order_behind_those_already_there(self) -> None:
        """C3: Tasks that waited for the making are served in the order of sending."""
        own, line = Mailbox(), Mailbox()
        maker, second, third = (line.join() for _ in range(3))
        mine = [own.join(), own.join()]
        own.adopt(line)
        assert list(in_line(own)) == [*mine, second, third]
        assert maker.line is line

    async def test_gives_a_free_mailbox_to_the_first(self) -> None:
        """C3: Where nobody is served yet, the first who waited is."""
        own, line = Mailbox(), Mailbox()
        _, second, third = (line.join() for _ in range(3))
        own.adopt(line)
        assert await has_come(second)
        assert second.line is third.line is own
        assert list(in_line(own)) == [second, third]

    async def test_leaves_nothing_behind(self) -> None:
        """C2: The line where they waited is empty, its turn over."""
        own, line = Mailbox(), Mailbox()
        line.join()
        line.join()
        own.adopt(line)
        assert line.holder is None
        assert list(in_line(line)) == []

    async def test_wakes_one_who_would_wait_for_oneself(self) -> None:
        """C4: A wait that the move would turn into a deadlock ends."""
        own, other, line = Mailbox(), Mailbox(), Mailbox()
        line.join()
        one, two = Task(), Task()
        one.handle(other)
        waiting = one.join(line)
        two.handle(own)
        assert not two.join(other).would_deadlock
        own.adopt(line)
        assert not await has_come(waiting)
        assert len(list(in_line(own))) == 1

    async def test_one_still_to_come_over_closes_no_ring_before(self) -> None:
        """C4: Of those who come over, one after the other is asked whom they would wait for."""
        own, line = Mailbox(), Mailbox()
        line.join()
        one, two = Task(), Task()
        one.handle(own)
        two.handle(Mailbox())
        first, second = two.join(line), one.join(line)
        own.adopt(line)
        assert not await has_come(second)
        assert not first.would_deadlock
        assert len(list(in_line(own))) == 2


class TestDeadlock:
    """Waiting for oneself, directly or through others."""

    async def test_one_within_a_handling_does_not_wait_for_it(self) -> None:
        """C4: A sender within a handling is told from an outsider."""
        mailbox, task = Mailbox(), Task()
        turn = task.handle(mailbox)
        assert not await has_come(task.join(mailbox))
        assert not await has_come(Task(task).join(mailbox))
        outsider = Task().join(mailbox)
        assert list(in_line(mailbox)) == [turn, outsider]

    async def test_one_whose_handling_is_over_is_an_outsider(self) -> None:
        """C4: A handling that is over counts no more, though its turn goes on."""
        mailbox, task = Mailbox(), Task()
        turn = task.handle(mailbox)
        child = Task(task)
        task.finish()
        waiting = [task.join(mailbox), child.join(mailbox)]
        assert list(in_line(mailbox)) == [turn, *waiting]

    async def test_deferred_message_has_a_turn_of_its_own(self) -> None:
        """C4: A task left behind by the handling of one message is an outsider to the next one."""
        mailbox, task = Mailbox(), Task()
        task.handle(mailbox)
        child = Task(task)
        task.finish()
        task.handle_next(mailbox)
        assert not child.join(mailbox).would_deadlock
        assert task.join(mailbox).would_deadlock

    async def test_all_handlings_around_count(self) -> None:
        """C4: A component that is sent to from within another's handling knows both."""
        mailboxes, task = [Mailbox() for _ in range(3)], Task()
        for mailbox in mailboxes:
            task.handle(mailbox)
        assert all(task.join(mailbox).would_deadlock for mailbox in mailboxes)

    async def test_outer_handling_counts_when_an_inner_one_is_over(self) -> None:
        """C4: A task that outlives one handling may still be within another."""
        outer, inner, idle, task = Mailbox(), Mailbox(), Mailbox(), Task()
        task.handle(outer)
        task.handle(inner)
        child = Task(task)
        task.finish()
        assert not child.join(inner).would_deadlock
        child.handle(idle)
        assert child.join(outer).would_deadlock

    @pytest.mark.parametrize("size", [2, 3, 5])
    async def test_ring_is_closed_by_the_last_only(self, size: int) -> None:
        """C4: Of those who would wait in a ring, only the one who closes it does not."""
        mailboxes, tasks = [Mailbox() for _ in range(size)], [Task() for _ in range(size)]
        for task, mailbox in zip(tasks, mailboxes, strict=True):
            task.handle(mailbox)
        ring = pairwise([*mailboxes, mailboxes[0]])
        turns = [task.join(after) for task, (_, after) in zip(tasks, ring, strict=True)]
        assert [turn.would_deadlock for turn in turns] == [False] * (size - 1) + [True]

    async def test_ring_may_close_through_an_outer_handling(self) -> None:
        """C4: A task that waits within an inner handling keeps the outer one waiting too."""
        outer, inner, other = Mailbox(), Mailbox(), Mailbox()
        one, two = Task(), Task()
        one.handle(outer)
        one.handle(inner)
        two.handle(other)
        assert not one.join(other).would_deadlock
        assert two.join(outer).would_deadlock

    async def test_ring_may_close_through_a_child_task(self) -> None:
        """C4: A handling waits for all that its child tasks wait for."""
        mine, free, other = Mailbox(), Mailbox(), Mailbox()
        one, two, outsider = Task(), Task(), Task()
        one.handle(mine)
        two.handle(other)
        outsider.handle(free)
        for mailbox in (free, free, other):
            assert not Task(one).join(mailbox).would_deadlock
        assert two.join(mine).would_deadlock

    async def test_waiting_without_a_ring_is_no_deadlock(self) -> None:
        """C4: Waits that meet in one component, or go one way, are waits like any other."""
        left, right, middle = Mailbox(), Mailbox(), Mailbox()
        one, two, three = Task(), Task(), Task()
        for task, mailbox in ((one, left), (two, right), (three, middle)):
            task.handle(mailbox)
        for task in (one, Task(one), two):
            assert not task.join(middle).would_deadlock
        assert not Task().join(left).would_deadlock
        assert not two.join(left).would_deadlock

    async def test_rings_are_looked_for_in_a_crowd_without_delay(self) -> None:
        """C4: However many ways lead from one component to another, each is looked at once."""
        mailboxes = [Mailbox() for _ in range(60)]
        tasks = [Task() for _ in mailboxes]
        for task, mailbox in zip(tasks, mailboxes, strict=True):
            task.handle(mailbox)
        for task, mailbox in zip(tasks, mailboxes[1:], strict=False):
            assert not any(task.join(mailbox).would_deadlock for _ in range(2))
        other = Task()
        other.handle(Mailbox())
        assert not other.join(mailboxes[0]).would_deadlock
        assert tasks[-1].join(mailboxes[0]).would_deadlock

    async def test_wait_that_ended_closes_no_ring(self) -> None:
        """C4: A handling that has been served, or gave up, waits no more."""
        mine, other = Mailbox(), Mailbox()
        one, two = Task(), Task()
        one.handle(mine)
        held = two.handle(other)
        given_up, served = one.join(other), one.join(other)
        given_up.end()
        held.end()
        served.end()
        two.handle(other)
        assert not two.join(mine).would_deadlock

    async def test_handling_that_is_over_waits_for_nothing(self) -> None:
        """C4: What a task left behind still waits for does not close a ring."""
        mine, other = Mailbox(), Mailbox()
        one, two = Task(), Task()
        one.handle(mine)
        two.handle(other)
        assert not Task(one).join(other).would_deadlock
        one.finish()
        one.handle_next(mine)
        assert not two.join(mine).would_deadlock

    async def test_refused_wait_closes_no_ring(self) -> None:
        """C4: One who was refused waits no more."""
        mine, other = Mailbox(), Mailbox()
        one, two = Task(), Task()
        one.handle(mine)
        two.handle(other)
        one.join(other)
        other.refuse(ZeroDivisionError)
        assert not two.join(mine).would_deadlock


class TestDeferred:
    """What waits for the handling in hand to end."""

    def test_is_kept_in_order(self) -> None:
        """C4: Deferred messages are handled in the order in which they were sent."""
        mailbox = Mailbox()
        mailbox.defer({"type": "a"}, announcing=False)
        mailbox.defer({"type": "b"}, announcing=True)
        assert mailbox.take_deferred() == [({"type": "a"}, False), ({"type": "b"}, True)]

    def test_is_taken_once(self) -> None:
        """C1: What was reported is handled no more."""
        mailbox = Mailbox()
        mailbox.defer(GO, announcing=False)
        mailbox.take_deferred()
        assert mailbox.take_deferred() == []
        assert not mailbox.deferred

    def test_is_nothing_at_first(self) -> None:
        """C1: A component that was never sent anything has nothing to report."""
        assert Mailbox().take_deferred() == []


@pytest.mark.parametrize("overlapping", [False, True])
async def test_chain_of_tasks_keeps_no_handling_in_memory(*, overlapping: bool) -> None:
    """C4: Handlings that are over are forgotten, also by tasks that inherited their context."""
    hops = 16
    alive: list[int] = []
    gc.collect()  # what earlier tests left is none of this one's
    begun = [Event() for _ in range(hops + 1)]
    begun[hops].set()

    async def start_next(message: dict[str, int], component: Component) -> None:
        begun[len(alive)].set()
        alive.append([*map(type, gc.get_objects())].count(Turn))
        following = len(alive)
        if following < hops:
            group.start_soon(hop, components[following % 2])
        if overlapping:
            await begun[following].wait()

    async def hop(component: Component) -> None:
        await checkpoint()
        await component.handle_message(GO)

    components = [Component(name, machine=switch(action=start_next)) for name in "ab"]
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await hop(components[0])
    assert len(alive) == hops
    assert max(alive) < 10
