"""Stores: states of components that outlive the process (K2)."""

from flexiflow._stores import StateStore, Stored
from flexiflow.extras.stores._errors import StoreError, StoreUnavailable, StoreUnusable

__all__ = [
    "StateStore",
    "StoreError",
    "StoreUnavailable",
    "StoreUnusable",
    "Stored",
]
