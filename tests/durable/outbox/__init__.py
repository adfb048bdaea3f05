"""Tests of events in the user's own database: outbox and inbox."""
