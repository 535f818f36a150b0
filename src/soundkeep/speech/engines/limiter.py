"""How many calls of one engine run at once, and when none may begin: what the provider told us.

All callers of an engine in this process share one limiter. It starts with the number that is set
and goes below it when the provider says that the account allows less, or that others use it too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from soundkeep.errors import EngineThrottled

MAXIMUM, CURRENT = "maximum-concurrent-requests", "current-concurrent-requests"


class Limiter:
    """Places for calls. A pause that is longer than `patience_seconds` is told, not waited for."""

    def __init__(self, name: str, most: int, patience_seconds: float) -> None:
        self._name = name
        self._most = most
        self._patience_seconds = patience_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self.limit = most
        self.in_use = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the places, when one is free and no pause is on. Raises `EngineThrottled`."""
        await self._take()
        try:
            await self._sit_out()
            yield
        finally:
            self.in_use -= 1
            self._wake()

    def pause(self, seconds: float) -> None:
        """No call begins for so long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def heed(self, headers: Mapping[str, str]) -> None:
        """What the provider says of its own limit, and how much of that is in use by anybody."""
        maximum, current = _number(headers.get(MAXIMUM)), _number(headers.get(CURRENT))
        if maximum:
            others = max(0, (current or 0) - self.in_use)
            self.limit = max(1, min(self._most, maximum - others))
            self._wake()

    async def _take(self) -> None:
        while self.in_use >= self.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._leave(turn)
                raise
        self.in_use += 1

    def _leave(self, turn: asyncio.Future[None]) -> None:
        """Whoever goes away while it was woken passes its turn on."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        else:
            self._wake()

    def _wake(self) -> None:
        for _ in range(min(len(self._waiting), self.limit - self.in_use)):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _sit_out(self) -> None:
        while (left := self._paused_until - time.monotonic()) > 0:
            if left > self._patience_seconds:
                raise EngineThrottled(f"{self._name} asked us to wait", retry_after=left)
            await asyncio.sleep(left)


def _number(header: str | None) -> int | None:
    return int(header) if header and header.isdecimal() and len(header) < 10 else None
