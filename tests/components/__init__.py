"""Tests of components: the engine, state machines, messages and their turns."""
