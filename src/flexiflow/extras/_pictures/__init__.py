"""Pictures of what an engine is, and of what it did: maps of states, charts, trees of causes."""
