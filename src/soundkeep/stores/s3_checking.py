"""Finds out whether a server truly refuses a wrong SHA-256, by sending it one.

Some servers keep the checksum that comes with an object and give it back without ever looking at
the bytes. What they say proves nothing, so each server is tried once in the life of a process: for
whole objects, and for the parts of large ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from soundkeep.digest import Digest
from soundkeep.errors import Corrupt, Retryable, StoreError

NOTE = b"sent with a wrong checksum, to see it refused"
WRONG = Digest.of(b"something else")

Lie = Callable[[], Awaitable[object]]


class Checking:
    """What is known of one server's checking of one kind of upload."""

    def __init__(self) -> None:
        self.proven: bool | None = None
        self._asking = asyncio.Lock()

    async def is_true(self, lie: Lie) -> bool:
        """Whether the server refuses it. Raises what may pass: then nothing is known yet."""
        async with self._asking:
            if self.proven is None:
                self.proven = await _refused(lie)
            return self.proven


async def _refused(lie: Lie) -> bool:
    """A refusal for another reason, such as that nothing may be written, proves nothing."""
    try:
        await lie()
    except Corrupt:
        return True
    except Retryable:
        raise
    except StoreError:
        return False
    return False
