"""The examination of engines and their components: clauses, checkers, and a run (P1)."""
