"""The examination of a bus: its clauses, their checkers, and how a bus is run (P1)."""
