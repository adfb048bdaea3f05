"""The transport on a Redis server, or on several, for processes on several machines."""
