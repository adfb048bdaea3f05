"""Tests of the stores of states."""
