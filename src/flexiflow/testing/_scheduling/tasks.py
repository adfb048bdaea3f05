"""Find the tasks that run, and those that were left behind."""

from __future__ import annotations

from collections import Counter

import anyio

from flexiflow.testing._scheduling.failures import TasksLeft


def running_tasks() -> Counter[str]:
    """Count the tasks of this event loop by the names of what they run.

    By names, not by tasks: AnyIO's test runner makes a new task for each of its calls.
    """
    return Counter(
        getattr(task.coro, "__qualname__", str(task)) for task in anyio.get_running_tasks()
    )


def check_left(before: Counter[str]) -> None:
    """Compare the running tasks with those that ran before.

    Raises:
        TasksLeft: there are new ones.
    """
    left = running_tasks() - before
    if left:
        raise TasksLeft(tuple(sorted(left.elements())))
