"""Stores, in which the states of components outlive the process (K2)."""
