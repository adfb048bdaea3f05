"""Processes that are killed under load, over and over."""
