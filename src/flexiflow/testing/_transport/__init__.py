"""The examination of a transport: its clauses, a reference model, and a run (P1)."""
