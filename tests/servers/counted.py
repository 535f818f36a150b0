"""A server within a test that knows how many connections it has and had."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Counted:
    """What `serve` of such a server does with each connection goes into a block of `one`."""

    connections: int = field(default=0, init=False)
    open: int = field(default=0, init=False)

    @contextmanager
    def one(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Counts the connection, and closes it at the end; that the other side goes is no fault."""
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                yield
        finally:
            self.open -= 1
            writer.close()
