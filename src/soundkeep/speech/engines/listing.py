"""What a provider lists, remembered for a bounded time, so that a check costs no request.

One caller asks while the others wait for it. A provider that cannot be asked now is believed what
it said last; a name that it did not list then makes us look once more, but not all the time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from soundkeep.errors import EngineAnsweredBadly, EngineThrottled, EngineUnavailable

LOOK_AGAIN_SECONDS = 10  # at most so often for a name that is not there
PASSING = (EngineAnsweredBadly, EngineThrottled, EngineUnavailable)


class Listed(Protocol):
    """A voice or a model."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Listed)


class Listing(Generic[T]):
    """A list that somebody else keeps. It is good for `seconds`."""

    def __init__(self, fetch: Callable[[], Awaitable[list[T]]], seconds: float = math.inf) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._one_at_a_time = asyncio.Lock()
        self._by_id: dict[str, T] | None = None
        self._asked_at = -math.inf

    async def all(self) -> list[T]:
        """All of it. Raises what fetching it raises, if there never was one."""
        return list((await self._at_most_old(self._seconds)).values())

    async def find(self, id_: str) -> T | None:
        """The one of that id, or None if it is surely not listed."""
        found = (await self._at_most_old(self._seconds)).get(id_)
        if found is None and self._seconds < math.inf:
            found = (await self._at_most_old(LOOK_AGAIN_SECONDS)).get(id_)
        return found

    def known(self, id_: str) -> T | None:
        """The one of that id, as far as is known without asking anybody."""
        return (self._by_id or {}).get(id_)

    async def _at_most_old(self, seconds: float) -> dict[str, T]:
        async with self._one_at_a_time:
            if self._by_id is None or time.monotonic() - self._asked_at > seconds:
                self._by_id = await self._fetched()
                self._asked_at = time.monotonic()
            return self._by_id

    async def _fetched(self) -> dict[str, T]:
        try:
            return {each.id: each for each in await self._fetch()}
        except PASSING:
            if self._by_id is None:
                raise
            return self._by_id
