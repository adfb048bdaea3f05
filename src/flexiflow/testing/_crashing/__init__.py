"""Crash the workers of a durable scenario at each of their checkpoints (P7).

`everywhere` has the function that users call. It starts the `Hatchery`, a process that imports the
scenario once and forks a process for each *life* of a worker: from its start until it ends or is
killed. A `Round` is one run of all workers, of which at most one is killed, at a chosen checkpoint,
and started again.

In a life, `live` counts the checkpoints, and ends the process at the chosen one; a `Witness` sees
what the bridges begin to handle and what they have settled. Both write to the round's journal, a
file, one line at a time: what was written is not lost when the process ends. After the round the
journal is read, `judge` looks for what was handled too often, and the user's `check` at the rest.
"""
