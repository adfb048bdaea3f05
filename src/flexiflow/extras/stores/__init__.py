"""Stores: states of components that outlive the process (K2)."""

from flexiflow._stores import StateStore, Stored
from flexiflow.extras.stores._errors import StoreError, StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._redis.store import RedisStateStore

__all__ = [
    "RedisStateStore",
    "StateStore",
    "StoreError",
    "StoreUnavailable",
    "StoreUnusable",
    "Stored",
]
