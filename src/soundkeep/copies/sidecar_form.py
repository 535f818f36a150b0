"""The form of a sidecar: the JSON beside the audio, from which the catalog can be rebuilt.

The track's own `metadata` stands at top level, untouched and in the application's order; after it
comes one field of ours, `soundkeep`, versioned, with everything else that the catalog knows of the
track. The same track gives the same bytes. docs/sidecars.md explains every field.

Chunk hashes are not in it: they are computed again from the sound, whose digest is.
"""

from __future__ import annotations

import json
from typing import Any

from soundkeep.model import Track
from soundkeep.shown import when

FIELD = "soundkeep"
VERSION = 1
MEDIA_TYPE = "application/json"


def sidecar_bytes(track: Track, key: str, *, public: bool) -> bytes:
    """The sidecar of a track whose audio lies under `key`; without the owner if it is `public`."""
    ours = _ours(track, key)
    if public:
        del ours["owner"]
    document = {**track.metadata, FIELD: _sorted(ours)}
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def _ours(track: Track, key: str) -> dict[str, Any]:
    sound = track.blob.sound
    return {
        "version": VERSION,
        "id": track.id,
        "owner": track.owner,
        "path": track.path,
        "title": track.title,
        "visibility": track.visibility,
        "created_at": when(track.created_at),
        "revision": track.revision,
        "asked": dict(track.asked),
        "digest": track.blob.digest.hex,
        "size_bytes": track.blob.size_bytes,
        "media_type": sound.media_type,
        "extension": sound.extension,
        "codec": sound.codec,
        "duration_seconds": sound.duration_seconds,
        "bit_rate": sound.bit_rate,
        "channels": sound.channels,
        "sample_rate_hz": sound.sample_rate_hz,
        "tags": sound.tags,
        "key": key,
    }


def _sorted(value: Any) -> Any:
    """Objects by the names of their fields. (Only ours: the application's order is its own.)"""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return value
