"""The examination of a user's own machine, by claims about it (P6)."""
