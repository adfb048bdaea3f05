"""Tests of the package and what comes with it: docs, examples, README, types, benchmarks."""
