"""The transport in an SQLite file, for processes on one machine that need no server."""
