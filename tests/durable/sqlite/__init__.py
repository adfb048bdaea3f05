"""Tests of the transport on SQLite."""
