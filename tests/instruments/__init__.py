"""Tests of instruments: what watches the bus, causality and spans among them."""
