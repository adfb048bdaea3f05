"""Tests of durable delivery."""
