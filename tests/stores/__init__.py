"""Tests of components whose state lasts (K1 to K5, M2)."""
