"""Stores: states of components that outlive the process (K2)."""

from flexiflow._stores import StateStore, Stored
from flexiflow.extras.stores._errors import StoreError, StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._memory import MemoryStateStore
from flexiflow.extras.stores._redis.store import RedisStateStore
from flexiflow.extras.stores._sqlite import SqliteStateStore
from flexiflow.extras.stores._urls import store_from_url

__all__ = [
    "MemoryStateStore",
    "RedisStateStore",
    "SqliteStateStore",
    "StateStore",
    "StoreError",
    "StoreUnavailable",
    "StoreUnusable",
    "Stored",
    "store_from_url",
]
