"""An SQLite file that many tasks share, in one process and in others: opened, watched and written.

The SQLite transport and the SQLite store stand on it. Neither the tables nor the exceptions are
known here: a `Layout` has both.
"""
