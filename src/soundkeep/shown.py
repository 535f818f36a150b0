"""How records look in JSON: the same over HTTP and on the command line.

The field names are firm; `docs/http.md` explains each. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from soundkeep.model import Ack, Copy, CopyState, Receipt, Sidecar, Track
from soundkeep.settings import INBOX_PREFIX

CACHE_SECONDS = 31_536_000  # a year: the audio under an id never changes


@dataclass(frozen=True, slots=True)
class TrackView:
    """A track with the copies of its blob."""

    track: Track
    copies: tuple[Copy, ...]
    ack_copies: int  # what policy asks for

    @property
    def ack(self) -> Ack:
        """Distinct stores beside the inbox that have a verified copy."""
        return Ack(self.ack_copies, len(self._holders()))

    @property
    def temporary(self) -> bool:
        """Whether the inbox is all there is."""
        return not self._holders()

    def _holders(self) -> set[str]:
        return {copy.store for copy in self.copies if is_kept(copy)}


def is_kept(copy: Copy) -> bool:
    """Whether the copy counts: present, and not in an inbox."""
    return copy.state is CopyState.PRESENT and not copy.store.startswith(INBOX_PREFIX)


def when(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 with milliseconds and Z."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def track_json(view: TrackView, base_url: str) -> dict[str, Any]:
    """A track; `base_url` without a trailing slash makes its `url` absolute."""
    track, blob = view.track, view.track.blob
    return {
        "id": track.id,
        "owner": track.owner,
        "path": track.path,
        "title": track.title,
        "visibility": track.visibility,
        "metadata": track.metadata,
        "digest": blob.digest.hex,
        "size_bytes": blob.size_bytes,
        "media_type": blob.sound.media_type,
        "codec": blob.sound.codec,
        "duration_seconds": blob.sound.duration_seconds,
        "bit_rate": blob.sound.bit_rate,
        "channels": blob.sound.channels,
        "sample_rate_hz": blob.sound.sample_rate_hz,
        "tags": blob.sound.tags,
        "created_at": when(track.created_at),
        "revision": track.revision,
        "temporary": view.temporary,
        "ack": {"wanted": view.ack.wanted, "have": view.ack.have},
        "url": audio_url(track, base_url),
        "cdn_url": None,
        "cdn_uploaded_at": None,
        "storage_locations": storage_locations(view),
    }


def audio_url(track: Track, base_url: str) -> str:
    """Where the track plays. The extension is for players that look at it."""
    return f"{base_url}/audio/{quote(track.id)}.{track.blob.sound.extension}"


def storage_locations(view: TrackView) -> dict[str, Any]:
    """Where copies are, by store. `since` is never before the track itself was made."""
    return {
        copy.store: {
            "state": copy.state,
            "verified": copy.verified,
            "since": when(max(copy.since, view.track.created_at)),
            "locator": copy.locator,
        }
        for copy in view.copies
    }


def copy_json(copy: Copy) -> dict[str, Any]:
    """A row of the ledger."""
    return {
        "id": copy.id,
        "digest": copy.digest.hex,
        "store": copy.store,
        "key": copy.key,
        "locator": copy.locator,
        "state": copy.state,
        "wish": copy.wish,
        "since": when(copy.since),
        "verified": copy.verified,
        "verified_at": when(copy.verified_at),
        "attempts": copy.attempts,
        "due_at": when(copy.due_at),
        "last_error": copy.last_error,
    }


def sidecar_json(sidecar: Sidecar) -> dict[str, Any]:
    """A sidecar's row. `revision` is the one it shows, None if it was never written."""
    return {
        "track_id": sidecar.track_id,
        "store": sidecar.store,
        "key": sidecar.key,
        "state": sidecar.state,
        "revision": sidecar.revision,
        "attempts": sidecar.attempts,
        "due_at": when(sidecar.due_at),
        "last_error": sidecar.last_error,
    }


def copies_json(copies: Iterable[Copy], sidecars: Iterable[Sidecar]) -> dict[str, Any]:
    """The copies of one track, each with the sidecar beside it, if there is one."""
    beside = {(sidecar.store, sidecar.audio_key): sidecar_json(sidecar) for sidecar in sidecars}
    rows = ({**copy_json(copy), "sidecar": beside.get((copy.store, copy.key))} for copy in copies)
    return items(rows, None)


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """Proof of a deletion, or of how far it has come.

    `cached_until` is for how long caches that nobody commands may still hold the sound: a year
    from the deletion if the track was public, because that is what players were told.
    """
    cached_until = receipt.deleted_at + CACHE_SECONDS if receipt.public else None
    return {
        "id": receipt.track_id,
        "deleted_at": when(receipt.deleted_at),
        "complete": receipt.complete,
        "cached_until": when(cached_until),
        "stores": [
            {
                "store": line.store,
                "key": line.key,
                "outcome": line.outcome,
                "confirmed_at": when(line.confirmed_at),
            }
            for line in receipt.lines
        ],
    }


def items(page: Iterable[dict[str, Any]], next_cursor: str | None) -> dict[str, Any]:
    """A list."""
    return {"items": list(page), "next_cursor": next_cursor}
