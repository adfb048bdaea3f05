"""Tests of delivery: in which order and in which tasks handlers are called."""
