"""States of components on a Redis server."""
