"""Tests of the transport on Redis."""
