"""Tests of what shows an engine in a browser: reports and the monitor."""
