"""The examination of a bus: its clauses, and how a bus is run (P1)."""
