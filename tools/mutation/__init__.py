"""Mutation testing: small faults are put into the core, and the tests must notice each one."""
