"""Tests of the bridge between a bus and a transport."""
