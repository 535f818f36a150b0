"""Cached catalog look-ups for the hot path, none older than a second: what is withdrawn stops.

Absence is cached too. Concurrent misses for one id share one query, and what is still asked for
in the second half of its second is looked up again beforehand, so that nobody has to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from soundkeep import names
from soundkeep.catalog import copies, stores, tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.errors import BadId
from soundkeep.model import Copy, Track

MAX_AGE_SECONDS = 1.0
REFRESH_SECONDS = 0.5  # before it expires
MAX_ENTRIES = 10_000


@dataclass(slots=True)
class Found:
    """A track and its copies, as they were at most a second ago.

    What a caller makes of them it may keep in `prepared`, for as long as the answer lives.
    """

    track: Track
    copies: tuple[Copy, ...]
    out: frozenset[str] = frozenset()  # stores whose circuit is open, if that was to be seen
    prepared: object = None


class Lookup:
    """Tracks by id."""

    def __init__(self, catalog: Catalog, *, sees_outages: bool = False) -> None:
        self._catalog = catalog
        self._sees_outages = sees_outages
        self._known: OrderedDict[str, tuple[float, Found | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Found | None]] = {}

    def cached(self, track_id: str) -> tuple[bool, Found | None]:
        """Whether the answer is known now, and the answer. Does not wait."""
        entry = self._known.get(track_id)
        if entry is None:
            return False, None
        left = entry[0] - time.monotonic()
        if left < REFRESH_SECONDS:
            self._asked_for(track_id)
        return (True, entry[1]) if left > 0 else (False, None)

    async def track(self, track_id: str) -> Found | None:
        """The track, or None. Raises `CatalogUnavailable`."""
        known, found = self.cached(track_id)
        if known or not _is_id(track_id):
            return found
        return await asyncio.shield(self._asked_for(track_id))

    def forget(self, track_id: str) -> None:
        """What this process itself has changed is looked up anew at once.

        A query that runs already may have seen the former state: its answer is not kept.
        """
        self._known.pop(track_id, None)
        self._asking.pop(track_id, None)

    def _asked_for(self, track_id: str) -> asyncio.Task[Found | None]:
        """The query for this track that is under way, or a new one."""
        task = self._asking.get(track_id)
        if task is None:
            task = asyncio.create_task(self._ask(track_id))
            self._asking[track_id] = task
            task.add_done_callback(lambda done: self._asked(track_id, done))
        return task

    async def _ask(self, track_id: str) -> Found | None:
        expires_at = time.monotonic() + MAX_AGE_SECONDS
        found = await self._catalog.read(_find, track_id, self._sees_outages)
        if self._asking.get(track_id) is asyncio.current_task():
            self._remember(track_id, expires_at, found)
        return found

    def _asked(self, track_id: str, done: asyncio.Task[Found | None]) -> None:
        if self._asking.get(track_id) is done:
            del self._asking[track_id]
        if not done.cancelled():
            done.exception()  # whoever waits has it too; nobody may be waiting any more

    def _remember(self, track_id: str, expires_at: float, found: Found | None) -> None:
        self._known[track_id] = (expires_at, found)
        self._known.move_to_end(track_id)
        while len(self._known) > MAX_ENTRIES:
            self._known.popitem(last=False)


def _is_id(text: str) -> bool:
    """What can be no id is not asked for: a database may refuse even to look for it."""
    try:
        return names.track_id(text) == text
    except BadId:
        return False


def _find(tx: Tx, track_id: str, sees_outages: bool) -> Found | None:
    track = tracks.find(tx, track_id)
    if track is None:
        return None
    out = stores.out(tx) if sees_outages else frozenset()
    return Found(track, tuple(copies.of_blob(tx, track.blob.digest)), out)
