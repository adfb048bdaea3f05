"""The tests: what the contract promises, on every backend."""
