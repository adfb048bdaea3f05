"""Reading the input in chunks, in a way that Ctrl-C can always interrupt (L2)."""

from __future__ import annotations

import os
import sys
import zlib
from contextlib import contextmanager
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any, Protocol, final

from anyio import wait_readable

from flexiflow._cli.descriptors import Readiness
from flexiflow._cli.problems import CannotRun, InputBroken

if TYPE_CHECKING:
    from collections.abc import Generator

_CHUNK = 2**16

# With O_NONBLOCK a named pipe opens at once, even without a writer. Windows has no O_NONBLOCK.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# Tells zlib to expect the header of gzip.
_GZIP = 31


class Source(Protocol):
    """Where chunks of bytes come from."""

    async def read(self) -> bytes:
        """Wait for the next chunk, and return it; an empty one is the end.

        Raises:
            InputBroken: the input can't be read further.
        """
        ...


@contextmanager
def open_source(name: str) -> Generator[Source]:
    """Open the input: "-" is standard input, and a name that ends in .gz is a gzip file.

    Raises:
        CannotRun: the input can't be opened.
    """
    if name == "-":
        if sys.stdin is None:
            raise CannotRun("standard input is closed")
        yield _Descriptor(sys.stdin.fileno())
        return
    fd = _open(name)
    try:
        plain = _Descriptor(fd)
        yield _Gzip(plain) if name.lower().endswith(".gz") else plain
    finally:
        os.close(fd)


def _open(name: str) -> int:
    try:
        fd = os.open(name, _OPEN_FLAGS)
    except OSError as exc:
        raise CannotRun(f"the input {name!r} can't be opened: {exc.strerror}") from None
    if S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise CannotRun(f"the input {name!r} must be a file, not a directory")
    return fd


@final
class _Descriptor:
    """A source that reads a descriptor as bytes come."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._until_ready = Readiness(fd, wait_readable)

    async def read(self) -> bytes:
        await self._until_ready.wait()
        try:
            return os.read(self._fd, _CHUNK)
        except OSError as exc:
            raise InputBroken(f"{exc.strerror}") from None


@final
class _Gzip:
    """A source that decompresses what another source reads."""

    def __init__(self, compressed: _Descriptor) -> None:
        self._compressed = compressed
        self._unzipper = Unzipper()

    async def read(self) -> bytes:
        try:
            while not (piece := self._unzipper.take()):
                compressed = await self._compressed.read()
                if not compressed:
                    self._unzipper.finish()
                    return b""
                self._unzipper.feed(compressed)
        except zlib.error as exc:
            raise InputBroken(f"damaged, or no gzip file: {exc}") from None
        return piece


@final
class Unzipper:
    """Decompresses gzip data of one or several members, in pieces of bounded size; no I/O."""

    def __init__(self) -> None:
        self._compressed = b""
        self._member: Any = None
        self._has_more = False

    def feed(self, compressed: bytes) -> None:
        """Add the next compressed bytes."""
        self._compressed += compressed

    def take(self) -> bytes:
        """Return the next piece; an empty one means that more must be fed.

        Raises:
            zlib.error: the data is damaged, or not gzip.
        """
        piece = b""
        while not piece and (self._compressed or self._has_more):
            piece = self._decompress()
        return piece

    def finish(self) -> None:
        """Check that the data is complete.

        Raises:
            InputBroken: it ends within a member.
        """
        if self._member is not None:
            raise InputBroken("it ends in the middle of its compressed data")

    def _decompress(self) -> bytes:
        if self._member is None:
            # A member may be followed by padding of zeros.
            self._compressed = self._compressed.lstrip(b"\0")
            if not self._compressed:
                return b""
            self._member = zlib.decompressobj(_GZIP)
        piece: bytes = self._member.decompress(self._compressed, _CHUNK)
        # zlib may have taken all input and still hold back some output.
        self._has_more = len(piece) == _CHUNK and not self._member.eof
        self._compressed = self._member.unconsumed_tail
        if self._member.eof:
            self._compressed = self._member.unused_data
            self._member = None
        return piece
