"""The examination of engines and their components: their clauses, and a run (P1)."""
