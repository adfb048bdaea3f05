"""The transport in memory, for tests and as the reference for other transports."""
