"""Tests of limits: how many calls of a handler run at once, and for how long."""
