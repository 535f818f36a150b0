"""Hits, misses and what they were worth: counted in memory, written down once a second.

A hit that waited for its own transaction would cost more than the hit; a crash may lose a second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from soundkeep.catalog import hits
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.hits import Count, Heard
from soundkeep.catalog.segments import Worth
from soundkeep.errors import CatalogUnavailable, DiskFull
from soundkeep.model import Segment


class Counts:
    """What was counted since it was last written down."""

    def __init__(self) -> None:
        self._counts: defaultdict[Heard, Count] = defaultdict(Count)
        self._segment_hits: Counter[str] = Counter()
        self._speech_hits: Counter[str] = Counter()

    def hit(self, owner: str, segment: Segment) -> None:
        """It was heard, and nothing was paid for that."""
        count = self._of(owner, segment)
        count.hits += 1
        count.saved_billionths += segment.cost.billionths
        self._segment_hits[segment.key] += 1

    def heard(self, owner: str, speech_key: str, worth: Sequence[Worth]) -> None:
        """A whole speech was heard: a hit for each of its segments."""
        for part in worth:
            count = self._counts[
                Heard(owner, part.engine, part.model, part.voice, part.cost.currency)
            ]
            count.hits += part.count
            count.saved_billionths += part.cost.billionths
        self._speech_hits[speech_key] += 1

    def miss(self, owner: str, segment: Segment, first_byte_seconds: float | None) -> None:
        """It was spoken for this; the time is that from asking to the first byte."""
        count = self._of(owner, segment)
        count.misses += 1
        if first_byte_seconds is not None:
            count.first_bytes += 1
            count.first_byte_seconds += first_byte_seconds

    async def flush(self, catalog: Catalog) -> None:
        """Writes it down; what cannot be written now is kept for the next time."""
        counts = dict(self._counts)
        segment_hits, speech_hits = dict(self._segment_hits), dict(self._speech_hits)
        if not counts:
            return
        for counter in (self._counts, self._segment_hits, self._speech_hits):
            counter.clear()
        try:
            await catalog.write(hits.flush, counts, segment_hits, speech_hits)
        except (CatalogUnavailable, DiskFull):
            self._segment_hits.update(segment_hits)
            self._speech_hits.update(speech_hits)
            self._take_back(counts)

    def _take_back(self, counts: dict[Heard, Count]) -> None:
        for heard, count in counts.items():
            here = self._counts[heard]
            here.hits += count.hits
            here.misses += count.misses
            here.saved_billionths += count.saved_billionths
            here.first_bytes += count.first_bytes
            here.first_byte_seconds += count.first_byte_seconds

    def _of(self, owner: str, segment: Segment) -> Count:
        currency = segment.cost.currency
        return self._counts[Heard(owner, segment.engine, segment.model, segment.voice, currency)]
