"""The keys of a test of the store on Redis."""

from itertools import count
from typing import Any, Final, final

from flexiflow.extras.stores import RedisStateStore
from tools.redis_server import RedisServer

PREFIXES: Final = count(1)


@final
class Keys:
    """The keys of one test, on which it also works without a store.

    Args:
        server: where they are.
        prefix: what they begin with.

    Attributes:
        server: as given.
        prefix: as given.
    """

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    def store(self, **options: Any) -> RedisStateStore:
        """Make a store that has these keys."""
        return RedisStateStore(self.server.url, prefix=self.prefix, **options)

    def command(self, name: str, rest: str, *words: str | int) -> str:
        """Send a command that has the key right after its name."""
        return self.server.command(name, f"{{{self.prefix}}}:{rest}", *words)

    def calls(self, command: str) -> int:
        """Return how often the server was sent a command, or a script has called it."""
        lines = self.server.command("INFO", "commandstats").split()
        found = [each for each in lines if each.startswith(f"cmdstat_{command}:calls=")]
        return int(found[0].partition("=")[2].partition(",")[0]) if found else 0
