"""The exceptions of stores; each writes its own message."""

from __future__ import annotations

from typing import final

from flexiflow._errors import FlexiFlowError


class StoreError(FlexiFlowError):
    """Base class of the errors of stores; nothing stored has changed, unless the error says so.

    Args:
        address: where the store is, without any secret.
        reason: what was seen, and what would be right.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.stores import SqliteStateStore, StoreError
        >>> async def main():
        ...     try:
        ...         await SqliteStateStore("no/such/folder/orders.db").load("A7")
        ...     except StoreError as error:
        ...         print(type(error).__name__)
        >>> anyio.run(main)
        StoreUnusable
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason


@final
class StoreUnavailable(StoreError, ConnectionError):
    """A store is down, slow, locked or full; trying again may help (K2).

    Where a connection was lost, it is not known whether what was asked for was done.

    Args:
        address: where the store is, without any secret.
        reason: what was seen.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.stores import RedisStateStore, StoreUnavailable
        >>> async def main():
        ...     try:
        ...         async with RedisStateStore("redis://localhost:1"):
        ...             pass
        ...     except StoreUnavailable as error:
        ...         print(error.address)
        >>> anyio.run(main)
        redis://localhost:1/0
    """

    def __str__(self) -> str:
        """Return the message: where the store is, and what was seen."""
        return f"{self.address} is not available: {self.reason}"


@final
class StoreUnusable(StoreError):
    """What was found at the address can't serve as a store; a person must act (K2, X9).

    It was written by other software, is read-only, was moved or removed while it was in use, or was
    opened by the process that this one was forked from.

    Args:
        address: where the store is, without any secret.
        reason: what was found, and what would be right.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import anyio
        >>> from flexiflow.extras.stores import SqliteStateStore, StoreUnusable
        >>> async def main(folder):
        ...     file = Path(folder, "orders.db")
        ...     file.write_text("something else, and not a database of SQLite")
        ...     try:
        ...         await SqliteStateStore(file).load("A7")
        ...     except StoreUnusable:
        ...         print("it was left as it is")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, folder)
        it was left as it is
    """

    def __str__(self) -> str:
        """Return the message: where the store is, what was found, and what would be right."""
        return f"{self.address} can't be used: {self.reason}"
