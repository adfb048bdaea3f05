"""Events in the user's own database: those that go out (outbox) and those that came in (inbox)."""
