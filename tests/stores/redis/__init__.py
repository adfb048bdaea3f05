"""Tests of the store of states on Redis."""
