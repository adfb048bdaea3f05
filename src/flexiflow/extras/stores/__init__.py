"""Stores: states of components that outlive the process (K2)."""

from flexiflow._stores import StateStore, Stored
from flexiflow.extras.stores._errors import StoreError, StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._memory import MemoryStateStore
from flexiflow.extras.stores._sqlite import SqliteStateStore

__all__ = [
    "MemoryStateStore",
    "SqliteStateStore",
    "StateStore",
    "StoreError",
    "StoreUnavailable",
    "StoreUnusable",
    "Stored",
]
