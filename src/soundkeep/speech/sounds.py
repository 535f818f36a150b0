"""Sounds as samples: segments out of the stores, decoded in the jail, in files of their own.

A book would not fit into memory, so samples are never all in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from soundkeep.audio.jail import Jail
from soundkeep.catalog import blobs
from soundkeep.catalog.database import Catalog
from soundkeep.errors import Unplayable
from soundkeep.model import Blob, Segment
from soundkeep.reading.reader import Reader

SAMPLE_BYTES = 2
MAX_SECONDS = 3600  # of one segment
SPARE_SECONDS = 5.0  # a header may be a little wrong


@dataclass(frozen=True, slots=True)
class Samples:
    """A mono sound as signed 16-bit little-endian samples in a file."""

    path: Path
    rate_hz: int
    count: int

    @property
    def duration_seconds(self) -> float:
        return self.count / self.rate_hz


class Sounds:
    """The way from a segment to its samples."""

    def __init__(self, catalog: Catalog, reader: Reader, jail: Jail) -> None:
        self._catalog = catalog
        self._reader = reader
        self._jail = jail

    async def blob(self, segment: Segment) -> Blob:
        """The segment's sound as the catalog knows it. Raises `Unplayable`."""
        blob = await self._catalog.read(blobs.find, segment.digest)
        if blob is None:
            raise Unplayable(f"the segment {segment.key} has no sound")
        return blob

    async def samples(self, segment: Segment, folder: Path, rate_hz: int | None = None) -> Samples:
        """The segment decoded into a file in `folder`, at its own rate or at `rate_hz`.

        Raises `Unplayable`, `NotAudio`, `JailFailed`, `CatalogUnavailable`, `WriteFailed`.
        """
        blob = await self.blob(segment)
        rate = rate_hz or blob.sound.sample_rate_hz or 24_000
        spoken, target = folder / f"{segment.key}.take", folder / f"{segment.key}.pcm"
        await self._reader.save(blob, spoken)
        try:
            most_seconds = min(MAX_SECONDS, 2 * blob.sound.duration_seconds + SPARE_SECONDS)
            count = await self._jail.decode(
                spoken,
                target,
                sample_rate_hz=rate,
                max_bytes=int(most_seconds * rate) * SAMPLE_BYTES,
            )
        finally:
            spoken.unlink(missing_ok=True)
        return Samples(target, rate, count)
