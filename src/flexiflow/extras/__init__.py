"""What the core can do without: each module is imported by those who want it."""
