"""Tests of streams, and of waiting for one event."""
