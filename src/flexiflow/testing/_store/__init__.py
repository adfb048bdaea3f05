"""The contract of stores, and how a store is tried (K2)."""
