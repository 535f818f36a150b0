"""Withdraws what was said: from the cache, from every store, and out of every speech made of it.

What is revoked is asked for anew the next time, and paid for anew. Segments go first, so that no
speech is made of them again, then the speeches with the tracks that owners had of them. Each step
is a transaction of its own and may be repeated: to revoke twice is to revoke once.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies.placement import Rules
from soundkeep.intake import recording

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Revoked:
    """What is no more, by keys and ids. Each track has a receipt of its deletion."""

    segments: tuple[str, ...]
    speeches: tuple[str, ...]
    tracks: tuple[str, ...]


class Revoker:
    """Takes things back."""

    def __init__(self, catalog: Catalog, rules: Rules) -> None:
        self._catalog = catalog
        self._rules = rules

    async def revoke(self, key: str) -> Revoked:
        """The segment of this key, or all segments of the speech of this key, and every speech that
        is made of one of them. Copies go as the copy law lets them: what else names the same bytes,
        as an upload does, keeps them. Nothing of the key is nothing to revoke."""
        segments, speeches, deleted = [], [], []
        of_key = await self._catalog.read(speech_rows.segments_of, key)
        for segment in of_key:
            if await self._catalog.write(_withdraw_segment, segment, self._rules):
                segments.append(segment)
        for made in await self._catalog.read(speech_rows.made_of, of_key):
            for track_id in await self._catalog.read(speech_rows.tracks_of, made):
                await self._catalog.write(recording.remove, track_id, self._rules)
                deleted.append(track_id)
            if await self._catalog.write(_withdraw_speech, made, self._rules):
                speeches.append(made)
        log.info("revoked", key=key, segments=len(segments), speeches=len(speeches))
        return Revoked(tuple(segments), tuple(speeches), tuple(deleted))


def _withdraw_segment(tx: Tx, key: str, rules: Rules) -> bool:
    found = segment_rows.find(tx, key)
    if found is not None:
        recording.withdraw_speech(
            tx, found.digest, lambda: segment_rows.withdraw(tx, found.key), rules=rules
        )
    return found is not None


def _withdraw_speech(tx: Tx, key: str, rules: Rules) -> bool:
    found = speech_rows.find(tx, key)
    speech_rows.forget_tracks(tx, key)
    if found is None or found.digest is None:
        return False
    recording.withdraw_speech(tx, found.digest, lambda: speech_rows.withdraw(tx, key), rules=rules)
    return True
