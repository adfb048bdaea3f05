"""Which tasks run, and which are left behind."""

from __future__ import annotations

from collections import Counter

import anyio

from flexiflow.testing._failures import TasksLeft


def running_tasks() -> Counter[str]:
    """Count the tasks of this event loop by the names of what they run.

    By names, since AnyIO's test runner has a task for each of its calls, another one each time.
    """
    return Counter(
        getattr(task.coro, "__qualname__", str(task)) for task in anyio.get_running_tasks()
    )


def check_left(before: Counter[str]) -> None:
    """Compare with the tasks that ran before.

    Raises:
        TasksLeft: there are others.
    """
    left = running_tasks() - before
    if left:
        raise TasksLeft(tuple(sorted(left.elements())))
