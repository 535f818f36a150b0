"""How records look in JSON: the same over HTTP and on the command line.

The field names are firm; `docs/http.md` explains each. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from soundkeep.answers import PublicCopy, Receipt, Removal, RemovalLine, Synced
from soundkeep.model import Ack, Copy, CopyState, Sidecar, Track, chore_of
from soundkeep.settings import INBOX_PREFIX

CACHE_SECONDS = 31_536_000  # a year: the audio under an id never changes


@dataclass(frozen=True, slots=True)
class TrackView:
    """A track with the copies of its blob."""

    track: Track
    copies: tuple[Copy, ...]
    ack_copies: int  # what policy asks for
    published: tuple[PublicCopy, ...] = ()  # where the world reads it, in the order of settings

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
    public = view.published[0] if view.published else None
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
        "cdn_url": public.url if public else None,
        "sidecar_cdn_url": public.sidecar_url if public else None,
        "cdn_uploaded_at": when(public.since if public else None),
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
            "verified": None if copy.is_claim else copy.verified,
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
        "due": chore_of(copy.state, copy.wish),
        "since": when(copy.since),
        "verified": None if copy.is_claim else copy.verified,
        "verified_at": when(copy.verified_at),
        "attempts": copy.attempts,
        "due_at": when(copy.due_at),
        "last_error": copy.last_error,
    }


def sidecar_json(sidecar: Sidecar) -> dict[str, Any]:
    """A sidecar's row. `revision` is the one it shows, None if it was never written."""
    return {
        "track_id": sidecar.track_id,
        "segment_key": sidecar.segment_key,
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


def receipt_json(receipt: Receipt, cache_seconds: Mapping[str, int]) -> dict[str, Any]:
    """Proof of a deletion or withdrawal, or of how far it has come.

    `cache_seconds` are those of each public store. A line's `cached_until` is for how long caches
    may hold what lay there: it is known when the removal is confirmed. The receipt's own is the
    last of all, our own answers included, which told players a year while the track was public.
    """
    lines = [_removal_json(line, cache_seconds.get(line.store)) for line in receipt.lines]
    return {
        "id": receipt.track_id,
        "deleted_at": when(receipt.deleted_at),
        "complete": receipt.complete,
        "cached_until": when(_cached_until(receipt, cache_seconds)),
        "stores": lines,
    }


def _removal_json(line: RemovalLine, cache_seconds: int | None) -> dict[str, Any]:
    return {
        "store": line.store,
        "key": line.key,
        "outcome": line.outcome,
        "confirmed_at": when(line.confirmed_at),
        "cached_until": when(_line_cached_until(line, cache_seconds)),
    }


def _line_cached_until(line: RemovalLine, cache_seconds: int | None) -> float | None:
    """Until the removal is confirmed caches may fetch it anew, and there is no such time."""
    gone = line.outcome is Removal.REMOVED and line.confirmed_at is not None
    if not gone or cache_seconds is None or line.confirmed_at is None:
        return None
    return line.confirmed_at + cache_seconds


def _cached_until(receipt: Receipt, cache_seconds: Mapping[str, int]) -> float | None:
    """When the last cache has forgotten it; None while that is not known, or if none ever had it.

    A track that was made private has not come from us since its public copies went: that is a
    bound for what players got from ourselves.
    """
    lines = [line for line in receipt.lines if line.store in cache_seconds]
    known = (_line_cached_until(line, cache_seconds[line.store]) for line in lines)
    times = [until for until in known if until is not None]
    if receipt.deleted_at is None and not receipt.complete:
        return None
    if not receipt.public:
        times += [line.confirmed_at + CACHE_SECONDS for line in lines if line.confirmed_at]
    elif receipt.deleted_at is not None:
        times.append(receipt.deleted_at + CACHE_SECONDS)
    return max(times, default=None)


def synced_json(line: Synced) -> dict[str, Any]:
    """What became of one operation on one track in one store."""
    shown, refusal = line.shown, line.refusal
    return {
        "track_id": line.track_id,
        "operation": line.operation,
        "store": line.store,
        "state": line.state,
        "due": list(line.due),
        "timestamp": when(line.since),
        "cdn_url": shown.url if shown else None,
        "sidecar_cdn_url": shown.sidecar_url if shown else None,
        "cached_until": when(line.cached_until),
        "why": line.why,
        "error": {"code": refusal.code, "detail": str(refusal)} if refusal else None,
    }


def sync_json(lines: Sequence[Synced], next_cursor: str | None) -> dict[str, Any]:
    """The answer to a sync: a line for each track and store, and how many stand how."""
    refused = sum(line.refusal is not None for line in lines)
    due = sum(bool(line.due) for line in lines)
    summary = {"done": len(lines) - due - refused, "due": due, "refused": refused}
    return {**items(map(synced_json, lines), next_cursor), "summary": summary}


def items(page: Iterable[dict[str, Any]], next_cursor: str | None) -> dict[str, Any]:
    """A list."""
    return {"items": list(page), "next_cursor": next_cursor}
